"""Operations and transactions as users see them: look-ups, trying again, roll-up status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from photinus_core.model.errors import NotFound, PhotinusError, Rejected
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
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import ConnectorFailure, Disposition
from photinus_core.ports.store import OperationChange, Store

Runner = Callable[[Operation], Awaitable[OperationChange]]
"""Carries out an operation once more, under its own key; says how it stands then."""


class StatusDetail(msgspec.Struct, frozen=True):
    """One line of a transaction's roll-up status."""

    type: str
    """Operation, BlockchainEvent or Batch."""
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


_WITHOUT_STATUS: Final = frozenset(
    {TransactionType.UNPINNED, TransactionType.NONE, TransactionType.NETWORK_ACTION}
)
_PINNED: Final = frozenset({TransactionType.BATCH_PIN, TransactionType.CONTRACT_INVOKE_PIN})


class OperationService:
    """Operations of one namespace."""

    def __init__(self, store: Store, namespace: Namespace, clock: Clock) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._runners: dict[OperationType, Runner] = {}

    def register(self, kind: OperationType, runner: Runner) -> None:
        """Says how operations of one type are carried out again."""
        self._runners[kind] = runner

    async def retry(self, operation_id: Uuid) -> Operation:
        """Makes a copy of an operation with an id (and key) of its own and carries it out.

        The newest copy in a chain of retries is what is copied. The copy is stored before it is
        carried out.

        Raises:
            NotFound: FF10109, there is no such operation.
            Rejected: FF10414, operations of this type cannot be repeated here.
        """
        now = self._clock.now()
        async with self._store.write(self._namespace) as tx:
            old = (await tx.operations([operation_id])).get(operation_id)
            while old is not None and old.retry is not None:
                old = (await tx.operations([old.retry])).get(old.retry)
            if old is None:
                raise NotFound("FF10109")
            runner = self._runners.get(old.type)
            if runner is None:
                raise Rejected("FF10414")
            copy = msgspec.structs.replace(
                old,
                id=new_uuid(),
                status=OperationStatus.INITIALIZED,
                created=now,
                updated=now,
                output="",
                error="",
                retry=None,
            )
            await tx.insert_operations([copy])
            await tx.set_operation_retry(old.id, copy.id)
        try:
            change = await runner(copy)
        except (PhotinusError, ConnectorFailure) as failure:
            # Work that may have been taken on ends by the connector's update, not here.
            sent = isinstance(failure, ConnectorFailure) and (
                failure.disposition is not Disposition.NOT_SENT
            )
            status = OperationStatus.PENDING if sent else OperationStatus.FAILED
            now = self._clock.now()
            await self._change(OperationChange(copy.id, status, now, error=str(failure)))
            raise
        return await self._change(change) or copy

    async def _change(self, change: OperationChange) -> Operation | None:
        async with self._store.write(self._namespace) as tx:
            changed = await tx.change_operations([change])
        return changed[0] if changed else None

    async def transaction_status(self, transaction_id: Uuid) -> TransactionStatus:
        """Rolls up what became of a transaction (FireFly features 7.3).

        Raises:
            NotFound: FF10109, there is no such transaction.
            Rejected: FF10336, transactions of this type have no status.
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
    """Says how a transaction stands.

    Failed when an operation that was not retried failed, pending while anything is missing, else
    succeeded. Details without a time come first, then the newest.
    """
    if transaction.type in _WITHOUT_STATUS:
        raise Rejected("FF10336", transaction.type)
    details = [_of_operation(o) for o in operations]
    details += [_of_event(e) for e in events]
    live = [o for o in operations if o.retry is None]
    pending = any(o.status not in FINAL_STATUSES for o in live)
    if transaction.type in _PINNED:
        if not events:
            details.append(StatusDetail("BlockchainEvent", "", OperationStatus.PENDING, None, None))
            pending = True
        if not batches or any(b.confirmed is None for b in batches):
            pending = True
        details += [_of_batch(b) for b in batches]
        if not batches:
            details.append(StatusDetail("Batch", "", OperationStatus.PENDING, None, None))
    if any(o.status is OperationStatus.FAILED for o in live):
        status = OperationStatus.FAILED
    else:
        status = OperationStatus.PENDING if pending else OperationStatus.SUCCEEDED
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
    status = OperationStatus.PENDING if batch.confirmed is None else OperationStatus.SUCCEEDED
    return StatusDetail("Batch", batch.type, status, None, batch.id)
