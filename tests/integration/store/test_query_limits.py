"""The largest queries that clients may send, and those the core makes itself, run on both databases.

Method: queries at the limits of number, length and nesting on a real database; lists narrowed by more values than
clients may give; the order of absent values.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from photinus_core.model.fields import fields_of
from photinus_core.model.ids import Nanoseconds, new_uuid
from photinus_core.model.json_query import NESTING_MAX, parse_json_query
from photinus_core.model.messages import MessageState
from photinus_core.model.query import (
    CONDITIONS_MAX,
    VALUE_CHARS_MAX,
    AnyOf,
    Condition,
    Operator,
    Query,
)
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import MessageWrite, Store, Table
from photinus_core.store import SqliteStore
from photinus_core.store.filters import LISTINGS

from tests.support.store_records import NS, make_data, make_event, make_message, write

MANY: Final = 1_500
"""More than SQLite's largest depth of an expression, 1,000."""


async def total(store: Store, query: Query) -> int | None:
    async with store.read(NS) as reader:
        return (await reader.query(Table(query.collection), query)).total


async def test_as_many_conditions_as_allowed(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(tag=tag) for tag in ("t1", "t2", "other")])
    tags = [f"t{number}" for number in range(CONDITIONS_MAX)]
    either = "&".join(f"tag={tag}" for tag in tags)
    neither = "&".join(f"tag=[!:@{tag}" for tag in tags)
    sort = "sort=" + ",".join(["tag", "-created", "author", "state", "hash"] * 50)
    assert await total(store, parse_query_string("messages", f"{either}&count")) == 2
    assert await total(store, parse_query_string("messages", f"{neither}&count&{sort}")) == 1
    for operator, expected in (("in", 2), ("nin", 1)):
        body = {operator: [{"field": "tag", "values": tags}], "count": True}
        assert await total(store, parse_json_query("messages", json.dumps(body))) == expected


async def test_as_deep_and_as_wide_as_allowed(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(tag="a"), write(tag="b")])
    query: dict[str, Any] = {"eq": [{"field": "tag", "value": "a"}]}
    for _ in range(NESTING_MAX):
        query = {"or": [query, {"eq": [{"field": "tag", "value": "none"}]}]}
    assert (
        await total(store, parse_json_query("messages", json.dumps({**query, "count": True}))) == 1
    )
    wide = {"or": [{}] * CONDITIONS_MAX, "count": True}
    assert await total(store, parse_json_query("messages", json.dumps(wide))) == 2


async def test_as_long_as_allowed(store: Store) -> None:
    longest = "ü" * VALUE_CHARS_MAX
    async with store.write(NS) as tx:
        await tx.insert_messages([write(tag=longest), write(tag="short")])
    for operator in ("", ":", "@", "^", "$", ":@"):
        query = parse_query_string("messages", f"tag={operator}{longest}&count")
        assert await total(store, query) == 1, operator


async def test_a_data_item_in_very_many_messages(store: Store) -> None:
    """Each of them was an alternative of the filter: SQLite refused, and from 1,000 on some were missing."""
    data = make_data()
    async with store.write(NS) as tx:
        await tx.insert_messages([write(data, tag="x")])
        await tx.insert_messages([MessageWrite(make_message(data)) for _ in range(MANY)])
        await tx.insert_messages([write(make_data())])
    of_data = Condition("data", Operator.EQUAL, data.id)
    assert await total(store, Query("messages", of_data, count=True)) == MANY + 1
    async with store.read(NS) as reader:
        page = await reader.query(Table.MESSAGES, Query("messages", of_data, skip=MANY, limit=5))
    assert [message.header.tag for message in page.items] == ["x"]


async def test_events_about_very_many_things(store: Store) -> None:
    events = [make_event() for _ in range(3)]
    async with store.write(NS) as tx:
        tx.append_events(events)
    wanted = [events[0].reference, *(new_uuid() for _ in range(MANY)), events[2].reference]
    about = AnyOf(tuple(Condition("reference", Operator.EQUAL, each) for each in wanted))
    assert await total(store, Query("events", about, count=True)) == 2


@pytest.mark.parametrize(
    ("raw", "order"),
    [
        ("sort=confirmed", "1 2 none"),
        ("sort=-confirmed", "none 2 1"),
        ("sort=state,-confirmed", "2 1 none"),
        ("sort=-confirmed,tag&ascending", "1 2 none"),
    ],
)
async def test_absent_times_come_last_as_on_postgresql(store: Store, raw: str, order: str) -> None:
    """FireFly's order is that of its database; SQLite has them first."""
    states = {"none": MessageState.SENT, "1": MessageState.CONFIRMED, "2": MessageState.CONFIRMED}
    writes = [
        MessageWrite(
            msgspec.structs.replace(
                make_message(tag=tag, state=state),
                confirmed=None if tag == "none" else Nanoseconds(int(tag)),
            )
        )
        for tag, state in states.items()
    ]
    async with store.write(NS) as tx:
        await tx.insert_messages(writes)
    async with store.read(NS) as reader:
        page = await reader.query(Table.MESSAGES, parse_query_string("messages", raw))
    assert [message.header.tag for message in page.items] == order.split()


async def test_the_columns_that_may_be_null_are_known(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path / "core.db")).aclose()
    with sqlite3.connect(tmp_path / "core.db") as connection:
        for table, listing in LISTINGS.items():
            columns = connection.execute(f"PRAGMA table_info({listing.table})").fetchall()
            nullable = {name for _, name, _, not_null, _, key in columns if not (not_null or key)}
            sortable = {listing.column(name) for name in fields_of(table)}
            assert nullable & sortable == listing.nullable, table
