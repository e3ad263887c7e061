"""Gives up an own batch that cannot be sent, in a way that its author's later messages survive.

First the connector marks the pin's key, so that the pin never reaches the chain. Then one transaction
cancels the batch and its messages and stores what takes their place: a private message with a pin
has used up a nonce of each of its topics, and receivers wait for it, so a gap fill with the very same
pins is sent as a batch of its own. A crash between the two is noticed when the pin is sent again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from photinus_core.messaging.dispatch import BatchDispatcher
from photinus_core.messaging.seal import Draft, seal_message
from photinus_core.messaging.sealing import SealedBatch
from photinus_core.model.errors import Rejected
from photinus_core.model.ledger import (
    FINAL_STATUSES,
    Operation,
    OperationStatus,
    OperationType,
    TransactionType,
)
from photinus_core.model.messages import Message, MessageType, SystemTag
from photinus_core.ports.connectors import WorkState
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, MessageWrite, OperationChange, WriteTransaction

CANCELLED: Final = "the batch was cancelled"
"""Error of the operations of a cancelled batch that were not sent."""

_PINS: Final = frozenset({OperationType.BLOCKCHAIN_PIN_BATCH, OperationType.BLOCKCHAIN_INVOKE})
_NEVER: Final = frozenset({WorkState.CANCELLED, WorkState.FAILED})


class BatchCanceller:
    """Cancels batches of one namespace, on its leader."""

    def __init__(self, scope: Scope, dispatcher: BatchDispatcher, fence: Fence) -> None:
        self._store = scope.store
        self._namespace = scope.namespace
        self._network_name = scope.network_name
        self._clock = scope.clock
        self._dispatcher = dispatcher
        self._fence = fence

    async def cancel(self, sealed: SealedBatch) -> bool:
        """Cancels a batch whose pin is not on its way. Nothing may be sent for it meanwhile.

        May be repeated.

        Returns:
            False when its pin is on the chain, by whatever way it came there: it is not cancelled.

        Raises:
            Rejected: FF10468, its pin was sent, or a retry of it was asked for just now.
            ConnectorFailure: the ledger's connector cannot say; nothing has changed.
            Unavailable: it is away; nothing has changed.
            Deposed: this replica leads no more.
        """
        async with self._store.read(self._namespace) as reader:
            pins = _pins(await reader.operations_of(sealed.wire.batch.tx.id))
        for operation in pins:
            if await self._dispatcher.withdraw_pin(operation) not in _NEVER:
                raise Rejected("FF10468", sealed.id, "its pin is on the way to the chain")
        async with self._store.write(self._namespace, self._fence) as tx:
            operations = await tx.operations_of(sealed.wire.batch.tx.id)
            if len(_pins(operations)) > len(pins):
                raise Rejected("FF10468", sealed.id, "its pin is being sent again")
            batch = sealed.wire.batch
            seen = await tx.pins_of_batches([batch.id])
            if any(p.batch_hash == batch.hash and p.signer == batch.key for p in seen):
                return False
            await self._write(tx, sealed, operations)
        return True

    async def _write(
        self, tx: WriteTransaction, sealed: SealedBatch, operations: list[Operation]
    ) -> None:
        now, stood_for = self._clock.now(), set(await tx.cancel_batch(sealed.id))
        ended = [
            OperationChange(o.id, OperationStatus.FAILED, now, error=CANCELLED)
            for o in operations
            if o.status not in FINAL_STATUSES
            and (o.type in _PINS or o.status is OperationStatus.INITIALIZED)
        ]
        if ended:
            await tx.change_operations(ended)
        if sealed.group is not None and sealed.is_pinned:
            fills = [self._fill(m) for m in sealed.wire.messages if m.header.id in stood_for]
            await tx.insert_messages([MessageWrite(fill, ()) for fill in fills])

    def _fill(self, message: Message) -> Message:
        """What uses up the nonces of a cancelled message in its place."""
        header = message.header
        # Members must learn of their group all the same: the same introduction goes again.
        introduces = header.type is MessageType.GROUP_INIT
        stood_for = header.cid if header.tag == SystemTag.GAP_FILL else header.id
        draft = Draft(
            type=MessageType.GROUP_INIT if introduces else MessageType.PRIVATE,
            txtype=TransactionType.BATCH_PIN,
            author=header.author,
            key=header.key,
            topics=header.topics,
            tag=SystemTag.DEFINE_GROUP if introduces else SystemTag.GAP_FILL,
            cid=None if introduces else stood_for,
            group=header.group,
        )
        refs = message.data if introduces else ()
        fill = seal_message(draft, refs, self._namespace, self._network_name, self._clock.now())
        return msgspec.structs.replace(fill, pins=message.pins)


def _pins(operations: list[Operation]) -> list[Operation]:
    return [o for o in operations if o.type in _PINS]
