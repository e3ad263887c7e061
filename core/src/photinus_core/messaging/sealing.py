"""Seals a batch: one transaction that fixes everything a crash must not change.

After it the batch has its id, manifest, hash, contexts or nonces, and the operations (with their
keys) that will send and pin it. A crash at any later point resumes these very operations; nothing
is ever sealed twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model import canonical
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.events import submitted
from photinus_core.model.ids import Hash32, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import (
    Operation,
    OperationStatus,
    OperationType,
    Transaction,
    TransactionType,
)
from photinus_core.model.messages import (
    Batch,
    BatchType,
    Data,
    DataRef,
    Group,
    Message,
    TransactionRef,
)
from photinus_core.model.wire import WireBatch, batch_manifest
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, WriteTransaction
from photinus_core.sequencing.nonces import Pinned, nonce_keys, seal_pins


@dataclass(frozen=True, slots=True)
class Plugins:
    """Types of the namespace's plugins, as operations name them."""

    blockchain: str
    data_exchange: str
    shared_storage: str


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch that is ready to be sent, or sent again after a crash.

    Attributes:
        wire: The batch with its messages and data.
        contexts: What goes on chain; empty for unpinned batches.
        operations: Its operations, in the order in which they were made.
        group: The group of a private batch.
    """

    wire: WireBatch
    contexts: tuple[Hash32, ...]
    operations: tuple[Operation, ...]
    group: Group | None

    @property
    def id(self) -> Uuid:
        """Id of the batch."""
        return self.wire.batch.id

    @property
    def is_pinned(self) -> bool:
        """Whether it goes on chain."""
        return self.wire.batch.tx.type is not TransactionType.UNPINNED

    def of_type(self, kind: OperationType) -> list[Operation]:
        """Operations of one type, the ones a retry replaced left out."""
        return [o for o in self.operations if o.type is kind and o.retry is None]


class BatchSealer:
    """Seals and reloads the batches of one namespace."""

    def __init__(
        self,
        scope: Scope,
        identities: IdentityResolver,
        plugins: Plugins,
        node_name: str,
    ) -> None:
        self._store = scope.store
        self._namespace = scope.namespace
        self._network_name = scope.network_name
        self._clock = scope.clock
        self._identities = identities
        self._plugins = plugins
        self._node_name = node_name

    async def seal(self, message_ids: Sequence[Uuid], fence: Fence) -> SealedBatch:
        """Makes a batch of ready messages of one author, key, type and group, in the order given.

        Idempotent: when an earlier try was committed though its answer was lost, its batch is the
        answer.

        Raises:
            Deposed: this replica leads no more; nothing was written.
        """
        node = await self._own_node()
        async with self._store.write(self._namespace, fence) as tx:
            found = await tx.messages(message_ids)
            messages = [found[i] for i in message_ids]
            before = messages[0].batch
            assert all(m.batch == before for m in messages), "a message is to be sealed twice"
            if before is None:
                data = await _load_data(tx, messages)
                sealed, nonces = await self._make(tx, messages, data, node)
                pins = {m.header.id: m.pins for m in sealed.wire.messages}
                await tx.seal_batch(sealed.wire.batch, [(i, pins[i]) for i in message_ids], nonces)
                transaction = self._transaction(sealed.wire.batch)
                await tx.insert_transactions([transaction])
                await tx.insert_operations(sealed.operations)
                tx.append_events([submitted(transaction)])
                return sealed
            batches = await tx.batches([before])
        return await self.reload(batches[before])

    async def reload(self, batch: Batch) -> SealedBatch:
        """Reads a sealed batch back, to resume it.

        Raises:
            NotFound: FF19021, its data were deleted, as they may be once it is decided.
        """
        async with self._store.read(self._namespace) as reader:
            messages = await reader.batch_messages(batch.id)
            refs = list(dict.fromkeys(r.id for m in messages for r in m.data))
            rows = await reader.data(refs)
            if missing := [ref for ref in refs if ref not in rows]:
                raise NotFound("FF19021", missing[0], batch.id)
            operations = await reader.operations_of(batch.tx.id)
            groups = {} if batch.group is None else await reader.groups([batch.group])
        group = None if batch.group is None else groups[batch.group]
        contexts: tuple[Hash32, ...] = ()
        if batch.tx.type is not TransactionType.UNPINNED:
            asked = [
                Pinned(m.header.topics, m.header.group, m.header.author, m.pins) for m in messages
            ]
            contexts = tuple(map(Hash32, seal_pins(asked, {}).contexts))
        wire = WireBatch(batch, tuple(messages), tuple(rows[r] for r in refs), self._network_name)
        return SealedBatch(wire, contexts, tuple(operations), group)

    async def of_transaction(self, transaction: Uuid) -> SealedBatch:
        """Reloads the own batch of a transaction.

        Raises:
            NotFound: FF10109, there is none.
        """
        async with self._store.read(self._namespace) as reader:
            batches = [b for b in await reader.batches_of(transaction) if b.seal_order >= 0]
        if not batches:
            raise NotFound("FF10109")
        return await self.reload(batches[0])

    async def _make(
        self, tx: WriteTransaction, messages: list[Message], data: list[Data], node: Uuid | None
    ) -> tuple[SealedBatch, Mapping[Hash32, int]]:
        head = messages[0].header
        group = None if head.group is None else (await tx.groups([head.group]))[head.group]
        contexts: tuple[Hash32, ...] = ()
        nonces: Mapping[Hash32, int] = {}
        if head.txtype is not TransactionType.UNPINNED:
            asked = [
                Pinned(m.header.topics, m.header.group, m.header.author, m.pins) for m in messages
            ]
            keys = nonce_keys(asked)
            masked = seal_pins(asked, await tx.nonces(keys) if keys else {})
            contexts = tuple(map(Hash32, masked.contexts))
            nonces = masked.nonces
            messages = [
                msgspec.structs.replace(m, pins=pins) if pins else m
                for m, pins in zip(messages, masked.pins, strict=True)
            ]
        ref = TransactionRef(head.txtype, messages[0].txid or new_uuid())
        batch_id, refs = new_uuid(), [DataRef(d.id, d.hash) for d in data]
        manifest = batch_manifest(batch_id, ref, messages, refs)
        batch = Batch(
            id=batch_id,
            type=BatchType.BROADCAST if group is None else BatchType.PRIVATE,
            namespace=self._namespace,
            author=head.author,
            key=head.key,
            created=self._clock.now(),
            hash=canonical.batch_hash(manifest),
            manifest=manifest,
            tx=ref,
            node=node,
            group=head.group,
            dispatched=False,
        )
        wire = WireBatch(batch, tuple(messages), tuple(data), self._network_name)
        operations = await self._operations(batch, data, contexts, group)
        return SealedBatch(wire, contexts, operations, group), nonces

    async def _operations(
        self, batch: Batch, data: Sequence[Data], contexts: tuple[Hash32, ...], group: Group | None
    ) -> tuple[Operation, ...]:
        now, plugins, made = batch.created, self._plugins, list[Operation]()

        def add(kind: OperationType, plugin: str, **inputs: object) -> None:
            made.append(self._operation(batch.tx.id, kind, plugin, inputs, now))

        if group is None:
            for item in data:
                if item.blob is not None and not item.blob.public:
                    add(
                        OperationType.SHAREDSTORAGE_UPLOAD_BLOB,
                        plugins.shared_storage,
                        dataId=item.id,
                    )
            add(OperationType.SHAREDSTORAGE_UPLOAD_BATCH, plugins.shared_storage, id=batch.id)
        else:
            blobs = [d for d in data if d.blob is not None]
            for node in dict.fromkeys(m.node for m in group.members):
                if node == batch.node:
                    continue
                for item in blobs:
                    blob_hash = item.blob.hash if item.blob else ""
                    add(
                        OperationType.DATAEXCHANGE_SEND_BLOB,
                        plugins.data_exchange,
                        node=node,
                        hash=blob_hash,
                        dataId=item.id,
                    )
                add(
                    OperationType.DATAEXCHANGE_SEND_BATCH,
                    plugins.data_exchange,
                    node=node,
                    group=group.hash,
                    batch=batch.id,
                )
        if contexts:
            add(
                OperationType.BLOCKCHAIN_PIN_BATCH,
                plugins.blockchain,
                batch=batch.id,
                contexts=contexts,
            )
        return tuple(made)

    def _operation(
        self,
        tx: Uuid,
        kind: OperationType,
        plugin: str,
        inputs: dict[str, object],
        now: Nanoseconds,
    ) -> Operation:
        return Operation(
            id=new_uuid(),
            namespace=self._namespace,
            tx=tx,
            type=kind,
            status=OperationStatus.INITIALIZED,
            plugin=plugin,
            input=json.dumps(inputs, separators=(",", ":")),
            created=now,
            updated=now,
        )

    def _transaction(self, batch: Batch) -> Transaction:
        return Transaction(
            id=batch.tx.id, namespace=self._namespace, type=batch.tx.type, created=batch.created
        )

    async def _own_node(self) -> Uuid | None:
        """Our node; None before it is registered: its owner's claim must be able to go first."""
        try:
            return (await self._identities.node(self._node_name)).id
        except Rejected:
            return None


async def _load_data(tx: WriteTransaction, messages: Sequence[Message]) -> list[Data]:
    refs = list(dict.fromkeys(r.id for m in messages for r in m.data))
    rows = await tx.data(refs)
    return [rows[r] for r in refs]
