"""Says what a message or pin waits for, from what is stored and from what agreement knows.

Only the leader's agreement knows why a pin on chain is undecided; another replica still tells what
the database says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import msgspec

from photinus_core.events.facts import event_position
from photinus_core.model.errors import NotFound
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType, ReceivedBatchKey
from photinus_core.model.messages import DECIDED_STATES, Batch, Message, MessageState, Pin
from photinus_core.model.names import TOPICS_MAX
from photinus_core.model.query import Condition, Operator, Query
from photinus_core.ports.store import Reader, Store, Table
from photinus_core.sequencing.decisions import Explanation, WaitReason
from photinus_core.sequencing.position import Position

_NOT_EXPECTED: Final = (
    "no group of this member expects this private pin: it is another group's, "
    "or follows one that is not here; it holds up nothing"
)
PINS_PAGE: Final = 2_000
"""Undecided pins among which the one ahead is looked for."""

PARKED_MAX: Final = 1_000
"""Most parked messages that are searched for an id."""

_SENDING: Final = {
    OperationType.SHAREDSTORAGE_UPLOAD_BLOB: "upload",
    OperationType.SHAREDSTORAGE_UPLOAD_BATCH: "upload",
    OperationType.DATAEXCHANGE_SEND_BLOB: "delivery",
    OperationType.DATAEXCHANGE_SEND_BATCH: "delivery",
    OperationType.BLOCKCHAIN_PIN_BATCH: "pin submission",
}


class AgreementView(Protocol):
    """The leader's agreement, as far as explaining goes."""

    def explain(self, message_id: Uuid) -> list[Explanation]:
        """What undecided occurrences of a message wait for."""
        ...

    def explain_batch(self, batch_id: Uuid) -> list[Explanation]:
        """What undecided pins of a batch wait for."""
        ...


class DownloadView(Protocol):
    """The leader's downloads."""

    def error_of(self, batch: Uuid) -> str:
        """Why a batch could not be fetched so far."""
        ...


@dataclass(frozen=True, slots=True)
class PinExplanation:
    """Where a pin stands.

    Attributes:
        pin: The pin.
        message: Message it belongs to, when that is known.
        state: `waiting`, `confirmed`, `rejected` or `ignored`.
        reason: Why it waits.
        detail: The same for people.
        since: Since when.
        behind: Sequence of the pin it is behind.
    """

    pin: Pin
    message: Uuid | None
    state: str
    reason: str = ""
    detail: str = ""
    since: Nanoseconds | None = None
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class MessageExplanation:
    """Everything known about the way of one message.

    Attributes:
        id: Id of the message.
        state: Its state; empty when only its pins are known.
        batch: Batch that carries it.
        reason: The one thing it waits for now; empty when it is decided.
        detail: The same for people.
        since: Since when.
        pins: Its pins, in chain order.
        operations: Operations that work for it, newest first.
    """

    id: Uuid
    state: str = ""
    batch: Uuid | None = None
    reason: str = ""
    detail: str = ""
    since: Nanoseconds | None = None
    pins: tuple[PinExplanation, ...] = field(default=())
    operations: tuple[str, ...] = field(default=())


