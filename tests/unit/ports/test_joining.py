"""Reads that are shared: nobody gets what was read before they asked.

Method: a read that waits until the test lets it go on, and says how many there were.
"""

import asyncio

import pytest
from photinus_core.ports.joining import JoinedRead


class Source:
    def __init__(self) -> None:
        self.reads = 0
        self.gates: list[asyncio.Event] = []
        self.fails = False

    async def read(self) -> int:
        self.reads += 1
        number, gate = self.reads, asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        if self.fails:
            self.fails = False
            raise OSError("away")
        return number


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_comes_during_a_read_gets_the_next_one_together() -> None:
    source = Source()
    joined = JoinedRead(source.read)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(joined.get())
        await settle()
        later = [group.create_task(joined.get()) for _ in range(5)]
        await settle()
        assert source.reads == 1
        source.gates[0].set()
        await settle()
        assert (first.result(), source.reads) == (1, 2)
        last = group.create_task(joined.get())
        await settle()
        source.gates[1].set()
        await settle()
        assert [task.result() for task in later] == [2] * 5
        source.gates[2].set()
    assert last.result() == 3


async def test_nothing_is_kept() -> None:
    source = Source()
    joined = JoinedRead(source.read)
    for number in (1, 2):
        task = asyncio.create_task(joined.get())
        await settle()
        source.gates[-1].set()
        assert await task == number
    assert joined._last is None


async def test_a_failure_or_a_caller_that_leaves_is_nobody_elses() -> None:
    source = Source()
    joined = JoinedRead(source.read)
    source.fails = True
    failing = asyncio.create_task(joined.get())
    await settle()
    leaving = asyncio.create_task(joined.get())
    staying = asyncio.create_task(joined.get())
    await settle()
    source.gates[0].set()
    with pytest.raises(OSError, match="away"):
        await failing
    await settle()
    assert source.reads == 2
    leaving.cancel()
    await settle()
    assert leaving.cancelled()
    assert source.reads == 3
    source.gates[2].set()
    assert await staying == 3
