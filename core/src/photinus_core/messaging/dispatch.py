"""Sends sealed batches.

Broadcast through shared storage, private through the data exchange, then the pin.

Each method is one attempt of one step; `assembly` paces them. Every step has an operation whose key
the connector remembers, so any of them can be repeated, also after a crash.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from photinus_core.identity.resolution import IdentityResolver
from photinus_core.messaging.sealing import SealedBatch
from photinus_core.model.errors import InternalBug, Unavailable
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Uuid, new_uuid, seconds_between
from photinus_core.model.ledger import (
    NetworkContract,
    Operation,
    OperationStatus,
    OperationType,
    ReceivedBatchKey,
)
from photinus_core.model.messages import Data, MessageState
from photinus_core.model.wire import encode_batch, encode_wrapper
from photinus_core.ports.connectors import (
    OPERATION_STATUS,
    BatchPinInput,
    Blockchain,
    CallKey,
    DataExchange,
    SharedStorage,
    Submission,
    WorkState,
)
from photinus_core.ports.meter import Decided
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, OperationChange, WriteTransaction

CHUNK_BYTES: Final = 256 * 1024
"""Size in which a batch's JSON is streamed to shared storage."""


@dataclass(frozen=True, slots=True)
class Connectors:
    """The connectors a multiparty namespace sends through."""

    blockchain: Blockchain
    data_exchange: DataExchange
    shared_storage: SharedStorage


@dataclass(slots=True)
class Journey:
    """A batch on its way: what the steps so far have given, to be stored at the end.

    Attributes:
        sealed: The batch; publishing its blobs replaces it.
        payload_ref: Where shared storage has it.
        changes: New statuses of its operations, by operation.
        published: Where shared storage has its blobs, by data item.
        is_pinned: A stored pin names the batch: its pin is not sent again.
        trying: The operation that was begun last.
        told: The error that `trying` shows to users.
    """

    sealed: SealedBatch
    payload_ref: str = ""
    changes: dict[Uuid, OperationChange] = field(default_factory=dict)
    published: dict[Uuid, str] = field(default_factory=dict)
    is_pinned: bool = False
    trying: Uuid | None = None
    told: str = ""

    @property
    def lacks_pin(self) -> bool:
        """Whether its pin operation was replaced by one that is not sent yet."""
        pins = self.sealed.of_type(OperationType.BLOCKCHAIN_PIN_BATCH)
        return not self.is_pinned and any(
            o.status is OperationStatus.INITIALIZED and o.id not in self.changes for o in pins
        )


class PinWithdrawnError(Exception):
    """A batch's pin was withdrawn: its cancellation began, and a crash kept it from its end."""


