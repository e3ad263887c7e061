"""EventService: the one stream by which a connector tells the core everything.

One session per open stream, with one reader, one writer, one worker for acks and one task per
listener. Reading never waits on anything but the reader's queue; sources wait while the core is
behind. Kept here: EVT-001 (Opened first), EVT-006 (epochs), EVT-007 (listeners apart), EVT-008
(Progress).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import cast

from google.protobuf.unknown_fields import UnknownFieldSet
from photinus.connector.v1 import event_pb2 as events

from photinus_sdk.calls import Context, Find, unexpected
from photinus_sdk.connector import Acked, CheckpointLost, Connector, Events, Passed, Subscription
from photinus_sdk.context import StreamKey
from photinus_sdk.errors import ConnectorError, NotOffered, Rejected, Unavailable
from photinus_sdk.instance import Instance
from photinus_sdk.outgoing import Outgoing
from photinus_sdk.window import Window

WINDOW_BATCHES_MAX = 1024
WINDOW_BYTES_MIN = 64 << 10
WINDOW_BYTES_MAX = 64 << 20
BATCH_SIZE_MAX = 5000
LISTENERS_MAX = 10_000
PROGRESS_INTERVAL_S = 5.0
RETRY_AFTER_MAX_S = 60.0
RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
UPDATES_PER_READ = 200
SUPERSEDE_GRACE_S = 2.0


class EventService:
    """The service's one method, for every instance."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def stream(self, frames: AsyncIterator[events.StreamRequest], context: Context) -> None:
        instance = self._find(context)
        first = await anext(aiter(frames), None)
        if first is None or first.WhichOneof("frame") != "open":
            raise Rejected("The first frame must be Open", reason="OPEN_MISSING")
        opening = first.open
        key = StreamKey.of(opening.stream)
        if opening.owner_epoch <= 0:
            raise Rejected("Open needs the leader's epoch", reason="EPOCH_REQUIRED")
        if instance.draining:
            raise Unavailable("The connector is being stopped", reason="DRAINING")
        while True:
            await instance.check_epoch(key, opening.owner_epoch)
            running = instance.streams.get(key)
            if running is None:
                break
            # Of an older epoch, or the same leader's: a dead connection that nobody noticed yet.
            running.supersede(opening.owner_epoch)
            await running.closed.wait()
        session = StreamSession(instance, key, opening, context)
        instance.streams[key] = session
        try:
            await session.run(frames)
        finally:
            session.closed.set()
            if instance.streams.get(key) is session:
                del instance.streams[key]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch that waits for room in the window."""

    frame: events.StreamResponse
    size: int
    updates_through: int


class StreamSession:
    """One open stream."""

    def __init__(
        self, instance: Instance, key: StreamKey, opening: events.Open, context: Context
    ) -> None:
        if opening.window_bytes < WINDOW_BYTES_MIN or not opening.window_batches:
            raise Rejected(
                f"The window needs at least one batch and {WINDOW_BYTES_MIN} bytes",
                reason="WINDOW_TOO_SMALL",
            )
        self.epoch = opening.owner_epoch
        self.closed = asyncio.Event()
        self._instance, self._key, self._opening, self._context = instance, key, opening, context
        self._window = Window(
            min(opening.window_batches, WINDOW_BATCHES_MAX),
            min(opening.window_bytes, WINDOW_BYTES_MAX),
        )
        self._batch_size = min(opening.batch_size or 50, BATCH_SIZE_MAX)
        self._out = Outgoing(self._batch_size, self._window.bytes_max)
        self._frames: deque[events.StreamResponse] = deque()
        self._ready: _Ready | None = None
        self._wake, self._space = asyncio.Event(), asyncio.Event()
        self._acks: deque[events.Ack] = deque()
        self._acks_wake = asyncio.Event()
        self._ack_seen = 0
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._first_waits_since: float | None = None
        self._paused_until = 0.0
        self._progress_at = 0.0
        self._draining = False
        self._left = False
        self._superseded_by = 0
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()

    # What the instance calls.

    def supersede(self, epoch: int) -> None:
        self._superseded_by = epoch
        self._wake.set()
        if self._limit.when() is None:
            # Its connection may be dead, with a write that never ends.
            self._limit.reschedule(self._loop.time() + SUPERSEDE_GRACE_S)

    def announce(self, event: events.Event) -> None:
        self._out.put_own([(event, 0)])
        self._wake.set()

    def drain(self) -> None:
        """Stops sources and drops what was not sent; Drained follows when all that was is acked."""
        self._draining = True
        self._out.clear()
        self._ready = None
        for task in self._listeners.values():
            task.cancel()
        self._wake.set()

    # The session.

    async def run(self, frames: AsyncIterator[events.StreamRequest]) -> None:
        """Serves the stream until the core leaves, or Drained or Superseded was sent."""
        opened = events.Opened(
            window_batches=self._window.batches_max,
            window_bytes=self._window.bytes_max,
            batch_size=self._batch_size,
        )
        self._progress_at = self._loop.time() + PROGRESS_INTERVAL_S
        try:
            async with self._limit:
                await self._context.write(events.StreamResponse(opened=opened))
                self._out.put_own((event, 0) for event in self._instance.announced)
                async with asyncio.TaskGroup() as group:
                    helpers = [
                        group.create_task(self._read(frames, group), name="stream reader"),
                        group.create_task(self._forward_updates(), name="operation updates"),
                        group.create_task(self._handle_acks(), name="ack worker"),
                    ]
                    for listener in self._opening.listeners:
                        self._add_listener(listener, group)
                    await self._write()
                    for task in (*helpers, *self._listeners.values()):
                        task.cancel()
        except BaseExceptionGroup as group_error:
            errors = group_error.subgroup(ConnectorError)
            if errors is None:
                raise
            raise _first(errors) from None
        except TimeoutError:
            raise Unavailable("Superseded, and the connection took nothing more") from None

    async def _read(
        self, frames: AsyncIterator[events.StreamRequest], group: asyncio.TaskGroup
    ) -> None:
        async for frame in frames:
            match frame.WhichOneof("frame"):
                case "ack":
                    self._window.check_sent(frame.ack.through_seq)
                    if frame.ack.through_seq > self._ack_seen:
                        self._ack_seen = frame.ack.through_seq
                        self._acks.append(frame.ack)
                        self._acks_wake.set()
                case "nack":
                    self._window.nack(frame.nack.seq)
                    wait_s = min(frame.nack.retry_after_ms / 1000, RETRY_AFTER_MAX_S)
                    self._paused_until = self._loop.time() + wait_s
                case "add_listener":
                    self._add_listener(frame.add_listener.listener, group)
                case "remove_listener":
                    self._remove_listener(frame.remove_listener.listener_id)
                case "drain":
                    self.drain()
                case None if frame.ByteSize():
                    continue  # Of a later minor version, which says nothing there that must be heard.
                case _:
                    raise Rejected("A frame that is none, or a second Open", reason="BAD_FRAME")
            self._wake.set()
        # The core has closed its side: nothing can be acked any more.
        self._left = True
        self._wake.set()

    async def _write(self) -> None:
        while True:
            if self._superseded_by:
                superseded = events.Superseded(owner_epoch=self._superseded_by)
                await self._context.write(events.StreamResponse(superseded=superseded))
                return
            if self._left:
                return
            frame, wait_s = self._next_frame()
            if frame is not None:
                await self._context.write(frame)
                continue
            if self._draining and self._window.empty:
                drained = events.Drained(last_seq=self._window.last_seq)
                await self._context.write(events.StreamResponse(drained=drained))
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()

    def _next_frame(self) -> tuple[events.StreamResponse | None, float]:
        """The next frame, or how long to wait for one."""
        now = self._loop.time()
        if self._frames:
            return self._frames.popleft(), 0
        if now >= self._progress_at or self._out.progress_due:
            self._progress_at = now + PROGRESS_INTERVAL_S
            progress = self._out.progress(self._window.acked_seq)
            return events.StreamResponse(progress=progress), 0
        wait_s = self._progress_at - now
        if now < self._paused_until:
            return None, min(wait_s, self._paused_until - now)
        again = self._window.next_again()
        if again is not None:
            return events.StreamResponse(batch=again), 0
        batch, batch_wait_s = self._next_batch(now)
        return batch, min(wait_s, batch_wait_s)

    def _next_batch(self, now: float) -> tuple[events.StreamResponse | None, float]:
        never = PROGRESS_INTERVAL_S
        if not self._window.has_room(0):
            return None, never
        if self._ready is None:
            if not len(self._out):
                self._first_waits_since = None
                return None, never
            if self._first_waits_since is None:
                self._first_waits_since = now
            due = self._first_waits_since + self._opening.batch_timeout_ms / 1000
            if not self._out.has_batch and now < due:
                return None, due - now
            # Filled in place: a batch that is put into a frame later is copied.
            frame = events.StreamResponse()
            found = self._out.cut(self._window.last_seq + 1, frame.batch)
            assert found is not None
            self._first_waits_since = None
            self._space.set()
            self._ready = _Ready(frame, frame.batch.ByteSize(), found[1])
        ready = self._ready
        if not self._window.has_room(ready.size):
            return None, never
        self._ready = None
        self._window.add(ready.frame.batch, ready.updates_through, ready.size)
        return ready.frame, 0

    async def _handle_acks(self) -> None:
        """Hands acks on, one after the other; their room in the window is free after that."""
        while True:
            if not self._acks:
                self._acks_wake.clear()
                await self._acks_wake.wait()
            ack = self._acks.popleft()
            batches = self._window.unacked(ack.through_seq)
            updates_through = max((sent.updates_through for sent in batches), default=0)
            if updates_through:
                await self._instance.journal.updates_acked(self._key, updates_through)
            ids: tuple[str, ...] = ()
            if type(self._instance.author).acked is not Connector.acked:
                # Most authors do not ask, and there are many.
                ids = tuple(e.id for sent in batches for e in sent.batch.events if e.listener_id)
            if ids:
                receipts = {receipt.event_id: receipt.manifest for receipt in ack.receipts}
                await self._instance.author.acked(Acked(self._key, ids, receipts))
            self._window.ack(ack.through_seq)
            self._wake.set()

    async def _forward_updates(self) -> None:
        """Sends the journal's updates: all that are not acked, then each new one."""
        changed, row = self._instance.journal.changed(self._key), 0
        while not self._draining:
            changed.clear()
            found = await self._instance.journal.updates(self._key, row, UPDATES_PER_READ)
            if not found:
                await changed.wait()
                continue
            row = found[-1].row
            for stored in found:
                name = f"update/{self._instance.journal.store_id}/{stored.row}"
                event = stored.event or events.Event(id=name, operation_update=stored.update)
                if (
                    event.HasField("operation_update")
                    and event.ByteSize() > self._window.bytes_max // 2
                ):
                    # Its end must arrive, if need be without the details.
                    event.operation_update.ClearField("manifest")
                    event.operation_update.ClearField("output_json")
                    self._instance.log.warning("update cut: it does not fit the window")
                self._out.put_own([(event, stored.row)])
            self._wake.set()
            await self._wait_for_space()

    def _add_listener(self, listener: events.Listener, group: asyncio.TaskGroup) -> None:
        running = self._listeners.get(listener.id)
        if not listener.id or (running is not None and not running.done()):
            self._tell_error(listener.id, Rejected("The listener has no id, or is there already"))
        elif listener.WhichOneof("filter") is None and len(UnknownFieldSet(listener)):
            # Of a later minor version. Left out, it would match what it is there to leave out.
            self._tell_error(listener.id, NotOffered("The filter is of a kind not known here"))
        elif len(self._listeners) >= LISTENERS_MAX:
            self._tell_error(listener.id, Rejected(f"More than {LISTENERS_MAX} listeners"))
        elif not self._draining:
            self._listeners[listener.id] = group.create_task(
                self._listen(listener), name=f"listener {listener.id}"
            )

    def _remove_listener(self, listener_id: str) -> None:
        task = self._listeners.pop(listener_id, None)
        if task is not None:
            task.cancel()
            self._out.drop_listener(listener_id)
            self._space.set()

    async def _listen(self, listener: events.Listener) -> None:
        """Runs one source, again after an error that may pass."""
        resume, wait_s, told = listener.resume, RESTART_FIRST_S, ""
        while True:
            subscription = Subscription(
                self._key, self._opening.network_namespace, listener, resume, self._batch_size
            )
            try:
                async with contextlib.aclosing(self._source(subscription)) as source:
                    async for item in source:
                        wait_s, told = RESTART_FIRST_S, ""
                        await self._wait_for_space()
                        self._out.put(listener.id, item)
                        self._wake.set()
                        if item.checkpoint is not None:
                            resume = item.checkpoint
                return
            except CheckpointLost as lost:
                self._tell_checkpoint_lost(listener.id, lost)
                return
            except (Rejected, NotOffered) as error:
                self._tell_error(listener.id, error)
                return
            except ConnectorError as error:
                if told != error.message:
                    self._tell_error(listener.id, error)
                told = error.message
            except Exception:  # noqa: BLE001 - the author's bug stays in its listener
                if told != "bug":
                    self._tell_error(listener.id, unexpected(self._instance.log))
                told = "bug"
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_MAX_S)

    def _source(self, subscription: Subscription) -> AsyncGenerator[Events | Passed, None]:
        return cast(
            "AsyncGenerator[Events | Passed, None]", self._instance.author.listen(subscription)
        )

    async def _wait_for_space(self) -> None:
        while self._out.full:
            self._space.clear()
            await self._space.wait()

    def _tell_error(self, listener_id: str, error: ConnectorError) -> None:
        told = events.ListenerError(listener_id=listener_id, status=error.to_status())
        self._frames.append(events.StreamResponse(listener_error=told))
        self._wake.set()

    def _tell_checkpoint_lost(self, listener_id: str, lost: CheckpointLost) -> None:
        told = events.CheckpointInvalid(
            listener_id=listener_id, oldest=lost.oldest, reason=lost.reason
        )
        self._frames.append(events.StreamResponse(checkpoint_invalid=told))
        self._wake.set()


def _first(errors: BaseExceptionGroup[ConnectorError]) -> ConnectorError:
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, ConnectorError)
    return inner
