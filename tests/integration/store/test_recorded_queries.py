"""Queries that a real FireFly was asked find here what they found there, in the same order.

Method: the forty messages that one of its answers lists are stored; every recorded query for messages is read by the
core's parser and run, and the ids of the answer, its counts or its error's code are compared.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec
from photinus_core.model.canonical_json import parse_time
from photinus_core.model.errors import Rejected
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import Message, MessageState, MessageType
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import MessageWrite, Store, Table

from tests.support import golden
from tests.support.store_records import NS, make_message

LIST: Final = "/api/v1/messages?"
WHOLE: Final = "a00309"
"""The answer with all messages: `limit=0`."""
COMPARED_MIN: Final = 34
DIFFERENT: Final = {
    "a00296": "FireFly stores no tag as '', which is not null: `?` finds nothing",
    "a00297": "and `!?` everything",
    "a00318": "text that is no UUID: 500",
}
"""Lines that are answered otherwise, as docs/divergences.md says."""
LINES: Final = [line for line in golden.lines("queries") if line.path.startswith(LIST)]


def stored(given: dict[str, Any]) -> Message:
    """A message as FireFly listed it."""
    header = given["header"]
    message = make_message()
    return msgspec.structs.replace(
        message,
        header=msgspec.structs.replace(
            message.header,
            id=header["id"],
            cid=header.get("cid"),
            type=MessageType(header["type"]),
            txtype=TransactionType(header["txtype"]),
            author=header["author"],
            key=header["key"],
            created=parse_time(header["created"]),
            topics=tuple(header["topics"]),
            tag=header.get("tag", ""),
            group=header.get("group"),
            datahash=header["datahash"],
        ),
        hash=given["hash"],
        batch=given.get("batch"),
        txid=given.get("txid"),
        state=MessageState(given["state"]),
        confirmed=parse_time(given["confirmed"]) if "confirmed" in given else None,
        reject_reason=given.get("rejectReason", ""),
        idempotency_key=given.get("idempotencyKey", ""),
    )


async def answered(store: Store, raw: str) -> Any:
    """What a query finds, as far as it is compared."""
    try:
        query = parse_query_string("messages", raw)
    except Rejected as refused:
        return refused.code
    async with store.read(NS) as reader:
        page = await reader.query(Table.MESSAGES, query)
    ids = [message.header.id for message in page.items]
    return (page.total, ids) if query.count else ids


def recorded(line: golden.Line) -> Any:
    body = json.loads(bytes(line.response_body))
    if line.status != 200:
        code = re.match(r"FF\d{5}", body["error"])
        assert code is not None
        return code[0]
    if isinstance(body, dict):
        return body["total"], [each["header"]["id"] for each in body["items"]]
    return [each["header"]["id"] for each in body]


async def test_recorded_queries_find_what_was_recorded(store: Store) -> None:
    (whole,) = (line for line in LINES if line.id == WHOLE)
    newest_first = json.loads(bytes(whole.response_body))
    async with store.write(NS) as tx:
        await tx.insert_messages([MessageWrite(stored(each)) for each in reversed(newest_first)])
    assert len(LINES) >= COMPARED_MIN
    differing = {}
    for line in LINES:
        found, wanted = await answered(store, line.path.removeprefix(LIST)), recorded(line)
        if found != wanted:
            differing[line.id] = f"{line.path}: {found}, recorded {wanted}"
    surprising = {k: v for k, v in differing.items() if k not in DIFFERENT}
    assert not surprising, json.dumps(surprising, indent=1)
    assert DIFFERENT.keys() <= differing.keys(), "rows that are not needed any more"
