"""A TCP proxy that can spoil a connection: cut it, swallow what it carries, or slow it down.

It knows nothing of what it carries. Faults hold for connections that exist and for new ones alike, until
`heal`; connections that were cut stay cut, as with a real network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

CHUNK_BYTES: Final = 16 * 1024
CONNECT_S: Final = 5.0

Mode: TypeAlias = Literal["pass", "cut", "black hole", "slow"]


@dataclass(frozen=True, slots=True)
class Slowness:
    """How slow a slow connection is, in each direction.

    Attributes:
        delay_s: Before each piece is passed on; pieces of one connection queue up behind each other.
        bytes_per_s: Most that passes; 0 for no limit.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0


class FaultProxy:
    """Listens on a loopback port of its own and passes connections on to another.

    `async with` starts it and ends it with all its connections.

    Args:
        host: Where connections go.
        port: And on which port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._mode: Mode = "pass"
        self._slowness = Slowness()
        self._healed = asyncio.Event()
        self._healed.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.far_ports: list[tuple[float, int]] = []
        """When (by the machine's clock) it connected to the target, and from which port; the ended ones too."""

    @property
    def mode(self) -> Mode:
        """What it does now."""
        return self._mode

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many connections it carries."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def cut(self) -> None:
        """Resets every connection, and each new one as soon as it is made."""
        self._change("cut")
        for writer in list(self._writers):
            _reset(writer)

    def black_hole(self) -> None:
        """Nothing passes and nothing closes: what was sent waits until `heal`, as behind a broken route."""
        self._change("black hole")

    def slow(self, slowness: Slowness) -> None:
        """Delays and throttles."""
        self._change("slow")
        self._slowness = slowness

    def heal(self) -> None:
        """Everything passes again."""
        self._change("pass")

    def _change(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "black hole":
            self._healed.clear()
        else:
            self._healed.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._writers.add(writer)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy ends; the server's own callback would log it
        finally:
            _reset(writer)
            self._writers.discard(writer)
            self._connections.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._healed.wait()
        if self._mode == "cut":
            return
        try:
            async with asyncio.timeout(CONNECT_S):
                far_reader, far_writer = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            return
        self.far_ports.append((time.time(), far_writer.get_extra_info("sockname")[1]))
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except* OSError:
            pass  # reset by one end: the other is reset too
        finally:
            _reset(far_writer)
            self._writers.discard(far_writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Passes one direction on until its end, which is passed on too."""
        while data := await source.read(CHUNK_BYTES):
            if self._mode == "slow":
                await asyncio.sleep(self._slowness.delay_s)
                if self._slowness.bytes_per_s:
                    await asyncio.sleep(len(data) / self._slowness.bytes_per_s)
            await self._healed.wait()
            sink.write(data)
            await sink.drain()
        await self._healed.wait()
        if sink.can_write_eof():
            sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST, so that the other end learns at once and nothing lingers."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):  # already closed
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
