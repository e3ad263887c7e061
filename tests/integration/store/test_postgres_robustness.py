"""PostgreSQL under bad luck and bad input: restarts, no connection left, full disks, wrong URLs,
databases of others or of a later release.

Method: a real server, restarted as after a crash, with limits it really enforces. A full disk is the
kernel's own error: the file of a table leads to /dev/full, where nothing can be written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import asyncpg
import pytest
from photinus_core.model.errors import (
    CommitUnknown,
    PhotinusError,
    Rejected,
    TimedOut,
    Unavailable,
)
from photinus_core.model.ids import new_uuid
from photinus_core.model.messages import Message
from photinus_core.model.query import FilterBuilder, Query
from photinus_core.ports.store import Notification, Table
from photinus_core.store import PostgresSettings, PostgresStore, postgres_schema, schema

from tests.support.postgres import PostgresServer, drop_database, free_port
from tests.support.store_records import (
    NS,
    make_batch,
    make_blob,
    make_data,
    make_event,
    make_message,
    write,
)

WAIT_S: Final = 60.0
END_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
HOLD_COMMITS: Final = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER held AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
"""
END_HELD: Final = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' "
    "AND objid = 1 AND NOT granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
def server(postgres_restarting: PostgresServer) -> PostgresServer:
    return postgres_restarting


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def settings(url: str) -> PostgresSettings:
    return PostgresSettings(url, start_timeout_s=0.0)


@pytest.fixture
def new(postgres_new_url: str) -> PostgresSettings:
    """A database without tables."""
    return PostgresSettings(postgres_new_url, start_timeout_s=0.0)


@pytest.fixture
async def store(settings: PostgresSettings) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(settings)
    yield opened
    await opened.aclose()


async def append(store: PostgresStore) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data())])
        tx.append_events([make_event()])


