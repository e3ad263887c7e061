"""SQLite under bad luck: killed processes, full disks, damaged and foreign files, two processes.

Method: child processes that are really killed, limits that SQLite really meets, files really broken.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from photinus_core.model.errors import TimedOut, Unavailable
from photinus_core.model.query import FilterBuilder, Query
from photinus_core.ports.store import Table
from photinus_core.store import SqliteStore, schema, sqlite_files

from tests.support.store_records import NS, make_data, make_event, write

# Stores sets of messages and events and prints the number of each set once it is acknowledged.
WRITER = """
import asyncio, sys
from pathlib import Path
from photinus_core.store import SqliteStore
from tests.support.store_records import NS, make_data, make_event, write

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    async with store.read(NS) as reader:
        done = await reader.last_event_sequence() // 3
    while True:
        done += 1
        async with store.write(NS) as tx:
            await tx.insert_messages([write(make_data(), tag=f"set{done}") for _ in range(5)])
            tx.append_events([make_event() for _ in range(3)])
        print(done, flush=True)

asyncio.run(main())
"""


def files_beside(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir())


def file_content(path: Path) -> bytes:
    return path.read_bytes()


def replace_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "core.db"


async def test_nothing_acknowledged_is_lost_by_a_kill(path: Path) -> None:
    acknowledged = 0
    for sets in (3, 17, 40):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
        )
        assert child.stdout is not None
        async with asyncio.timeout(60):
            for _ in range(sets):
                acknowledged = int(await child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            # What was printed but not read yet was acknowledged as well.
            rest = (await child.stdout.read()).split(b"\n")
            acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
            await child.wait()
        store = await SqliteStore.open(path)
        async with store.read(NS) as reader:
            events = await reader.last_event_sequence()
            assert len(await reader.events_after(0, 10_000)) == events
            total = (await reader.query(Table.MESSAGES, Query("messages", count=True))).total
        await store.aclose()
        # Whole sets only; at most the one under way when it died is there unacknowledged.
        assert events % 3 == 0
        assert acknowledged <= events // 3 <= acknowledged + 1
        assert total == events // 3 * 5
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def limit_pages(store: SqliteStore, pages: int) -> None:
    """Sets how large the file may become; SQLite raises a limit below the present size to that."""
    statement = f"PRAGMA max_page_count = {pages}"
    await store.write_job(lambda connection: connection.execute(statement).fetchone())


async def fill(store: SqliteStore) -> None:
    for _ in range(50):
        async with store.write(NS) as tx:
            await tx.insert_messages([write(make_data('"' + "x" * 5000 + '"')) for _ in range(20)])
            tx.append_events([make_event()])


async def test_a_full_disk_is_said_and_survived(path: Path) -> None:
    store = await SqliteStore.open(path)
    await limit_pages(store, 200)
    with pytest.raises(Unavailable, match="FF19101: The disk of the database is full"):
        await fill(store)
    async with store.read(NS) as reader:
        events = await reader.last_event_sequence()
        total = (await reader.query(Table.MESSAGES, Query("messages", count=True))).total
        assert events > 0
        assert total == events * 20
    await limit_pages(store, 1_000_000)
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data())])
        tx.append_events([make_event()])
        assert await tx.last_event_sequence() == events
    await store.aclose()


async def test_statements_after_a_full_disk_do_not_commit_half(path: Path) -> None:
    """SQLite may end a transaction by itself; what follows in it must not run as if alone, caught or not."""
    store = await SqliteStore.open(path)
    await limit_pages(store, 1)
    refused = 0

    async def carry_on() -> None:
        nonlocal refused
        async with store.write(NS) as tx:
            tx.append_events([make_event()])
            for number in range(300):
                value = '"' + "x" * 5000 + '"'
                try:
                    await tx.insert_messages([write(make_data(value), key=f"k{number}")])
                except Unavailable:
                    refused += 1

    with pytest.raises(Unavailable, match="FF19101"):
        await carry_on()
    assert refused > 0
    async with store.read(NS) as reader:
        assert await reader.last_event_sequence() == 0
        assert await reader.ready_messages(0, 5) == []
    await store.aclose()


async def test_only_the_owner_can_read_the_files(path: Path) -> None:
    store = await SqliteStore.open(path)
    async with store.write(NS) as tx:
        tx.append_events([make_event()])
    modes = {file.name: file.stat().st_mode & 0o777 for file in files_beside(path)}
    await store.aclose()
    assert set(modes) >= {"core.db", "core.db-wal", "core.db-shm"}
    assert set(modes.values()) == {0o600}


async def test_a_second_process_is_refused(path: Path) -> None:
    store = await SqliteStore.open(path)
    with pytest.raises(
        Unavailable, match=f"FF19106: .* is used by another process .process {os.getpid()}"
    ):
        await SqliteStore.open(path)
    async with store.write(NS) as tx:
        tx.append_events([make_event()])
    await store.aclose()
    await (await SqliteStore.open(path)).aclose()


@pytest.mark.parametrize(
    "content",
    [b"this is no database, it is a text. " * 40, b"SQLite format 3\x00" + b"\xff" * 4096],
)
async def test_a_damaged_file_is_said(path: Path, content: bytes) -> None:
    replace_file(path, content)
    with pytest.raises(Unavailable, match=r"FF19103: The database file .* is damaged"):
        await SqliteStore.open(path)
    assert file_content(path) == content


PAGE_BYTES = 4096
"""SQLite's default."""


