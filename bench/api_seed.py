"""Fills a member's database for `make bench-api`: confirmed messages, each with its data and its event."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import asyncpg
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Did, Hash32, Namespace, Nanoseconds, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import (
    Data,
    DataRef,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    Validator,
)
from photinus_core.ports.store import MessageWrite, Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore

NAMESPACE: Final = Namespace("default")
TAGS: Final = 1_000
"""How many tags the messages have between them."""
PER_TRANSACTION: Final = 1_000
VALUE_BYTES: Final = 500
FIRST: Final = Nanoseconds(1_700_000_000_000_000_000)
MILLISECOND: Final = 1_000_000


async def fill(place: str, count: int, author: str, key: str) -> None:
    """Stores so many messages; nothing else may use a database of SQLite meanwhile.

    Args:
        place: URL of a PostgreSQL database, or path of a file of SQLite.
        count: How many.
        author: DID of the member.
        key: Its signing key.
    """
    store = await _open(place)
    try:
        for first in range(0, count, PER_TRANSACTION):
            numbers = range(first, min(count, first + PER_TRANSACTION))
            await _store(store, [_write(number, author, key) for number in numbers])
    finally:
        await store.aclose()
    if "://" in place:
        connection = await asyncpg.connect(place)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()


async def _open(place: str) -> PostgresStore | SqliteStore:
    if "://" in place:
        return await PostgresStore.open(PostgresSettings(place))
    return await SqliteStore.open(Path(place))


async def _store(store: Store, writes: list[MessageWrite]) -> None:
    async with store.write(NAMESPACE) as transaction:
        await transaction.insert_messages(writes)
        transaction.append_events([_event(write.message) for write in writes])


def _write(number: int, author: str, key: str) -> MessageWrite:
    created = Nanoseconds(FIRST + number * MILLISECOND)
    value = json.dumps({"number": number, "text": "x" * VALUE_BYTES}, separators=(",", ":"))
    data = Data(new_uuid(), Validator.JSON, NAMESPACE, _hash(value), created, value)
    header = MessageHeader(
        id=new_uuid(),
        type=MessageType.BROADCAST,
        txtype=TransactionType.BATCH_PIN,
        author=Did(author),
        key=key,
        created=created,
        namespace=NAMESPACE,
        topics=("bench",),
        datahash=_hash(data.hash),
        tag=f"tag{number % TAGS}",
    )
    message = Message(
        header=header,
        hash=_hash(header.id),
        data=(DataRef(data.id, data.hash),),
        namespace=NAMESPACE,
        state=MessageState.CONFIRMED,
        batch=new_uuid(),
        txid=new_uuid(),
        confirmed=Nanoseconds(created + MILLISECOND),
    )
    return MessageWrite(message, (data,))


def _event(message: Message) -> NewEvent:
    return NewEvent(
        id=new_uuid(),
        type=EventType.MESSAGE_CONFIRMED,
        namespace=NAMESPACE,
        reference=message.header.id,
        correlator=None,
        tx=message.txid,
        topic=message.header.topics[0],
        created=message.confirmed or FIRST,
    )


def _hash(text: str) -> Hash32:
    return Hash32(hashlib.sha256(text.encode()).hexdigest())
