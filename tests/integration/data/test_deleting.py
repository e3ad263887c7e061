"""Data leave when they are deleted, and stay as long as a message needs them; their folders follow.

Method: real databases; messages are stored as senders and receivers store them, and deleted data are
looked for from both sides, at the same time too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from photinus_core.data.inputs import DataInput
from photinus_core.data.service import SUB_PATHS_MAX, DataService
from photinus_core.host.fakes import FakeDataExchange, FakeWorld
from photinus_core.model.errors import Conflict, NotFound, Rejected
from photinus_core.model.ids import Nanoseconds, Uuid
from photinus_core.model.messages import Data, MessageState
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import ConnectorFailure
from photinus_core.ports.store import Decision, MessageWrite, Store

from tests.support.databases import Databases
from tests.support.store_records import NS, make_batch, make_data, make_message

RACES = 30


class Place:
    """A data service on a database."""

    def __init__(self, store: Store, exchange: FakeDataExchange) -> None:
        self.store, self.exchange = store, exchange
        self.data = DataService(store, NS, SystemClock(), exchange)

    async def value(self, text: str = "1") -> Data:
        return await self.data.store_value(DataInput(value=text))

    async def blob(self, content: bytes, metadata: str | None = None) -> Data:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await self.data.upload(chunks(), metadata=metadata)

    async def send(self, *items: Data, state: MessageState = MessageState.READY) -> Uuid:
        message = make_message(*items, state=state)
        async with self.store.write(NS) as tx:
            await tx.insert_messages([MessageWrite(message)])
        return message.header.id

    async def is_there(self, data_id: Uuid) -> bool:
        async with self.store.read(NS) as reader:
            return data_id in await reader.data([data_id])


@pytest.fixture
async def place(databases: Databases, tmp_path: Path) -> AsyncIterator[Place]:
    store = await databases.open(tmp_path / "core.db")
    async with FakeWorld() as world:
        yield Place(store, world.member("alice").data_exchange)
    await store.aclose()


@pytest.mark.parametrize("state", ["staged", "ready", "sent", "pending", "cancelled"])
async def test_data_of_an_undecided_message_stay(place: Place, state: str) -> None:
    item = await place.blob(b"content")
    message = await place.send(item, state=MessageState(state))
    with pytest.raises(Conflict, match=f"FF19020: Data '{item.id}' is in message '{message}'"):
        await place.data.delete(item.id)
    blob = await place.data.blob(item.id)
    assert b"".join([part async for part in place.data.download(blob)]) == b"content"


@pytest.mark.parametrize("state", ["confirmed", "rejected"])
async def test_data_of_a_decided_message_can_go(place: Place, state: str) -> None:
    item = await place.blob(b"content")
    message = make_message(item)
    async with place.store.write(NS) as tx:
        await tx.insert_messages([MessageWrite(message)])
        decided = Decision(message.header.id, message.hash, MessageState(state), Nanoseconds(1))
        await tx.decide([decided])
    blob = await place.data.blob(item.id)
    await place.data.delete(item.id)
    assert not await place.is_there(item.id)
    with pytest.raises(ConnectorFailure, match="There is no blob"):
        assert [part async for part in place.data.download(blob)]
    with pytest.raises(NotFound, match="FF10143"):
        await place.data.delete(item.id)


async def test_data_that_another_message_waits_for_stay(place: Place) -> None:
    """One was confirmed with them, a second came with the same and is not decided."""
    item = make_data()
    first, second = make_message(item), make_message(item)
    async with place.store.write(NS) as tx:
        await tx.insert_received(make_batch(first), [first], [item])
        confirmed = MessageState.CONFIRMED
        await tx.decide([Decision(first.header.id, first.hash, confirmed, Nanoseconds(1))])
        pending = msgspec.structs.replace(second, state=MessageState.PENDING)
        await tx.insert_received(make_batch(second), [pending], [item])
    with pytest.raises(Conflict, match="FF19020"):
        await place.data.delete(item.id)
    async with place.store.write(NS) as tx:
        await tx.decide([Decision(second.header.id, second.hash, confirmed, Nanoseconds(2))])
    await place.data.delete(item.id)
    assert not await place.is_there(item.id)


async def test_received_data_that_nobody_decided_on_cannot_be_named(place: Place) -> None:
    item = make_data()
    message = msgspec.structs.replace(make_message(item), state=MessageState.PENDING)
    async with place.store.write(NS) as tx:
        await tx.insert_received(make_batch(message), [message], [item])
    with pytest.raises(NotFound, match="FF10143"):
        await place.data.delete(item.id)


async def test_a_message_with_data_that_went_meanwhile_is_refused(place: Place) -> None:
    gone, here = await place.value(), await place.value("2")
    await place.data.resolve([DataInput(id=gone.id)])
    await place.data.delete(gone.id)
    message = make_message(here, gone)
    with pytest.raises(Rejected, match="FF10204: Data reference 1"):
        async with place.store.write(NS) as tx:
            await tx.insert_messages([MessageWrite(message)])
    async with place.store.read(NS) as reader:
        assert await reader.messages([message.header.id]) == {}


async def test_deleting_and_sending_at_once_never_leaves_a_message_without_data(
    place: Place,
) -> None:
    items = [await place.value(str(number)) for number in range(RACES)]
    sent = await asyncio.gather(*(place.send(item) for item in items[: RACES // 2]))
    assert len(sent) == RACES // 2

    async def race(item: Data) -> tuple[object, object]:
        results = await asyncio.gather(
            place.data.delete(item.id), place.send(item), return_exceptions=True
        )
        return results[0], results[1]

    for deleted, stored in await asyncio.gather(*(race(item) for item in items)):
        one_failed = isinstance(deleted, Conflict) != isinstance(stored, Rejected)
        assert one_failed, (deleted, stored)
    for item in items:
        async with place.store.write(NS) as tx:
            waits = await tx.undecided_message_of(item.id) is not None
        assert waits == await place.is_there(item.id)


async def test_one_of_two_items_with_the_same_blob_goes(place: Place) -> None:
    first, second = await place.blob(b"same"), await place.blob(b"same")
    assert first.hash == second.hash
    await place.data.delete(first.id)
    blob = await place.data.blob(second.id)
    assert b"".join([part async for part in place.data.download(blob)]) == b"same"


# Folders


async def test_folders_are_found_at_any_depth_below_their_parent(place: Place) -> None:
    names = ("a/b/1", "/a/b/2", "a/c/d/3", "a", "ab/4", "a%/5", "a_/6", "A/7", "ä/8", "a\\/9", "/x")
    for name in names:
        await place.blob(b"x", msgspec.json.encode({"name": name}).decode())
    await place.blob(b"no name")
    paths = place.data.sub_paths
    everything = ["/", "/A", "/a%", "/a/b", "/a/c/d", "/a\\", "/a_", "/ab", "/ä"]
    for root in ("", "/", "//"):
        assert await paths(root) == everything
    for folder in ("a", "/a", "/a/", "a/"):
        assert await paths(folder) == ["/a/b", "/a/c/d"], folder
    assert await paths("a/c") == ["/a/c/d"]
    for folder in ("a/b", "a%", "a_", "A", "ä", "absent", "%"):
        assert await paths(folder) == [], folder
    assert await paths("a/b/") == []
    with pytest.raises(Rejected, match="FF19008"):
        await paths("a\0")


async def test_folders_of_what_is_not_to_be_seen_are_not_either(place: Place) -> None:
    item = make_data(blob=True)
    message = msgspec.structs.replace(make_message(item), state=MessageState.PENDING)
    async with place.store.write(NS) as tx:
        await tx.insert_received(make_batch(message), [message], [item])
    assert await place.data.sub_paths("") == []
    stored = await place.blob(b"x", '{"name":"gone/x"}')
    assert await place.data.sub_paths("") == ["/gone"]
    await place.data.delete(stored.id)
    assert await place.data.sub_paths("") == []


async def test_folders_have_a_limit(place: Place) -> None:
    async with place.store.write(NS) as tx:
        rows = []
        for number in range(SUB_PATHS_MAX + 5):
            item = make_data(blob=True)
            assert item.blob is not None
            named = msgspec.structs.replace(item.blob, path=f"/many/{number:06d}")
            rows.append(msgspec.structs.replace(item, blob=named))
        await tx.insert_data(rows)
    found = await place.data.sub_paths("many")
    assert (len(found), found[-1]) == (SUB_PATHS_MAX, f"/many/{SUB_PATHS_MAX - 1:06d}")
