"""Operations and transactions as users see them: look-ups, trying again, roll-up status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final

import msgspec

from photinus_core.model.errors import Deposed, NotFound, Rejected
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import (
    FINAL_STATUSES,
    BlockchainEvent,
    Operation,
    OperationStatus,
    OperationType,
    Transaction,
    TransactionType,
)
from photinus_core.model.messages import Batch
from photinus_core.operations.submission import Submissions
from photinus_core.ports.clock import Clock
from photinus_core.ports.store import Store

LEADER_WAIT_S: Final = 10.0
"""How long a retry waits for the leader on another replica."""
LOOK_S: Final = 1.0
"""How often it looks without a notification."""


class StatusDetail(msgspec.Struct, frozen=True):
    """One line of a transaction's roll-up status."""

    type: str
    """Operation, BlockchainEvent, Batch, TokenPool, TokenTransfer or TokenApproval."""
    subtype: str
    status: OperationStatus
    timestamp: Nanoseconds | None
    id: Uuid | None
    error: str = ""
    info: str = ""
    """JSON object text; empty for none."""


class TransactionStatus(msgspec.Struct, frozen=True):
    """Roll-up status of a transaction."""

    status: OperationStatus
    details: tuple[StatusDetail, ...]


_EVENT, _BATCH = "BlockchainEvent", "Batch"
_NEEDED: Final = {
    TransactionType.UNPINNED: (_BATCH,),
    TransactionType.BATCH_PIN: (_EVENT, _BATCH),
    TransactionType.CONTRACT_INVOKE_PIN: (_EVENT, _BATCH),
    TransactionType.TOKEN_POOL: ("TokenPool",),
    TransactionType.TOKEN_TRANSFER: (_EVENT, "TokenTransfer"),
    TransactionType.TOKEN_APPROVAL: (_EVENT, "TokenApproval"),
}
"""What a transaction has come to when it is done, beside its operations."""


class OperationService:
    """Operations of one namespace."""

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        clock: Clock,
        repeatable: Collection[OperationType] = (),
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._repeatable = frozenset(repeatable)
        self._submissions: Submissions | None = None

    def lead(self, submissions: Submissions | None) -> None:
        """This replica carries operations out from now on; None: another one does."""
        self._submissions = submissions

    async def start(self, operation: Operation, store: Callable[[], Awaitable[None]]) -> Operation:
        """Has a new operation carried out, by the leader, and waits for its end.

        The leader goes on with it when the caller goes away, and a later one when this one ends.

        Args:
            operation: Not stored yet.
            store: Stores it, in whatever transaction it belongs to; what it raises is raised.

        Returns:
            The operation as it stands: final, or put off, with the reason as its error, because its
            connector is away; it is tried again.

        Raises:
            PhotinusError: it failed here, and the operation says so, too.
            ConnectorFailure: the same.
        """
        submissions = self._submissions
        if submissions is None:
            await store()
            return await self._ended(operation)
        submissions.reserve(operation.id)
        try:
            await store()
            return await self._carried_out(submissions, operation)
        finally:
            submissions.release(operation.id)

    async def resume(self, operation: Operation) -> Operation:
        """Waits for an operation that an earlier call started, and has it tried now; as `start`."""
        submissions = self._submissions
        if submissions is None or not submissions.reserve(operation.id):
            return await self._ended(operation)
        try:
            async with self._store.read(self._namespace) as reader:
                found = (await reader.operations([operation.id]))[operation.id]
            if found.status in FINAL_STATUSES:
                return found
            return await self._carried_out(submissions, found)
        finally:
            submissions.release(operation.id)

    async def _carried_out(self, submissions: Submissions, operation: Operation) -> Operation:
        try:
            return await submissions.carry_out(operation)
        except Deposed:
            return await self._ended(operation)

    async def _ended(self, operation: Operation) -> Operation:
        changes = self._store.notifications(self._namespace, ["operations"])
        while True:
            async with self._store.read(self._namespace) as reader:
                found = (await reader.operations([operation.id])).get(operation.id)
            if found is None or found.status in FINAL_STATUSES or found.error:
                return found or operation
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await anext(changes)

    async def retry(self, operation_id: Uuid) -> Operation:
        """Makes a copy of an operation with an id (and key) of its own and has it carried out.

        The newest copy in a chain of retries is what is copied. The copy is stored before it is
        carried out, by the leader: on another replica this waits until the leader has taken it up,
        for at most `LEADER_WAIT_S`; a later leader takes it up otherwise.

        Raises:
            NotFound: FF10109, there is no such operation.
            Rejected: FF10414, operations of this type cannot be repeated here; FF19408, it is of a
                batch that was cancelled.
        """
        copy_id, submissions = new_uuid(), self._submissions
        if submissions is None:
            return await self._elsewhere(await self._copy(operation_id, copy_id))
        submissions.reserve(copy_id)
        try:
            return await submissions.carry_out(await self._copy(operation_id, copy_id))
        finally:
            submissions.release(copy_id)

    async def _copy(self, operation_id: Uuid, copy_id: Uuid) -> Operation:
        now = self._clock.now()
        async with self._store.write(self._namespace) as tx:
            old = (await tx.operations([operation_id])).get(operation_id)
            while old is not None and old.retry is not None:
                old = (await tx.operations([old.retry])).get(old.retry)
            if old is None:
                raise NotFound("FF10109")
            if old.type not in self._repeatable:
                raise Rejected("FF10414")
            for batch in await tx.batches_of(old.tx):
                # Its nonces are a gap fill's now: what was given up must not come after it.
                if batch.cancelled:
                    raise Rejected("FF19408", old.id, batch.id)
            copy = msgspec.structs.replace(
                old,
                id=copy_id,
                status=OperationStatus.INITIALIZED,
                created=now,
                updated=now,
                output="",
                error="",
                retry=None,
            )
            await tx.insert_operations([copy])
            await tx.set_operation_retry(old.id, copy.id)
        return copy

    async def _elsewhere(self, operation: Operation) -> Operation:
        changes = self._store.notifications(self._namespace, ["operations"])
        with suppress(TimeoutError):
            async with asyncio.timeout(LEADER_WAIT_S):
                while operation.status is OperationStatus.INITIALIZED:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await anext(changes)
                    async with self._store.read(self._namespace) as reader:
                        operation = (await reader.operations([operation.id]))[operation.id]
        return operation

    async def transaction_status(self, transaction_id: Uuid) -> TransactionStatus:
        """Rolls up what became of a transaction (FireFly features 7.3).

        Raises:
            NotFound: FF10109, there is no such transaction.
        """
        async with self._store.read(self._namespace) as reader:
            transaction = (await reader.transactions([transaction_id])).get(transaction_id)
            if transaction is None:
                raise NotFound("FF10109")
            operations = await reader.operations_of(transaction_id)
            events = await reader.blockchain_events_of(transaction_id)
            batches = await reader.batches_of(transaction_id)
        return roll_up(transaction, operations, events, batches)


