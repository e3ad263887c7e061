"""Goal: a seed says which faults come, and every kind that a topology knows does come.

Method: plans for several seeds and topologies, made and looked at; nothing is run.
"""

from __future__ import annotations

import pytest

from tests.robustness.schedule import FREEZE_MAX_S, FREEZE_MIN_S, plan, targets
from tests.robustness.topology import Topology

ALONE = Topology()
CLUSTER = Topology(replicas=2, postgres=True, zookeeper=True)
TOPOLOGIES = pytest.mark.parametrize("topology", [ALONE, CLUSTER], ids=["alone", "cluster"])


@TOPOLOGIES
def test_same_seed_same_plan(topology: Topology) -> None:
    assert plan(7, 300, topology) == plan(7, 300, topology)
    assert plan(7, 300, topology) != plan(8, 300, topology)


@TOPOLOGIES
def test_every_kind_comes(topology: Topology) -> None:
    for seed in range(10):
        assert {fault.kind for fault in plan(seed, 400, topology)} == set(targets(topology))


@TOPOLOGIES
def test_targets_exist_and_are_hit_once_at_a_time(topology: Topology) -> None:
    for seed in range(10):
        faults = plan(seed, 400, topology)
        until: dict[str, float] = {}
        for fault in faults:
            assert fault.target in targets(topology)[fault.kind]
            assert until.get(fault.target, 0.0) < fault.at
            until[fault.target] = fault.at + fault.seconds
            if fault.kind.startswith("freeze"):
                assert FREEZE_MIN_S <= fault.seconds <= FREEZE_MAX_S


def test_cluster_has_more_to_break() -> None:
    followers = {"kill follower", "stop follower", "freeze follower"}
    more = followers | {"restart database", "kill ZooKeeper"}
    assert set(targets(CLUSTER)) - set(targets(ALONE)) == more
    assert set(targets(ALONE)) <= set(targets(CLUSTER))


def test_replicas_need_a_cluster() -> None:
    with pytest.raises(ValueError, match="share a PostgreSQL and a ZooKeeper"):
        Topology(replicas=2)
