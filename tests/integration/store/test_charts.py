"""Counts over time are right, on both databases, and cost no more with more rows.

Method: rows with chosen times; every histogram is compared with a count in plain Python. On large
tables the work of the database is counted: rows read, on PostgreSQL, and steps of its machine, on
SQLite.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import asyncpg
import msgspec
import pytest
from photinus_core.model.errors import Rejected
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Namespace, Nanoseconds, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.namespaces.charts import Charts, bounds_of
from photinus_core.ports.store import Bucket, Charted, MessageWrite, Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore
from photinus_core.store.chart_rows import _SOURCES, histogram_sql
from photinus_core.store.sqlite_files import translate

from tests.support.store_records import (
    NS,
    make_blockchain_event,
    make_message,
    make_operation,
    make_transaction,
    new_hash,
)

Record = TypeVar("Record", bound=msgspec.Struct)

SECOND = 1_000_000_000
ROWS = 100_000
ROWS_FEWER = 30_000
"""Enough for PostgreSQL to prefer an index."""
TYPES = {
    Charted.MESSAGES: ("broadcast", "private"),
    Charted.TRANSACTIONS: ("batch_pin", "unpinned", "data_publish"),
    Charted.OPERATIONS: ("blockchain_pin_batch",),
    Charted.EVENTS: ("message_confirmed", "message_rejected"),
    Charted.BLOCKCHAIN_EVENTS: ("",),
}


async def store_rows(
    store: Store, collection: Charted, rows: list[tuple[int, str]], namespace: Namespace = NS
) -> None:
    """Stores one row for each time and type."""

    def at(time: int, record: Record, field: str = "created") -> Record:
        return msgspec.structs.replace(record, **{field: Nanoseconds(time)}, namespace=namespace)

    def event(time: int, kind: str) -> NewEvent:
        return NewEvent(new_uuid(), EventType(kind), namespace, new_uuid(), Nanoseconds(time))

    async with store.write(namespace) as tx:
        match collection:
            case Charted.MESSAGES:
                await tx.insert_messages([_message(time, kind, namespace) for time, kind in rows])
            case Charted.TRANSACTIONS:
                await tx.insert_transactions(
                    [at(time, make_transaction(kind=TransactionType(kind))) for time, kind in rows]
                )
            case Charted.OPERATIONS:
                await tx.insert_operations(
                    [at(time, make_operation(new_uuid())) for time, _ in rows]
                )
            case Charted.EVENTS:
                tx.append_events([event(time, kind) for time, kind in rows])
            case Charted.BLOCKCHAIN_EVENTS:
                await tx.insert_blockchain_events(
                    [at(time, make_blockchain_event(new_uuid()), "timestamp") for time, _ in rows]
                )
            case _:
                raise AssertionError(collection)


def _message(time: int, kind: str, namespace: Namespace) -> MessageWrite:
    made = make_message(group=new_hash() if kind == "private" else None)
    header = msgspec.structs.replace(made.header, created=Nanoseconds(time))
    return MessageWrite(msgspec.structs.replace(made, header=header, namespace=namespace))


def counted(rows: list[tuple[int, str]], bounds: list[Nanoseconds], rows_max: int) -> list[Bucket]:
    """The same in plain Python; rows of one time are of one type."""
    found = []
    for begin, end in pairwise(bounds):
        inside = sorted(row for row in rows if begin <= row[0] < end)
        kept = Counter(kind for _, kind in inside[:rows_max] if kind)
        is_capped = len(inside) > rows_max
        number = min(len(inside), rows_max)
        found.append(Bucket(begin, number, tuple(sorted(kept.items())), is_capped))
    return found


@pytest.mark.parametrize("collection", list(TYPES))
async def test_histograms_count_what_is_there(store: Store, collection: Charted) -> None:
    chance = random.Random(7)
    times = chance.sample(range(1_000, 2_000), 180)
    rows = [(time, chance.choice(TYPES[collection])) for time in times]
    await store_rows(store, collection, rows)
    await store_rows(store, collection, [(1_500, TYPES[collection][0])], Namespace("other"))
    async with store.read(NS) as reader:
        for begin, end, parts, rows_max in (
            (1_000, 2_000, 1, 1_000),
            (1_000, 2_000, 1, 180),
            (1_000, 2_000, 1, 179),
            (1_000, 2_000, 7, 26),
            (1_000, 2_000, 100, 2),
            (0, 5_000, 99, 10),
            (times[0], times[0] + 1, 1, 1),
            (1_400, 1_410, 100, 1),
            (5_000, 6_000, 3, 10),
        ):
            bounds = bounds_of(Nanoseconds(begin), Nanoseconds(end), parts)
            found = await reader.histogram(collection, bounds, rows_max)
            assert found == counted(rows, bounds, rows_max), (begin, end, parts, rows_max)


async def test_tokens_are_counted_before_there_are_any(store: Store) -> None:
    found = await Charts(store, NS).histogram("tokentransfers", "0", "2", "2")
    assert found == [
        Bucket(Nanoseconds(0), 0, (), is_capped=False),
        Bucket(Nanoseconds(SECOND), 0, (), is_capped=False),
    ]


def test_parts_of_a_span_leave_nothing_out() -> None:
    bounds = bounds_of(Nanoseconds(10), Nanoseconds(20), 3)
    assert bounds == [10, 13, 16, 20]
    assert bounds_of(Nanoseconds(1), Nanoseconds(2), 3) == [1, 1, 1, 2], "empty parts, no more"


@pytest.mark.parametrize(
    ("start", "end", "buckets", "code"),
    [
        ("", "2", "1", "FF10299: Invalid startTime"),
        ("1", "", "1", "FF10299: Invalid endTime"),
        ("x", "2", "1", "FF10299: Invalid startTime"),
        ("1.5", "2", "1", "FF10299: Invalid startTime"),
        ("-1", "2", "1", "FF19010: Field 'startTime'"),
        ("1", "9999999999999999999", "1", "FF19010: Field 'endTime'"),
        ("1969-01-01T00:00:00Z", "2", "1", "FF19010: Field 'startTime'"),
        ("1", "9999999999", "1", "FF19010: Field 'endTime'"),
        ("1", "9999-12-31T23:59:59Z", "1", "FF19010: Field 'endTime'"),
        ("2020-13-01T00:00:00Z", "2", "1", "FF10299: Invalid startTime"),
        ("1", "2", "", "FF10299: Invalid buckets"),
        ("1", "2", "1.0", "FF10299: Invalid buckets"),
        ("1", "2", "٣", "FF10299: Invalid buckets"),
        ("1", "2", "9" * 5_000, "FF10299: Invalid buckets"),
        ("1", "2", "0", "FF10298"),
        ("1", "2", "-1", "FF10298"),
        ("1", "2", "101", "FF10298"),
        ("2", "1", "1", "FF10300"),
        ("1", "1", "1", "FF10300"),
    ],
)
async def test_spans_that_make_no_sense_are_refused(
    tmp_path: Path, start: str, end: str, buckets: str, code: str
) -> None:
    store = await SqliteStore.open(tmp_path / "core.db")
    with pytest.raises(Rejected, match=code):
        await Charts(store, NS).histogram("messages", start, end, buckets)
    await store.aclose()


@pytest.mark.parametrize("collection", ["", "absent", "MESSAGES", "data", "pins", "tokenpools"])
async def test_other_collections_are_not_counted(tmp_path: Path, collection: str) -> None:
    store = await SqliteStore.open(tmp_path / "core.db")
    with pytest.raises(Rejected, match=f"FF10301: {collection} collection is not supported"):
        await Charts(store, NS).histogram(collection, "1", "2", "1")
    await store.aclose()


@pytest.mark.parametrize(
    "start", ["1620104103", "1620104103000", "1620104103000000000", "2021-05-04T04:55:03Z"]
)
async def test_times_come_in_four_forms(tmp_path: Path, start: str) -> None:
    store = await SqliteStore.open(tmp_path / "core.db")
    (bucket,) = await Charts(store, NS).histogram("events", start, "1620104104", "1")
    assert bucket.begin == 1_620_104_103 * SECOND
    await store.aclose()


# What it costs


async def test_a_large_table_costs_sqlite_no_more(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    store = await SqliteStore.open(path)
    await store.aclose()
    with sqlite3.connect(path) as connection:
        few = _steps(connection, 10_000)
        many = _steps(connection, ROWS)
    assert 0 < many < few * 1.2, "it reads no more rows than it counts"


def _steps(connection: sqlite3.Connection, rows: int) -> int:
    """Fills the events up to a number; gives the steps of 100 buckets over all of them."""
    (before,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?, 'message_confirmed', '', '', '', '', ?)",
        ((NS, n, str(n), n) for n in range(before, rows)),
    )
    bounds = bounds_of(Nanoseconds(0), Nanoseconds(rows), 100)
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    statement = translate(histogram_sql(_SOURCES[Charted.EVENTS], 100))
    connection.set_progress_handler(step, 100)
    found = connection.execute(statement, (NS, 100, *bounds)).fetchall()
    connection.set_progress_handler(None, 0)
    assert sum(row[2] for row in found) == min(rows, 10_000)
    return steps


async def test_a_large_table_costs_postgres_no_more(postgres_url: str) -> None:
    store = await PostgresStore.open(PostgresSettings(postgres_url))
    await store.aclose()
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(
            "INSERT INTO messages SELECT n, $1, n::text, '', TRUE, 'confirmed', 'broadcast', "
            "'batch_pin', '', '', n, '', '', '', '', '', '', '', '', '', '', NULL, '', '', '', '' "
            "FROM generate_series(1, $2::int) n",
            *(NS, ROWS_FEWER),
        )
        await connection.execute("VACUUM ANALYZE messages")
        bounds = bounds_of(Nanoseconds(0), Nanoseconds(ROWS_FEWER), 100)
        statement = histogram_sql(_SOURCES[Charted.MESSAGES], 100)
        (row,) = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", NS, 100, *bounds
        )
        (plan,) = json.loads(row[0])
        read = _rows_of_scans(plan["Plan"])
        assert 10_000 <= read <= 101 * 100, "it reads no more rows than it counts, and one each"
    finally:
        await connection.close()


def _rows_of_scans(plan: dict[str, object]) -> int:
    if plan.get("Relation Name") == "messages":
        assert plan["Node Type"] in {"Index Scan", "Index Only Scan"}, plan
        return int(str(plan["Actual Rows"]).partition(".")[0])
    inner = plan.get("Plans", [])
    assert isinstance(inner, list)
    return sum(map(_rows_of_scans, inner))
