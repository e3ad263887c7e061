"""Goal: under faults of every kind nothing acked is lost, doubled or reordered, and all comes to rest.

Method: a fixed seed over a whole network, as `make chaos` runs many: processes killed and frozen, the chain
stopped, links cut, held and slowed, under open-loop load; then C1 to C9 over the recorded history.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.robustness.records import Fault, of
from tests.robustness.run import Options, run
from tests.robustness.schedule import targets
from tests.robustness.topology import Topology

SEED: Final = 3
FAULTS_S: Final = 125.0


@pytest.mark.timeout(600)
async def test_one_replica_each(tmp_path: Path) -> None:
    topology = Topology()
    result = await run(tmp_path / "net", Options(topology, SEED, FAULTS_S), print)
    print(result.text())
    assert not result.findings, result.text()
    assert {fault.kind for fault in of(result.records, Fault)} == set(targets(topology))