async def value(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# ----------------------------------------------------------------------------------- restarts


async def restart(server: PostgresServer) -> None:
    await asyncio.to_thread(server.restart)


async def test_calls_after_a_restart_work_at_once(
    server: PostgresServer, store: PostgresStore
) -> None:
    """Connections that were idle are found lost and replaced without the caller's knowledge."""
    await append(store)
    await asyncio.gather(*(append(store) for _ in range(5)))
    await restart(server)
    async with store.read(NS) as reader:
        assert await reader.last_event_sequence() == 6
    await append(store)


async def test_a_transaction_under_way_fails_by_name_when_the_server_crashes(
    server: PostgresServer, store: PostgresStore
) -> None:

    async def crash() -> None:
        async with store.write(NS) as tx:
            await tx.insert_messages([write()])
            await tx.last_event_sequence()
            await restart(server)
            tx.append_events([make_event()])

    with pytest.raises(Unavailable, match=r"FF19135: The connection to PostgreSQL .* is lost"):
        await crash()
    async with store.read(NS) as reader:
        assert await reader.ready_messages(0, 10) == []
    await append(store)


async def test_a_commit_without_an_answer_is_said_to_be_unknown(
    url: str, store: PostgresStore
) -> None:
    """A trigger holds the commit while the server ends the session."""
    other = await asyncpg.connect(url)
    await other.execute(HOLD_COMMITS)
    await other.execute("SELECT pg_advisory_lock(1)")
    appending = asyncio.create_task(append(store))
    async with asyncio.timeout(WAIT_S):
        while not await other.fetchval(END_HELD):
            await asyncio.sleep(0)
    with pytest.raises(CommitUnknown, match=r"FF19136: .* was lost during a commit: .*Look"):
        await appending
    await other.execute("DROP TRIGGER held ON events")
    await other.close()
    await append(store)
    async with store.read(NS) as reader:
        assert await reader.last_event_sequence() == 1, "the server had not got to the end of it"


async def test_while_the_server_is_away_callers_are_told(
    server: PostgresServer, store: PostgresStore
) -> None:
    await append(store)
    await asyncio.to_thread(server.stop)
    try:
        for _ in range(3):
            with pytest.raises(Unavailable, match=r"FF1913[15]"):
                await append(store)
            with pytest.raises(Unavailable, match=r"FF1913[15]"):
                async with store.read(NS) as reader:
                    await reader.last_event_sequence()
            with pytest.raises(Unavailable, match=r"FF1913[15]"):
                await store.raise_epoch("role", None)
    finally:
        await asyncio.to_thread(server.start)
    await append(store)
    assert await store.raise_epoch("role", None) == 1


async def test_listening_resumes_after_a_restart(
    server: PostgresServer, store: PostgresStore, settings: PostgresSettings
) -> None:
    other = await PostgresStore.open(settings)
    await restart(server)
    heard = asyncio.Event()

    def listen(notification: Notification) -> None:
        if notification == (NS, "events", 1):
            heard.set()

    other.subscribe(listen)
    await append(store)
    async with asyncio.timeout(20):
        await heard.wait()
    await other.aclose()


async def test_what_was_acknowledged_survives_crashes_under_load(
    server: PostgresServer, store: PostgresStore
) -> None:
    """Acknowledged: stored once. Refused: not stored. Unknown: either, and said so."""
    acknowledged: set[str] = set()
    refused: set[str] = set()
    codes: set[str] = set()
    stop = asyncio.Event()

    async def send() -> None:
        while not stop.is_set():
            sent = write(make_data())
            try:
                async with store.write(NS) as tx:
                    await tx.insert_messages([sent])
                    tx.append_events([make_event()])
            except CommitUnknown as failure:
                codes.add(failure.code)
            except Unavailable as failure:
                codes.add(failure.code)
                refused.add(sent.message.header.id)
                await asyncio.sleep(0.01)
            else:
                acknowledged.add(sent.message.header.id)

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(send())
        for _ in range(2):
            before = len(acknowledged)
            async with asyncio.timeout(30):
                while len(acknowledged) < before + 40:
                    await asyncio.sleep(0)
            await restart(server)
        stop.set()
    assert codes <= {"FF19131", "FF19135", "FF19136"}
    async with store.read(NS) as reader:
        stored = {m.id for m in await reader.ready_messages(0, 1_000_000)}
        events = await reader.events_after(0, 1_000_000)
    assert acknowledged <= stored
    assert not refused & stored
    assert [e.sequence for e in events] == list(range(1, len(stored) + 1))


async def test_cancelled_callers_leave_no_connection_behind(settings: PostgresSettings) -> None:
    store = await PostgresStore.open(replace(settings, connections_max=5, wait_s=5.0))

    async def read() -> None:
        async with store.read(NS) as reader:
            await reader.query(Table.MESSAGES, Query("messages"))

    for turn in range(40):
        tasks = [asyncio.create_task(call) for call in (append(store), read(), append(store))]
        for _ in range(turn):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    async with asyncio.timeout(20):
        await asyncio.gather(*(append(store) for _ in range(10)), *(read() for _ in range(10)))
    async with store.read(NS) as reader:
        events = await reader.events_after(0, 1000)
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    await store.aclose()


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("mysql://u@h/d", "FF19130: .*must begin with postgres://"),
        ("postgres:///d", "FF19130: .*names no host"),
        ("postgres://u:geheim@h:port/d", "FF19130: .*'port' is no port"),
        ("postgres://u:geheim@h:70000/d", "FF19130: .*'70000' is no port"),
        ("postgres://u:geheim@[::1/d", "FF19130: .*cannot be read"),
        ("postgres://u:geheim@no-such-host.invalid/d", "FF19131: PostgreSQL at u@no-such-host"),
    ],
)
async def test_a_wrong_url_is_said_without_its_password(wrong: str, said: str) -> None:
    with pytest.raises(PhotinusError, match=said) as raised:
        await PostgresStore.open(PostgresSettings(wrong, start_timeout_s=0.0))
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("secret", "geheim"), "FF19132: .* refuses the login: .*password"),
        (("photinus:", "nobody:"), "FF19132: .* refuses the login"),
        (("/photinus_tests", "/gone"), "FF19133: .* no such database: .*Create it first"),
        (("secret", "secret"), ""),
    ],
)
async def test_what_the_server_refuses_is_said(
    url: str, change: tuple[str, str], said: str
) -> None:
    settings = PostgresSettings(url.replace(*change), start_timeout_s=0.0)
    if not said:
        await (await PostgresStore.open(settings)).aclose()
        return
    with pytest.raises(Unavailable, match=said) as raised:
        await PostgresStore.open(settings)
    assert "geheim" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "option", ["no_such_setting=1", "sslmode=perhaps", "target_session_attrs=x"]
)
async def test_unknown_options_of_a_url_are_said(url: str, option: str) -> None:
    with pytest.raises(Rejected, match="FF19130"):
        await PostgresStore.open(PostgresSettings(f"{url}?{option}", start_timeout_s=0.0))


async def test_options_of_other_libraries_are_taken(url: str) -> None:
    settings = PostgresSettings(f"{url}?sslmode=disable&connect_timeout=3", start_timeout_s=0.0)
    await (await PostgresStore.open(settings)).aclose()


