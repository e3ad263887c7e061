"""Says of a message or pin what it waits for, in words an operator can act on.

What is stored tells how far the sender came; the leader's agreement tells what holds an undecided
pin. A replica that does not lead says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from photinus_core.events.facts import event_position
from photinus_core.model.errors import NotFound
from photinus_core.model.ids import Nanoseconds, Uuid
from photinus_core.model.ledger import FINAL_STATUSES, Operation, OperationType, ReceivedBatchKey
from photinus_core.model.messages import DECIDED_STATES, Batch, Message, Pin
from photinus_core.model.query import FilterBuilder
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.ports.store import Reader, Table
from photinus_core.sequencing.decisions import Explanation

PARKED_SCAN_MAX: Final = 1_000
"""Most parked messages that are searched for an id."""

_STEPS: Final = {
    OperationType.SHAREDSTORAGE_UPLOAD_BLOB: "upload",
    OperationType.SHAREDSTORAGE_UPLOAD_BATCH: "upload",
    OperationType.DATAEXCHANGE_SEND_BLOB: "delivery",
    OperationType.DATAEXCHANGE_SEND_BATCH: "delivery",
    OperationType.BLOCKCHAIN_PIN_BATCH: "pin submission",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """What something waits for; an empty reason when it waits for nothing."""

    reason: str = ""
    detail: str = ""
    since: Nanoseconds | None = None
    behind: int | None = None
    """Sequence of the pin it is behind."""


@dataclass(frozen=True, slots=True)
class ExplainedPin:
    """One pin, with what it waits for."""

    pin: Pin
    state: str
    waiting: Waiting
    message: Uuid | None = None


@dataclass(frozen=True, slots=True)
class ExplainedMessage:
    """The way of one message."""

    id: Uuid
    state: str
    batch: Uuid | None
    waiting: Waiting
    pins: tuple[ExplainedPin, ...] = ()
    operations: tuple[str, ...] = ()


async def explain_message(runtime: NamespaceRuntime, message_id: Uuid) -> ExplainedMessage:
    """Explains a message.

    Raises:
        NotFound: FF10109, this node knows nothing of it.
    """
    async with runtime.reader() as reader:
        message = await _message(reader, message_id)
        if message is None:
            return await _parked(reader, message_id)
        batch = await _batch(reader, message)
        operations = [] if batch is None else await reader.operations_of(batch.tx.id)
        rows = [] if batch is None else await reader.pins_of_batches([batch.id])
    leadership = runtime.leadership
    reasons = [] if leadership is None else leadership.aggregator.explain(message_id)
    pins = tuple(_explained(pin, reasons, rows, message) for pin in _own(rows, reasons, message))
    waiting = _waiting(message, batch, operations, pins, leads=leadership is not None)
    return ExplainedMessage(
        id=message_id,
        state=message.state,
        batch=message.batch,
        waiting=waiting,
        pins=pins,
        operations=tuple(_line(o) for o in reversed(operations)),
    )


async def explain_pin(runtime: NamespaceRuntime, sequence: int) -> ExplainedPin:
    """Explains a pin.

    Raises:
        NotFound: FF10109, there is none with that sequence.
    """
    f = FilterBuilder(Table.PINS)
    async with runtime.reader() as reader:
        page = await reader.query(Table.PINS, f.query(f.equal("sequence", sequence), limit=1))
        if not page.items:
            raise NotFound("FF10109")
        pin: Pin = page.items[0]
        rows = await reader.pins_of_batches([pin.batch])
    leadership = runtime.leadership
    reasons = [] if leadership is None else leadership.aggregator.explain_batch(pin.batch)
    return _explained(pin, reasons, rows, None)


async def _message(reader: Reader, message_id: Uuid) -> Message | None:
    found = (await reader.messages([message_id])).get(message_id)
    if found is not None:
        return found
    f = FilterBuilder(Table.MESSAGES)
    page = await reader.query(Table.MESSAGES, f.query(f.equal("id", message_id), limit=1))
    return page.items[0] if page.items else None


async def _batch(reader: Reader, message: Message) -> Batch | None:
    if message.batch is None:
        return None
    own = (await reader.batches([message.batch])).get(message.batch)
    if own is not None:
        return own
    pins = await reader.pins_of_batches([message.batch])
    keys = list({ReceivedBatchKey(p.batch, p.batch_hash) for p in pins})
    return next(iter((await reader.received_batches(keys)).values()), None)


async def _parked(reader: Reader, message_id: Uuid) -> ExplainedMessage:
    """Looks for the message among what peers sent before they were known."""
    for parked in await reader.parked_messages(None, PARKED_SCAN_MAX):
        if message_id in parked.payload:
            waiting = Waiting(
                "parked",
                f"its sender {parked.peer} is no registered node of this network",
                parked.received,
            )
            return ExplainedMessage(message_id, "parked", None, waiting)
    raise NotFound("FF10109")


def _own(rows: Sequence[Pin], reasons: Sequence[Explanation], message: Message) -> list[Pin]:
    """The pins of one message among those of its batch."""
    if reasons:
        places = {r.position for r in reasons}
        return [p for p in rows if event_position(p) in places]
    own = {pin.partition(":")[0] for pin in message.pins}
    if own:
        return [p for p in rows if p.hash in own]
    return [p for p in rows if p.batch == message.batch]


def _explained(
    pin: Pin, reasons: Sequence[Explanation], rows: Sequence[Pin], message: Message | None
) -> ExplainedPin:
    message_id = message.header.id if message else None
    if pin.dispatched:
        state = message.state if message else "decided"
        return ExplainedPin(pin, state, Waiting(), message_id)
    reason = next((r for r in reasons if r.position == event_position(pin)), None)
    if reason is None:
        return ExplainedPin(pin, "waiting", Waiting("not looked at", "", pin.created), message_id)
    behind = next((p.sequence for p in rows if reason.wait.behind == event_position(p)), None)
    waiting = Waiting(
        str(reason.wait.reason), str(reason.wait), Nanoseconds(reason.wait.since), behind
    )
    return ExplainedPin(pin, "waiting", waiting, message_id)


def _waiting(
    message: Message,
    batch: Batch | None,
    operations: Sequence[Operation],
    pins: Sequence[ExplainedPin],
    *,
    leads: bool,
) -> Waiting:
    """The one thing a message waits for."""
    if message.state in DECIDED_STATES:
        return Waiting("", message.reject_reason, message.confirmed)
    if not leads:
        return Waiting("no leader here", "ask the replica that leads the namespace", None)
    if batch is None:
        return Waiting("batch assembly", "it waits to be batched", message.header.created)
    undecided = next((p for p in pins if p.waiting.reason), None)
    if undecided is not None:
        return undecided.waiting
    for operation in operations:
        if operation.status not in FINAL_STATUSES and operation.retry is None:
            step = _STEPS.get(operation.type, operation.type)
            if operation.type is OperationType.BLOCKCHAIN_PIN_BATCH and batch.dispatched:
                step = "pin confirmation"
            return Waiting(step, _line(operation), operation.updated)
    return Waiting("pin confirmation", "its pin is not on chain yet", batch.created)


def _line(operation: Operation) -> str:
    text = f"{operation.type} {operation.status}"
    return f"{text}: {operation.error}" if operation.error else text
