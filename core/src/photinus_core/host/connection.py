"""One channel to a connector, from the dial to its loss.

A connection is never repaired: when it is lost, every call in flight ends at once with one error,
and the supervisor makes a new one. gRPC's own reconnecting would hide that the process behind the
address is another one now, which knows nothing of its configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar, cast

import grpc
from google.protobuf.message import Message

from photinus_core.host.channels import Target
from photinus_core.host.failures import (
    NOT_CONFIGURED,
    ConnectionLostError,
    lost,
    silent,
    translated,
)
from photinus_core.host.secrets import Redactor
from photinus_core.ports import tracing
from photinus_core.ports.connectors import ConnectorFailure

S = TypeVar("S")

INSTANCE_HEADER: Final = "x-connector-instance"
CHUNK_WAIT_S: Final = 30.0
"""Longest silence within a transfer of bytes."""


class Connection:
    """A channel with the calls in flight on it.

    Args:
        connector: Name for errors.
        target: What to dial.
        instance: Instance that every call names.
        redactor: Knows what may stand in no error.
        on_trouble: Told when a call finds that the connection is lost, or the process behind it
            is a new one.
    """

    def __init__(
        self,
        connector: str,
        target: Target,
        instance: str,
        redactor: Redactor,
        on_trouble: Callable[[str], None],
    ) -> None:
        self.connector = connector
        self.channel = target.channel()
        self._redactor = redactor
        self.metadata = ((INSTANCE_HEADER, instance),)
        self._on_trouble = on_trouble
        self._stubs: dict[object, object] = {}
        self._calls: set[Any] = set()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._lost = ""
        self.heard_s = 0.0
        """When it said something last, by the loop's clock."""
        self.closed = asyncio.Event()

    def stub(self, kind: Callable[[grpc.aio.Channel], S]) -> S:
        """The stub of a service on this channel, made once."""
        made = self._stubs.get(kind)
        if made is None:
            made = self._stubs[kind] = kind(self.channel)
        return cast("S", made)

    async def unary(self, method: Any, request: Message, wait_s: float) -> Any:
        """One call; `method` is a stub's.

        Raises:
            ConnectorFailure: the connector's answer; or CONNECTOR_LOST, at once, when it went away.
        """
        if self._lost:
            raise lost(self.connector, self._lost)
        with _spanned(self.connector, method, request):
            call = method(request, metadata=self._metadata(), timeout=wait_s)
            with self._tracked(call):
                answer = await call
                self._heard()
                return answer

    async def upload(self, method: Any, frames: AsyncIterator[Any], wait_s: float) -> Any:
        """A client-streaming call. An exception of `frames` breaks the call off and passes through.

        Raises:
            ConnectorFailure: as `unary`; TIMEOUT after a silence.
        """
        if self._lost:
            raise lost(self.connector, self._lost)
        with _spanned(self.connector, method):
            return await self._uploaded(method(metadata=self._metadata(), timeout=wait_s), frames)

    async def _uploaded(self, call: Any, frames: AsyncIterator[Any]) -> Any:
        with self._tracked(call):
            try:
                async for frame in frames:
                    async with asyncio.timeout(CHUNK_WAIT_S):
                        await call.write(frame)
                await call.done_writing()
            except asyncio.InvalidStateError:
                pass  # The connector has answered already; its answer says why.
            except BaseException:
                call.cancel()
                raise
            return await call

    async def frames(self, method: Any, request: Message) -> AsyncIterator[Any]:
        """The answers of a server-streaming call. Leaving the iteration ends the call.

        Raises:
            ConnectorFailure: as `unary`; TIMEOUT after a silence.
        """
        if self._lost:
            raise lost(self.connector, self._lost)
        call = method(request, metadata=self._metadata())
        with self._tracked(call):
            try:
                while True:
                    async with asyncio.timeout(CHUNK_WAIT_S):
                        frame = await call.read()
                    if frame is grpc.aio.EOF:
                        return
                    self._heard()
                    yield frame
            finally:
                call.cancel()

    def stream(self, method: Any, request: Message | None = None) -> Any:
        """Begins a call that is open as long as the connection; `read` and `write` serve it."""
        arguments = () if request is None else (request,)
        call = method(*arguments, metadata=self.metadata)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    async def read(self, call: Any) -> Any:
        """The next frame of a stream, None at its end.

        Giving up on it ends the whole stream, as gRPC has it.

        Raises:
            ConnectorFailure: the connector's error, or its loss.
        """
        with self._translated(call):
            frame = await call.read()
            self._heard()
            return None if frame is grpc.aio.EOF else frame

    async def write(self, call: Any, frame: Message) -> None:
        """Sends a frame of a stream; nothing when it has ended, as its reader learns why."""
        with contextlib.suppress(asyncio.InvalidStateError), self._translated(call):
            await call.write(frame)

    def failure_of(self, error: BaseException) -> ConnectorFailure:
        """What an exception of a call means; a lost connection is reported on the way."""
        if isinstance(error, grpc.aio.AioRpcError):
            try:
                failure = translated(error, self.connector, self._redactor.clean)
            except ConnectionLostError as gone:
                reason = self._lost or self._redactor.line(str(gone))
                self._on_trouble(reason)
                return lost(self.connector, reason)
            if failure.reason == NOT_CONFIGURED:
                self._on_trouble("another process answers, which is not configured")
            return failure
        return lost(self.connector, self._lost or str(error))

    async def finish(self, wait_s: float) -> None:
        """Waits, at most so long, for the calls in flight."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._idle.wait()

    async def aclose(self, reason: str) -> None:
        """Ends all calls in flight with `reason` and closes the channel. Idempotent."""
        self._lost = self._lost or reason
        self.closed.set()
        for call in list(self._calls):
            call.cancel()
        await self.channel.close()

    def _metadata(self) -> tracing.Metadata:
        """What a call takes along: its instance, and the request and trace it is made for."""
        return (*self.metadata, *tracing.call_metadata())

    def _heard(self) -> None:
        self.heard_s = asyncio.get_running_loop().time()

    @contextlib.contextmanager
    def _tracked(self, call: Any) -> Iterator[None]:
        """Counts a call as in flight, and translates its errors."""
        self._calls.add(call)
        self._busy += 1
        self._idle.clear()
        try:
            with self._translated(call):
                yield
        finally:
            self._calls.discard(call)
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    @contextlib.contextmanager
    def _translated(self, call: Any) -> Iterator[None]:
        # Not simply zero: a TaskGroup before Python 3.13 may leave its count of cancellations behind.
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self.failure_of(error) from None
        except TimeoutError:
            raise silent(self.connector, CHUNK_WAIT_S) from None
        except asyncio.CancelledError:
            # gRPC reports a call that `aclose` ended as a cancellation of whoever waits for it.
            if self._lost and (task is None or task.cancelling() == before):
                raise lost(self.connector, self._lost) from None
            call.cancel()
            raise


def _spanned(
    connector: str, method: Any, request: Message | None = None
) -> contextlib.AbstractContextManager[None]:
    """The span of a call, inside of one that asks for it; named after its idempotency key, too."""
    recorder = tracing.tracer()
    if recorder is tracing.UNTRACED:
        return _NOTHING
    attributes = {"connector": connector}
    key = getattr(getattr(request, "context", None), "idempotency_key", "")
    if key:
        attributes["operation"] = str(key)
    name = getattr(method, "_method", b"call")
    title = name.decode().lstrip("/") if isinstance(name, bytes) else str(name)
    return recorder.span(title, kind="client", attributes=attributes)


_NOTHING: Final = contextlib.nullcontext()
