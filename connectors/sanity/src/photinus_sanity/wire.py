"""A connector as the core sees it: calls by name, errors taken apart, what is heard searched for secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from photinus.connector.v1 import (
    blockchain_pb2,
    common_pb2,
    connector_pb2,
    data_exchange_pb2,
    event_pb2,
    operation_pb2,
    shared_storage_pb2,
    tokens_pb2,
)

from photinus_sanity.violations import Violation

PACKAGE = "photinus.connector.v1"
DOMAIN = PACKAGE
INSTANCE_HEADER = "x-connector-instance"
CALL_S = 30.0
SECRET_CHARACTERS_MIN = 6
UPLOAD_ATTEMPTS = 10
LOST_ANSWER = "Internal error from Core"
CHANNEL_OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)

_FILES = (
    blockchain_pb2,
    connector_pb2,
    data_exchange_pb2,
    event_pb2,
    operation_pb2,
    shared_storage_pb2,
    tokens_pb2,
)
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class Refusal(Exception):
    """An error answer, taken apart.

    Attributes:
        code: The gRPC code.
        message: Its text.
        info: `ErrorInfo`, None when there is none.
        disposition: Of `SubmissionDetail`; None when there is none.
        details_bytes: Size of the status with its details.
    """

    def __init__(self, method: str, error: grpc.aio.AioRpcError) -> None:
        self.method = method
        self.code: grpc.StatusCode = error.code()
        self.message = error.details() or ""
        self.info: error_details_pb2.ErrorInfo | None = None
        self.disposition: common_pb2.Disposition.ValueType | None = None
        self.retry: error_details_pb2.RetryInfo | None = None
        raw = b""
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                raw = value if isinstance(value, bytes) else value.encode()
        self.details_bytes = len(raw)
        try:
            self._take_apart(status_pb2.Status.FromString(raw))
        except DecodeError:
            self.message += " (grpc-status-details-bin is no google.rpc.Status)"
        super().__init__(f"{method}: {self.code.name} {self.reason or '(no reason)'}: {self.text}")

    def _take_apart(self, status: status_pb2.Status) -> None:
        self.message = status.message or self.message
        for packed in status.details:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            detail = common_pb2.SubmissionDetail()
            if packed.Unpack(info):
                self.info = info
            elif packed.Unpack(detail):
                self.disposition = detail.disposition
            elif packed.Unpack(retry):
                self.retry = retry

    @property
    def reason(self) -> str:
        return self.info.reason if self.info is not None else ""

    @property
    def text(self) -> str:
        return self.message if len(self.message) <= 200 else f"{self.message[:200]}…"


@dataclass
class Ear:
    """Everything a connector says passes here; planted secrets are noticed.

    Attributes:
        secrets: What must not be heard.
        leaks: Where it was.
    """

    secrets: tuple[str, ...] = ()
    leaks: list[str] = field(default_factory=list)

    def hear(self, where: str, said: bytes) -> None:
        if any(secret.encode() in said for secret in self.secrets):
            self.leaks.append(where)


@dataclass
class Wire:
    """One channel to one instance.

    Attributes:
        channel: The channel; owned by whoever made it.
        instance: Named in the metadata of every call.
        ear: Hears every answer.
    """

    channel: grpc.aio.Channel
    instance: str
    ear: Ear

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ((INSTANCE_HEADER, self.instance),)

    def of(self, instance: str) -> Wire:
        """The same channel for another instance."""
        return Wire(self.channel, instance, self.ear)

    async def call(
        self,
        method: str,
        request: Message | bytes,
        *,
        timeout_s: float | None = CALL_S,
        metadata: Sequence[tuple[str, str]] | None = None,
    ) -> Any:
        """One unary call. Raises Refusal for an error answer."""
        described = METHODS[method]
        stub: Any = self.channel.unary_unary(
            _path(described), _to_bytes, _message_class(described.output_type).FromString
        )
        with self._taken_apart(method):
            async with asyncio.timeout(CALL_S + 5):
                answer = await stub(
                    request,
                    timeout=timeout_s,
                    metadata=self.metadata if metadata is None else metadata,
                )
        self.ear.hear(method, answer.SerializeToString())
        return answer

    async def upload(self, method: str, frames: Sequence[Message]) -> Any:
        """One call with a stream of requests.

        When a connector refuses an upload before its last frame is sent, grpc.aio may lose the answer
        and make up an INTERNAL of its own; such an attempt says nothing and is made again.
        """
        described = METHODS[method]
        stub: Any = self.channel.stream_unary(
            _path(described), _to_bytes, _message_class(described.output_type).FromString
        )
        with self._taken_apart(method):
            async with asyncio.timeout(CALL_S + 5):
                for _ in range(UPLOAD_ATTEMPTS - 1):
                    try:
                        return await stub(frames, timeout=CALL_S, metadata=self.metadata)
                    except grpc.aio.AioRpcError as error:
                        if error.details() != LOST_ANSWER:
                            raise
                return await stub(frames, timeout=CALL_S, metadata=self.metadata)

    def answers(self, method: str, request: Message, *, timeout_s: float | None = CALL_S) -> Any:
        """A call with a stream of answers, raw: errors are grpc's."""
        described = METHODS[method]
        stub: Any = self.channel.unary_stream(
            _path(described), _to_bytes, _message_class(described.output_type).FromString
        )
        return stub(request, timeout=timeout_s, metadata=self.metadata)

    async def download(self, method: str, request: Message) -> list[Any]:
        """All answers of a call with a stream of answers."""
        with self._taken_apart(method):
            async with asyncio.timeout(CALL_S + 5):
                return [answer async for answer in self.answers(method, request)]

    def bidi(self, method: str) -> Any:
        """A call with streams both ways, raw."""
        described = METHODS[method]
        stub: Any = self.channel.stream_stream(
            _path(described), _to_bytes, _message_class(described.output_type).FromString
        )
        return stub(metadata=self.metadata)

    def taken_apart(self, method: str, error: grpc.aio.AioRpcError) -> Refusal:
        """The error of a raw call."""
        refusal = Refusal(method, error)
        info = refusal.info.SerializeToString() if refusal.info is not None else b""
        self.ear.hear(f"error of {method}", refusal.message.encode() + info)
        return refusal

    @contextmanager
    def _taken_apart(self, method: str) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self.taken_apart(method, error) from None
        except TimeoutError:
            raise Violation(f"{method} did not end although its deadline had passed") from None


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _to_bytes(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def _message_class(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)
