"""A relay between the suite and a connector that can be cut, or go silent without being closed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from photinus_sanity import tasks

CHUNK_BYTES = 64 << 10


class Relay:
    """Passes bytes between a unix socket of its own and a connector's address.

    Attributes:
        address: What to dial instead of the connector.
    """

    def __init__(self, target: str, directory: Path) -> None:
        self._target = target
        self._path = directory / "relay.sock"
        self.address = f"unix:{self._path}"
        self._passing = asyncio.Event()
        self._passing.set()
        self._running: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))

    def cut(self) -> None:
        """Breaks every connection, as a pulled plug seen by both ends."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def silence(self) -> None:
        """Passes nothing more, and closes nothing: a connection that is dead and does not know it."""
        self._passing.clear()

    async def aclose(self) -> None:
        self.cut()
        self._passing.set()
        if self._server is not None:
            self._server.close()
        for task in list(self._running):
            await tasks.end(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._dial()
        except OSError:
            writer.close()
            return
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = tasks.start(self._pass(source, sink), "relay")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.startswith("unix:"):
            return await asyncio.open_unix_connection(self._target.removeprefix("unix:"))
        host, _, port = self._target.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                await self._passing.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def relayed(target: str) -> AsyncIterator[Relay]:
    """A running relay to an address."""
    with tempfile.TemporaryDirectory(prefix="sanity-") as name:
        relay = Relay(target, Path(name))
        await relay.start()
        try:
            yield relay
        finally:
            await relay.aclose()