async def test_a_server_that_is_away_is_said_and_waited_for() -> None:
    settings = PostgresSettings(f"postgres://u@127.0.0.1:{free_port()}/d", start_timeout_s=0.5)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(
        Unavailable, match=r"FF19131: PostgreSQL at u@127.0.0.1:.* cannot be reached"
    ):
        await PostgresStore.open(settings)
    assert loop.time() - started >= 0.5


async def test_a_start_waits_for_the_server(
    server: PostgresServer, settings: PostgresSettings
) -> None:
    await asyncio.to_thread(server.stop)
    opening = asyncio.create_task(PostgresStore.open(replace(settings, start_timeout_s=30.0)))
    await asyncio.to_thread(server.start)
    await (await opening).aclose()


async def test_of_several_hosts_the_one_that_takes_writes_is_used(
    server: PostgresServer, url: str
) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{server.port}"
    several = url.replace(f"127.0.0.1:{server.port}", hosts)
    store = await PostgresStore.open(PostgresSettings(several, start_timeout_s=0.0))
    await append(store)
    await store.aclose()


async def test_no_connection_left_is_said(new: PostgresSettings) -> None:
    """A role of its own with few connections: the limit is the server's."""
    role = f"few_{new_uuid()[-12:]}"
    await execute(
        new.url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT 2; "
        f"GRANT ALL ON SCHEMA public TO {role}",
    )
    mine = PostgresSettings(new.url.replace("photinus:", f"{role}:"), start_timeout_s=5.0)
    store = await PostgresStore.open(mine)
    await store.wait_listening()
    await append(store)
    with pytest.raises(Unavailable, match=r"FF19134: .* no connection left: .*lower maxConns"):
        async with store.read(NS) as reader:
            await reader.last_event_sequence()
    await append(store)
    with pytest.raises(Unavailable, match="FF19134"):
        await PostgresStore.open(replace(mine, start_timeout_s=0.0))
    await store.aclose()


async def test_busy_connections_are_waited_for_a_while(settings: PostgresSettings) -> None:
    store = await PostgresStore.open(replace(settings, connections_max=5, wait_s=0.05))
    async with store.write(NS) as one, store.write(NS) as two:
        await one.last_event_sequence()
        await two.last_event_sequence()
        with pytest.raises(Unavailable, match="FF19122: All 2 connections"):
            await append(store)
    await append(store)
    await store.aclose()


async def test_a_full_disk_is_said_and_survived(
    server: PostgresServer, new: PostgresSettings
) -> None:
    """What is stored stays and is served; when there is space again, work goes on without a restart."""
    store = await PostgresStore.open(new)
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data())])
    await store.aclose()

    events = server.data / await value(new.url, "SELECT pg_relation_filepath('events')")
    await execute(new.url, "CHECKPOINT")  # has nothing of the file left to write
    kept = events.rename(events.with_suffix(".kept"))
    events.symlink_to("/dev/full")
    store = await PostgresStore.open(new)
    with pytest.raises(
        Unavailable, match=r"FF19101: .* is full: .*: No space left on device\. Free some space"
    ):
        await append(store)
    async with store.read(NS) as reader:
        assert len(await reader.ready_messages(0, 10)) == 1

    kept.rename(events)
    await execute(new.url, END_OTHERS)  # for their files are open
    async with asyncio.timeout(WAIT_S):
        while True:
            with suppress(Unavailable):
                await append(store)
                break
            await asyncio.sleep(0.02)
    async with store.read(NS) as reader:
        assert len(await reader.ready_messages(0, 10)) == 2
    await store.aclose()


async def test_a_slow_query_is_ended(settings: PostgresSettings) -> None:
    store = await PostgresStore.open(replace(settings, read_timeout_s=0.05))
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data()) for _ in range(3000)])
    f = FilterBuilder("messages")
    slow = f.query(f.any(*(f.contains("author", f"x{i}", ignore_case=True) for i in range(99))))
    with pytest.raises(TimedOut, match="FF19111: The query took longer"):
        async with store.read(NS) as reader:
            await reader.query(Table.MESSAGES, slow)
    async with store.read(NS) as reader:
        assert await reader.last_event_sequence() == 0
    await store.aclose()


async def test_a_write_that_takes_too_long_is_ended(
    settings: PostgresSettings, url: str, store: PostgresStore
) -> None:
    quick = await PostgresStore.open(replace(settings, write_timeout_s=0.2))
    async with store.write(NS) as holder:
        await holder.insert_messages([write()])
        await holder.last_event_sequence()
        with pytest.raises(Unavailable, match=r"FF19138: .*statement timeout"):
            await append(quick)
    await append(quick)
    await quick.aclose()


