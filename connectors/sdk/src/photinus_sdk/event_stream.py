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
from typing import Any, cast

from google.protobuf.unknown_fields import UnknownFieldSet
from photinus.connector.v1 import event_pb2 as events

from photinus_sdk.calls import Context, Find, unexpected
from photinus_sdk.connector import (
    Acked,
    CheckpointLost,
    Connector,
    Events,
    Passed,
    Subscription,
    overrides,
)
from photinus_sdk.context import StreamKey
from photinus_sdk.errors import ConnectorError, NotOffered, Rejected, Unavailable
from photinus_sdk.instance import Instance
from photinus_sdk.outgoing import Outgoing
from photinus_sdk.window import SentBatch, Window

WINDOW_BATCHES_MAX = 1024
WINDOW_BYTES_MIN = 64 << 10
WINDOW_BYTES_MAX = 64 << 20
BATCH_SIZE_DEFAULT = 50
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
        if first is None or not first.HasField("open"):
            raise Rejected("The first frame must be Open", reason="OPEN_MISSING")
        opening, key = first.open, StreamKey.of(first.open.stream)
        if opening.owner_epoch <= 0:
            raise Rejected("Open needs the leader's epoch", reason="EPOCH_REQUIRED")
        if instance.draining:
            raise Unavailable("The connector is being stopped", reason="DRAINING")
        await instance.check_epoch(key, opening.owner_epoch)
        while (running := instance.streams.get(key)) is not None:
            # Of an older epoch, or the same leader's: a dead connection that nobody noticed yet.
            running.supersede(opening.owner_epoch)
            await running.closed.wait()
            await instance.check_epoch(key, opening.owner_epoch)
        session = StreamSession(instance, key, opening, context)
        instance.streams[key] = session
        try:
            await session.run(frames)
        finally:
            session.closed.set()
            del instance.streams[key]


