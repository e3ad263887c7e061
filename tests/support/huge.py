"""A server that announces answers of four gigabytes: a few frames of HTTP/2, written by hand.

gRPC's own servers cannot be made to; a broken or hostile connector can.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_HEADERS, ACK = 0x4, 0x1
HEAD = struct.Struct(">BHBBI")
"""Length in three bytes, type, flags, stream."""
FOUR_GIGABYTES = b"\x00" + b"\xff" * 4
"""gRPC's prefix of a message: not compressed, 2³² - 1 bytes."""


class Huge:
    """Answers every call so."""

    @asynccontextmanager
    async def served(self, directory: Path) -> AsyncIterator[str]:
        """Serves it; yields the address."""
        path = directory / "huge.sock"
        server = await asyncio.start_unix_server(self._serve, path)
        try:
            yield f"unix:{path}"
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(len(PREFACE))
            writer.write(_frame(SETTINGS, 0, 0, b""))
            while True:
                high, low, kind, flags, stream = HEAD.unpack(await reader.readexactly(HEAD.size))
                body = await reader.readexactly((high << 16) | low)
                if kind == SETTINGS and not flags & ACK:
                    writer.write(_frame(SETTINGS, ACK, 0, b""))
                elif kind == PING and not flags & ACK:
                    writer.write(_frame(PING, ACK, 0, body))
                elif kind == HEADERS:
                    writer.write(_frame(HEADERS, END_HEADERS, stream, _head()))
                    writer.write(_frame(DATA, 0, stream, FOUR_GIGABYTES + b"x" * 1000))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return HEAD.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def _head() -> bytes:
    """`:status: 200` from HPACK's static table, then the content type as a plain literal."""
    name, value = b"content-type", b"application/grpc"
    return b"\x88\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
