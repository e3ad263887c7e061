"""The event stream of the connector in memory: one writer that pulls from updates, ledger and inbox."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import status_pb2
from photinus.connector.v1 import event_pb2 as events

from tests.conformance.memory.refusals import Refused, invalid, stale
from tests.conformance.memory.world import Store, World, scope_of

PROGRESS_S = 0.2
WINDOW_BYTES_MAX = 1 << 26
FEW = 10


@dataclass
class Cursor:
    """A listener and how far it is."""

    listener: events.Listener
    at: int = 0
    sent: set[str] = field(default_factory=set)


class Streams:
    """The running streams of one process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: dict[tuple[str, Any], Session] = {}
        self.draining: set[str] = set()
        self.shared_unacked = 0

    async def serve(
        self, instance: str, frames: AsyncIterator[events.StreamRequest], context: Any
    ) -> None:
        first = await anext(aiter(frames), None)
        if first is None or first.WhichOneof("frame") != "open":
            raise invalid("OPEN_MISSING", "the first frame must be Open")
        opening = first.open
        if not opening.stream.cluster_id or opening.owner_epoch <= 0:
            raise invalid("OPEN_INVALID", "Open needs stream and epoch")
        if instance in self.draining:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "DRAINING", "being drained")
        store = self.world.store_of(instance)
        scope = scope_of(opening.stream)
        self.check_epoch(store, instance, scope, opening.owner_epoch)
        before = self.running.get((instance, scope))
        if before is not None and not self.world.has("no-superseded"):
            before.superseded_by = opening.owner_epoch
            before.wake.set()
            if self.world.has("waits-for-old-stream"):
                await before.closed.wait()
        self.world.streams_opened += 1
        session = Session(self, store, opening, context)
        self.running[instance, scope] = session
        try:
            await session.run(frames)
        finally:
            session.closed.set()
            if self.running.get((instance, scope)) is session:
                del self.running[instance, scope]

    def check_epoch(self, store: Store, instance: str, scope: Any, epoch: int) -> None:
        highest = store.epochs.get(scope, 0)
        if epoch < highest and not self.world.has("epoch-ignored"):
            raise stale(highest)
        if epoch > highest:
            store.epochs[scope] = epoch
            running = self.running.get((instance, scope))
            if running is not None and not self.world.has("no-superseded"):
                running.superseded_by = epoch
                running.wake.set()

    def end_all(self) -> None:
        for session in list(self.running.values()):
            session.left = True
            session.wake.set()

    async def drain(self, instance: str) -> None:
        if self.world.has("drain-ignored"):
            return
        self.draining.add(instance)
        for (name, _), session in list(self.running.items()):
            if name == instance:
                session.draining = True
                session.wake.set()


