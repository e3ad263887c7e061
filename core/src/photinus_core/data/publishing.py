"""Publishes data: copies a stored value, or a blob, to shared storage, where every member can read it.

A publication is a transaction of its own with one operation, stored before anything is sent. The leader
of the namespace carries it out, and any replica waits for that on behalf of its caller. Whatever ends in
between, a later leader finds the operation and goes on under its key.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

from photinus_core.data.service import DataService
from photinus_core.model.errors import Conflict, NotFound, Unavailable
from photinus_core.model.events import submitted
from photinus_core.model.ids import Uuid, new_uuid
from photinus_core.model.ledger import (
    Operation,
    OperationStatus,
    OperationType,
    Transaction,
    TransactionType,
)
from photinus_core.model.messages import Data
from photinus_core.model.names import check_idempotency_key
from photinus_core.operations.service import OperationService
from photinus_core.ports.connectors import CallKey, DataExchange, SharedStorage
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, OperationChange

CHUNK_BYTES: Final = 256 * 1024
"""Size in which a value is streamed to shared storage."""


class DataPublisher:
    """Publishes data of one multiparty namespace, on any replica.

    Args:
        scope: Where.
        data: Its data.
        operations: Has the operations carried out.
        plugin: Type of the shared storage, as operations name it.
    """

    def __init__(
        self, scope: Scope, data: DataService, operations: OperationService, plugin: str
    ) -> None:
        self._scope = scope
        self._data = data
        self._operations = operations
        self._plugin = plugin

    async def publish_value(self, data_id: Uuid, idempotency_key: str = "") -> Data:
        """Copies the value of a data item to shared storage; of one without a value the JSON `null`.

        Done again without a key it makes another transaction; the same content has the same reference.
        When the caller goes away before the end it is gone on with.

        Args:
            data_id: Which data item.
            idempotency_key: Chosen by the caller; repeated, it goes on with what has not begun.

        Returns:
            The data item with its reference.

        Raises:
            Rejected: FF00135 or FF19008, the key is too long, or no text.
            NotFound: FF10109, there is no such data item.
            Conflict: FF10431, the key is taken, and what it was used for has been sent.
            Unavailable: FF19018, shared storage is away: it is tried again; FF19019, it failed.
        """
        check_idempotency_key(idempotency_key)
        await self._data.get(data_id, "FF10109")
        kind = OperationType.SHAREDSTORAGE_UPLOAD_VALUE
        return await self._publish(data_id, kind, idempotency_key)

    async def publish_blob(self, data_id: Uuid, idempotency_key: str = "") -> Data:
        """Copies the blob of a data item to shared storage; as `publish_value`.

        Raises:
            NotFound: FF10109 there is no such data item, FF10241 it has no blob, FF10239 its blob is
                not here.
        """
        check_idempotency_key(idempotency_key)
        await self._data.get(data_id, "FF10109")
        await self._data.blob(data_id)
        kind = OperationType.SHAREDSTORAGE_UPLOAD_BLOB
        return await self._publish(data_id, kind, idempotency_key)

    async def _publish(self, data_id: Uuid, kind: OperationType, key: str) -> Data:
        scope, now = self._scope, self._scope.clock.now()
        transaction = Transaction(
            new_uuid(), scope.namespace, TransactionType.DATA_PUBLISH, now, key
        )
        operation = Operation(
            id=new_uuid(),
            namespace=scope.namespace,
            tx=transaction.id,
            type=kind,
            status=OperationStatus.INITIALIZED,
            plugin=self._plugin,
            input=json.dumps({"dataId": data_id}, separators=(",", ":")),
            created=now,
            updated=now,
        )
        stored = False

        async def store() -> None:
            nonlocal stored
            async with scope.store.write(scope.namespace) as tx:
                if key and (known := await tx.transaction_by_key(key)) is not None:
                    raise Conflict("FF10431", key, known.id)
                await tx.insert_transactions([transaction])
                await tx.insert_operations([operation])
                tx.append_events([submitted(transaction)])
            stored = True

        try:
            ended = await self._operations.start(operation, store)
        except Conflict as conflict:
            # Also FF19108: another replica stored the key between our look and our commit.
            if not key or stored:
                raise
            ended = await self._operations.resume(await self._begun(key, operation, conflict))
        if ended.status is OperationStatus.FAILED:
            raise Unavailable("FF19019", ended.id, ended.error)
        if ended.status is not OperationStatus.SUCCEEDED:
            raise Unavailable("FF19018", ended.id, ended.error)
        return await self._data.get(data_id)

    async def _begun(self, key: str, asked: Operation, conflict: Conflict) -> Operation:
        """The operation that an earlier request with the key stored and that was not sent yet.

        Raises:
            Conflict: FF10431, there is none.
        """
        async with self._scope.store.read(self._scope.namespace) as reader:
            known = await reader.transaction_by_key(key)
            if known is None:
                raise conflict
            operations = await reader.operations_of(known.id)
        for found in operations:
            is_same = (found.type, found.input) == (asked.type, asked.input)
            if is_same and found.retry is None and found.status is OperationStatus.INITIALIZED:
                return found
        raise Conflict("FF10431", key, known.id) from conflict


class DataUploads:
    """Carries out the operations of publications, on the leader of a namespace. Safe to repeat."""

    def __init__(
        self, scope: Scope, fence: Fence, exchange: DataExchange, storage: SharedStorage
    ) -> None:
        self._scope = scope
        self._fence = fence
        self._exchange = exchange
        self._storage = storage

    async def value(self, operation: Operation) -> OperationChange:
        """Copies a value.

        Raises:
            NotFound: FF10143, the data item was deleted.
        """
        data_id = _data_id(operation)
        async with self._scope.store.read(self._scope.namespace) as reader:
            item = (await reader.data([data_id])).get(data_id)
        if item is None:
            raise NotFound("FF10143")
        text = "null" if item.value is None else item.value
        ref = await self._upload(operation, _chunks(text.encode()))
        async with self._scope.store.write(self._scope.namespace, self._fence) as tx:
            await tx.set_value_public({data_id: ref})
        return self._done(operation, ref)

    async def blob(self, operation: Operation) -> OperationChange:
        """Copies a blob.

        Raises:
            NotFound: FF10239, it is not here (any more).
        """
        data_id = _data_id(operation)
        async with self._scope.store.read(self._scope.namespace) as reader:
            blob = (await reader.blobs([data_id])).get(data_id)
        if blob is None:
            raise NotFound("FF10239", data_id)
        ref = await self._upload(operation, self._exchange.download_blob(blob.payload_ref))
        async with self._scope.store.write(self._scope.namespace, self._fence) as tx:
            await tx.set_data_public({data_id: ref})
        return self._done(operation, ref)

    async def _upload(self, operation: Operation, chunks: AsyncIterator[bytes]) -> str:
        call = CallKey(operation.key, self._scope.namespace, self._fence.epoch)
        ref, _ = await self._storage.upload(call, chunks)
        return ref

    def _done(self, operation: Operation, ref: str) -> OperationChange:
        output = json.dumps({"payloadRef": ref}, separators=(",", ":"))
        now = self._scope.clock.now()
        return OperationChange(
            operation.id, OperationStatus.SUCCEEDED, now, output=output, error=""
        )


def _data_id(operation: Operation) -> Uuid:
    return Uuid(json.loads(operation.input)["dataId"])


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]
