"""What agreement remembers of the chain: events, their pins, and the messages found in them.

Mutable and private to the room. Nothing here decides; `agreement` and `_private_order` do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from photinus_core.sequencing.decisions import Wait, WaitReason
from photinus_core.sequencing.facts import BatchFacts, MessageFacts, Need, NetworkAction, PinEvent
from photinus_core.sequencing.position import OrderKey, Position


class Blocker(NamedTuple):
    """What something undecided waits for: it is tried again when one of `on` is notified."""

    on: tuple[Hashable, ...]
    reason: WaitReason
    behind: Position | None = None
    need: Need | None = None


def any_of(blockers: list[Blocker], *more: Hashable) -> Blocker:
    """Waits for whatever of these changes first; tells the first one's reason."""
    keys = dict.fromkeys(key for blocker in blockers for key in blocker.on)
    return blockers[0]._replace(on=(*keys, *more))


class Item:
    """Something the machine works on until it is done."""

    __slots__ = ("done", "position", "queued", "wait", "waits_on")
    rank = 0

    def __init__(self, position: Position) -> None:
        self.position = position
        self.queued = False
        self.done = False
        self.wait: Wait | None = None
        self.waits_on: tuple[Hashable, ...] = ()


class EventState(Item):
    """A batch-pin event with undecided pins."""

    __slots__ = (
        "chain",
        "facts",
        "left",
        "occurrences",
        "owner",
        "pins",
        "settled",
        "since",
        "void_reason",
    )

    def __init__(self, chain: PinEvent, since: int) -> None:
        super().__init__(chain.position)
        self.chain = chain
        self.since = since
        self.pins = [PinState(self, index, context) for index, context in enumerate(chain.contexts)]
        for index in chain.dispatched:
            self.pins[index].dispatched = True
        self.left = len(self.pins) - len(chain.dispatched)
        self.facts: BatchFacts | None = None
        self.occurrences: list[Occurrence] = []
        self.settled = False
        """Whether it is known who owned the signer's key before this event; `owner` then tells."""
        self.owner: str | None = None
        self.void_reason = ""

    @property
    def batch_arrived(self) -> Hashable:
        """Notified when the content is here."""
        return (self.position, "batch")

    @property
    def signer_settled(self) -> Hashable:
        """Notified when it is known who signed."""
        return (self.position, "signer")


class PinState:
    """One context of an event."""

    __slots__ = ("dispatched", "event", "hash", "index", "occurrence", "position")

    def __init__(self, event: EventState, index: int, context: str) -> None:
        self.event = event
        self.index = index
        self.hash = context
        self.position = event.position._replace(pin=index)
        self.occurrence: Occurrence | None = None
        self.dispatched = False


class Occurrence(Item):
    """One undecided occurrence of a message on chain, content at hand."""

    __slots__ = (
        "counts",
        "event",
        "failed",
        "key",
        "message",
        "needs",
        "pins",
        "repeated",
        "visiting",
        "void_reason",
    )
    rank = 1

    def __init__(self, event: EventState, message: MessageFacts, pins: list[PinState]) -> None:
        super().__init__(pins[0].position)
        self.event = event
        self.message = message
        self.pins = pins
        self.needs = set(message.needs)
        self.failed = ""
        """Why a need can never be met."""
        self.void_reason = ""
        self.repeated = False
        """Another occurrence of the message was decided."""
        self.counts: bool | None = None
        """Private: whether it is the lowest that counts for each of its pin hashes; None = not
        known.
        """
        self.key: OrderKey | None = None
        self.visiting = False


class ActionState(Item):
    """An undecided network action."""

    __slots__ = ("action",)

    def __init__(self, action: NetworkAction) -> None:
        super().__init__(action.position)
        self.action = action


class _Placed(Protocol):
    position: Position


_P = TypeVar("_P", bound=_Placed)


class ByPosition(Generic[_P]):
    """Things sorted by position.

    Appending at the end and removing near the front are the fast cases.
    """

    __slots__ = ("_positions", "_things")

    def __init__(self) -> None:
        self._positions: list[Position] = []
        self._things: list[_P] = []

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[_P]:
        return iter(self._things)

    def add(self, thing: _P) -> None:
        """Adds a thing that is not in it."""
        position = thing.position
        if not self._positions or position > self._positions[-1]:
            self._positions.append(position)
            self._things.append(thing)
            return
        at = bisect_left(self._positions, position)
        self._positions.insert(at, position)
        self._things.insert(at, thing)

    def discard(self, thing: _P) -> bool:
        """Removes a thing; tells whether it was in."""
        at = bisect_left(self._positions, thing.position)
        if at == len(self._positions) or self._things[at] is not thing:
            return False
        del self._positions[at], self._things[at]
        return True

    def below(self, position: Position) -> _P | None:
        """The thing closest below a position."""
        at = bisect_left(self._positions, position)
        return self._things[at - 1] if at else None


class ContextQueue:
    """Undecided pins of one broadcast context.

    Strays are pins whose signer nobody knew before their position. They can be identity claims at
    best, so they hold back identity messages, and besides only what their own signer sent later.
    """

    __slots__ = ("holding", "strays", "strays_of")

    def __init__(self) -> None:
        self.holding: ByPosition[PinState] = ByPosition()
        self.strays: ByPosition[PinState] = ByPosition()
        self.strays_of: dict[str, ByPosition[PinState]] = {}

    def __len__(self) -> int:
        return len(self.holding) + len(self.strays)

    def make_stray(self, pin: PinState) -> None:
        """Notes that a pin's signer was unknown before it."""
        self.holding.discard(pin)
        self.strays.add(pin)
        self.strays_of.setdefault(pin.event.chain.signer, ByPosition()).add(pin)

    def discard(self, pin: PinState) -> None:
        """Takes a decided pin out."""
        if not self.holding.discard(pin) and self.strays.discard(pin):
            mine = self.strays_of[pin.event.chain.signer]
            mine.discard(pin)
            if not mine:
                del self.strays_of[pin.event.chain.signer]

    def ahead_of(self, occurrence: Occurrence) -> PinState | None:
        """The closest lower pin that must be decided before this message."""
        message, position = occurrence.message, occurrence.position
        pin = self.holding.below(position)
        if pin is None and self.strays:
            strays = (
                self.strays
                if message.is_identity
                else self.strays_of.get(occurrence.event.chain.signer)
            )
            pin = strays.below(position) if strays else None
        return pin

    def closest_below(self, position: Position, *, with_strays: bool) -> PinState | None:
        """The closest lower pin that may still define something."""
        pin = self.holding.below(position)
        if pin is None and with_strays:
            pin = self.strays.below(position)
        return pin
