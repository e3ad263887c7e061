"""PostgreSQL reads no large table whole for what the core asks; messages and events have 100,000 rows.

Method: every method of the store runs once while the connections report their statements; each is
then explained with its values, and as the server would plan it for any values. Lists are asked for by
every field that clients can filter by, for a value that is rare and one that most rows have.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
import pytest
from photinus_core.model.fields import FieldType, fields_of
from photinus_core.model.ids import Nanoseconds, new_uuid
from photinus_core.model.ledger import ReceivedBatchKey
from photinus_core.model.messages import MessageState
from photinus_core.model.query import Condition, Operator, Query
from photinus_core.ports.store import Decision, Table
from photinus_core.store import PostgresSettings, PostgresStore
from photinus_core.store.filters import LISTINGS, to_sql

from tests.support.postgres import PostgresServer, create_database
from tests.support.store_calls import CALLS, Call
from tests.support.store_records import NS, make_batch, make_data, new_hash, write

ROWS: Final = 100_000
ROWS_FEWER: Final = 20_000
"""Enough for the planner to prefer indexes."""
FULL: Final = frozenset({"messages", "events"})
ID: Final = "'00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0')"
HASH: Final = "repeat('0', 52) || lpad(to_hex(n), 12, '0')"

# Large tables: how their columns are filled for the n-th row; all others get '', 0, FALSE or NULL.
FILL: Final = {
    "messages": {
        "id": ID,
        "hash": HASH,
        "own": "TRUE",
        "state": "CASE WHEN n % 1000 = 0 THEN 'rejected' ELSE 'confirmed' END",
        "type": "CASE WHEN n % 500 = 0 THEN 'definition' ELSE 'broadcast' END",
        "txtype": "'batch_pin'",
        "author": "'did:firefly:org/org' || n % 3",
        "signing_key": "'0x' || n % 3",
        "created": "n",
        "topics": "'topic' || n % 100",
        "tag": "'tag' || n % 100",
        "datahash": HASH,
        "batch": "'batch' || n / 100",
        "txid": "'tx' || n / 100",
        "confirmed": "n",
        "data_refs": f"{ID} || ':' || {HASH}",
    },
    "message_data": {"data_id": ID, "message_id": ID},
    "data": {
        "id": ID,
        "hash": HASH,
        "visible": "TRUE",
        "validator": "'json'",
        "created": "n",
        "datatype_name": "CASE WHEN n % 10 = 0 THEN 'widget' ELSE '' END",
        "value_size": "10",
        "value": "'{}'",
    },
    "pins": {
        "hash": "'context' || n % 100",
        "batch": "'batch' || n / 100",
        "batch_hash": HASH,
        "pin_index": "n % 100",
        "created": "n",
        "block": "n",
        "protocol_id": "lpad(n::text, 12, '0')",
        "dispatched": "TRUE",
    },
    "batches": {
        "id": ID,
        "hash": HASH,
        "own": "n % 2 = 0",
        "type": "'broadcast'",
        "author": "'did:firefly:org/org' || n % 3",
        "signing_key": "'0x' || n % 3",
        "created": "n",
        "tx_type": "'batch_pin'",
        "tx_id": ID,
        "confirmed": "n",
        "dispatched": "TRUE",
        "manifest": "'{}'",
    },
    "events": {
        "sequence": "n",
        "id": ID,
        "type": "CASE WHEN n % 1000 = 0 THEN 'message_rejected' ELSE 'message_confirmed' END",
        "reference": ID,
        "topic": "'topic' || n % 100",
        "created": "n",
    },
    "operations": {
        "id": ID,
        "tx": ID,
        "type": "'blockchain_pin_batch'",
        "status": "CASE WHEN n % 1000 = 0 THEN 'Failed' ELSE 'Succeeded' END",
        "plugin": "'blockchain0'",
        "created": "n",
        "updated": "n",
    },
    "transactions": {"id": ID, "type": "'batch_pin'", "created": "n", "blockchain_ids": HASH},
    "blockchain_events": {
        "id": ID,
        "source": "'ethereum'",
        "name": "'BatchPin'",
        "protocol_id": "lpad(n::text, 12, '0')",
        "timestamp": "n",
        "tx_type": "'batch_pin'",
        "tx_id": ID,
        "tx_blockchain_id": HASH,
    },
}
# Large texts and lists, which no index can help: the newest rows are looked through.
UNINDEXED: Final = {FieldType.JSON, FieldType.TEXT_LIST}

MANY: Final = [(new_uuid(), new_hash()) for _ in range(50)]
BULK: Final[dict[str, Call]] = {
    "insert many": lambda tx: tx.insert_messages([write(make_data()) for _ in range(50)]),
    "seal many": lambda tx: tx.seal_batch(make_batch(), [(id_, ("p",)) for id_, _ in MANY], {}),
    "decide many": lambda tx: tx.decide(
        [Decision(id_, hash_, MessageState.CONFIRMED, Nanoseconds(1)) for id_, hash_ in MANY]
    ),
    "confirm many": lambda tx: tx.confirm_batches(
        [ReceivedBatchKey(id_, hash_) for id_, hash_ in MANY], Nanoseconds(1)
    ),
    "mark many": lambda tx: tx.mark_dispatched(list(range(50))),
    "read many": lambda tx: tx.messages([id_ for id_, _ in MANY]),
    "read much data": lambda tx: tx.received_data(MANY),
}


async def fill(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    for table, given in FILL.items():
        rows = await connection.fetch(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_name = $1 AND is_identity = 'NO'",
            table,
        )
        values = {}
        for column, kind, nullable in rows:
            absent = {"text": "''", "bigint": "0", "boolean": "FALSE"}[kind]
            values[column] = given.get(column, "NULL" if nullable == "YES" else absent)
        values["namespace"] = f"'{NS}'"
        number = ROWS if table in FULL else ROWS_FEWER
        # Indexes are made afterwards, and nothing is logged: what is looked at are plans.
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = $1 "
            "AND indexname NOT LIKE '%_pkey'",
            table,
        )
        statements = [
            "SET maintenance_work_mem = '256MB'",
            f"ALTER TABLE {table} SET UNLOGGED",
            *(f"DROP INDEX {index[0]}" for index in indexes),
            f"INSERT INTO {table} ({', '.join(values)}) {rows_of(values, number)}",
            *(index[1] for index in indexes),
            f"ANALYZE {table}",
        ]
        await connection.execute("; ".join(statements))


def rows_of(values: dict[str, str], number: int) -> str:
    return f"SELECT {', '.join(values.values())} FROM generate_series(1, {number}) AS g (n)"


class UndoneError(Exception):
    pass


Executed = list[tuple[str, tuple[Any, ...]]]


async def executed_by(store: PostgresStore, call: Call) -> Executed:
    """Runs one call in a transaction that is rolled back; gives its statements with their values."""
    executed: Executed = []

    def note(record: Any) -> None:
        if re.match("SELECT|UPDATE|DELETE|INSERT INTO events|WITH", record.query) and not (
            re.match(r"SELECT \S+ FROM \w+ LIMIT 1$|SELECT pg_", record.query)
        ):
            executed.append((record.query, tuple(record.args)))

    connection = await store.writers.acquire()
    connection.add_query_logger(note)
    store.writers.release(connection)
    with contextlib.suppress(UndoneError):
        async with store.write(NS) as tx:
            await call(tx)
            await tx.subscription(new_uuid())  # what is left to run runs before it
            raise UndoneError
    connection.remove_query_logger(note)
    return executed[:-1]


Explain = Callable[[str, tuple[Any, ...]], Awaitable[list[str]]]


def whole_reads(plan: list[str]) -> list[str]:
    return [line for line in plan if any(f"Seq Scan on {t}" in line for t in FILL)]


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer) -> str:
    """URL of a database with large tables; tests leave it as it is."""

    async def make() -> str:
        url = await create_database(postgres_server, "photinus_plans")
        await (await PostgresStore.open(PostgresSettings(url))).aclose()
        connection = await asyncpg.connect(url)
        await fill(connection)
        await connection.close()
        return url

    return asyncio.run(make())


async def test_no_statement_reads_a_large_table_whole(filled: str) -> None:
    store = await PostgresStore.open(PostgresSettings(filled))
    # Pruning is an operator's command, and looks at a thousand rows against whole collections.
    calls = {name: call for name, call in CALLS.items() if not name.startswith("prune_window")}
    statements = {name: await executed_by(store, call) for name, call in (calls | BULK).items()}
    await store.aclose()
    wrong = {}
    connection = await asyncpg.connect(filled)
    for name, executed in statements.items():
        assert executed or name.startswith("insert"), name
        for sql, args in executed:
            given = args[0] if isinstance(args[0], tuple) else args
            for mode in ("force_custom_plan", "force_generic_plan"):
                plan = await explain(connection, sql, given, mode)
                if whole_reads(plan):
                    wrong[name, mode] = [sql, *plan]
    await connection.close()
    assert wrong == {}


async def explain(
    connection: asyncpg.Connection[asyncpg.Record], sql: str, args: tuple[Any, ...], mode: str
) -> list[str]:
    """The plan of a statement, for these values or for any."""
    types = (await connection.prepare(sql)).get_parameters()
    names = ", ".join(
        kind.name.removesuffix("[]").lstrip("_") + "[]" * kind.name.endswith("[]") for kind in types
    )
    values = ", ".join(
        [await connection.fetchval("SELECT quote_nullable($1::text)", literal(a)) for a in args]
    )
    await connection.execute(f"SET plan_cache_mode = {mode}; PREPARE asked ({names}) AS {sql}")
    try:
        rows = await connection.fetch(f"EXPLAIN EXECUTE asked ({values})")
    finally:
        await connection.execute("DEALLOCATE asked")
    return [row[0] for row in rows]


def element(value: Any) -> str:
    """A value inside an array."""
    text = literal(value)
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(value: Any) -> str | None:
    """A value as PostgreSQL reads it in text form."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, set)):
        return "{" + ",".join(map(element, value)) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def listings() -> list[tuple[Table, str, str]]:
    """Every filterable scalar field of the large tables, with its column."""
    return [
        (table, field, LISTINGS[table].column(field))
        for table in Table
        if LISTINGS[table].table in FILL
        for field, kind in fields_of(table.value).items()
        if kind not in UNINDEXED
    ]


async def test_lists_by_any_field_read_no_large_table_whole(filled: str) -> None:
    connection = await asyncpg.connect(filled)
    store = await PostgresStore.open(PostgresSettings(filled))
    wrong = {}
    for table, field, column in listings():
        name = LISTINGS[table].table
        common = await connection.fetchval(f"SELECT {column} FROM {name} OFFSET 7 LIMIT 1")
        is_text = fields_of(table.value)[field].is_text
        rare = "rare" if is_text else ROWS - 3
        for value in (rare, common):
            if value in (None, "") or isinstance(common, bool) != isinstance(value, bool):
                continue
            query = Query(table.value, where=Condition(field, Operator.EQUAL, value))
            written = to_sql(table, query)
            sql = store.translate(written.page)
            plan = await explain(connection, sql, (NS, *written.page_args), "auto")
            if whole_reads(plan):
                wrong[table.value, field, str(value)] = plan
    await store.aclose()
    await connection.close()
    assert wrong == {}