class Session:
    """One open stream."""

    def __init__(self, streams: Streams, store: Store, opening: events.Open, context: Any) -> None:
        self.streams, self.world, self.store = streams, streams.world, store
        self.opening, self.context = opening, context
        self.scope = scope_of(opening.stream)
        self.window = opening.window_batches
        self.window_bytes = min(opening.window_bytes, WINDOW_BYTES_MAX)
        self.cursors: dict[str, Cursor] = {}
        self.frames: list[events.StreamResponse] = []
        self.unacked: list[tuple[events.Batch, int, list[str]]] = []
        self.again: list[events.Batch] = []
        self.seq = self.sent_row = 0
        self.paused_until = 0.0
        self.superseded_by = 0
        self.draining = self.left = False
        self.error: Refused | None = None
        self.wake, self.closed = asyncio.Event(), asyncio.Event()

    async def run(self, frames: AsyncIterator[events.StreamRequest]) -> None:
        opened = events.Opened(
            window_batches=self.window,
            window_bytes=self.window_bytes,
            batch_size=self.opening.batch_size,
        )
        if self.world.has("opened-late"):
            early = events.Batch(seq=1, events=[events.Event(id="early")])
            await self.write(events.StreamResponse(batch=early))
        await self.write(events.StreamResponse(opened=opened))
        for listener in self.opening.listeners:
            self.add(listener)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self.read(frames))
            await self.send_all()
            reader.cancel()
        if self.error is not None:
            raise self.error

    async def write(self, frame: events.StreamResponse) -> None:
        if self.world.has("writes-hold-up-calls"):
            async with self.world.writing:
                await self.context.write(frame)
            return
        await self.context.write(frame)

    async def send_all(self) -> None:
        loop = asyncio.get_running_loop()
        progress_at = loop.time() + PROGRESS_S
        while not self.left and self.error is None:
            if self.superseded_by:
                ended = events.Superseded(owner_epoch=self.superseded_by)
                await self.hurried(events.StreamResponse(superseded=ended))
                while self.world.has("waits-for-old-stream") and not self.left:
                    await self.something(PROGRESS_S)
                return
            now = loop.time()  # once: a freeze between two readings would go unnoticed
            if self.world.has("freeze-drops-streams") and now > progress_at + PROGRESS_S:
                self.error = invalid("TOO_LATE", "the core was silent, it seems")
                return
            frame = self.next_frame(now)
            if frame is None and now >= progress_at:
                progress_at = now + PROGRESS_S
                if not self.world.has("no-progress"):
                    frame = events.StreamResponse(progress=self.progress())
            if frame is not None:
                await self.write(frame)
                continue
            if self.draining and (not self.unacked or self.world.has("drained-early")):
                drained = events.Drained(last_seq=self.seq)
                await self.write(events.StreamResponse(drained=drained))
                return
            await self.something(min(progress_at - loop.time(), PROGRESS_S))

    async def hurried(self, frame: events.StreamResponse) -> None:
        """Writes, but not for ever: the connection may be dead."""
        try:
            async with asyncio.timeout(1.0):
                await self.write(frame)
        except TimeoutError:
            return

    async def something(self, wait_s: float) -> None:
        self.wake.clear()
        changed = asyncio.create_task(self.world.changed.wait())
        woken = asyncio.create_task(self.wake.wait())
        waiting = {changed, woken}
        try:
            await asyncio.wait(waiting, timeout=max(wait_s, 0), return_when="FIRST_COMPLETED")
        finally:
            for task in waiting:
                task.cancel()

    def next_frame(self, now: float) -> events.StreamResponse | None:
        if self.frames:
            return self.frames.pop(0)
        if now < self.paused_until:
            return None
        if self.again:
            return events.StreamResponse(batch=self.again.pop(0))
        if self.draining:
            return None
        batch = self.cut()
        return events.StreamResponse(batch=batch) if batch is not None else None

    def cut(self) -> events.Batch | None:
        """The next batch, when there is something and room for it."""
        has = self.world.has
        unacked = len(self.unacked)
        if has("shared-window"):
            unacked = self.streams.shared_unacked
        if unacked >= self.window and not has("window-ignored"):
            return None
        limit = self.opening.batch_size if not has("batch-size-ignored") else 1000
        room = self.window_bytes - sum(batch.ByteSize() for batch, _, _ in self.unacked) - 100
        if has("window-bytes-ignored"):
            room = WINDOW_BYTES_MAX
        batch, row, ids = events.Batch(seq=self.seq + 1), self.sent_row, list[str]()
        for each_row, update in self.store.updates.get(self.scope, []):
            if each_row > self.sent_row and len(batch.events) < limit:
                batch.events.append(update)
                row = max(row, each_row)
        for cursor in self.cursors.values():
            self.pull(cursor, batch, limit, room, ids)
        if not batch.events:
            return None
        if has("updates-once"):
            self.store.updates[self.scope] = []
        if has("inbox-dropped-when-sent"):
            self.store.inbox = [each for each in self.store.inbox if each.id not in ids]
        if has("order-swapped") and len(self.unacked) == 1:
            batch.events.reverse()
        self.sent_row = row
        self.seq += 2 if has("seq-gap") and self.seq else 1
        batch.seq = self.seq
        self.unacked.append((batch, row, ids))
        self.streams.shared_unacked += 1
        return batch

    def pull(
        self, cursor: Cursor, batch: events.Batch, limit: int, room: int, ids: list[str]
    ) -> None:
        listener = cursor.listener
        if listener.WhichOneof("filter") == "destination":
            for each in self.store.inbox:
                wanted = self.fits(listener.destination, each.network, each.node)
                if each.id in cursor.sent or not wanted or len(batch.events) >= limit:
                    continue
                if batch.ByteSize() + each.event.ByteSize() > room:
                    return
                cursor.sent.add(each.id)
                ids.append(each.id)
                self.put(batch, each.event, listener.id)
            return
        while cursor.at < len(self.world.ledger) and len(batch.events) < limit:
            event = self.world.ledger[cursor.at]
            if matches(listener, event):
                if batch.ByteSize() + event.ByteSize() > room:
                    return
                self.put(batch, event, listener.id)
                ahead = 1 if self.world.has("checkpoint-ahead") else 0
                batch.checkpoints[listener.id] = str(cursor.at + 1 + ahead).encode()
            cursor.at += 1

    def put(self, batch: events.Batch, event: events.Event, listener_id: str) -> None:
        made = batch.events.add()
        made.CopyFrom(event)
        made.listener_id = listener_id
        if self.world.has("ids-change"):
            made.id += f"/{next(self.world.numbers)}"

    def fits(self, wanted: events.DestinationFilter, network: str, node: str) -> bool:
        if self.world.has("any-node"):
            return True
        return (wanted.network_namespace, wanted.node_name) == (network, node)

    def progress(self) -> events.Progress:
        progress = events.Progress()
        for cursor in self.cursors.values():
            safe = not self.unacked or self.world.has("progress-ahead")
            if cursor.listener.WhichOneof("filter") != "destination" and safe:
                at = len(self.world.ledger) if self.world.has("progress-ahead") else cursor.at
                progress.checkpoints[cursor.listener.id] = str(at).encode()
        return progress

    async def read(self, frames: AsyncIterator[events.StreamRequest]) -> None:
        try:
            async for frame in frames:
                self.take(frame)
                self.wake.set()
        except Refused as refused:
            self.error = refused
        self.left = True
        self.wake.set()

    def take(self, frame: events.StreamRequest) -> None:
        match frame.WhichOneof("frame"):
            case "ack":
                self.ack(frame.ack)
            case "nack":
                if not self.world.has("nack-ignored"):
                    wanted = frame.nack.seq
                    self.again = [batch for batch, _, _ in self.unacked if batch.seq >= wanted]
                wait_s = frame.nack.retry_after_ms / 1000
                self.paused_until = asyncio.get_running_loop().time() + wait_s
            case "add_listener":
                self.add(frame.add_listener.listener)
            case "remove_listener":
                if not self.world.has("remove-ignored"):
                    self.cursors.pop(frame.remove_listener.listener_id, None)
            case "drain":
                self.draining = True
            case "open" if self.world.has("second-open-taken"):
                pass
            case None if frame.ByteSize():
                pass  # of a later minor version
            case _:
                raise invalid("BAD_FRAME", "a second Open, or a frame that is none")

    def ack(self, ack: events.Ack) -> None:
        if ack.through_seq > self.seq:
            raise invalid("BEYOND_SENT", "acked what was never sent")
        receipts = {receipt.event_id: receipt.manifest for receipt in ack.receipts}
        done = [entry for entry in self.unacked if entry[0].seq <= ack.through_seq]
        if self.world.has("ack-not-cumulative"):
            done = [entry for entry in done if entry[0].seq == ack.through_seq]
        self.unacked = [entry for entry in self.unacked if entry not in done]
        self.streams.shared_unacked -= len(done)
        if self.world.has("ack-ignored"):
            return
        for _, row, ids in done:
            kept = self.store.updates.get(self.scope, [])
            self.store.updates[self.scope] = [each for each in kept if each[0] > row]
            for received in [each for each in self.store.inbox if each.id in ids]:
                self.store.inbox.remove(received)
                received.acked(receipts.get(received.id, ""))

    def add(self, listener: events.Listener) -> None:
        kind = listener.WhichOneof("filter")
        twice = listener.id in self.cursors and not self.world.has("listener-twice-taken")
        few = self.world.has("few-listeners") and len(self.cursors) >= FEW
        if twice or few or not kind or not listener.id:
            if self.world.has("listener-ends-stream"):
                raise invalid("BAD_LISTENER", "a listener does not work")
            status = status_pb2.Status(code=3, message="a listener that cannot work")
            told = events.ListenerError(listener_id=listener.id, status=status)
            self.frames.append(events.StreamResponse(listener_error=told))
            return
        cursor = Cursor(listener)
        if kind != "destination" and not self.resume(cursor):
            return
        if self.world.has("listener-twice-taken"):
            self.cursors[f"{listener.id}/{next(self.world.numbers)}"] = cursor
        else:
            self.cursors[listener.id] = cursor

    def resume(self, cursor: Cursor) -> bool:
        listener = cursor.listener
        if listener.resume:
            if listener.resume.isdigit():
                cursor.at = int(listener.resume)
            elif not self.world.has("checkpoint-unchecked"):
                lost = events.CheckpointInvalid(listener_id=listener.id, reason="it is none")
                self.frames.append(events.StreamResponse(checkpoint_invalid=lost))
                return False
        elif listener.first_event == "newest" and not self.world.has("newest-is-oldest"):
            cursor.at = len(self.world.ledger)
        return True


def matches(listener: events.Listener, event: events.Event) -> bool:
    """Whether a ledger's event fits a listener."""
    body = event.WhichOneof("body")
    match listener.WhichOneof("filter"):
        case "multiparty":
            return body in ("batch_pin", "network_action")
        case "contract_events":
            return body == "contract_event"
        case "token_pool":
            wanted = listener.token_pool.pool_locator
            if body == "token_transfer":
                return event.token_transfer.pool_locator == wanted
            return body == "token_approval" and event.token_approval.pool_locator == wanted
        case _:
            return False