class StreamSession:
    """One open stream."""

    def __init__(
        self, instance: Instance, key: StreamKey, opening: events.Open, context: Context
    ) -> None:
        if opening.window_bytes < WINDOW_BYTES_MIN or not opening.window_batches:
            wanted = f"The window needs at least one batch and {WINDOW_BYTES_MIN} bytes"
            raise Rejected(wanted, reason="WINDOW_TOO_SMALL")
        self.epoch, self.closed = opening.owner_epoch, asyncio.Event()
        self._instance, self._key, self._opening, self._context = instance, key, opening, context
        opened = events.Opened(
            window_batches=min(opening.window_batches, WINDOW_BATCHES_MAX),
            window_bytes=min(opening.window_bytes, WINDOW_BYTES_MAX),
            batch_size=min(opening.batch_size or BATCH_SIZE_DEFAULT, BATCH_SIZE_MAX),
        )
        self._window = Window(opened.window_batches, opened.window_bytes)
        self._out = Outgoing(opened.batch_size, opened.window_bytes)
        # What is to be sent beside batches, and a batch that waits for room in the window.
        self._frames = deque([events.StreamResponse(opened=opened)])
        self._ready: tuple[events.StreamResponse, SentBatch] | None = None
        self._wake, self._space = asyncio.Event(), asyncio.Event()
        # Each ack is higher than the one before, so that the window bounds them.
        self._acks: asyncio.Queue[events.Ack] = asyncio.Queue(WINDOW_BATCHES_MAX)
        self._ack_seen = 0
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._first_waits_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._paused_until, self._progress_at = 0.0, self._loop.time() + PROGRESS_INTERVAL_S
        self._draining = self._left = False
        self._superseded_by = 0
        self._limit = asyncio.timeout(None)

    # What the instance calls.

    def supersede(self, epoch: int) -> None:
        self._superseded_by = epoch
        self._wake.set()
        if self._limit.when() is None:
            # Its connection may be dead, with a write that never ends.
            self._limit.reschedule(self._loop.time() + SUPERSEDE_GRACE_S)

    def announce(self, event: events.Event) -> None:
        self._out.put_own(event)
        self._wake.set()

    def drain(self) -> None:
        """Stops sources and drops what was not sent; Drained follows when all that was is acked."""
        self._draining, self._ready = True, None
        self._out.clear()
        for task in self._listeners.values():
            task.cancel()
        self._wake.set()

    # The session.

    async def run(self, frames: AsyncIterator[events.StreamRequest]) -> None:
        """Serves the stream until the core leaves, or Drained or Superseded was sent."""
        try:
            async with self._limit:
                for event in self._instance.announced.values():
                    self._out.put_own(event)
                async with asyncio.TaskGroup() as group:
                    work = (self._read(frames, group), self._forward_updates(), self._handle_acks())
                    helpers = [group.create_task(part) for part in work]
                    for listener in self._opening.listeners:
                        self._add_listener(listener, group)
                    await self._write()
                    for task in (*helpers, *self._listeners.values()):
                        task.cancel()
        except BaseExceptionGroup as errors:
            found: BaseException | None = errors.subgroup(ConnectorError)
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            raise found or errors from None
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
                        self._acks.put_nowait(frame.ack)
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
        while not self._left or self._superseded_by:
            frame, wait_s = self._next_frame()
            if frame is not None:
                await self._context.write(frame)
                if frame.WhichOneof("frame") in ("superseded", "drained"):
                    return
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()

    def _next_frame(self) -> tuple[events.StreamResponse | None, float]:
        """The next frame, or how long to wait for one."""
        now, window = self._loop.time(), self._window
        if self._frames:
            return self._frames.popleft(), 0
        if self._superseded_by:
            superseded = events.Superseded(owner_epoch=self._superseded_by)
            return events.StreamResponse(superseded=superseded), 0
        if self._draining and window.empty:
            return events.StreamResponse(drained=events.Drained(last_seq=window.last_seq)), 0
        if now >= self._progress_at or self._out.changed:
            self._progress_at = now + PROGRESS_INTERVAL_S
            return events.StreamResponse(progress=self._out.progress(window.acked_seq)), 0
        wait_s = self._progress_at - now
        if now < self._paused_until:
            return None, min(wait_s, self._paused_until - now)
        if (again := window.next_again()) is not None:
            return events.StreamResponse(batch=again), 0
        batch, batch_wait_s = self._next_batch(now)
        return batch, min(wait_s, batch_wait_s)

    def _next_batch(self, now: float) -> tuple[events.StreamResponse | None, float]:
        if self._ready is None and self._window.has_room(0) and len(self._out):
            self._first_waits_since = self._first_waits_since or now
            due = self._first_waits_since + self._opening.batch_timeout_ms / 1000
            if not self._out.has_batch and now < due:
                return None, due - now
            # Filled in place: a batch that is put into a frame later is copied.
            frame = events.StreamResponse()
            updates_through = self._out.cut(self._window.last_seq + 1, frame.batch)
            sent = SentBatch(frame.batch, frame.batch.ByteSize(), updates_through)
            self._ready, self._first_waits_since = (frame, sent), None
            self._space.set()
        if self._ready is None or not self._window.has_room(self._ready[1].size):
            return None, PROGRESS_INTERVAL_S
        (frame, sent), self._ready = self._ready, None
        self._window.add(sent)
        return frame, 0

    async def _handle_acks(self) -> None:
        """Hands acks on, one after the other; their room in the window is free after that."""
        while True:
            ack = await self._acks.get()
            batches = self._window.unacked(ack.through_seq)
            updates_through = max((sent.updates_through for sent in batches), default=0)
            if updates_through:
                await self._instance.journal.updates_acked(self._key, updates_through)
            if overrides(type(self._instance.author), Connector, "acked"):
                # Most authors do not ask, and there are many.
                ids = tuple(e.id for sent in batches for e in sent.batch.events if e.listener_id)
                receipts = {receipt.event_id: receipt.manifest for receipt in ack.receipts}
                if ids:
                    await self._instance.author.acked(Acked(self._key, ids, receipts))
            self._window.ack(ack.through_seq)
            self._wake.set()

    async def _forward_updates(self) -> None:
        """Sends the journal's updates: all that are not acked, then each new one."""
        journal, row = self._instance.journal, 0
        changed = journal.changed(self._key)
        while not self._draining:
            changed.clear()
            found = await journal.updates(self._key, row, UPDATES_PER_READ)
            for stored in found:
                row, update = stored.row, stored.update
                name = f"update/{journal.store_id}/{row}"
                event = stored.event or events.Event(id=name, operation_update=update)
                if stored.event is None and event.ByteSize() > self._window.bytes_max // 2:
                    # Its end must arrive, if need be without the details.
                    event.operation_update.ClearField("manifest")
                    event.operation_update.ClearField("output_json")
                    self._instance.log.warning("update cut: it does not fit the window")
                self._out.put_own(event, row)
            self._wake.set()
            await (self._wait_for_space() if found else changed.wait())

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
            task = group.create_task(self._listen(listener), name=f"listener {listener.id}")
            self._listeners[listener.id] = task

    def _remove_listener(self, listener_id: str) -> None:
        if (task := self._listeners.pop(listener_id, None)) is not None:
            task.cancel()
            self._out.drop_listener(listener_id)
            self._space.set()

    async def _listen(self, listener: events.Listener) -> None:
        """Runs one source, again after an error that may pass."""
        resume, wait_s, told = listener.resume, RESTART_FIRST_S, ""
        network = self._opening.network_namespace
        while True:
            asked = Subscription(self._key, network, listener, resume, self._out.batch_size)
            found = cast("AsyncGenerator[Events | Passed]", self._instance.author.listen(asked))
            try:
                async with contextlib.aclosing(found) as source:
                    async for item in source:
                        wait_s, told = RESTART_FIRST_S, ""
                        await self._wait_for_space()
                        self._out.put(listener.id, item)
                        self._wake.set()
                        resume = resume if item.checkpoint is None else item.checkpoint
                return
            except CheckpointLost as lost:
                invalid = events.CheckpointInvalid(oldest=lost.oldest, reason=lost.reason)
                invalid.listener_id = listener.id
                self._tell(checkpoint_invalid=invalid)
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

    async def _wait_for_space(self) -> None:
        while self._out.full:
            self._space.clear()
            await self._space.wait()

    def _tell_error(self, listener_id: str, error: ConnectorError) -> None:
        status = error.to_status()
        self._tell(listener_error=events.ListenerError(listener_id=listener_id, status=status))

    def _tell(self, **frame: Any) -> None:
        self._frames.append(events.StreamResponse(**frame))
        self._wake.set()