def roll_up(
    transaction: Transaction,
    operations: list[Operation],
    events: list[BlockchainEvent],
    batches: list[Batch],
) -> TransactionStatus:
    """Says how a transaction stands, whatever its type.

    Failed when an operation that was not retried failed or its batch was given up, pending while
    anything is missing, else succeeded. What is missing is a detail without id. Details without a time
    come first, then the newest.
    """
    details = [*map(_of_operation, operations), *map(_of_event, events), *map(_of_batch, batches)]
    found = {d.type for d in details}
    details += [
        StatusDetail(kind, "", OperationStatus.PENDING, None, None)
        for kind in _NEEDED.get(transaction.type, ())
        if kind not in found
    ]
    retried = {o.id for o in operations if o.retry is not None}
    statuses = {d.status for d in details if d.id not in retried}
    if OperationStatus.FAILED in statuses:
        status = OperationStatus.FAILED
    elif statuses <= {OperationStatus.SUCCEEDED}:
        status = OperationStatus.SUCCEEDED
    else:
        status = OperationStatus.PENDING
    details.sort(key=lambda d: (d.timestamp is not None, -(d.timestamp or 0)))
    return TransactionStatus(status, tuple(details))


def _of_operation(operation: Operation) -> StatusDetail:
    return StatusDetail(
        "Operation",
        operation.type,
        operation.status,
        operation.updated,
        operation.id,
        operation.error,
        operation.output,
    )


def _of_event(event: BlockchainEvent) -> StatusDetail:
    return StatusDetail(
        "BlockchainEvent",
        event.name,
        OperationStatus.SUCCEEDED,
        event.timestamp,
        event.id,
        info=event.info,
    )


def _of_batch(batch: Batch) -> StatusDetail:
    status = OperationStatus.SUCCEEDED
    if batch.confirmed is None:
        status = OperationStatus.FAILED if batch.cancelled else OperationStatus.PENDING
    return StatusDetail("Batch", batch.type, status, None, batch.id)
