"""Turns what connectors say of their work into changes of operations and events of the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from photinus_core.model.errors import Rejected
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid, is_uuid, new_uuid
from photinus_core.model.ledger import (
    FINAL_STATUSES,
    Operation,
    OperationStatus,
    OperationType,
)
from photinus_core.ports.connectors import OPERATION_STATUS, WorkState, WorkUpdate
from photinus_core.ports.store import OperationChange, WriteTransaction

_ON_CHAIN: Final = frozenset(
    {
        OperationType.BLOCKCHAIN_PIN_BATCH,
        OperationType.BLOCKCHAIN_NETWORK_ACTION,
        OperationType.BLOCKCHAIN_DEPLOY,
        OperationType.BLOCKCHAIN_INVOKE,
    }
)

_ENDS: Final = {
    (OperationType.BLOCKCHAIN_INVOKE, OperationStatus.SUCCEEDED): (
        EventType.BLOCKCHAIN_INVOKE_OP_SUCCEEDED
    ),
    (OperationType.BLOCKCHAIN_INVOKE, OperationStatus.FAILED): (
        EventType.BLOCKCHAIN_INVOKE_OP_FAILED
    ),
    (OperationType.BLOCKCHAIN_DEPLOY, OperationStatus.SUCCEEDED): (
        EventType.BLOCKCHAIN_CONTRACT_DEPLOY_OP_SUCCEEDED
    ),
    (OperationType.BLOCKCHAIN_DEPLOY, OperationStatus.FAILED): (
        EventType.BLOCKCHAIN_CONTRACT_DEPLOY_OP_FAILED
    ),
}
"""Operations whose end is an event of the log."""


class _SendInput(msgspec.Struct):
    """What we need of the input of a data exchange operation."""

    batch: str | None = None
    hash: str | None = None


_input_decoder = msgspec.json.Decoder(_SendInput)


async def apply_updates(
    tx: WriteTransaction, namespace: Namespace, updates: Sequence[WorkUpdate], now: Nanoseconds
) -> None:
    """Changes operations as connectors report. Idempotent: final statuses stay.

    Updates for other work than operations of this namespace are none of our business and skipped.
    """
    latest = _latest(namespace, updates)
    if not latest:
        return
    operations = await tx.operations(list(latest))
    manifests = await _manifests(tx, operations.values())
    changes, chain_ids = [], {}
    for operation_id, update in latest.items():
        operation = operations.get(operation_id)
        if operation is None:
            continue
        changes.append(_change(operation, update, manifests, now))
        if update.external_id and operation.type in _ON_CHAIN:
            chain_ids[operation.tx] = update.external_id.lower()
    changed = await tx.change_operations(changes)
    if chain_ids:
        await tx.add_blockchain_ids(chain_ids)
    tx.append_events([event for o in changed if (event := _event(namespace, o, now))])


async def correct_status(
    tx: WriteTransaction, namespace: Namespace, change: OperationChange
) -> Operation | None:
    """Changes an operation as somebody beside its connector says, with the same effects.

    A final status is replaced by a final one only. What says nothing new has no effect. Gives the
    operation as it is then; None when there is none.
    """
    known = (await tx.lock_operations([change.id])).get(change.id)
    if known is None:
        return None
    changed = await tx.change_operations([replace(change, corrects=True)])
    if not changed:
        return known
    (operation,) = changed
    if operation.status is not known.status:
        event = _event(namespace, operation, change.at)
        tx.append_events([event] if event else [])
    return operation


def _latest(namespace: Namespace, updates: Sequence[WorkUpdate]) -> dict[Uuid, WorkUpdate]:
    found: dict[Uuid, WorkUpdate] = {}
    for update in updates:
        scope, _, text = update.key.partition(":")
        if scope != namespace or not is_uuid(text):
            continue
        known = found.get(Uuid(text))
        if known is None or OPERATION_STATUS[known.state] not in FINAL_STATUSES:
            found[Uuid(text)] = update
    return found


async def _manifests(tx: WriteTransaction, operations: Iterable[Operation]) -> dict[str, str]:
    ids = [
        Uuid(batch)
        for operation in operations
        if operation.type is OperationType.DATAEXCHANGE_SEND_BATCH
        and (batch := _input(operation).batch)
    ]
    return {b.id: b.manifest for b in (await tx.batches(ids)).values()} if ids else {}


def _input(operation: Operation) -> _SendInput:
    try:
        return _input_decoder.decode(operation.input)
    except msgspec.DecodeError:
        return _SendInput()


def _change(
    operation: Operation, update: WorkUpdate, manifests: dict[str, str], now: Nanoseconds
) -> OperationChange:
    status, error = OPERATION_STATUS[update.state], update.error
    if status is OperationStatus.SUCCEEDED and (wrong := _mismatch(operation, update, manifests)):
        status, error = OperationStatus.FAILED, wrong
    if update.state is WorkState.CANCELLED and not error:
        error = "cancelled"
    return OperationChange(
        operation.id, status, now, output=_output(operation, update), error=error or None
    )


def _output(operation: Operation, update: WorkUpdate) -> str | None:
    """A receipt is kept with the operation, where users can ask for it."""
    if update.state is not WorkState.SUCCEEDED:
        return update.output or None
    if operation.type is OperationType.DATAEXCHANGE_SEND_BATCH:
        return '{"receipt":"stored"}' if update.manifest else '{"receipt":"accepted"}'
    if operation.type is OperationType.DATAEXCHANGE_SEND_BLOB:
        return '{"receipt":"stored"}' if update.hash else '{"receipt":"accepted"}'
    return update.output or None


def _mismatch(operation: Operation, update: WorkUpdate, manifests: dict[str, str]) -> str:
    """What a receiver stored must be what was sent; one that gives no receipt is believed."""
    given = _input(operation)
    if operation.type is OperationType.DATAEXCHANGE_SEND_BATCH and update.manifest:
        sent = manifests.get(given.batch or "")
        if sent is not None and sent != update.manifest:
            return str(Rejected("FF10329", given.batch, update.manifest[:200]))
    is_blob = operation.type is OperationType.DATAEXCHANGE_SEND_BLOB
    if is_blob and update.hash and given.hash and given.hash != update.hash:
        return str(Rejected("FF10348", given.hash, update.hash))
    return ""


def _event(namespace: Namespace, operation: Operation, now: Nanoseconds) -> NewEvent | None:
    kind = _ENDS.get((operation.type, operation.status))
    if kind is None:
        return None
    return NewEvent(
        id=new_uuid(),
        type=kind,
        namespace=namespace,
        reference=operation.id,
        created=now,
        tx=operation.tx,
    )
