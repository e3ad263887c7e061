"""Delivery receipts.

Which nodes of a group have a private message, by the operations that sent its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType
from photinus_core.model.messages import Batch, Message
from photinus_core.ports.store import Store


class ReceiptState(StrEnum):
    """How far a message is on its way to one node."""

    PENDING = "pending"
    """Not handed over to the data exchange yet."""
    SENT = "sent"
    """The data exchange has it; the peer has not answered."""
    DELIVERED = "delivered"
    """The peer's core has stored it, or, of a peer that knows no receipts, its data exchange has
    accepted it.
    """
    FAILED = "failed"


_STATES: Final = {
    OperationStatus.INITIALIZED: ReceiptState.PENDING,
    OperationStatus.PENDING: ReceiptState.SENT,
    OperationStatus.SUCCEEDED: ReceiptState.DELIVERED,
    OperationStatus.FAILED: ReceiptState.FAILED,
}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of one node."""

    identity: str
    node: Uuid
    state: ReceiptState
    batch: Uuid | None = None
    operation: Uuid | None = None
    manifest_hash: str = ""
    updated: Nanoseconds | None = None
    error: str = ""


class _Input(msgspec.Struct):
    node: str = ""


class _Output(msgspec.Struct):
    receipt: str = ""


class ReceiptService:
    """Receipts of one namespace."""

    def __init__(
        self, store: Store, namespace: Namespace, identities: IdentityResolver, node_name: str
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._identities = identities
        self._node_name = node_name

    async def of(self, message: Message) -> list[Receipt]:
        """Receipts for a private message this member sent, one per node of its group but our own.

        Else empty.
        """
        if message.header.group is None:
            return []
        async with self._store.read(self._namespace) as reader:
            group = (await reader.groups([message.header.group])).get(message.header.group)
            batches = {} if message.batch is None else await reader.batches([message.batch])
            batch = batches.get(message.batch) if message.batch is not None else None
            operations = [] if batch is None else await reader.operations_of(batch.tx.id)
        sent_by_others = message.batch is not None and (batch is None or batch.seal_order < 0)
        if group is None or sent_by_others:
            return []
        latest = {
            msgspec.json.decode(o.input, type=_Input).node: o
            for o in operations
            if o.type is OperationType.DATAEXCHANGE_SEND_BATCH and o.retry is None
        }
        own = await self._own_node() if batch is None else batch.node
        return [
            _receipt(m.identity, m.node, batch, latest.get(m.node))
            for m in group.members
            if m.node != own
        ]

    async def _own_node(self) -> Uuid | None:
        try:
            return (await self._identities.node(self._node_name)).id
        except Rejected:
            return None


def _receipt(
    identity: str, node: Uuid, batch: Batch | None, operation: Operation | None
) -> Receipt:
    if batch is None or operation is None:
        return Receipt(identity, node, ReceiptState.PENDING, None if batch is None else batch.id)
    # An operation whose receipt names another manifest has failed, so this one is the batch's.
    stored = msgspec.json.decode(operation.output or "{}", type=_Output).receipt == "stored"
    return Receipt(
        identity,
        node,
        _STATES[operation.status],
        batch.id,
        operation.id,
        batch.hash if stored else "",
        operation.updated,
        operation.error,
    )
