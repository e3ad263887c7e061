"""Goal: under faults of every kind nothing acked is lost, doubled or reordered, and all comes to rest.

Method: fixed seeds over whole networks, as `make chaos` runs many: processes killed and frozen, database,
ensemble and chain stopped, links cut, held and slowed, under open-loop load; then C1 to C9 over the recorded
history. Three minutes in all: clusters get most of them; a short run on SQLite shows that one replica alone
keeps its word too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.robustness.records import Fault, of
from tests.robustness.run import Options, Result, run
from tests.robustness.schedule import targets
from tests.robustness.topology import Topology

CLUSTER: Final = Options(Topology(replicas=2, postgres=True, zookeeper=True), seed=724, seconds=160)
ALONE: Final = Options(Topology(), seed=1005, seconds=22)


@pytest.mark.timeout(600)
async def test_two_replicas_each(tmp_path: Path) -> None:
    result = await chaos(tmp_path, CLUSTER)
    kinds = {fault.kind for fault in of(result.records, Fault)}
    assert kinds == set(targets(CLUSTER.topology))


@pytest.mark.timeout(600)
async def test_one_replica_each(tmp_path: Path) -> None:
    result = await chaos(tmp_path, ALONE)
    assert {fault.kind for fault in of(result.records, Fault)} >= {"kill leader", "stop leader"}


async def chaos(tmp_path: Path, options: Options) -> Result:
    result = await run(tmp_path / "net", options, print)
    print(result.text())
    assert not result.findings, result.text()
    return result
