"""The interceptor: each kind of call is asked about before it does anything, streams by their first frame.

Method: handlers as gRPC knows them, wrapped, with a gate over a password file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from photinus.api.v1 import (
    data_pb2,
    data_service_pb2,
    event_service_pb2,
    message_service_pb2,
    node_service_pb2,
)
from photinus_core.access.gate import Gate
from photinus_core.access.roles import Binding, Grant, Need, Role, Scope
from photinus_core.access.settings import AccessSettings, AuthenticatorSettings, PasswordSettings
from photinus_core.model.errors import Forbidden, PhotinusError, Unauthenticated
from photinus_core.ports.clock import SystemClock
from photinus_core.rpc.access import AccessInterceptor, current

from tests.support.tokens import basic, password_file

ROOT: Final = basic("root", "r")
READER: Final = basic("reader", "r")
CLERK: Final = basic("clerk", "r")


class Details:
    def __init__(self, method: str) -> None:
        self.method = f"/photinus.api.v1.{method}"


class Context:
    """Metadata of a call."""

    def __init__(self, *authorization: str) -> None:
        self._metadata = tuple(("authorization", each) for each in authorization)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-other", "1"), *self._metadata)


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    file = tmp_path / "users"
    file.write_text(password_file(root="r", reader="r", clerk="r"))
    grants = (
        Grant(Role.OPERATOR, ("root",)),
        Grant(Role.READER, ("reader",)),
        Grant(Role.WRITER, ("clerk",), binding=Binding("did:firefly:org/acme")),
    )
    users = AuthenticatorSettings("users", PasswordSettings(file), grants)
    made = Gate(AccessSettings("red", (users,), {"red": ("users",), "open": ()}), SystemClock())
    await made.open()
    yield made
    await made.aclose()


async def wrapped(gate: Gate, method: str, handler: Any) -> Any:
    async def continuation(_: Any) -> Any:
        return handler

    details: Any = Details(method)
    return await AccessInterceptor(gate).intercept_service(continuation, details)


async def test_unary(gate: Gate) -> None:
    seen: list[Any] = []

    async def drain(request: Any, context: Any) -> str:
        seen.append(current())
        return "drained"

    handler = await wrapped(gate, "NodeService/Drain", grpc.unary_unary_rpc_method_handler(drain))
    request = node_service_pb2.DrainRequest()
    assert await handler.unary_unary(request, Context(ROOT)) == "drained"
    assert seen[0].rights.role is Role.OPERATOR
    assert seen[0].authorization == ROOT
    for who, failure in (
        ((), Unauthenticated),
        ((READER,), Forbidden),
        ((ROOT, READER), Unauthenticated),
    ):
        with pytest.raises(failure):
            await handler.unary_unary(request, Context(*who))
    assert len(seen) == 1


async def test_who_sends_as_one_identity(gate: Gate) -> None:
    async def send(request: Any, context: Any) -> Any:
        return request.message.header.author

    handler = await wrapped(
        gate, "MessageService/BroadcastMessage", grpc.unary_unary_rpc_method_handler(send)
    )
    request = message_service_pb2.BroadcastMessageRequest()
    assert await handler.unary_unary(request, Context(CLERK)) == "did:firefly:org/acme"
    request.message.header.author = "other"
    with pytest.raises(Forbidden):
        await handler.unary_unary(request, Context(CLERK))
    assert await handler.unary_unary(request, Context(ROOT)) == "other"


async def frames(*given: Any) -> AsyncIterator[Any]:
    for frame in given:
        yield frame


async def test_an_upload_is_judged_by_its_first_frame(gate: Gate) -> None:
    async def upload(requests: AsyncIterator[Any], context: Any) -> list[str]:
        return [frame.WhichOneof("frame") async for frame in requests]

    handler = await wrapped(
        gate, "DataService/UploadData", grpc.stream_unary_rpc_method_handler(upload)
    )

    def upload_to(namespace: str) -> AsyncIterator[Any]:
        header = data_pb2.UploadHeader(namespace=namespace)
        return frames(
            data_service_pb2.UploadDataRequest(header=header),
            data_service_pb2.UploadDataRequest(chunk=b"x"),
        )

    assert await handler.stream_unary(upload_to("red"), Context(ROOT)) == ["header", "chunk"]
    assert await handler.stream_unary(upload_to("open"), Context()) == ["header", "chunk"]
    assert await handler.stream_unary(frames(), Context(ROOT)) == []
    for who, failure in (((), Unauthenticated), ((READER,), Forbidden)):
        with pytest.raises(failure):
            await handler.stream_unary(upload_to("red"), Context(*who))


async def test_streams(gate: Gate) -> None:
    async def subscribe(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        calling = current()
        yield calling.sees("red"), calling.sees("open")
        with pytest.raises(PhotinusError):
            calling.check(Need(Scope.NAMESPACE, Role.WRITER, "red"))
        yield (await calling.renewed()).caller == calling.caller

    handler = await wrapped(
        gate, "EventService/Subscribe", grpc.stream_stream_rpc_method_handler(subscribe)
    )
    for who, sees in (((), (False, True)), ((READER,), (True, True))):
        stream = handler.stream_stream(frames(event_service_pb2.SubscribeRequest()), Context(*who))
        assert [answer async for answer in stream] == [sees, True]
    with pytest.raises(Unauthenticated):
        await anext(handler.stream_stream(frames(), Context(basic("root", "x"))))


async def test_what_is_no_call_of_ours_passes(gate: Gate) -> None:
    handler: Any = object()

    async def continuation(_: Any) -> Any:
        return handler

    details: Any = Details("x")
    details.method = "/grpc.health.v1.Health/Check"
    interceptor = AccessInterceptor(gate)
    assert await interceptor.intercept_service(continuation, details) is handler
    assert await wrapped(gate, "NodeService/Drain", None) is None


async def test_an_open_gate_lets_everything_pass() -> None:
    async def who(request: Any, context: Any) -> Any:
        return current().check(Need(Scope.NODE, Role.OPERATOR)).role

    gate = Gate(AccessSettings(), SystemClock())
    handler = await wrapped(gate, "NodeService/Drain", grpc.unary_unary_rpc_method_handler(who))
    assert await handler.unary_unary(node_service_pb2.DrainRequest(), Context("x")) is Role.OPERATOR
    assert (await current().renewed()).expires_in_s() is None
