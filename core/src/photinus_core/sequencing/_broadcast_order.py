"""The order of broadcasts, and what follows from it: whose a key was, which definitions there were.

Pins of a context are decided in chain order (`ContextQueue`). Because definitions are
broadcasts, the undecided pins below a position also say what may still come into effect below
it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from photinus_core.sequencing._agenda import Agenda
from photinus_core.sequencing._state import (
    Blocker,
    ByPosition,
    ContextQueue,
    EventState,
    Occurrence,
    PinState,
)
from photinus_core.sequencing.decisions import WaitReason
from photinus_core.sequencing.facts import DefinitionReference, KeyReference, Reference
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import DefinitionView


class BroadcastOrder:
    """Undecided unmasked pins, by context, and what may register a key, by key."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._queues: defaultdict[str, ContextQueue] = defaultdict(ContextQueue)
        self._may_claim: dict[str, ByPosition[EventState | Occurrence]] = {}
        """What may register its signer's key: undecided claims, and events without content."""

    # Changes

    def add_event(self, event: EventState) -> None:
        """Takes the undecided pins of an unmasked event."""
        self._may_claim.setdefault(event.chain.signer, ByPosition()).add(event)
        for pin in event.pins:
            if not pin.dispatched:
                self._queues[pin.hash].holding.add(pin)

    def add_content(self, event: EventState) -> None:
        """From now on only the claims in the event may register its signer's key."""
        self._cannot_claim(event.chain.signer, event)
        for occurrence in filter(claims_its_key, event.occurrences):
            self._may_claim.setdefault(event.chain.signer, ByPosition()).add(occurrence)

    def make_stray(self, event: EventState) -> None:
        """Nobody owned the signer's key before the event."""
        for pin in event.pins:
            if not pin.dispatched:
                self._queues[pin.hash].make_stray(pin)
                self._agenda.notify(pin)

    def remove_pin(self, pin: PinState) -> None:
        """A pin is decided."""
        queue = self._queues[pin.hash]
        queue.discard(pin)
        if not queue:
            del self._queues[pin.hash]
        self._agenda.notify(pin)

    def remove(self, thing: EventState | Occurrence) -> None:
        """An event or a message is decided: it cannot register a key any more, if it did not."""
        event = thing.event if isinstance(thing, Occurrence) else thing
        self._cannot_claim(event.chain.signer, thing)

    def took_effect(self, occurrence: Occurrence, references: list[Reference]) -> None:
        """A definition was confirmed: what it may have brought about is there from now on."""
        for pin in occurrence.pins:
            self._agenda.notify(_defined(pin.hash))
        for reference in references:
            if isinstance(reference, KeyReference):
                self._agenda.notify(_owned(reference.key))

    # Questions

    def ahead(self, occurrence: Occurrence) -> Blocker | None:
        """What holds a message back in its topics."""
        for pin in occurrence.pins:
            ahead = self._queues[pin.hash].ahead_of(occurrence)
            if ahead is not None:
                return Blocker((ahead,), WaitReason.BEHIND_PIN, ahead.position)
        return None

    def owner_before(
        self, key: str, position: Position, view: DefinitionView
    ) -> str | Blocker | None:
        """Who owned a chain key before a position; ownership begins with a claim that it signed."""
        registration = view.registration(key)
        if registration is not None:
            return registration.did if registration.position < position else None
        claims = self._may_claim.get(key)
        claim = claims.below(position) if claims else None
        if claim is not None:
            keys = (claim, _owned(key))
            return Blocker(keys, WaitReason.DEFINITION_UNDECIDED, claim.position)
        for context in view.open_claims(key):
            # What is missing is a verification, which nobody unknown can give.
            if blocker := self._may_define(context, position, with_strays=False):
                return blocker._replace(on=(*blocker.on, _owned(key)))
        return None

    def resolve(
        self, reference: Reference, position: Position, view: DefinitionView
    ) -> Position | Blocker | None:
        """Where a reference took effect, if below the position; None if nowhere."""
        if isinstance(reference, KeyReference):
            owner = self.owner_before(reference.key, position, view)
            if isinstance(owner, Blocker):
                return owner
            registration = view.registration(reference.key)
            return registration.position if owner is not None and registration else None
        assert isinstance(reference, DefinitionReference)
        effective = view.effective_at(reference)
        if effective is not None:
            return effective if effective < position else None
        return self._may_define(reference.context, position, with_strays=reference.is_identity)

    def _may_define(self, context: str, position: Position, *, with_strays: bool) -> Blocker | None:
        """An undecided lower pin of a definition's topic, or one lower yet, settles the matter."""
        queue = self._queues.get(context)
        pin = queue.closest_below(position, with_strays=with_strays) if queue else None
        if pin is None:
            return None
        return Blocker((pin, _defined(context)), WaitReason.DEFINITION_UNDECIDED, pin.position)

    def _cannot_claim(self, signer: str, thing: EventState | Occurrence) -> None:
        claims = self._may_claim.get(signer)
        if claims is not None and claims.discard(thing):
            if not claims:
                del self._may_claim[signer]
            self._agenda.notify(thing)


def claims_its_key(occurrence: Occurrence) -> bool:
    """Whether a message may register its signer's key."""
    message = occurrence.message
    return message.is_claim and message.key == occurrence.event.chain.signer


def _defined(context: str) -> Hashable:
    """Notified when a definition of this context took effect."""
    return ("defined", context)


def _owned(key: str) -> Hashable:
    """Notified when a key may have got its owner."""
    return ("owned", key)