class Explainer:
    """Explains messages and pins of one namespace.

    Args:
        agreement: The leader's agreement; None on other replicas.
        downloads: The leader's downloads; None on other replicas.
        sending_error: Why an own batch could not be sent so far, as far as this replica knows.
    """

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        agreement: AgreementView | None = None,
        downloads: DownloadView | None = None,
        sending_error: Callable[[Uuid], str] = lambda _: "",
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._agreement = agreement
        self._downloads = downloads
        self._sending_error = sending_error

    async def explain_message(self, message_id: Uuid) -> MessageExplanation:
        """Tells everything known about the way of a message.

        Raises:
            NotFound: FF10109, this member knows nothing of it.
        """
        async with self._store.read(self._namespace) as reader:
            message = await _find(reader, message_id)
            if message is None:
                return await _parked(reader, message_id)
            pins = await self._pins_of_message(reader, message)
            operations: list[Operation] = []
            if message.txid is not None:
                operations = await reader.operations_of(message.txid)
            batch = await _batch_of(reader, message)
        listed = tuple(_operation_line(o) for o in reversed(operations))
        found = MessageExplanation(
            message_id, str(message.state), message.batch, pins=pins, operations=listed
        )
        if message.state in DECIDED_STATES:
            return replace(found, detail=message.reject_reason)
        waiting = next((pin for pin in pins if pin.state == "waiting"), None)
        if waiting is not None:
            return replace(found, reason=waiting.reason, detail=waiting.detail, since=waiting.since)
        error = self._sending_error(message.batch) if message.batch is not None else ""
        if error:
            reason, detail = "sending failed", f"batch {message.batch} is tried again: {error}"
        else:
            reason, detail = _sending_step(message, batch, operations)
        return replace(found, reason=reason, detail=detail, since=message.header.created)

    async def explain_pin(self, sequence: int) -> PinExplanation:
        """Tells where a pin stands.

        Raises:
            NotFound: FF10109, there is no such pin.
        """
        async with self._store.read(self._namespace) as reader:
            where = Condition("sequence", Operator.EQUAL, sequence)
            page = await reader.query(Table.PINS, Query(Table.PINS, where, limit=1))
            if not page.items:
                raise NotFound("FF10109")
            pin: Pin = page.items[0]
            owner = (await _owners(reader, [pin])).get(pin.sequence)
            (explained,) = await self._explain_pins(reader, [pin], {pin.sequence: owner})
        return explained

    async def _pins_of_message(
        self, reader: Reader, message: Message
    ) -> tuple[PinExplanation, ...]:
        if message.batch is None:
            return ()
        pins = await reader.pins_of_batches([message.batch])
        owners = await _owners(reader, pins)
        mine = [
            pin
            for pin in pins
            if (owner := owners.get(pin.sequence)) is not None and owner.hash == message.hash
        ]
        return tuple(await self._explain_pins(reader, mine, owners))

    async def _explain_pins(
        self, reader: Reader, pins: Sequence[Pin], owners: Mapping[int, Message | None]
    ) -> list[PinExplanation]:
        waits = self._waits({pin.batch for pin in pins})
        behind = await self._sequences(reader, waits) if waits else {}
        return [self._explain_pin(pin, owners.get(pin.sequence), waits, behind) for pin in pins]

    def _waits(self, batches: set[Uuid]) -> dict[Position, list[Explanation]]:
        found: dict[Position, list[Explanation]] = {}
        if self._agreement is None:
            return found
        for batch in batches:
            for explanation in self._agreement.explain_batch(batch):
                event = explanation.position._replace(pin=0)
                found.setdefault(event, []).append(explanation)
        return found

    @staticmethod
    async def _sequences(
        reader: Reader, waits: Mapping[Position, Sequence[Explanation]]
    ) -> dict[Position, int]:
        """Sequences of the pins that others are behind."""
        if all(e.wait.behind is None for listed in waits.values() for e in listed):
            return {}
        return {
            event_position(pin)._replace(pin=pin.index): pin.sequence
            for pin in await reader.undispatched_pins(-1, PINS_PAGE)
        }

    def _explain_pin(
        self,
        pin: Pin,
        message: Message | None,
        waits: Mapping[Position, Sequence[Explanation]],
        behind: Mapping[Position, int],
    ) -> PinExplanation:
        message_id = message.header.id if message else None
        if pin.dispatched:
            decided = message is not None and message.state in DECIDED_STATES
            state = str(message.state) if decided and message else "ignored"
            return PinExplanation(pin, message_id, state)
        about = [
            e
            for e in waits.get(event_position(pin), ())
            if e.message is None or message is None or e.message.hash == message.hash
        ]
        if not about:
            if not self._agreement:
                return PinExplanation(pin, message_id, "waiting", "", "only the leader knows")
            if pin.masked:
                return PinExplanation(pin, message_id, "waiting", "not expected", _NOT_EXPECTED)
            return PinExplanation(pin, message_id, "waiting", "", "not looked at yet")
        wait = about[0].wait
        return PinExplanation(
            pin=pin,
            message=message_id,
            state="waiting",
            reason=str(wait.reason),
            detail=self._detail(pin, str(wait), wait.reason),
            since=Nanoseconds(wait.since),
            behind=behind.get(wait.behind) if wait.behind else None,
        )

    def _detail(self, pin: Pin, text: str, reason: WaitReason) -> str:
        if reason is not WaitReason.BATCH_MISSING:
            return text
        error = self._downloads.error_of(pin.batch) if self._downloads else ""
        return f"batch {pin.batch} is not here{': ' + error if error else ''}"


