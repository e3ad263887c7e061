"""Group commit: concurrent callers share commits, bad items fail alone, cancellation harms nobody else.

Method: commits that the test opens and closes with events; no time passes.
"""

import asyncio
from collections.abc import Sequence

import pytest
from photinus_core.model.errors import Conflict, Exhausted, InternalBug, Unavailable
from photinus_core.ports import group_commit
from photinus_core.ports.group_commit import GroupCommit


class Database:
    """Commits sets of numbers when let; some numbers are refused."""

    def __init__(self) -> None:
        self.sets: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refused: set[int] = set()
        self.away = False

    async def commit(self, items: Sequence[int]) -> list[int]:
        self.sets.append(list(items))
        await self.gate.wait()
        if self.away:
            raise Unavailable("FF19100")
        if self.refused & set(items):
            raise Conflict("FF19108", self.refused)
        return [item * 10 for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_arrivals_during_a_commit_share_the_next() -> None:
    database = Database()
    group = GroupCommit(database.commit, "numbers")
    database.gate.clear()
    tasks = [asyncio.create_task(group.submit(0))]
    await settle()
    tasks += [asyncio.create_task(group.submit(n)) for n in (1, 2, 3)]
    await settle()
    assert database.sets == [[0]]
    database.gate.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30]
    assert database.sets == [[0], [1, 2, 3]]


async def test_a_lone_item_is_committed_at_once() -> None:
    database = Database()
    group = GroupCommit(database.commit, "numbers")
    assert await group.submit(1) == 10
    assert await group.submit(2) == 20
    assert database.sets == [[1], [2]]


async def test_a_bad_item_fails_alone() -> None:
    database = Database()
    database.refused = {2}
    group = GroupCommit(database.commit, "numbers")
    results = await asyncio.gather(*(group.submit(n) for n in (1, 2, 3)), return_exceptions=True)
    assert results[0] == 10
    assert isinstance(results[1], Conflict)
    assert results[2] == 30
    assert database.sets == [[1, 2, 3], [1], [2], [3]]


async def test_an_absent_database_fails_all_at_once() -> None:
    database = Database()
    database.away = True
    group = GroupCommit(database.commit, "numbers")
    results = await asyncio.gather(*(group.submit(n) for n in (1, 2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    assert database.sets == [[1, 2, 3]]
    database.away = False
    assert await group.submit(4) == 40


async def test_sets_are_bounded_and_in_order() -> None:
    database = Database()
    group = GroupCommit(database.commit, "numbers", set_max=2)
    assert await asyncio.gather(*(group.submit(n) for n in range(5))) == [0, 10, 20, 30, 40]
    assert database.sets == [[0, 1], [2, 3], [4]]


async def test_a_cancelled_caller_withdraws_what_waits() -> None:
    database = Database()
    group = GroupCommit(database.commit, "numbers")
    database.gate.clear()
    first, second, third = (asyncio.create_task(group.submit(n)) for n in (1, 2, 3))
    await settle()
    fourth, fifth = (asyncio.create_task(group.submit(n)) for n in (4, 5))
    await settle()
    first.cancel()
    fourth.cancel()
    await settle()
    database.gate.set()
    assert list(await asyncio.gather(second, third, fifth)) == [20, 30, 50]
    assert first.cancelled()
    assert fourth.cancelled()
    assert database.sets == [[1, 2, 3], [5]]


async def test_closing_commits_what_waits_and_refuses_more() -> None:
    database = Database()
    group = GroupCommit(database.commit, "numbers")
    database.gate.clear()
    one = asyncio.create_task(group.submit(1))
    await settle()
    two = asyncio.create_task(group.submit(2))
    await settle()
    closing = asyncio.create_task(group.aclose())
    await settle()
    with pytest.raises(Unavailable, match="FF19011"):
        await group.submit(3)
    database.gate.set()
    await closing
    assert list(await asyncio.gather(one, two)) == [10, 20]
    await group.aclose()


async def test_too_many_waiting_items_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING_MAX", 2)
    database = Database()
    group = GroupCommit(database.commit, "numbers")
    database.gate.clear()
    tasks = [asyncio.create_task(group.submit(1))]
    await settle()
    tasks += [asyncio.create_task(group.submit(n)) for n in (2, 3)]
    await settle()
    with pytest.raises(Exhausted, match="FF19009"):
        await group.submit(4)
    database.gate.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30]


async def test_a_commit_that_forgets_results_is_a_bug() -> None:
    async def commit(items: Sequence[int]) -> list[int]:
        return []

    with pytest.raises(InternalBug):
        await GroupCommit(commit, "numbers").submit(1)


async def test_a_cancelled_worker_leaves_nobody_waiting() -> None:
    """As at the end of a process: the loop cancels all tasks."""
    database = Database()
    group = GroupCommit(database.commit, "numbers")
    database.gate.clear()
    one = asyncio.create_task(group.submit(1))
    await settle()
    two = asyncio.create_task(group.submit(2))
    await settle()
    worker = next(
        task for task in asyncio.all_tasks() if task.get_name() == "group commit of numbers"
    )
    worker.cancel()
    await asyncio.wait([one, two], timeout=5)
    assert one.cancelled()
    assert two.cancelled()
    database.gate.set()
    assert await group.submit(3) == 30
