"""A leader's transactions wait while the leadership is in doubt and fail once it is lost."""

import asyncio
from pathlib import Path

import pytest
from photinus_core.model.errors import Deposed
from photinus_core.model.ids import Epoch
from photinus_core.ports.elector import Lease
from photinus_core.ports.leases import LeaderStore, certain, fence_of
from photinus_core.store import SqliteStore

from tests.support.store_records import NS


async def test_transactions_rest_while_the_lease_is_in_doubt(tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        store = await SqliteStore.open(tmp_path / "core.db")
        lease = Lease("namespace/x", await store.raise_epoch("namespace/x", None))
        leader = LeaderStore(store, lease)

        async def write() -> None:
            async with leader.write(NS, fence_of(lease)) as tx:
                await tx.set_notes("kind", {"a": "b"})

        task = asyncio.create_task(write())
        async with leader.read(NS) as reader:
            assert await reader.notes("kind") == {}
        assert not task.done()
        lease.running.set()
        await task
        async with leader.read(NS) as reader:
            assert await reader.notes("kind") == {"a": "b"}
        await store.aclose()


async def test_what_waits_is_refused_when_the_lease_is_lost() -> None:
    lease = Lease("namespace/x", Epoch(3))
    task = asyncio.create_task(certain(lease))
    await asyncio.sleep(0)
    lease.lost.set()
    with pytest.raises(Deposed, match="FF19120"):
        await task
    lease.running.set()
    with pytest.raises(Deposed, match="FF19120"):
        await certain(lease)