class BatchDispatcher:
    """Sends the batches of one namespace, on its leader."""

    def __init__(
        self,
        scope: Scope,
        connectors: Connectors,
        identities: IdentityResolver,
        active_contract: Callable[[], Awaitable[NetworkContract]],
        fence: Fence,
    ) -> None:
        self._store = scope.store
        self._namespace = scope.namespace
        self._network_name = scope.network_name
        self._clock = scope.clock
        self._meter = scope.meter
        self._connectors = connectors
        self._identities = identities
        self._active_contract = active_contract
        self._fence = fence

    async def prepare(self, journey: Journey) -> None:
        """Brings payload and blobs to where receivers find them.

        Shared storage, or the data exchange's outbox.
        """
        if journey.sealed.group is None:
            await self._publish_blobs(journey)
            await self._upload(journey)
        else:
            await self._send_private(journey)

    async def send_pin(self, journey: Journey) -> None:
        """Hands the pin to the ledger's connector; nothing to do for a batch without pin.

        Raises:
            PinWithdrawnError: the batch is to be cancelled.
        """
        sealed = journey.sealed
        if not sealed.contexts or journey.is_pinned:
            return
        operation = sealed.of_type(OperationType.BLOCKCHAIN_PIN_BATCH)[-1]
        if operation.status is OperationStatus.SUCCEEDED:
            return
        journey.trying = operation.id
        submission = await self.submit_pin(operation, sealed, journey.payload_ref)
        if submission.state is WorkState.CANCELLED:
            raise PinWithdrawnError
        self._submitted(journey, operation, submission)

    async def withdraw_pin(self, operation: Operation) -> WorkState:
        """Has the ledger's connector never send a pin, unless it was sent; says how it stands."""
        return await self._connectors.blockchain.withdraw(self._call(operation))

    async def record_failure(self, journey: Journey, error: str) -> None:
        """Shows users how far the operations are, and why the one that was begun last is not.

        It stays initialized, as it will be tried again. The same error is written once.
        """
        if journey.trying is None or journey.trying in journey.changes or journey.told == error:
            return
        now = self._clock.now()
        failing = OperationChange(journey.trying, OperationStatus.INITIALIZED, now, error=error)
        async with self._store.write(self._namespace, self._fence) as tx:
            await tx.change_operations([*journey.changes.values(), failing])
        journey.told = error

    async def finish(self, journey: Journey) -> None:
        """Records what was sent.

        Operations, batch, messages; unpinned messages are confirmed with it.
        """
        sealed, now = journey.sealed, self._clock.now()
        batch = sealed.wire.batch
        state = MessageState.SENT if sealed.is_pinned else MessageState.CONFIRMED
        async with self._store.write(self._namespace, self._fence) as tx:
            if journey.changes:
                await tx.change_operations(list(journey.changes.values()))
            if journey.payload_ref:
                await tx.set_batch_payload_ref(batch.id, journey.payload_ref)
            moved = set(await tx.finish_batch(batch.id, state, now))
            if not sealed.is_pinned:
                await tx.confirm_batches([ReceivedBatchKey(batch.id, batch.hash)], now)
                self._confirm(tx, sealed, moved)
        if not sealed.is_pinned:
            self._meter.decided(
                [
                    Decided(m.header.type, True, seconds_between(m.header.created, now))
                    for m in sealed.wire.messages
                    if m.header.id in moved
                ]
            )

    def _confirm(self, tx: WriteTransaction, sealed: SealedBatch, moved: set[Uuid]) -> None:
        now = self._clock.now()
        tx.append_events(
            [
                NewEvent(
                    id=new_uuid(),
                    type=EventType.MESSAGE_CONFIRMED,
                    namespace=self._namespace,
                    reference=m.header.id,
                    created=now,
                    correlator=m.header.cid,
                    tx=sealed.wire.batch.tx.id,
                    topic=topic,
                )
                for m in sealed.wire.messages
                if m.header.id in moved
                for topic in m.header.topics
            ]
        )

    async def _publish_blobs(self, journey: Journey) -> None:
        """Copies blobs from the data exchange to shared storage.

        The batch then says where they are.
        """
        sealed = journey.sealed
        public = journey.published
        for operation in sealed.of_type(OperationType.SHAREDSTORAGE_UPLOAD_BLOB):
            data_id = Uuid(json.loads(operation.input)["dataId"])
            if data_id not in public:
                journey.trying = operation.id
                public[data_id] = await self.upload_blob(operation, data_id)
                journey.changes[operation.id] = self.published(operation, public[data_id])
        if not public:
            return
        async with self._store.write(self._namespace, self._fence) as tx:
            await tx.set_data_public(public)
        data = tuple(_published(d, public.get(d.id)) for d in sealed.wire.data)
        journey.sealed = SealedBatch(
            msgspec.structs.replace(sealed.wire, data=data),
            sealed.contexts,
            sealed.operations,
            sealed.group,
        )

    async def upload_blob(self, operation: Operation, data_id: Uuid) -> str:
        """Copies one blob to shared storage; gives its reference."""
        async with self._store.read(self._namespace) as reader:
            blob = (await reader.blobs([data_id])).get(data_id)
        if blob is None:
            raise Unavailable("FF10239", data_id)
        source = self._connectors.data_exchange.download_blob(blob.payload_ref)
        ref, _ = await self._connectors.shared_storage.upload(self._call(operation), source)
        return ref

    async def _upload(self, journey: Journey) -> None:
        (operation,) = journey.sealed.of_type(OperationType.SHAREDSTORAGE_UPLOAD_BATCH)
        journey.trying = operation.id
        journey.payload_ref = await self.upload_batch(operation, journey.sealed)
        journey.changes[operation.id] = self.published(operation, journey.payload_ref)

    async def upload_batch(self, operation: Operation, sealed: SealedBatch) -> str:
        """Stores a broadcast batch in shared storage; gives its reference."""
        payload = encode_batch(sealed.wire).encode()
        ref, _ = await self._connectors.shared_storage.upload(
            self._call(operation), _chunks(payload)
        )
        return ref

    async def _send_private(self, journey: Journey) -> None:
        """Hands blobs and batch to the data exchange, per node.

        It keeps them until each peer has them.
        """
        sealed = journey.sealed
        for operation in sealed.of_type(OperationType.DATAEXCHANGE_SEND_BLOB):
            if operation.id not in journey.changes:
                journey.trying = operation.id
                inputs = json.loads(operation.input)
                self._submitted(
                    journey,
                    operation,
                    await self.send_blob(operation, sealed, inputs["node"], inputs["dataId"]),
                )
        for operation in sealed.of_type(OperationType.DATAEXCHANGE_SEND_BATCH):
            if operation.id not in journey.changes:
                journey.trying = operation.id
                node = json.loads(operation.input)["node"]
                self._submitted(journey, operation, await self.send_batch(operation, sealed, node))

    async def send_blob(
        self, operation: Operation, sealed: SealedBatch, node: Uuid, data_id: Uuid
    ) -> Submission:
        """Hands one blob to the data exchange for one node."""
        peer, own = await self._peer(node), await self._own_peer(sealed)
        async with self._store.read(self._namespace) as reader:
            blob = (await reader.blobs([data_id])).get(data_id)
        if blob is None:
            raise Unavailable("FF10239", data_id)
        return await self._connectors.data_exchange.send_blob(
            self._call(operation), peer, own, self._network_name, data_id, blob.payload_ref
        )

    async def send_batch(self, operation: Operation, sealed: SealedBatch, node: Uuid) -> Submission:
        """Hands a private batch to the data exchange for one node.

        The group travels with unpinned ones.
        """
        peer, own = await self._peer(node), await self._own_peer(sealed)
        wrapper = encode_wrapper(sealed.wire, None if sealed.is_pinned else sealed.group)
        return await self._connectors.data_exchange.send_message(
            self._call(operation), peer, own, wrapper
        )

    async def submit_pin(
        self, operation: Operation, sealed: SealedBatch, payload_ref: str
    ) -> Submission:
        """Hands one pin to the ledger's connector."""
        batch = sealed.wire.batch
        pin = BatchPinInput(batch.tx.id, batch.id, batch.hash, payload_ref, sealed.contexts)
        submission = await self._connectors.blockchain.submit_batch_pin(
            self._call(operation),
            self._network_name,
            batch.key,
            pin,
            # Read now, after the operation was chosen: one that was renewed goes nowhere older.
            (await self._active_contract()).location,
        )
        self._meter.pinned()
        return submission

    def published(self, operation: Operation, payload_ref: str) -> OperationChange:
        """The end of an upload."""
        output = json.dumps({"payloadRef": payload_ref}, separators=(",", ":"))
        return OperationChange(
            operation.id, OperationStatus.SUCCEEDED, self._clock.now(), output=output, error=""
        )

    def submitted(self, operation: Operation, submission: Submission) -> OperationChange:
        """How an operation stands once a connector has taken it over."""
        status = OPERATION_STATUS[submission.state]
        return OperationChange(
            operation.id, status, self._clock.now(), output=submission.output or None, error=""
        )

    def _submitted(self, journey: Journey, operation: Operation, submission: Submission) -> None:
        journey.changes[operation.id] = self.submitted(operation, submission)

    async def _own_peer(self, sealed: SealedBatch) -> str:
        node = sealed.wire.batch.node
        if node is None:
            raise InternalBug("FF19000", "an own batch does not name its node")
        return await self._peer(node)

    async def _peer(self, node: Uuid) -> str:
        peer = await self._identities.peer_of_node(node)
        if peer is None:
            raise Unavailable("FF10224", node)
        return peer

    def _call(self, operation: Operation) -> CallKey:
        return CallKey(operation.key, self._namespace, self._fence.epoch)


def _published(item: Data, public: str | None) -> Data:
    if public is None or item.blob is None:
        return item
    return msgspec.structs.replace(item, blob=msgspec.structs.replace(item.blob, public=public))


async def _chunks(payload: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(payload), CHUNK_BYTES):
        yield payload[start : start + CHUNK_BYTES]