class _ManifestMessage(msgspec.Struct):
    id: str
    hash: str
    topics: int


class _Manifest(msgspec.Struct):
    messages: list[_ManifestMessage] = []


async def _find(reader: Reader, message_id: Uuid) -> Message | None:
    found = (await reader.messages([message_id])).get(message_id)
    if found is not None:
        return found
    where = Condition("id", Operator.EQUAL, message_id)
    page = await reader.query(Table.MESSAGES, Query(Table.MESSAGES, where, limit=1))
    return page.items[0] if page.items else None


async def _parked(reader: Reader, message_id: Uuid) -> MessageExplanation:
    """Looks for a message among what peers sent before they were known."""
    for parked in await reader.parked_messages(None, PARKED_MAX):
        if message_id in parked.payload:
            detail = f"its sender {parked.peer} is no known node of this network"
            return MessageExplanation(
                message_id, "parked", reason="parked", detail=detail, since=parked.received
            )
    raise NotFound("FF10109")


async def _batch_of(reader: Reader, message: Message) -> Batch | None:
    if message.batch is None:
        return None
    return (await reader.batches([message.batch])).get(message.batch)


async def _owners(reader: Reader, pins: Sequence[Pin]) -> dict[int, Message | None]:
    """The message each pin belongs to, by the pin's sequence."""
    keys = list({ReceivedBatchKey(pin.batch, pin.batch_hash) for pin in pins})
    batches = await reader.received_batches(keys)
    messages = await reader.received_messages(list(batches))
    owners: dict[ReceivedBatchKey, list[Message]] = {}
    for key, batch in batches.items():
        by_hash = {str(message.hash): message for message in messages.get(key, ())}
        manifest = msgspec.json.decode(batch.manifest, type=_Manifest)
        owners[key] = [
            by_hash[entry.hash]
            for entry in manifest.messages
            if entry.hash in by_hash
            for _ in range(min(entry.topics, TOPICS_MAX))
        ]
    found: dict[int, Message | None] = {}
    for pin in pins:
        listed = owners.get(ReceivedBatchKey(pin.batch, pin.batch_hash), [])
        found[pin.sequence] = listed[pin.index] if pin.index < len(listed) else None
    return found


def _operation_line(operation: Operation) -> str:
    error = f": {operation.error}" if operation.error else ""
    return f"{operation.type} {operation.status}{error}"


def _sending_step(
    message: Message, batch: Batch | None, operations: Sequence[Operation]
) -> tuple[str, str]:
    """Where a message that is not on chain yet stands."""
    if message.state is MessageState.PENDING:
        return "pin confirmation", "received; its pin is not on chain yet"
    if message.state is MessageState.STAGED:
        return "transfer missing", "it waits for what it belongs to"
    if message.batch is None:
        return "batch assembly", "it waits for a place in a batch"
    unfinished = [
        o
        for o in operations
        if o.status is not OperationStatus.SUCCEEDED and o.retry is None and o.type in _SENDING
    ]
    waiting = [o for o in unfinished if batch is not None and not batch.dispatched]
    for operation in waiting:
        return _SENDING[operation.type], f"{_operation_line(operation)} (batch {message.batch})"
    return "pin confirmation", f"batch {message.batch} is sent; its pin is not final on chain yet"
