"""Goal: each key is worked off alone and in order; failures pause it, and only it, and no longer than they should.

Method: steps the test controls; pauses so long that only `hurry` can end them, or so short that they do not matter.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from photinus_dx.errors import PeerFailure
from photinus_dx.lanes import Lanes
from photinus_dx.settings import Delivery

PATIENT = Delivery(backoff_initial_s=600.0, backoff_max_s=600.0)
QUICK = Delivery(backoff_initial_s=0.001, backoff_max_s=0.002)


class Work:
    """Queues by key; a key in `broken` fails until it is taken out."""

    def __init__(self) -> None:
        self.queues: dict[str, list[int]] = {}
        self.done: list[tuple[str, int]] = []
        self.broken: dict[str, Exception] = {}
        self.failures: list[tuple[str, str]] = []

    async def step(self, key: str) -> bool:
        if key in self.broken:
            raise self.broken[key]
        queue = self.queues.get(key, [])
        if queue:
            self.done.append((key, queue.pop(0)))
        return bool(queue)

    async def failed(self, key: str, failure: PeerFailure) -> None:
        self.failures.append((key, str(failure)))


@asynccontextmanager
async def running(work: Work, delivery: Delivery) -> AsyncIterator[Lanes[str]]:
    lanes = Lanes[str](work.step, work.failed, delivery)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(lanes.run())
        yield lanes
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_work_of_a_key_is_done_in_order() -> None:
    work = Work()
    work.queues = {"a": [1, 2, 3], "b": [4]}
    async with running(work, QUICK) as lanes:
        lanes.wake("a")
        lanes.wake("b")
        await until(lambda: len(work.done) == 4)
    assert [number for key, number in work.done if key == "a"] == [1, 2, 3]


async def test_what_was_waiting_before_the_start_is_done() -> None:
    work = Work()
    work.queues = {"a": [1]}
    lanes = Lanes[str](work.step, work.failed, QUICK)
    lanes.wake("a")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(lanes.run())
        await until(lambda: work.done == [("a", 1)])
        task.cancel()


async def test_a_failing_key_delays_no_other() -> None:
    work = Work()
    work.queues = {"dead": [1], "alive": [2]}
    work.broken["dead"] = PeerFailure("away")
    async with running(work, PATIENT) as lanes:
        lanes.wake("dead")
        await until(lambda: work.failures == [("dead", "away")])
        lanes.wake("alive")
        await until(lambda: work.done == [("alive", 2)])


async def test_it_is_tried_again_until_it_works() -> None:
    work = Work()
    work.queues = {"a": [1]}
    work.broken["a"] = PeerFailure("away")
    async with running(work, QUICK) as lanes:
        lanes.wake("a")
        await until(lambda: len(work.failures) > 5)
        del work.broken["a"]
        await until(lambda: work.done == [("a", 1)])


async def test_new_work_does_not_cut_a_pause_but_a_change_does() -> None:
    work = Work()
    work.queues = {"a": [1]}
    work.broken["a"] = PeerFailure("away")
    async with running(work, PATIENT) as lanes:
        lanes.wake("a")
        await until(lambda: len(work.failures) == 1)
        del work.broken["a"]
        lanes.wake("a")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not work.done
        lanes.hurry("a")
        await until(lambda: work.done == [("a", 1)])
        lanes.hurry("nobody")


async def test_the_pause_a_peer_asks_for_is_kept() -> None:
    work = Work()
    work.queues = {"a": [1]}
    work.broken["a"] = PeerFailure("busy", retry_after_s=600.0)
    async with running(work, QUICK) as lanes:
        lanes.wake("a")
        await until(lambda: len(work.failures) == 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(work.failures) == 1


async def test_a_fault_of_our_own_pauses_too() -> None:
    work = Work()
    work.queues = {"a": [1]}
    work.broken["a"] = RuntimeError("bug")
    async with running(work, QUICK) as lanes:
        lanes.wake("a")
        await until(lambda: bool(work.failures))
        assert work.failures[0] == ("a", "internal error: bug")
        work.broken.clear()
        await until(lambda: work.done == [("a", 1)])
