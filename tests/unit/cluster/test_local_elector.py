"""The elector of a core with one replica: every role once, each time with a higher epoch.

Method: the real SQLite store, which refuses writes under an epoch that is over.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_core.cluster import LocalElector
from photinus_core.model.errors import Conflict, Deposed
from photinus_core.model.ids import Namespace
from photinus_core.ports.store import Fence
from photinus_core.store import SqliteStore

NS = Namespace("alpha")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    yield opened
    await opened.aclose()


async def test_a_role_is_held_once_and_given_back(store: SqliteStore) -> None:
    elector = LocalElector(store)
    assert elector.is_local
    lease = await elector.campaign("namespace/alpha")
    assert lease.running.is_set()
    assert not lease.lost.is_set()
    with pytest.raises(Conflict, match="FF19121"):
        await elector.campaign("namespace/alpha")
    await elector.campaign("namespace/beta")
    for _ in range(2):
        await elector.resign(lease)
        assert lease.lost.is_set()
        assert not lease.running.is_set()
    again = await elector.campaign("namespace/alpha")
    assert again.epoch > lease.epoch
    await elector.resign(lease)  # an old lease does not end the new one
    with pytest.raises(Conflict):
        await elector.campaign("namespace/alpha")
    await elector.aclose()
    assert again.lost.is_set()


async def test_an_earlier_life_of_the_process_cannot_write(store: SqliteStore) -> None:
    before = await LocalElector(store).campaign("namespace/alpha")
    after = await LocalElector(store).campaign("namespace/alpha")
    async with store.write(NS, Fence(after.role, after.epoch)) as tx:
        await tx.set_notes("kind", {"key": "after"})
    with pytest.raises(Deposed):
        async with store.write(NS, Fence(before.role, before.epoch)) as tx:
            await tx.set_notes("kind", {"key": "before"})
    async with store.read(NS) as reader:
        assert await reader.notes("kind") == {"key": "after"}
