"""Goal: whether work may go on is decided when somebody asks, by a clock, not when somebody had time to clear a flag.

Method: `Running` with a clock of the test's.
"""

from __future__ import annotations

import asyncio

from photinus_core.model.ids import Epoch
from photinus_core.ports.elector import Lease, Running


async def test_a_new_lease_waits_to_be_set() -> None:
    lease = Lease("namespace/alpha", Epoch(1))
    assert not lease.running.is_set()
    lease.running.set()
    assert lease.running.is_set()
    async with asyncio.timeout(1):
        assert await lease.running.wait()


async def test_what_is_set_does_not_count_when_the_clock_says_no() -> None:
    certain = True
    running = Running(lambda: certain)
    running.set()
    assert running.is_set()
    certain = False
    assert not running.is_set()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(running.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        certain = True
        assert not running.is_set(), "it was looked at in doubt: only the elector sets it again"
        running.set()
        await asyncio.wait([waiting], timeout=1)
        assert waiting.done()
