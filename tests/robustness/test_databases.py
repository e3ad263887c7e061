"""Goal: the audit tells who wrote leader-only rows under which epoch, so that C8 can find a second writer.

Method: the audited tables in a database of the test's own, with a column each; two "cores" write to
PostgreSQL through a proxy each, one of them after its epoch is over.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import asyncpg

from tests.robustness.check_state import single_writer
from tests.robustness.databases import AUDITED, ROLE, Database, PostgresDatabase, SqliteDatabase
from tests.robustness.fault_proxy import FaultProxy
from tests.robustness.records import LeaderWrite
from tests.support.postgres import PostgresServer, create_database

TABLES = [
    "CREATE TABLE leases (role TEXT PRIMARY KEY, epoch BIGINT)",
    *(f"CREATE TABLE {table} (hash TEXT PRIMARY KEY)" for table in AUDITED),
    f"INSERT INTO leases VALUES ('{ROLE}', 1), ('another', 9)",
]


async def writes(database: Database) -> list[LeaderWrite]:
    rows = await database.rows("SELECT number, epoch, writer, source FROM chaos_audit")
    return [
        LeaderWrite(0, number, ROLE, epoch, database.writer(told), source)
        for number, epoch, told, source in rows
    ]


async def test_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    connection = sqlite3.connect(path)
    for statement in TABLES:
        connection.execute(statement)
    connection.commit()
    database = SqliteDatabase(path)
    await database.install_audit()
    connection.execute("INSERT INTO pins VALUES ('a')")
    connection.execute("UPDATE leases SET epoch = 2 WHERE epoch = 1")
    connection.execute("UPDATE pins SET hash = 'b'")
    connection.commit()
    connection.close()
    found = await writes(database)
    assert [(write.epoch, write.table) for write in found] == [(1, "pins"), (2, "pins")]
    assert not single_writer(found)


async def test_postgres_knows_the_core_behind_each_row() -> None:
    with PostgresServer() as server:
        url = await create_database(server, "audited")
        owner = await asyncpg.connect(url)
        for statement in TABLES:
            await owner.execute(statement)
        async with (
            FaultProxy("127.0.0.1", server.port) as a,
            FaultProxy("127.0.0.1", server.port) as b,
        ):
            database = PostgresDatabase(url, {"a": a, "b": b})
            await database.install_audit()
            one, two = [
                await asyncpg.connect(url.replace(f":{server.port}/", f":{proxy.port}/"))
                for proxy in (a, b)
            ]
            await one.execute("INSERT INTO pins VALUES ('a')")
            await owner.execute("UPDATE leases SET epoch = 2 WHERE epoch = 1")
            await two.execute("INSERT INTO batches VALUES ('b')")
            found = await writes(database)
            assert [(w.epoch, w.writer, w.table) for w in found] == [
                (1, "a", "pins"),
                (2, "b", "batches"),
            ]
            assert not single_writer(found)
            await one.execute("INSERT INTO pins VALUES ('late')")
            assert (
                "written by a under epoch 2 of b" in single_writer(await writes(database))[0].text
            )
            for connection in (one, two, owner):
                await connection.close()
