"""The core's side of an event stream, frame by frame, under a check's control."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

import grpc
from google.rpc import status_pb2
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1.common_pb2 import StreamRef

from photinus_sanity import tasks
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import Refusal, Wire

METHOD = "EventService.Stream"
WAIT_S = 20.0
FRAMES_MAX = 10_000
FRAME_BYTES_MAX = 4 << 20
WINDOW_BYTES = 1 << 20


class Stream:
    """One event stream. Use as an async context manager.

    A reader of its own puts frames into a queue; `pause` stops it, so that the connection fills up.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._call = wire.bidi(METHOD)
        self._frames: asyncio.Queue[events.StreamResponse | Refusal | None] = asyncio.Queue(
            FRAMES_MAX
        )
        self._reading = asyncio.Event()
        self._reading.set()
        self._reader: asyncio.Task[None] | None = None
        self.opened = events.Opened()
        self.progress: list[tuple[float, events.Progress]] = []

    async def __aenter__(self) -> Self:
        self._reader = tasks.start(self._read(), "event stream")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        if self._reader is not None:
            await tasks.end(self._reader)

    async def open(
        self, ref: StreamRef, *listeners: events.Listener, epoch: int = 1, **fields: Any
    ) -> events.Opened:
        """Opens, and waits for Opened, which must come first."""
        usual: Mapping[str, Any] = {
            "window_batches": 64,
            "window_bytes": WINDOW_BYTES,
            "batch_size": 50,
            "network_namespace": f"net-{ref.namespace}",
        }
        await self.send(
            open=events.Open(
                stream=ref, owner_epoch=epoch, listeners=listeners, **{**usual, **fields}
            )
        )
        frame = await self.frame()
        kind = kind_of(frame)
        require(kind == "opened", f"the first frame of the stream is {kind}, not Opened")
        assert frame is not None
        self.opened = frame.opened
        return frame.opened

    async def send(self, **frame: Any) -> None:
        """Sends one frame; a stream that has ended shows it when it is read."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._call.write(events.StreamRequest(**frame))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return
        except TimeoutError:
            raise Violation("the connector stopped reading the stream") from None

    async def send_raw(self, raw: bytes) -> None:
        """Sends bytes as they are."""
        try:
            await self._call.write(raw)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    async def ack(self, seq: int, receipts: Mapping[str, str] | None = None) -> None:
        kept = [events.EventReceipt(event_id=k, manifest=v) for k, v in (receipts or {}).items()]
        await self.send(ack=events.Ack(through_seq=seq, receipts=kept))

    async def nack(self, seq: int, retry_after_ms: int = 0) -> None:
        status = status_pb2.Status(code=14, message="not now")
        await self.send(nack=events.Nack(seq=seq, status=status, retry_after_ms=retry_after_ms))

    async def frame(self, wait_s: float | None = None) -> events.StreamResponse | None:
        """The next frame of any kind; None at the stream's end. Raises Refusal or Violation."""
        wait_s = WAIT_S if wait_s is None else wait_s
        try:
            async with asyncio.timeout(wait_s):
                found = await self._frames.get()
        except TimeoutError:
            raise Violation(f"no frame on the stream within {wait_s:.0f} s") from None
        if isinstance(found, Refusal):
            raise found
        if found is not None and found.WhichOneof("frame") == "progress":
            self.progress.append((time.monotonic(), found.progress))
        return found

    async def expect(self, kind: str, wait_s: float | None = None) -> events.StreamResponse:
        """The next frame that is no Progress; it must be of this kind.

        While anything but a batch is expected, batches that hold nothing but changes of peers, which
        every stream is told, are acked and passed over.
        """
        wait_s = WAIT_S if wait_s is None else wait_s
        until = time.monotonic() + wait_s
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise Violation(f"no {kind} on the stream within {wait_s:.0f} s")
            try:
                frame = await self.frame(left)
            except Violation:
                raise Violation(f"no {kind} on the stream within {wait_s:.0f} s") from None
            if kind_of(frame) == "progress" != kind:
                continue
            if frame is not None and kind != "batch" and tells_of_peers_only(frame):
                await self.ack(frame.batch.seq)
                continue
            require(kind_of(frame) == kind, f"{kind_of(frame)} on the stream instead of {kind}")
            assert frame is not None
            return frame

    async def frames(self, what: str) -> AsyncIterator[events.StreamResponse]:
        """The frames of a while, of any kind; then, or at the stream's end, `what` has not come."""
        until = time.monotonic() + WAIT_S
        while (left := until - time.monotonic()) > 0:
            try:
                frame = await self.frame(left)
            except Violation:
                break
            if frame is None:
                raise Violation(f"the stream ended before {what} came")
            yield frame
        raise Violation(f"{what} did not come within {WAIT_S:.0f} s")

    async def batch(self, wait_s: float | None = None) -> events.Batch:
        return (await self.expect("batch", wait_s)).batch

    async def collect(
        self,
        enough: Callable[[Sequence[events.Event]], bool],
        *,
        ack: bool = True,
        receipts: Mapping[str, str] | None = None,
        what: str = "the expected events",
    ) -> list[events.Event]:
        """Reads batches, and acks them, until their events are enough."""
        found: list[events.Event] = []
        until = time.monotonic() + WAIT_S
        while not enough(found):
            left = until - time.monotonic()
            try:
                batch = await self.batch(max(left, 0.01))
            except Violation as violation:
                raise Violation(f"{what} did not come: {violation}") from None
            found += batch.events
            if ack:
                named = {e.id: receipts[""] for e in batch.events} if receipts else None
                await self.ack(batch.seq, named)
        return found

    async def quiet(self, quiet_s: float) -> list[events.StreamResponse]:
        """What comes within a time, Progress left out; empty when nothing does."""
        found: list[events.StreamResponse] = []
        until = time.monotonic() + quiet_s
        while (left := until - time.monotonic()) > 0:
            try:
                frame = await self.frame(left)
            except Violation:
                return found
            if frame is None:
                raise Violation("the stream ended")
            if kind_of(frame) != "progress":
                found.append(frame)
        return found

    async def ended(self) -> None:
        """Reads up to the regular end. Raises Refusal for another, Violation when there is none."""
        until = time.monotonic() + WAIT_S
        while await self.frame(max(until - time.monotonic(), 0.01)) is not None:
            pass

    async def refused(self) -> Refusal:
        """Reads up to an end with an error, which must come."""
        try:
            await self.ended()
        except Refusal as refusal:
            return refusal
        raise Violation("the stream ended without an error, or was not refused")

    def pause(self) -> None:
        """Stops reading: whatever the connector sends piles up on its side."""
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def _read(self) -> None:
        try:
            while True:
                await self._reading.wait()
                frame = await self._call.read()
                if frame is grpc.aio.EOF:
                    await self._frames.put(None)
                    return
                self._wire.ear.hear("the event stream", frame.SerializeToString())
                await self._frames.put(frame)
        except grpc.aio.AioRpcError as error:
            await self._frames.put(self._wire.taken_apart(METHOD, error))
        except asyncio.InvalidStateError:
            await self._frames.put(None)


def kind_of(frame: events.StreamResponse | None) -> str:
    """Which frame it is, for people too."""
    if frame is None:
        return "the end"
    return frame.WhichOneof("frame") or "a frame that is none"


def tells_of_peers_only(frame: events.StreamResponse) -> bool:
    """Whether it is a batch with changes of peers and nothing else."""
    found = frame.batch.events
    return bool(found) and all(event.WhichOneof("body") == "peer_changed" for event in found)
