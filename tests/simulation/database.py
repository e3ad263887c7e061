"""The database of one member in one namespace: its rows, and transactions under a fence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from photinus_core.model.ids import Hash32
from photinus_core.sequencing.batching import ProcessorKey
from photinus_core.sequencing.facts import BatchKey, ChainState, NetworkAction, PinEvent
from photinus_core.sequencing.position import Position

from tests.simulation.content import Definitions, SimBatch, SimMessage
from tests.simulation.process import DeposedError


@dataclass
class OwnBatch:
    """A batch this member sealed."""

    batch: SimBatch
    processor: ProcessorKey
    signer: str
    contexts: tuple[str, ...]
    operations: list[str]
    """Keys of its pin operations, the last one in force; a new contract takes a new one."""
    handed_over: set[str] = field(default_factory=set)
    """Which of them a connector took, as far as that is recorded."""
    dispatched: bool = False
    cancelled: bool = False
    """Given up: its pin will never be sent."""


@dataclass
class StoredPins:
    """The rows of one batch-pin event."""

    event: PinEvent
    first: int
    """Sequence of its first pin."""
    dispatched: set[int] = field(default_factory=set)

    @property
    def left(self) -> bool:
        return len(self.dispatched) < len(self.event.contexts)

    def read(self) -> PinEvent:
        """The event as these rows tell it now."""
        e = self.event
        if not self.dispatched:
            return e
        return PinEvent(e.position, e.signer, e.batch, e.contexts, frozenset(self.dispatched))


class PinRow(NamedTuple):
    """One pin."""

    stored: StoredPins
    place: int
    """Its index among the event's contexts."""

    @property
    def sequence(self) -> int:
        return self.stored.first + self.place


class Wakeup(NamedTuple):
    """A row by which intake tells agreement what arrived."""

    kind: str
    """`pins`, `removed`, `batch`, `blob`, `group`."""
    key: Any = None


