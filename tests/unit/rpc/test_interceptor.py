"""Goal: the interceptor maps failures of every kind of handler, and changes nothing else about it.

Method: handlers as gRPC knows them, wrapped, and called with a context that records.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

import grpc
import pytest
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.rpc.errors import ErrorInterceptor

TRAILER_BYTES_MAX: Final = 8 * 1024
"""Above this gRPC's clients begin to refuse answers."""


class Aborted(grpc.aio.AbortError):
    """What aborting raises."""


class Recorder:
    """A context that keeps what is written and how the call ended."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.ended = ""
        self.details = b""

    async def write(self, response: Any) -> None:
        self.written.append(response)

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        self.ended = f"{code.name} {details}"
        self.details = b"".join(value for _, value in trailing)
        raise Aborted


@pytest.mark.parametrize("character", ["x", "%", "\n", "ü", "\U0001f600"])
async def test_an_error_fits_into_a_trailer(character: str) -> None:
    """An error that named 2,000 emoji was a broken stream for gRPC clients."""

    async def method(request: int, context: Any) -> None:
        raise Rejected("FF00142", character * 10_000)

    handler = await wrapped(grpc.unary_unary_rpc_method_handler(method))
    context = Recorder()
    with pytest.raises(Aborted):
        await handler.unary_unary(1, context)
    assert context.ended.startswith(f"INVALID_ARGUMENT FF00142: Unknown filter '{character * 300}")
    text = context.ended.removeprefix("INVALID_ARGUMENT ")
    encoded = len(quote(text, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}"))
    assert encoded + len(base64.b64encode(context.details)) < TRAILER_BYTES_MAX


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
