"""Goal: members agree, whatever happens between them.

Method: 300 seeded runs of three members in two namespaces over a simulated chain and transport,
with crashes between any two writes, compared with an oracle that sees everything from the start;
replay one with `python -m tests.simulation.run --seeds 1 --start SEED`. And to show that the
comparison has teeth: with each of FireFly's known holes put back some seed fails.
"""

from __future__ import annotations

import pytest

from tests.simulation.holes import HOLES
from tests.simulation.private_order_model import check_seed
from tests.simulation.run import try_seed
from tests.simulation.scenario import run_seed

_SEEDS = 300
_PER_TEST = 25
_TEETH_SEEDS = 40


@pytest.mark.parametrize("start", range(0, _SEEDS, _PER_TEST))
def test_members_agree(start: int) -> None:
    confirmed = crashes = 0
    for seed in range(start, start + _PER_TEST):
        report = run_seed(seed)
        confirmed += report.confirmed
        crashes += report.crashes
    assert confirmed > 20 * _PER_TEST, "the runs do too little to mean anything"
    assert crashes > _PER_TEST


@pytest.mark.parametrize("hole", sorted(HOLES))
def test_a_hole_is_found(hole: str) -> None:
    found = [seed for seed in range(_TEETH_SEEDS) if isinstance(try_seed(seed, hole), str)]
    assert found, f"no seed below {_TEETH_SEEDS} shows the hole {hole}"
    print(f"hole {hole}: first failing seed {found[0]}, {len(found)} of {_TEETH_SEEDS}")


def test_same_seed_same_run() -> None:
    assert run_seed(7) == run_seed(7)


@pytest.mark.parametrize("start", range(0, 1000, 250))
def test_the_model_of_the_rule_holds(start: int) -> None:
    for seed in range(start, start + 250):
        check_seed(seed)
