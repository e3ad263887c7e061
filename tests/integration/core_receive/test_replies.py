"""Waiting for a reply: it counts whenever it comes, and whoever stores it.

Method: messages and events are written as agreement would, also through a second connection to the
same database: another replica.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from photinus_core.events.waiting import OutcomeWaiter
from photinus_core.model.errors import NotFound, Rejected, TimedOut
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.model.messages import Message, MessageState, SystemTag
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.store import Decision, MessageWrite, Store

from tests.support.databases import PostgresDatabases
from tests.support.postgres import PostgresServer
from tests.support.store_records import NS, make_message

PATIENCE_S = 30.0


async def stored(store: Store, cid: Uuid | None = None, tag: str = "ask") -> Message:
    made = make_message(tag=tag)
    made = msgspec.structs.replace(made, header=msgspec.structs.replace(made.header, cid=cid))
    async with store.write(NS) as tx:
        await tx.insert_messages([MessageWrite(made, ())])
    return made


async def decided(
    store: Store, message: Message, state: MessageState = MessageState.CONFIRMED, at: int = 1
) -> Message:
    kinds = {
        MessageState.CONFIRMED: EventType.MESSAGE_CONFIRMED,
        MessageState.REJECTED: EventType.MESSAGE_REJECTED,
    }
    header = message.header
    async with store.write(NS) as tx:
        await tx.decide([Decision(header.id, message.hash, state, Nanoseconds(at), "no")])
        if state in kinds:
            event = NewEvent(
                new_uuid(), kinds[state], NS, header.id, Nanoseconds(at), correlator=header.cid
            )
            tx.append_events([event])
    return message


@asynccontextmanager
async def waiting(store: Store) -> AsyncIterator[OutcomeWaiter]:
    waiter = OutcomeWaiter(store, NS, SystemClock())
    task = asyncio.create_task(waiter.run())
    try:
        yield waiter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_reply_that_came_before_is_found(store: Store) -> None:
    asked = await stored(store)
    reply = await decided(store, await stored(store, asked.header.id, "answer"))
    async with waiting(store) as waiter:
        found = await waiter.wait_reply(asked.header.id, PATIENCE_S)
    assert found.header == reply.header


async def test_a_reply_that_comes_later_wakes_who_waits(store: Store) -> None:
    asked = await stored(store)
    async with waiting(store) as waiter:
        answer = asyncio.create_task(waiter.wait_reply(asked.header.id, PATIENCE_S))
        await decided(store, asked)
        reply = await stored(store, asked.header.id, "answer")
        await decided(store, await stored(store, new_uuid(), "answer"))
        assert not answer.done(), "neither the request's own end nor another reply is it"
        await decided(store, reply)
        assert (await answer).header == reply.header


async def test_a_reply_stored_by_another_replica_counts(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    databases = PostgresDatabases(postgres_server)
    here = await databases.open(tmp_path / "core.db")
    there = await databases.open(tmp_path / "core.db")
    try:
        asked = await stored(here)
        async with waiting(here) as waiter:
            answer = asyncio.create_task(waiter.wait_reply(asked.header.id, PATIENCE_S))
            reply = await decided(there, await stored(there, asked.header.id, "answer"))
            assert (await answer).header == reply.header
    finally:
        await there.aclose()
        await here.aclose()


async def test_the_first_reply_is_the_answer(store: Store) -> None:
    asked = await stored(store)
    late, early = [await stored(store, asked.header.id, "answer") for _ in range(2)]
    await decided(store, early, at=5)
    await decided(store, late, at=6)
    async with waiting(store) as waiter:
        assert (await waiter.wait_reply(asked.header.id, PATIENCE_S)).header == early.header


async def test_what_stands_for_a_cancelled_message_is_no_reply(store: Store) -> None:
    asked = await stored(store)
    await decided(store, await stored(store, asked.header.id, SystemTag.GAP_FILL))
    async with waiting(store) as waiter:
        with pytest.raises(TimedOut, match=f"FF10260: .*{asked.header.id}"):
            await waiter.wait_reply(asked.header.id, 0.05)
        await decided(store, asked, MessageState.CANCELLED)
        with pytest.raises(Rejected, match="FF19405"):
            await waiter.wait_reply(asked.header.id, PATIENCE_S)


async def test_a_request_that_is_rejected_gets_no_reply(store: Store) -> None:
    asked = await stored(store)
    async with waiting(store) as waiter:
        answer = asyncio.create_task(waiter.wait_reply(asked.header.id, PATIENCE_S))
        await decided(store, asked, MessageState.REJECTED)
        with pytest.raises(Rejected, match="FF10269"):
            await answer
        with pytest.raises(NotFound):
            await waiter.wait_reply(new_uuid(), PATIENCE_S)
