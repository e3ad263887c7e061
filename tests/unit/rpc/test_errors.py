"""Every failure becomes a status with its code, HTTP status and text; cancellation passes through.

Method: a context that records how a call was ended.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from photinus_core.model.errors import (
    Conflict,
    Deposed,
    Exhausted,
    Forbidden,
    InternalBug,
    NotFound,
    NotReady,
    PhotinusError,
    Rejected,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from photinus_core.ports.connectors import ConnectorFailure, Disposition
from photinus_core.rpc import errors
from photinus_core.rpc.errors import (
    DETAILS_KEY,
    ErrorInterceptor,
    abort,
    set_http_status,
    translated,
)


class Ended(grpc.aio.AbortError):
    """What aborting raises."""


class FakeContext:
    def __init__(self) -> None:
        self.ended: tuple[grpc.StatusCode, str, Any] | None = None
        self.trailing: Any = None

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any) -> None:
        self.ended = (code, details, metadata)
        raise Ended

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata


CASES = [
    (Rejected("FF00140", "x"), "INVALID_ARGUMENT", 400),
    (NotFound("FF10109"), "NOT_FOUND", 404),
    (Conflict("FF10430", "k", "m"), "ALREADY_EXISTS", 409),
    (NotReady("FF10441", "n"), "FAILED_PRECONDITION", 412),
    (Exhausted("FF19009", 1, "x"), "RESOURCE_EXHAUSTED", 429),
    (Unavailable("FF19100"), "UNAVAILABLE", 503),
    (TimedOut("FF00166"), "DEADLINE_EXCEEDED", 408),
    (Deposed("FF19120", "r", 1), "ABORTED", 503),
    (Unauthenticated("FF00169"), "UNAUTHENTICATED", 401),
    (Forbidden("FF00170"), "PERMISSION_DENIED", 403),
    (InternalBug("FF19000", "x"), "INTERNAL", 500),
]


@pytest.mark.parametrize(("failure", "code", "http"), CASES, ids=[c[1] for c in CASES])
async def test_an_error_carries_its_code_and_status(
    failure: PhotinusError, code: str, http: int
) -> None:
    context = FakeContext()
    with pytest.raises(Ended):
        await abort(context, failure)  # type: ignore[arg-type]  # as much as it uses
    assert context.ended is not None
    status, text, metadata = context.ended
    assert (status.name, text) == (code, str(failure))
    details = status_pb2.Status.FromString(dict(metadata)[DETAILS_KEY])
    assert (details.code, details.message) == (status.value[0], text)
    info = error_details_pb2.ErrorInfo()
    assert details.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        failure.code,
        "photinus",
        {"http_status": str(http)},
    )


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (TimeoutError(), "FF00166"),
        (ConnectorFailure("BUSY", "later", Disposition.NOT_SENT, 1.0), "FF19200"),
        (ConnectorFailure("BAD", "no", Disposition.NOT_SENT), "FF19203"),
        (ConnectorFailure("LOST", "gone", Disposition.MAYBE_SENT, 1.0), "FF19203"),
        (ExceptionGroup("g", [ValueError(), Unavailable("FF19100")]), "FF19100"),
        (ExceptionGroup("g", [ExceptionGroup("h", [NotFound("FF10109")])]), "FF10109"),
        (ExceptionGroup("g", [ValueError("secret")]), "FF19000"),
    ],
)
def test_foreign_failures_are_translated(failure: Exception, code: str) -> None:
    assert translated(failure).code == code


def test_a_bug_is_logged_and_does_not_leak(caplog: pytest.LogCaptureFixture) -> None:
    made = translated(ValueError("password=1"))
    assert "password" not in str(made)
    assert "ValueError" in str(made)
    assert "password=1" in caplog.text


async def ok(request: str, context: Any) -> str:
    return request + "!"


async def fails(request: str, context: Any) -> str:
    raise NotFound("FF10109")


async def cancelled(request: str, context: Any) -> str:
    raise asyncio.CancelledError


async def aborted(request: str, context: Any) -> str:
    raise Ended


async def intercepted(method: Any, kind: str = "unary_unary") -> Any:
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(method)

    async def continuation(_: object) -> Any:
        return handler

    made: Any = await ErrorInterceptor().intercept_service(continuation, None)  # type: ignore[arg-type]  # unused
    return getattr(made, kind)


async def test_unary_calls() -> None:
    context = FakeContext()
    assert await (await intercepted(ok))("a", context) == "a!"
    with pytest.raises(asyncio.CancelledError):
        await (await intercepted(cancelled))("a", context)
    with pytest.raises(Ended):
        await (await intercepted(aborted))("a", context)
    assert context.ended is None
    with pytest.raises(Ended):
        await (await intercepted(fails))("a", context)
    assert context.ended is not None


async def test_streams_keep_what_came_before_the_error() -> None:
    async def stream(request: str, context: Any) -> AsyncIterator[str]:
        yield request
        if request == "abort":
            raise Ended
        raise NotFound("FF10109")

    for request in ("a", "abort"):
        context, got = FakeContext(), []
        wrapped = await intercepted(stream, "unary_stream")
        answers = wrapped(request, context)
        got.append(await anext(answers))
        with pytest.raises(Ended):
            await anext(answers)
        assert got == [request]
        assert (context.ended is None) == (request == "abort")


async def test_a_stream_may_write_to_its_context() -> None:
    """As health's Watch does, on which the gateway waits."""
    written = []

    async def watch(request: str, context: Any) -> None:
        written.append(request)
        if request == "b":
            raise NotFound("FF10109")

    wrapped = await intercepted(watch, "unary_stream")
    assert await wrapped("a", FakeContext()) is None
    context = FakeContext()
    with pytest.raises(Ended):
        await wrapped("b", context)
    assert written == ["a", "b"]
    assert context.ended is not None


async def test_an_unknown_method_stays_unknown() -> None:
    async def nothing(_: object) -> None:
        return None

    assert await ErrorInterceptor().intercept_service(nothing, None) is None  # type: ignore[arg-type]  # unused


def test_success_codes_are_said_in_the_trailer() -> None:
    context = FakeContext()
    set_http_status(context, 202)  # type: ignore[arg-type]  # as much as it uses
    assert dict(context.trailing)[errors.HTTP_CODE_KEY] == "202"
