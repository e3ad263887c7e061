"""Fetches what broadcasts left in shared storage: batches, then the blobs of their data.

The durable queue is the operations themselves: `sharedstorage_download_batch` and `_blob` rows that
are not final. Failures are retried for as long as it takes, with growing pauses; meanwhile the row
says what is wrong. Only content that can never become right (it is verified against its reference,
and is not what the pin says) ends as failed; an operator may have such an operation retried.

First attempts and retries have slots of their own, so that dead references, of which a hostile
member may pin many, do not keep living ones waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from photinus_core.events.intake import IntakeContext
from photinus_core.events.verification import verify_payload
from photinus_core.events.wakeups import WakeupKind, batch_wakeup, blob_wakeup
from photinus_core.model.errors import Deposed, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType
from photinus_core.model.messages import Batch, BatchType, Blob, Pin, Record
from photinus_core.model.wire import WireBatch, decode_batch
from photinus_core.ports import tracing
from photinus_core.ports.connectors import (
    CallKey,
    ConnectorFailure,
    DataExchange,
    SharedStorage,
)
from photinus_core.ports.store import OperationChange, Wakeup, WriteTransaction
from photinus_core.ports.tasks import Background, Backoff, Wake

log: Final = logging.getLogger(__name__)

DOWNLOADS: Final = (
    OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH,
    OperationType.SHAREDSTORAGE_DOWNLOAD_BLOB,
)
UNFINISHED_MAX: Final = 10_000
"""Most downloads under way or waiting for their next attempt; more stay in the database."""
ERRORS_MAX: Final = 1_000
"""Batches of which the last error is kept in memory."""


class BatchDownload(Record, frozen=True, rename="camel"):
    """Input of a `sharedstorage_download_batch` operation."""

    payload_ref: str
    batch: Uuid
    hash: Hash32


class BlobDownload(Record, frozen=True, rename="camel"):
    """Input of a `sharedstorage_download_blob` operation."""

    payload_ref: str
    data_id: Uuid
    hash: Hash32


class RefusedBatch(Record, frozen=True):
    """Key of a wake-up: this payload was read and can count for none of its pins."""

    batch: Uuid
    hash: Hash32
    payload_ref: str
    reason: str


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """How much is fetched at once, and how long one attempt may take.

    Attributes:
        fresh_slots: First attempts at a time.
        retry_slots: Later attempts at a time.
        batch_bytes_max: Largest batch that is read.
        batch_timeout_s: Time for one attempt at a batch.
        stall_timeout_s: Longest pause between two pieces of a blob.
        first_pause_s: Pause after the first failure; doubles each time.
        pause_max_s: Longest pause.
        poll_s: How often the queue is looked at without being told to.
    """

    fresh_slots: int = 8
    retry_slots: int = 4
    batch_bytes_max: int = 8 * 1024 * 1024
    batch_timeout_s: float = 60.0
    stall_timeout_s: float = 60.0
    first_pause_s: float = 0.1
    pause_max_s: float = 60.0
    poll_s: float = 30.0


def batch_download(namespace: Namespace, plugin: str, pin: Pin, transaction: Uuid) -> Operation:
    """Makes the operation that fetches the batch of a pin."""
    inputs = BatchDownload(pin.payload_ref, pin.batch, pin.batch_hash)
    kind = OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH
    return _operation(namespace, plugin, transaction, kind, inputs, pin.created)


def _operation(
    namespace: Namespace,
    plugin: str,
    transaction: Uuid,
    kind: OperationType,
    inputs: BatchDownload | BlobDownload,
    now: Nanoseconds,
) -> Operation:
    return Operation(
        id=new_uuid(),
        namespace=namespace,
        tx=transaction,
        type=kind,
        status=OperationStatus.INITIALIZED,
        plugin=plugin,
        input=msgspec.json.encode(inputs).decode(),
        created=now,
        updated=now,
    )


class Downloads:
    """The downloads of one namespace, on its leader."""

    def __init__(
        self,
        context: IntakeContext,
        shared_storage: SharedStorage,
        exchange: DataExchange,
        limits: DownloadLimits | None = None,
    ) -> None:
        self._context = context
        self._shared_storage = shared_storage
        self._exchange = exchange
        self._limits = limits or DownloadLimits()
        self._fresh = asyncio.Semaphore(self._limits.fresh_slots)
        self._retries = asyncio.Semaphore(self._limits.retry_slots)
        self._wake = Wake()
        self._running: set[Uuid] = set()
        self._errors: dict[Uuid, str] = {}
        self._new: deque[Operation] = deque()
        self._overflow = True
        """Whether the database may hold unfinished downloads that are not in memory."""

    async def run(self) -> None:
        """Works through the queue until cancelled.

        Raises:
            Deposed: this replica leads no more.
        """
        try:
            async with Background(f"{self._context.namespace}/downloads") as work:
                look_at = 0.0
                while True:
                    now = self._context.clock.monotonic_s()
                    # Also without reason: a commit whose answer was lost has queued nothing.
                    if self._overflow or now >= look_at:
                        look_at = now + self._limits.poll_s
                        if len(self._running) < UNFINISHED_MAX // 2:
                            self.queued(await self._unfinished())
                    while self._new:
                        operation = self._new.popleft()
                        if operation.id not in self._running:
                            self._begin(work, operation)
                    await self._wake.wait(self._limits.poll_s)
        except* Deposed as deposed:
            raise deposed.exceptions[0] from None
        finally:
            self._running.clear()

    def _begin(self, work: Background, operation: Operation) -> None:
        self._running.add(operation.id)
        task = work.start(operation.id, self._carry_out(operation))
        # Not before the task is over: a page read meanwhile may name the operation again.
        task.add_done_callback(lambda _: self._running.discard(operation.id))

    def queued(self, operations: Sequence[Operation]) -> None:
        """Takes on operations that have just been stored. Returns at once."""
        if len(self._running) + len(self._new) + len(operations) > UNFINISHED_MAX:
            self._overflow = True
            return
        self._new.extend(operations)
        if operations:
            self._wake.set()

    def error_of(self, batch: Uuid) -> str:
        """Why a batch could not be fetched so far; empty when nothing went wrong."""
        return self._errors.get(batch, "")

    async def rerun(self, operation: Operation) -> OperationChange:
        """Takes on an operation that an operator wants tried again; its end comes later."""
        self.queued([operation])
        return OperationChange(operation.id, OperationStatus.PENDING, self._context.clock.now())

    async def _unfinished(self) -> list[Operation]:
        limit, under_way = UNFINISHED_MAX // 2, set(self._running)
        async with self._context.store.read(self._context.namespace) as reader:
            found = await reader.unfinished_operations(DOWNLOADS, limit)
        self._overflow = len(found) >= limit
        # One that ended while this was read is no longer under way, but may be in the page.
        return [operation for operation in found if operation.id not in under_way]

    async def _carry_out(self, operation: Operation) -> None:
        pauses = Backoff(self._limits.first_pause_s, self._limits.pause_max_s)
        slots, noted = self._fresh, ""
        while True:
            try:
                async with slots:
                    await self._attempt(operation)
                return
            except Rejected as refusal:
                await self._refuse(operation, refusal)
                return
            except Deposed:
                raise
            except (ConnectorFailure, PhotinusError, TimeoutError) as failure:
                noted = await self._note(operation, failure, noted)
            except Exception as failure:
                # Ours, and only this download's: the others go on.
                log.exception("download %s", operation.id)
                noted = await self._note(operation, failure, noted)
            slots = self._retries
            await asyncio.sleep(pauses.next_s())

    async def _attempt(self, operation: Operation) -> None:
        if operation.type is OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH:
            wanted = msgspec.json.decode(operation.input, type=BatchDownload)
            with tracing.tracer().span("fetch batch", batch=wanted.batch):
                payload = await self._read_batch(wanted)
            await self._store_batch(operation, wanted, payload)
            self._errors.pop(wanted.batch, None)
        else:
            blob = msgspec.json.decode(operation.input, type=BlobDownload)
            await self._fetch_blob(operation, blob)

    # Batches

    async def _read_batch(self, wanted: BatchDownload) -> bytes:
        limit, pieces, size = self._limits.batch_bytes_max, [], 0
        async with asyncio.timeout(self._limits.batch_timeout_s):
            async for piece in self._shared_storage.download(wanted.payload_ref, limit + 1):
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise Rejected("FF10377", wanted.payload_ref)
        return b"".join(pieces)

    async def _store_batch(
        self, operation: Operation, wanted: BatchDownload, payload: bytes
    ) -> None:
        context = self._context
        wire = self._decode(wanted, payload)
        batch = _as_pinned(wire, wanted.payload_ref)
        blobs: list[Operation] = []
        async with context.store.write(context.namespace, context.fence) as tx:
            stored = await self._place(tx, batch, wire)
            if stored:
                blobs = await self._queue_blobs(tx, operation, wire)
            output = f'{{"stored":{str(stored).lower()}}}'
            done = OperationChange(
                operation.id, OperationStatus.SUCCEEDED, context.clock.now(), output=output
            )
            await tx.change_operations([done])
        self.queued(blobs)

    def _decode(self, wanted: BatchDownload, payload: bytes) -> WireBatch:
        """Reads and verifies a payload; whatever that does is its author's fault."""
        try:
            wire = decode_batch(payload, self._context.namespace)
            if (wire.batch.id, wire.batch.hash) != (wanted.batch, wanted.hash):
                raise Rejected("FF19401", wanted.batch, "another batch is stored there")
            verify_payload(wire)
        except PhotinusError:
            raise
        except Exception as failure:
            raise Rejected("FF19400", type(failure).__name__) from failure
        return wire

    async def _place(self, tx: WriteTransaction, batch: Batch, wire: WireBatch) -> bool:
        """Stores a batch if its content may stand for its pins.

        Data items' datatypes are not hashed, so which copy of a batch counts must not depend on
        which arrived first: it is the one named by the lowest pin of the batch's own key.
        """
        pins = [
            pin
            for pin in await tx.pins_of_batches([batch.id])
            if pin.batch_hash == batch.hash and not pin.masked
        ]
        own = [pin for pin in pins if batch.key in {"", pin.signer}]
        if all(pin.payload_ref != batch.payload_ref for pin in own):
            reason = "pinned by another key than that of its messages"
            refused = RefusedBatch(batch.id, batch.hash, batch.payload_ref, reason)
            key = msgspec.json.encode(refused).decode()
            await tx.insert_wakeups([Wakeup(WakeupKind.REFUSED_BATCH, key)])
            return False
        if min(own, key=lambda pin: pin.position).payload_ref != batch.payload_ref:
            return False
        await tx.insert_received(batch, wire.messages, wire.data)
        await tx.insert_wakeups([batch_wakeup(batch.id, batch.hash)])
        return True

    async def _queue_blobs(
        self, tx: WriteTransaction, operation: Operation, wire: WireBatch
    ) -> list[Operation]:
        wanted = {
            (item.id, item.blob.hash): item.blob.public
            for item in wire.data
            if item.blob is not None and item.blob.public
        }
        if not wanted:
            return []
        here = await tx.received_blobs(list(wanted))
        now, kind = self._context.clock.now(), OperationType.SHAREDSTORAGE_DOWNLOAD_BLOB
        missing = [
            _operation(
                operation.namespace,
                operation.plugin,
                operation.tx,
                kind,
                BlobDownload(public, data_id, blob_hash),
                now,
            )
            for (data_id, blob_hash), public in wanted.items()
            if (data_id, blob_hash) not in here
        ]
        if missing:
            await tx.insert_operations(missing)
        return missing

    # Blobs

    async def _fetch_blob(self, operation: Operation, wanted: BlobDownload) -> None:
        context = self._context
        async with context.store.read(context.namespace) as reader:
            known = await reader.received_blobs([(wanted.data_id, wanted.hash)])
        fetched = [] if known else [await self._copy_blob(operation, wanted)]
        async with context.store.write(context.namespace, context.fence) as tx:
            if fetched:
                await tx.insert_blobs(fetched)
            await tx.insert_wakeups([blob_wakeup(wanted.data_id, wanted.hash)])
            done = OperationChange(operation.id, OperationStatus.SUCCEEDED, context.clock.now())
            await tx.change_operations([done])

    async def _copy_blob(self, operation: Operation, wanted: BlobDownload) -> Blob:
        """Streams a blob from shared storage into the data exchange, and checks what arrived."""
        context = self._context
        call = CallKey(operation.key, context.namespace, context.fence.epoch)
        # Named by id and hash: another data item under the same id must not take its place.
        name = _content_id(wanted.data_id, wanted.hash)
        ref, found, size = await self._exchange.upload_blob(call, name, self._pieces(wanted))
        if found != wanted.hash:
            undo = CallKey(f"{operation.key}:undo", context.namespace, context.fence.epoch)
            await self._exchange.delete_blob(undo, ref)
            raise Rejected("FF10348", wanted.hash, found)
        now = context.clock.now()
        return Blob(context.namespace, wanted.data_id, wanted.hash, ref, size, now)

    async def _pieces(self, wanted: BlobDownload) -> AsyncIterator[bytes]:
        """Streams a blob from shared storage; never more than a piece is held."""
        source = aiter(self._shared_storage.download(wanted.payload_ref))
        while True:
            try:
                async with asyncio.timeout(self._limits.stall_timeout_s):
                    piece = await anext(source)
            except StopAsyncIteration:
                return
            yield piece

    # Failures

    async def _note(self, operation: Operation, failure: Exception, noted: str) -> str:
        """Shows in the operation why it has not succeeded yet; written only when that changes."""
        text = str(failure) or type(failure).__name__
        self._remember(operation, text)
        if text == noted:
            return noted
        log.info("%s: download %s failed, will retry: %s", operation.namespace, operation.id, text)
        context = self._context
        try:
            async with context.store.write(context.namespace, context.fence) as tx:
                change = OperationChange(
                    operation.id, OperationStatus.PENDING, context.clock.now(), error=text
                )
                await tx.change_operations([change])
        except Unavailable:
            return noted
        return text

    async def _refuse(self, operation: Operation, refusal: Rejected) -> None:
        context = self._context
        self._remember(operation, str(refusal))
        context.refuse("download", operation.id, refusal)
        async with context.store.write(context.namespace, context.fence) as tx:
            change = OperationChange(
                operation.id, OperationStatus.FAILED, context.clock.now(), error=str(refusal)
            )
            await tx.change_operations([change])

    def _remember(self, operation: Operation, text: str) -> None:
        if operation.type is OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH:
            wanted = msgspec.json.decode(operation.input, type=BatchDownload)
            if len(self._errors) >= ERRORS_MAX:
                self._errors.clear()
            self._errors[wanted.batch] = text


def _as_pinned(wire: WireBatch, payload_ref: str) -> Batch:
    """The batch as the chain and its hashed content describe it; its header proves nothing."""
    head = wire.messages[0].header if wire.messages else None
    return msgspec.structs.replace(
        wire.batch,
        type=BatchType.BROADCAST,
        author=head.author if head else "",
        key=head.key if head else "",
        group=None,
        payload_ref=payload_ref,
    )


def _content_id(data_id: Uuid, blob_hash: Hash32) -> Uuid:
    digest = sha256(f"{data_id}/{blob_hash}".encode()).hexdigest()
    return Uuid(f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}")
