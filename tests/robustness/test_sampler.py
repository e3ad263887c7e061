"""Goal: what clients still wait for is seen, so that a run is quiet only when nothing is.

Method: a sampler over a history and subscribers made up for the test.
"""

from __future__ import annotations

import random

from tests.robustness.load import Load
from tests.robustness.made_history import call, delivery
from tests.robustness.records import History, Pending, of
from tests.robustness.run import Sampler
from tests.robustness.subscribers import Subscriber


class Told(Subscriber):
    """One that receives nothing: the test says what it got."""

    async def receive(self, address: str) -> None:
        raise AssertionError(f"nothing comes from {address}")


def test_calls_and_deliveries_are_waited_for() -> None:
    history = History()
    load = Load([], history, 1.0, random.Random(1))
    subscribers = [Told("sub", member, [], history) for member in (0, 1)]
    sampler = Sampler(history, load, subscribers, 2)

    def pending() -> dict[int, tuple[int, str]]:
        total = sampler.sample()
        last = of(history.records, Pending)[-2:]
        assert total == sum(each.count for each in last)
        return {each.member: (each.count, each.head) for each in last}

    assert pending() == {0: (0, ""), 1: (0, "")}
    load.open["load-m1-grpc-7"] = 5.0
    assert pending() == {0: (0, ""), 1: (1, "call of load-m1-grpc-7")}
    history.add(call("one", 3.0))
    assert pending() == {
        0: (1, "one on topic topic at sub@0"),
        1: (2, "one on topic topic at sub@1"),
    }
    subscribers[1].record(delivery(1, "one", 1))
    assert pending() == {
        0: (1, "one on topic topic at sub@0"),
        1: (1, "call of load-m1-grpc-7"),
    }
    del load.open["load-m1-grpc-7"]
    subscribers[0].record(delivery(0, "one", 1))
    assert pending() == {0: (0, ""), 1: (0, "")}