async def read_all(store: SqliteStore) -> None:
    async with store.read(NS) as reader:
        for table in Table:
            await reader.query(table, FilterBuilder(table).query(limit=1000, count=True))


async def test_a_closed_database_is_one_file(path: Path) -> None:
    for _ in range(10):
        store = await SqliteStore.open(path)
        async with store.write(NS) as tx:
            await tx.insert_messages([write(make_data())])
        await asyncio.gather(*(read_all(store) for _ in range(3)))
        await store.aclose()
        assert not path.with_name(f"{path.name}-wal").exists()


async def test_a_page_damaged_later_is_said(path: Path) -> None:
    store = await SqliteStore.open(path)
    messages = [write(make_data()) for _ in range(300)]
    async with store.write(NS) as tx:
        await tx.insert_messages(messages)
    await store.aclose()
    raw = bytearray(file_content(path))
    known = messages[-1].message.header.id.encode()
    pages = range(0, len(raw), PAGE_BYTES)
    damaged = [start for start in pages if known in raw[start : start + PAGE_BYTES]]
    assert damaged
    for start in damaged:
        raw[start : start + PAGE_BYTES] = b"\x5a" * PAGE_BYTES
    replace_file(path, bytes(raw))
    store = await SqliteStore.open(path)
    with pytest.raises(Unavailable, match="FF19103"):
        await read_all(store)
    await store.aclose()


async def test_anothers_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = file_content(path)
    with pytest.raises(Unavailable, match="FF19109"):
        await SqliteStore.open(path)
    assert file_content(path) == before


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await (await SqliteStore.open(path)).aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'future', 'x', 0, NULL)")
    with pytest.raises(Unavailable, match="FF19104: The database has schema version 999"):
        await SqliteStore.open(path)


async def test_a_changed_migration_is_refused(path: Path) -> None:
    await (await SqliteStore.open(path)).aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_migrations SET checksum = 'other'")
    with pytest.raises(Unavailable, match="FF19105: Migration 1 was changed"):
        await SqliteStore.open(path)


async def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await SqliteStore.open(path)).aclose()
    applied = schema.load_migrations()
    version = applied[-1].version + 1
    broken = schema.Migration(
        version,
        "broken",
        "CREATE TABLE fine (x TEXT);\nCREATE TABLE messages (x TEXT);",
        "c",
        version,
    )
    known = (*applied, broken)
    monkeypatch.setattr(sqlite_files, "load_migrations", lambda: known)
    with pytest.raises(Unavailable, match=r"FF19107: .*table messages already exists"):
        await SqliteStore.open(path)
    monkeypatch.undo()
    store = await SqliteStore.open(path)
    await store.aclose()
    with sqlite3.connect(path) as connection:
        versions = connection.execute("SELECT version FROM schema_migrations").fetchall()
        assert sorted(versions) == [(migration.version,) for migration in applied]
        assert connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'fine'"
        ).fetchone() == (0,)


async def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="FF19107"):
        await SqliteStore.open(tmp_path / "file" / "core.db")


async def test_a_lock_held_by_a_tool_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_files, "BUSY_TIMEOUT_S", 0.05)
    store = await SqliteStore.open(path)
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="FF19102"):
        async with store.write(NS) as tx:
            tx.append_events([make_event()])
    tool.execute("ROLLBACK")
    tool.close()
    async with store.write(NS) as tx:
        tx.append_events([make_event()])
    await store.aclose()


async def test_a_slow_query_is_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(path)
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data()) for _ in range(2000)])
    monkeypatch.setattr(sqlite_files, "READ_TIME_S", -1.0)
    f = FilterBuilder("messages")
    slow = f.query(f.any(*(f.contains("author", f"x{i}", ignore_case=True) for i in range(90))))
    with pytest.raises(TimedOut, match="FF19111: The query took longer"):
        async with store.read(NS) as reader:
            await reader.query(Table.MESSAGES, slow)
    monkeypatch.undo()
    async with store.read(NS) as reader:
        assert (await reader.query(Table.MESSAGES, slow)).items == []
    await store.aclose()


async def test_waiting_for_the_writer_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("photinus_core.store.sqlite.WRITE_WAIT_S", 0.02)
    store = await SqliteStore.open(path)
    async with store.write(NS):
        with pytest.raises(Unavailable, match="FF19110"):
            async with store.write(NS):
                pass
    await store.aclose()
