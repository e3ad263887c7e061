"""PostgreSQL fails over: of several servers in the URL the one that takes writes is used, before and after.

Method: a real server and a real streaming standby of it; the first is killed as by a power cut, the
second promoted. A server that takes no writes any more is one that was told so while it is connected.
Hosts that hang or are just starting are sockets of this module's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import asyncpg
import pytest
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import new_uuid
from photinus_core.store import PostgresSettings, PostgresStore

from tests.support.postgres import PostgresServer, create_database
from tests.support.store_records import NS, make_data, make_event, write

WAIT_S: Final = 60.0
POLL_S: Final = 0.05
HALF_S: Final = 4.0
SSL_REQUEST: Final = (80877103).to_bytes(4)


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A server, and one that follows it."""
    with PostgresServer() as primary, PostgresServer(primary=primary) as standby:
        yield primary, standby


@pytest.fixture
async def database(pair: tuple[PostgresServer, PostgresServer]) -> str:
    """Name of a database on both."""
    name = f"test_{new_uuid()[-12:]}"
    await create_database(pair[0], name)
    return name


@pytest.fixture
async def store(
    pair: tuple[PostgresServer, PostgresServer], database: str
) -> AsyncIterator[PostgresStore]:
    """A store that names the standby first."""
    primary, standby = pair
    several = standby.url(database).replace(
        f":{standby.port}/", f":{standby.port},127.0.0.1:{primary.port}/"
    )
    opened = await PostgresStore.open(PostgresSettings(several))
    await opened.wait_listening()
    yield opened
    await opened.aclose()


async def append(store: PostgresStore) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data())])
        tx.append_events([make_event()])


async def ready(store: PostgresStore) -> int:
    async with store.read(NS) as reader:
        return len(await reader.ready_messages(0, 10))


async def value(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():
            await asyncio.sleep(POLL_S)


async def test_a_promoted_standby_is_followed(
    pair: tuple[PostgresServer, PostgresServer], database: str, store: PostgresStore
) -> None:
    primary, standby = pair
    await append(store)
    assert await value(primary.url(database), "SELECT count(*) FROM messages") == 1
    assert await value(standby.url("postgres"), "SELECT pg_is_in_recovery()")

    await until(lambda: has_messages(standby, database))
    await asyncio.to_thread(primary.close)
    with pytest.raises(Unavailable):
        await append(store)
    await asyncio.to_thread(standby.promote)
    await until(lambda: appended(store))
    assert await ready(store) == 2, "what was replicated, and what came after"
    assert await value(standby.url(database), "SELECT count(*) FROM events") == 2
    await asyncio.wait_for(store.wait_listening(), WAIT_S)


async def has_messages(server: PostgresServer, database: str) -> bool:
    with suppress(asyncpg.InvalidCatalogNameError, asyncpg.UndefinedTableError):
        return bool(await value(server.url(database), "SELECT count(*) FROM messages"))
    return False


async def appended(store: PostgresStore) -> bool:
    try:
        await append(store)
    except Unavailable:
        return False
    return True


async def test_a_server_that_takes_no_writes_any_more_is_left(
    pair: tuple[PostgresServer, PostgresServer], database: str, store: PostgresStore
) -> None:
    """It still answers; its sessions end only because the store ends them."""
    primary, standby = pair
    await append(store)

    await until(lambda: has_messages(standby, database))
    await asyncio.to_thread(standby.promote)
    read_only = "ALTER SYSTEM SET default_transaction_read_only = on"
    await value(primary.url("postgres"), read_only)
    await value(primary.url("postgres"), "SELECT pg_reload_conf()")
    await until(lambda: stands(primary, database, "default_transaction_read_only", "on"))
    await until(lambda: appended(store))
    found = await value(standby.url(database), "SELECT count(*) FROM messages")
    assert found == 2, "written where writes are taken"
    assert await value(primary.url(database), "SELECT count(*) FROM messages") == 1
    for _ in range(20):
        assert await ready(store) == 2, "read where it was written"
    await until(lambda: nobody_is_left(primary, database))


async def nobody_is_left(server: PostgresServer, database: str) -> bool:
    """Also whoever listens for notifications must go."""
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'photinus%' "
        f"AND datname = '{database}'"
    )
    return bool(await value(server.url("postgres"), sessions) == 0)


class Hung:
    """A host that takes connections and says nothing, as one behind a cut cable."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()


class Starting:
    """A server that is just starting: it refuses each session by PostgreSQL's own words."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await self._packet(reader)
            if asked == SSL_REQUEST:
                writer.write(b"N")
                await self._packet(reader)
            said = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
            writer.write(b"E" + (len(said) + 4).to_bytes(4) + said)
            await writer.drain()
        writer.close()

    @staticmethod
    async def _packet(reader: asyncio.StreamReader) -> bytes:
        size = int.from_bytes(await reader.readexactly(4))
        return await reader.readexactly(size - 4)


@pytest.mark.parametrize("host", [Hung(), Starting()], ids=["hung", "starting"])
async def test_a_host_that_does_not_serve_is_passed_over(
    postgres_server: PostgresServer, postgres_url: str, host: Hung | Starting
) -> None:
    async with await asyncio.start_server(host, "127.0.0.1", 0) as bad:
        port = bad.sockets[0].getsockname()[1]
        good = f"127.0.0.1:{postgres_server.port}"
        several = postgres_url.replace(good, f"127.0.0.1:{port},{good}")
        # Half of it is what the first host gets; the second has the other half on a busy machine.
        settings = PostgresSettings(several, connect_timeout_s=HALF_S * 2, start_timeout_s=0.0)
        store = await PostgresStore.open(settings)
        await append(store)
        assert await ready(store) == 1
        await store.aclose()


async def test_no_host_serves(postgres_url: str, postgres_server: PostgresServer) -> None:
    """The error is the one that may pass, whichever host gave it."""
    async with await asyncio.start_server(Starting(), "127.0.0.1", 0) as bad:
        port = bad.sockets[0].getsockname()[1]
        absent = postgres_server.url("nosuch").replace("/nosuch", f",127.0.0.1:{port}/nosuch")
        with pytest.raises(Unavailable, match=r"FF19131.*starting up"):
            await PostgresStore.open(PostgresSettings(absent, start_timeout_s=0.0))
    with pytest.raises(Unavailable, match="FF19133"):
        await PostgresStore.open(
            PostgresSettings(postgres_server.url("nosuch"), start_timeout_s=0.0)
        )


async def stands(server: PostgresServer, database: str, setting: str, wanted: str) -> bool:
    return bool(await value(server.url(database), f"SHOW {setting}") == wanted)