# ------------------------------------------------------------------------------- foreign schemas


async def test_anothers_database_is_left_alone(new: PostgresSettings) -> None:
    await execute(new.url, "CREATE TABLE theirs (x INT)")
    with pytest.raises(Unavailable, match="FF19109"):
        await PostgresStore.open(new)
    connection = await asyncpg.connect(new.url)
    assert (
        await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1
    )
    await connection.close()


async def test_a_schema_too_new_is_refused_one_of_the_next_release_is_not(
    new: PostgresSettings,
) -> None:
    await (await PostgresStore.open(new)).aclose()
    newest = len(schema.load_migrations())
    record = "INSERT INTO schema_migrations VALUES ({}, 'future', 'x', 0, {})"
    await execute(new.url, record.format(newest + 1, newest))
    store = await PostgresStore.open(new)
    await append(store)
    await store.aclose()
    await execute(new.url, record.format(newest + 2, newest + 1))
    with pytest.raises(Unavailable, match="FF19104: The database has schema version"):
        await PostgresStore.open(new)


async def test_a_changed_migration_is_refused(new: PostgresSettings) -> None:
    await (await PostgresStore.open(new)).aclose()
    await execute(new.url, "UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
    with pytest.raises(Unavailable, match="FF19105: Migration 1 was changed"):
        await PostgresStore.open(new)


async def test_a_migration_that_fails_changes_nothing(
    new: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "CREATE TABLE fine (x TEXT);\nCREATE TABLE messages (x TEXT);"
    known = schema.load_migrations()
    broken = schema.Migration(len(known) + 1, "broken", text, "c", 1)
    monkeypatch.setattr(postgres_schema, "load_migrations", lambda: (*known, broken))
    with pytest.raises(Unavailable, match=r"FF19107: .*\"messages\" already exists"):
        await PostgresStore.open(new)
    monkeypatch.undo()
    connection = await asyncpg.connect(new.url)
    assert await connection.fetchval("SELECT to_regclass('messages') IS NULL")
    await connection.close()
    await (await PostgresStore.open(new)).aclose()


async def test_replicas_that_start_together_migrate_once(new: PostgresSettings) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(new) for _ in range(4)))
    assert len({store.cluster_id for store in stores}) == 1
    for store in stores:
        await store.aclose()


async def test_an_encoding_that_cannot_hold_all_texts_is_refused(server: PostgresServer) -> None:
    name = f"latin_{new_uuid()[-12:]}"
    await execute(
        server.url("postgres"),
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_CTYPE 'C'",
    )
    with pytest.raises(Unavailable, match=r"FF19139: .*LATIN1"):
        await PostgresStore.open(PostgresSettings(server.url(name)))
    await drop_database(server, name)


# ---------------------------------------------------------------------------------- large values


def hostile_message(text: str) -> Message:
    message = make_message(topics=(text, f"{text}2"), tag=text)
    header = message.header
    return Message(
        type(header)(
            header.id,
            header.type,
            header.txtype,
            f"did:{text}",
            f"0x{text}",
            header.created,
            header.namespace,
            header.topics,
            header.datahash,
            tag=header.tag,
        ),
        message.hash,
        (),
        NS,
        message.state,
    )


async def test_texts_of_any_length_are_taken_from_strangers(store: PostgresStore) -> None:
    """All members must store what is sound by its hash, to judge it alike: no index may refuse it."""
    text = "".join(new_uuid() for _ in range(500))
    data = make_data('"x"', blob=True)
    assert data.blob is not None
    hostile = type(data)(
        data.id,
        data.validator,
        NS,
        data.hash,
        data.created,
        data.value,
        type(data.datatype)(text, text) if data.datatype else None,
        type(data.blob)(data.blob.hash, 1, text, text, text),
        text,
    )
    message = hostile_message(text)
    async with store.write(NS) as tx:
        assert await tx.insert_received(make_batch(message), [message], [hostile])
        await tx.insert_blobs([make_blob(hostile)])
    f = FilterBuilder("messages")
    async with store.read(NS) as reader:
        for field in ("tag", "author"):
            value = {"tag": text[:8000], "author": f"did:{text}"[:8000]}[field]
            assert (await reader.query(Table.MESSAGES, f.query(f.equal(field, value)))).items == []
        everything = await reader.query(Table.MESSAGES, Query("messages"))
        assert [m.header.tag for m in everything.items] == [text]
    with suppress(Unavailable):
        await append(store)
