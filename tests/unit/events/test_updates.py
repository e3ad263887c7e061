"""What connectors report becomes changes of operations.

Method: a transaction in memory with the four methods that are used; receipts that differ from what
was sent must fail the operation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from photinus_core.events.updates import apply_updates
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import (
    FINAL_STATUSES,
    Operation,
    OperationStatus,
    OperationType,
    TransactionType,
)
from photinus_core.model.messages import Batch, BatchType, TransactionRef
from photinus_core.ports.connectors import WorkState, WorkUpdate
from photinus_core.ports.store import OperationChange

NS = Namespace("alpha")


class Rows:
    """The rows that updates look at and change."""

    def __init__(self, *operations: Operation, manifest: str = "") -> None:
        self.rows = {operation.id: operation for operation in operations}
        self.manifest = manifest
        self.events: list[NewEvent] = []
        self.chain_ids: dict[Uuid, str] = {}

    async def operations(self, ids: Sequence[Uuid]) -> dict[Uuid, Operation]:
        return {i: self.rows[i] for i in ids if i in self.rows}

    async def batches(self, ids: Sequence[Uuid]) -> dict[Uuid, Batch]:
        tx = TransactionRef(TransactionType.BATCH_PIN, new_uuid())
        return {
            i: Batch(
                i, BatchType.PRIVATE, NS, "a", "k", Nanoseconds(1), Hash32("0"), self.manifest, tx
            )
            for i in ids
        }

    async def change_operations(self, changes: Sequence[OperationChange]) -> list[Operation]:
        changed = []
        for change in changes:
            row = self.rows[change.id]
            if row.status in FINAL_STATUSES:
                continue
            row = msgspec.structs.replace(
                row,
                status=change.status,
                error=change.error or row.error,
                output=change.output or row.output,
            )
            self.rows[change.id] = row
            changed.append(row)
        return changed

    async def add_blockchain_ids(self, ids: Mapping[Uuid, str]) -> None:
        self.chain_ids |= ids

    def append_events(self, events: Sequence[NewEvent]) -> None:
        self.events += events


def operation(kind: OperationType, inputs: str = "{}") -> Operation:
    return Operation(
        new_uuid(),
        NS,
        new_uuid(),
        kind,
        OperationStatus.PENDING,
        "plugin",
        inputs,
        Nanoseconds(1),
        Nanoseconds(1),
    )


def update(about: Operation, state: WorkState, **fields: Any) -> WorkUpdate:
    values = {
        "key": about.key,
        "external_id": "",
        "output": "",
        "error": "",
        "manifest": "",
        "hash": "",
        **fields,
    }
    return WorkUpdate(state=state, **values)


async def apply(rows: Rows, *updates: WorkUpdate) -> None:
    await apply_updates(rows, NS, updates, Nanoseconds(2))  # type: ignore[arg-type]  # a fake of what is used


async def test_progress_then_success_with_the_ledgers_id() -> None:
    pin = operation(OperationType.BLOCKCHAIN_PIN_BATCH)
    rows = Rows(pin)
    await apply(rows, update(pin, WorkState.PENDING, external_id="0xAB"))
    assert rows.rows[pin.id].status is OperationStatus.PENDING
    await apply(rows, update(pin, WorkState.SUCCEEDED, output='{"block":1}', external_id="0xAB"))
    assert (rows.rows[pin.id].status, rows.rows[pin.id].output) == (
        OperationStatus.SUCCEEDED,
        '{"block":1}',
    )
    assert rows.chain_ids == {pin.tx: "0xab"}
    await apply(rows, update(pin, WorkState.FAILED, error="late"))
    assert rows.rows[pin.id].status is OperationStatus.SUCCEEDED


async def test_of_several_reports_in_one_batch_the_end_counts() -> None:
    pin = operation(OperationType.BLOCKCHAIN_PIN_BATCH)
    rows = Rows(pin)
    await apply(rows, update(pin, WorkState.FAILED, error="x"), update(pin, WorkState.PENDING))
    assert rows.rows[pin.id].status is OperationStatus.FAILED


@pytest.mark.parametrize(
    ("manifest", "status", "output"),
    [
        ("sent", OperationStatus.SUCCEEDED, '{"receipt":"stored"}'),
        ("", OperationStatus.SUCCEEDED, '{"receipt":"accepted"}'),
        ("other", OperationStatus.FAILED, '{"receipt":"stored"}'),
    ],
)
async def test_a_receipt_must_name_what_was_sent(
    manifest: str, status: OperationStatus, output: str
) -> None:
    send = operation(OperationType.DATAEXCHANGE_SEND_BATCH, f'{{"batch":"{new_uuid()}"}}')
    rows = Rows(send, manifest="sent")
    await apply(rows, update(send, WorkState.SUCCEEDED, manifest=manifest))
    row = rows.rows[send.id]
    assert (row.status, row.output) == (status, output)
    assert row.error.startswith("FF10329") is (status is OperationStatus.FAILED)


@pytest.mark.parametrize(("found", "fails"), [("aa", False), ("", False), ("bb", True)])
async def test_a_blob_must_arrive_with_its_hash(found: str, fails: bool) -> None:
    send = operation(OperationType.DATAEXCHANGE_SEND_BLOB, '{"hash":"aa"}')
    rows = Rows(send)
    await apply(rows, update(send, WorkState.SUCCEEDED, hash=found))
    assert (rows.rows[send.id].status is OperationStatus.FAILED) is fails
    assert rows.rows[send.id].error.startswith("FF10348") is fails


@pytest.mark.parametrize("state", [WorkState.SUCCEEDED, WorkState.FAILED])
async def test_the_end_of_a_call_to_a_contract_is_an_event(state: WorkState) -> None:
    call = operation(OperationType.BLOCKCHAIN_INVOKE)
    rows = Rows(call)
    await apply(rows, update(call, state), update(call, state))
    (event,) = rows.events
    ended = EventType.BLOCKCHAIN_INVOKE_OP_SUCCEEDED
    failed = EventType.BLOCKCHAIN_INVOKE_OP_FAILED
    assert event.type is (ended if state is WorkState.SUCCEEDED else failed)
    assert (event.reference, event.tx) == (call.id, call.tx)
    await apply(rows, update(call, state))
    assert len(rows.events) == 1


async def test_updates_of_other_work_are_skipped() -> None:
    call = operation(OperationType.BLOCKCHAIN_INVOKE)
    rows = Rows(call)
    for key in ("", "alpha", f"beta:{call.id}", f"alpha:blob:{call.id}", f"alpha:{new_uuid()}"):
        await apply(rows, update(call, WorkState.FAILED, key=key))
    assert rows.rows[call.id].status is OperationStatus.PENDING


async def test_cancelled_work_has_failed() -> None:
    pin = operation(OperationType.BLOCKCHAIN_PIN_BATCH)
    rows = Rows(pin)
    await apply(rows, update(pin, WorkState.CANCELLED))
    assert (rows.rows[pin.id].status, rows.rows[pin.id].error) == (
        OperationStatus.FAILED,
        "cancelled",
    )
