"""Goal: every call is counted under what it came to, and its task knows the request.

Method: a real gRPC server with one service of three methods, behind the interceptors of the core.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from photinus_core.model.errors import NotFound
from photinus_core.ports import tracing
from photinus_core.rpc.errors import ErrorInterceptor
from photinus_core.rpc.observing import ObservingInterceptor

Counts = list[tuple[str, str]]


class _Service:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.origins: list[tracing.Origin] = []

    async def good(self, request: bytes, _: Any) -> bytes:
        self.origins.append(tracing.origin())
        return request

    async def bad(self, _: bytes, __: Any) -> bytes:
        raise NotFound("FF10109")

    async def long(self, _: bytes, __: Any) -> bytes:
        self.entered.set()
        await asyncio.Event().wait()
        return b""

    async def stream(self, request: bytes, _: Any) -> AsyncIterator[bytes]:
        self.origins.append(tracing.origin())
        yield request


@asynccontextmanager
async def served(counts: Counts | None) -> AsyncIterator[tuple[_Service, Any]]:
    service = _Service()
    counted = None if counts is None else lambda name, code, _: counts.append((name, code))
    server = grpc.aio.server(interceptors=[ObservingInterceptor(counted), ErrorInterceptor()])
    unary: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(getattr(service, name))
        for name in ("good", "bad", "long")
    }
    methods = {**unary, "stream": grpc.unary_stream_rpc_method_handler(service.stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield service, channel
    finally:
        await server.stop(None)


async def test_calls_are_counted_by_how_they_end() -> None:
    counts: Counts = []
    async with served(counts) as (service, channel):
        assert await channel.unary_unary("/a.B/good")(b"x", timeout=30) == b"x"
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/a.B/bad")(b"", timeout=30)
        call = channel.unary_unary("/a.B/long")(b"")
        async with asyncio.timeout(30):
            await service.entered.wait()
        call.cancel()
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/a.B/unknown")(b"", timeout=30)
        async with asyncio.timeout(30):
            while len(counts) < 3:
                await asyncio.sleep(0)
    assert counts == [("a.B/good", "OK"), ("a.B/bad", "NOT_FOUND"), ("a.B/long", "CANCELLED")]


async def test_each_call_knows_its_own_request() -> None:
    async with served(None) as (service, channel):
        brought = [(("x-firefly-request-id", f"r{n}"), ("traceparent", f"t{n}")) for n in (0, 1)]
        for metadata in brought:
            await channel.unary_unary("/a.B/good")(b"", metadata=metadata, timeout=30)
        async for _ in channel.unary_stream("/a.B/stream")(b"", metadata=brought[1], timeout=30):
            pass
        await channel.unary_unary("/a.B/good")(b"", timeout=30)
    first = tracing.Origin("r0", (("traceparent", "t0"),))
    second = tracing.Origin("r1", (("traceparent", "t1"),))
    assert service.origins == [first, second, second, tracing.Origin()]
