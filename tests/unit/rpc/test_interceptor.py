"""Goal: the interceptor maps failures of every kind of handler, and changes nothing else about it.

Method: handlers as gRPC knows them, wrapped, and called with a context that records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from photinus_core.model.errors import NotFound
from photinus_core.rpc.errors import ErrorInterceptor


class Aborted(grpc.aio.AbortError):
    """What aborting raises."""


class Recorder:
    """A context that keeps what is written and how the call ended."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.ended = ""

    async def write(self, response: Any) -> None:
        self.written.append(response)

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        self.ended = f"{code.name} {details}"
        raise Aborted


async def wrapped(handler: Any) -> Any:
    async def continuation(_: Any) -> Any:
        return handler

    return await ErrorInterceptor().intercept_service(continuation, None)  # type: ignore[arg-type]  # not looked at


async def test_an_unknown_call_stays_unknown() -> None:
    assert await wrapped(None) is None


async def test_a_stream_that_is_iterated() -> None:
    async def method(request: int, context: Any) -> AsyncIterator[int]:
        yield request
        yield request + 1
        raise NotFound("FF10109")

    handler = await wrapped(grpc.unary_stream_rpc_method_handler(method))
    context = Recorder()
    responses = aiter(handler.unary_stream(1, context))
    assert [await anext(responses), await anext(responses)] == [1, 2]
    with pytest.raises(Aborted):
        await anext(responses)
    assert context.ended == "NOT_FOUND FF10109: Not found"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_stream_that_its_handler_writes(fails: bool) -> None:
    """So does gRPC's health service: Watch was answered with FF19000."""

    async def method(request: int, context: Any) -> None:
        await context.write(request)
        if fails:
            raise NotFound("FF10109")

    handler = await wrapped(grpc.unary_stream_rpc_method_handler(method))
    context = Recorder()
    if fails:
        with pytest.raises(Aborted):
            await handler.unary_stream(1, context)
        assert context.ended == "NOT_FOUND FF10109: Not found"
    else:
        await handler.unary_stream(1, context)
        assert context.ended == ""
    assert context.written == [1]


async def test_an_abort_of_the_handlers_own_passes_through() -> None:
    async def method(request: int, context: Any) -> int:
        await context.abort(grpc.StatusCode.ABORTED, "mine")
        return request

    handler = await wrapped(grpc.unary_unary_rpc_method_handler(method))
    context = Recorder()
    with pytest.raises(Aborted):
        await handler.unary_unary(1, context)
    assert context.ended == "ABORTED mine"
