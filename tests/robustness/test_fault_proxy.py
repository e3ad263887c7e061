"""Goal: the fault proxy does to connections what it says, to old and new ones, and heals.

Method: an echo server on loopback behind a proxy; conditions are awaited, no time is measured but the
lower bound that a delay must keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from tests.robustness.fault_proxy import FaultProxy, Slowness
from tests.support.waiting import until

LIMIT_S: Final = 10.0
NOTHING_S: Final = 0.15
"""How long nothing may come where nothing should."""


@dataclass
class Echo:
    proxy: FaultProxy
    served: int = 0
    peers: set[int] = field(default_factory=set)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.proxy.port)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.served += 1
        found.peers.add(writer.get_extra_info("peername")[1])
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        found = Echo(proxy)
        yield found
    server.close()
    await server.wait_closed()


async def ask(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes = b"hello"
) -> bytes:
    reader, writer = connection
    writer.write(data)
    await writer.drain()
    async with asyncio.timeout(LIMIT_S):
        return await reader.readexactly(len(data))


async def ended(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    reader, writer = connection
    async with asyncio.timeout(LIMIT_S):
        try:
            left = await reader.read()
        except ConnectionError:
            left = b""
    writer.close()
    return left == b""


async def test_passes_both_ways_and_the_end(echo: Echo) -> None:
    connection = await echo.connect()
    assert await ask(connection) == b"hello"
    big = bytes(range(256)) * 4096
    reader, writer = connection
    sending = asyncio.create_task(ask(connection, big))
    assert await sending == big
    writer.write_eof()
    assert await ended((reader, writer))
    assert {port for _, port in echo.proxy.far_ports} == echo.peers
    await until(lambda: echo.proxy.connections == 0)


async def test_cut_ends_old_and_new_connections(echo: Echo) -> None:
    old = await echo.connect()
    assert await ask(old) == b"hello"
    echo.proxy.cut()
    assert await ended(old)
    assert await ended(await echo.connect())
    assert echo.served == 1
    echo.proxy.heal()
    new = await echo.connect()
    assert await ask(new) == b"hello"
    new[1].close()


async def test_black_hole_holds_back_and_gives_later(echo: Echo) -> None:
    old = await echo.connect()
    assert await ask(old) == b"hello"
    echo.proxy.black_hole()
    new = await echo.connect()
    for reader, writer in (old, new):
        writer.write(b"late")
        await writer.drain()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(NOTHING_S):
                await reader.read(1)
    echo.proxy.heal()
    for reader, writer in (old, new):
        async with asyncio.timeout(LIMIT_S):
            assert await reader.readexactly(4) == b"late"
        writer.close()


async def test_black_hole_can_turn_into_a_cut(echo: Echo) -> None:
    old = await echo.connect()
    echo.proxy.black_hole()
    new = await echo.connect()
    echo.proxy.cut()
    assert await ended(old)
    assert await ended(new)


async def test_slow_delays_and_throttles(echo: Echo) -> None:
    connection = await echo.connect()
    echo.proxy.slow(Slowness(delay_s=0.1))
    began = time.monotonic()
    assert await ask(connection) == b"hello"
    assert time.monotonic() - began >= 0.2
    echo.proxy.slow(Slowness(bytes_per_s=50_000))
    began = time.monotonic()
    assert len(await ask(connection, b"x" * 5_000)) == 5_000
    assert time.monotonic() - began >= 0.2
    connection[1].close()


async def test_a_target_that_is_away_ends_the_connection(echo: Echo) -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy:
        assert await ended(await asyncio.open_connection("127.0.0.1", proxy.port))


async def test_ending_the_proxy_ends_its_connections(echo: Echo) -> None:
    async with FaultProxy("127.0.0.1", echo.proxy.port) as proxy:
        connection = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await ask(connection) == b"hello"
        proxy.black_hole()
    assert await ended(connection)
