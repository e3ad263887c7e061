"""What members and chain hold once it is quiet, written into the history for the checkers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from photinus_core.app.devnet import chain

from tests.robustness.databases import ROLE, Database
from tests.robustness.records import (
    Call,
    History,
    LeaderWrite,
    LoggedEvent,
    Mined,
    StoredBatch,
    StoredBlob,
    StoredMessage,
    StoredPin,
    of,
)
from tests.robustness.site import Site

ANSWER_S: Final = 30.0
DOWNLOADS_AT_ONCE: Final = 4
_WORD_DIGITS: Final = 64


async def take_snapshot(site: Site, databases: Sequence[Database], history: History) -> None:
    """Reads everything, member by member."""
    for member, database in enumerate(databases):
        await _stored(member, database, history)
        await _blobs(site, member, database, history)
    await _mined(site, history)


async def _stored(member: int, database: Database, history: History) -> None:
    for row in await database.rows(
        "SELECT sequence, type, reference, topic FROM events WHERE namespace = 'default'"
    ):
        history.add(LoggedEvent(member, *row))
    for row in await database.rows(
        "SELECT id, idempotency_key, state, type, author, group_hash, topics, pins "
        "FROM messages WHERE namespace = 'default'"
    ):
        identifier, key, state, kind, author, group, topics, pins = row
        history.add(
            StoredMessage(
                member=member,
                id=identifier,
                op=key,
                state=state,
                type=kind,
                author=author,
                group=group,
                topics=tuple(topics.split(",")),
                pins=tuple(pins.split(",")) if pins else (),
            )
        )
    for row in await database.rows("SELECT id, manifest FROM batches WHERE namespace = 'default'"):
        messages = json.loads(row[1])["messages"]
        history.add(StoredBatch(member, row[0], tuple(each["id"] for each in messages)))
    for row in await database.rows(
        "SELECT batch, pin_index, hash, dispatched FROM pins WHERE namespace = 'default'"
    ):
        history.add(StoredPin(member, row[0], row[1], row[2], dispatched=bool(row[3])))
    for row in await database.rows(
        "SELECT number, epoch, writer, source FROM chaos_audit ORDER BY number"
    ):
        number, epoch, told, source = row
        writer = database.writer(told)
        history.add(LeaderWrite(member, number, ROLE, epoch, writer, source))


async def _blobs(site: Site, member: int, database: Database, history: History) -> None:
    """Downloads from a member the blob of every acked message that has one."""
    ops = {
        call.message: call.op
        for call in of(history.records, Call)
        if call.blob and call.outcome == "acked"
    }
    rows = await database.rows(
        "SELECT m.message_id, m.data_id FROM message_data m JOIN data d "
        "ON d.namespace = m.namespace AND d.id = m.data_id "
        "WHERE m.namespace = 'default' AND d.blob_hash <> ''"
    )
    data = {row[0]: row[1] for row in rows}
    limit = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:

        async def download(message: str, op: str) -> None:
            async with limit:
                digest = ""
                if message in data:
                    url = f"{site.wiring.direct_url(member)}/api/v1/data/{data[message]}/blob"
                    async with http.get(url) as answer:
                        if answer.status == 200:
                            digest = hashlib.sha256(await answer.read()).hexdigest()
                history.add(StoredBlob(member, op, digest))

        async with asyncio.TaskGroup() as group:
            for message, op in ops.items():
                group.create_task(download(message, op))


async def _mined(site: Site, history: History) -> None:
    """Reads every batch pin from the chain."""
    question = {"address": site.wiring.contract, "fromBlock": "0x0", "toBlock": "latest"}
    for log in await chain.call(site.wiring.chain_port, "eth_getLogs", [question]):
        history.add(_pin_of(log))


def _pin_of(log: Any) -> Mined:
    """Decodes a BatchPin: author, timestamp, action, uuids, batch hash, payload reference, contexts."""
    words = bytes.fromhex(log["data"].removeprefix("0x")).hex()

    def word(number: int) -> str:
        return words[number * _WORD_DIGITS : (number + 1) * _WORD_DIGITS]

    at = int(word(6), 16) // 32
    contexts = tuple(word(at + 1 + number) for number in range(int(word(at), 16)))
    return Mined(
        transaction=log["transactionHash"],
        block=int(log["blockNumber"], 16),
        batch=str(uuid.UUID(word(3)[32:])),
        contexts=contexts,
    )