@dataclass
class Rows:
    """All that is stored."""

    epoch: int = 0
    """The lease: the newest leader."""
    messages: dict[str, SimMessage] = field(default_factory=dict)
    """What clients sent, by id."""
    outbox: dict[str, int] = field(default_factory=dict)
    gap_pins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Pins of gap fills, by message: those of the messages they stand for."""
    """Sequences of messages that wait for a batch, by id."""
    message_sequence: int = 0
    nonces: dict[Hash32, int] = field(default_factory=dict)
    own: dict[str, OwnBatch] = field(default_factory=dict)
    """In seal order."""
    sealed: dict[str, str] = field(default_factory=dict)
    """Batches of sealed messages."""
    contract: int = 0
    read: dict[int, int] = field(default_factory=dict)
    """Checkpoint: how much of the stream was read, by contract."""
    pins: dict[Position, StoredPins] = field(default_factory=dict)
    pins_of: dict[BatchKey, list[StoredPins]] = field(default_factory=dict)
    pins_with: dict[str, list[PinRow]] = field(default_factory=dict)
    undecided: dict[int, PinRow] = field(default_factory=dict)
    """Pins by sequence."""
    pin_sequence: int = 0
    actions: dict[Position, NetworkAction] = field(default_factory=dict)
    """Undecided network actions."""
    final_events: dict[int, Position] = field(default_factory=dict)
    batches: dict[BatchKey, SimBatch] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    downloads: dict[BatchKey | str, None] = field(default_factory=dict)
    """Unfinished ones, of batches and of blobs."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wakeups: dict[int, Wakeup] = field(default_factory=dict)
    wakeup_sequence: int = 0
    next_pins: dict[tuple[str, str], dict[str, ChainState]] = field(default_factory=dict)
    decided: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Message id and outcome, by message hash."""
    log: list[tuple[SimMessage, str]] = field(default_factory=list)
    """The event log: each decision."""
    definitions: Definitions = field(default_factory=Definitions)

    touched: set[str] = field(default_factory=set)
    """What the notification of a transaction says: `messages`, `wakeups`, `downloads`."""

    # Statements

    def insert_pins(self, event: PinEvent) -> bool:
        """Stores an event once; tells whether it is new."""
        if event.position in self.pins:
            return False
        stored = self.pins[event.position] = StoredPins(event, self.pin_sequence + 1)
        self.pin_sequence += len(event.contexts)
        self.pins_of.setdefault(event.batch, []).append(stored)
        for index, context in enumerate(event.contexts):
            row = PinRow(stored, index)
            self.undecided[row.sequence] = row
            self.pins_with.setdefault(context, []).append(row)
        return True

    def take_back(self, position: Position) -> None:
        """Deletes what an event that was removed left; it is undecided."""
        self.actions.pop(position, None)
        stored = self.pins.pop(position, None)
        if stored is None:
            return
        assert not stored.dispatched, "taken back below a decision"
        self.pins_of[stored.event.batch].remove(stored)
        for index, context in enumerate(stored.event.contexts):
            self.undecided.pop(stored.first + index)
            self.pins_with[context].remove(PinRow(stored, index))

    def mark_dispatched(self, stored: StoredPins, indexes: Iterable[int]) -> None:
        for index in indexes:
            stored.dispatched.add(index)
            self.undecided.pop(stored.first + index, None)

    def undispatched_pins(self, after: int, limit: int, all_after: int) -> list[PinRow]:
        """As `ports.Store.undispatched_pins`."""
        page: list[PinRow] = []
        for sequence, row in self.undecided.items():
            event = row.stored.event
            if sequence <= after or (
                event.masked and sequence <= all_after and event.batch not in self.batches
            ):
                continue
            page.append(row)
            if len(page) == limit:
                break
        return page

    def pins_by_hash(self, hashes: Collection[str]) -> list[PinRow]:
        """Undispatched masked pins."""
        return [
            row
            for pin_hash in hashes
            for row in self.pins_with.get(pin_hash, ())
            if row.stored.event.masked and row.place not in row.stored.dispatched
        ]

    def own_batches_off_chain(self) -> list[OwnBatch]:
        """Own batches that no pin of theirs names, in seal order."""
        return [own for own in self.own.values() if not own.cancelled and not self.is_pinned(own)]

    def is_pinned(self, own: OwnBatch) -> bool:
        """Whether a pin that counts names an own batch."""
        for stored in self.pins_of.get(own.batch.key, ()):
            position = stored.event.position
            final = self.final_events.get(position.contract)
            beyond = final is not None and position > final
            if stored.event.signer == own.signer and not beyond:
                return True
        return False

    def insert_wakeups(self, *wakeups: Wakeup) -> None:
        for wakeup in wakeups:
            self.wakeup_sequence += 1
            self.wakeups[self.wakeup_sequence] = wakeup
        self.touched.add("wakeups")

    def insert_downloads(self, wanted: Iterable[BatchKey | str]) -> None:
        self.downloads.update(dict.fromkeys(wanted))
        self.touched.add("downloads")

    def delete_wakeups(self, through: int) -> None:
        for sequence in [s for s in self.wakeups if s <= through]:
            del self.wakeups[sequence]


class Database:
    """Takes one transaction after the other, and notifies."""

    def __init__(self, *, checks_epoch: bool = True) -> None:
        self.rows = Rows()
        self.checks_epoch = checks_epoch
        self.refused = 0
        self.overruled = 0
        """Transactions of deposed leaders that were committed: none, unless the check is off."""
        self.listeners: list[Callable[[set[str]], None]] = []

    def transact(self, change: Callable[[Rows], Any], fence: int | None) -> Any:
        """Runs a transaction; `fence` is the epoch of the leader whose it is."""
        if fence is not None and fence != self.rows.epoch:
            if self.checks_epoch:
                self.refused += 1
                raise DeposedError
            self.overruled += 1
        answer = change(self.rows)
        if touched := self.rows.touched:
            self.rows.touched = set()
            for listener in self.listeners:
                listener(touched)
        return answer

    def raise_epoch(self, epoch: int) -> None:
        """Makes a newer leader the one whose transactions count."""
        if epoch <= self.rows.epoch:
            raise DeposedError
        self.rows.epoch = epoch
