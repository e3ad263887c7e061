"""Known holes, put back one at a time, to see that the simulator finds them.

FireFly's (by section of its description), our own former ones, and fencing removed. Production has
no switch for this: a hole is a subclass that undoes one rule, or a flag of the simulated driver.
"""

from __future__ import annotations

from typing import Any, Final

from photinus_core.model.canonical import broadcast_context
from photinus_core.sequencing._state import Blocker, EventState, Occurrence
from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.batching import Batching, Seal
from photinus_core.sequencing.decisions import Decision
from photinus_core.sequencing.facts import BatchFacts, Reference
from photinus_core.sequencing.feeding import Feed
from photinus_core.sequencing.position import OrderKey, Position
from photinus_core.sequencing.view import DefinitionView

from tests.simulation.member import Holes
from tests.simulation.scenario import Kind


class NoRivals(Agreement):
    """Internals §2.4: a private message waits for its own author's nonces only."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._private.rival = _no_rival  # type: ignore[method-assign]  # the hole


class ContextsNotCompared(Agreement):
    """Internals §2.4: what is on chain is never compared with what the batch implies."""

    def _add_content(self, event: EventState, facts: BatchFacts) -> None:
        implied = [broadcast_context(topic) for m in facts.messages for topic in m.topics]
        if not event.chain.masked and len(implied) == len(event.pins):
            queues = self._broadcasts._queues
            for pin, context in zip(event.pins, implied, strict=True):
                queues[pin.hash].discard(pin)
                pin.hash = context
                queues[context].holding.add(pin)
            object.__setattr__(event.chain, "contexts", tuple(implied))
        super()._add_content(event, facts)


class PageRemembersTooLittle(Agreement):
    """Internals §3.5: once a page dispatched a message, its later ones pass parked ones on that
    topic.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._passed: set[str] = set()
        self._true_ahead = self._broadcasts.ahead
        self._broadcasts.ahead = self._ahead  # type: ignore[method-assign]  # the hole

    def decide(self, view: DefinitionView, limit: int = 1000) -> list[Decision]:
        for occurrences in self._occurrences.values():
            for occurrence in occurrences:
                self._agenda.queue(occurrence)
        self._passed = set()
        return super().decide(view, limit)

    def _ahead(self, occurrence: Occurrence) -> Blocker | None:
        blocker = self._true_ahead(occurrence)
        contexts = {pin.hash for pin in occurrence.pins}
        if blocker is not None and not contexts <= self._passed:
            return blocker
        self._passed |= contexts
        return None


class RepeatsCount(Agreement):
    """Internals §3.6: a message that is pinned again is processed again."""

    def _is_repeat(self, occurrence: Occurrence) -> bool:
        return False


class ReferencesAsOfNow(Agreement):
    """Internals §3.3: a datatype that is not there when a message is looked at does not exist."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._true_resolve = self._broadcasts.resolve
        self._broadcasts.resolve = self._resolve  # type: ignore[method-assign]  # the hole

    def _resolve(
        self, reference: Reference, position: Position, view: DefinitionView
    ) -> Position | Blocker | None:
        found = self._true_resolve(reference, position, view)
        return None if isinstance(found, Blocker) else found


def _no_rival(occurrence: Occurrence, key: OrderKey) -> None:
    return None


class KnowsNewer(Feed):
    """Before 3f4ac7e: a question came upon a newer pin, and it was handed over before its turn."""

    def may_know(self, sequence: int) -> bool:
        return True


class KnowsBacklog(Feed):
    """A pin of the backlog counted as known before those below it were read."""

    def __init__(self, pins_at_start: int) -> None:
        super().__init__(pins_at_start)
        self._caught_up = True


class TakesOldPages(Batching):
    """A page of waiting messages that was read before a seal brought its messages back."""

    def sealed(self, seal: Seal, batch: str) -> None:
        super().sealed(seal, batch)
        self._sealed_meanwhile.clear()


_ALL: Final = 1 << 60

_SINGLE: Final = {
    "2.4 private order": Holes(NoRivals),
    "2.4 pins not compared": Holes(ContextsNotCompared),
    "3.3 references as of arrival": Holes(ReferencesAsOfNow),
    "3.5 page hole": Holes(PageRemembersTooLittle),
    "3.6 repeats": Holes(RepeatsCount),
    "3.7 lost wake-ups": Holes(wakeups_in_memory=True),
    "newer pins handed over early": Holes(feed=KnowsNewer),
    "pins without content left out": Holes(masked_fed_after=_ALL),
    "both, as before 3f4ac7e": Holes(feed=KnowsNewer, masked_fed_after=_ALL),
    "backlog not awaited": Holes(feed=KnowsBacklog),
    "batches sealed again": Holes(seals_again=True),
    "old pages of messages": Holes(batching=TakesOldPages),
    "decided on pins taken back": Holes(decides_what_is_gone=True),
    "pins taken back untold": Holes(removals_untold=True),
}
_REPLICAS: Final = {
    "contract's end apart from its pins": Holes(renews_pins_apart=True),
    "operation keys made anew": Holes(makes_keys_anew=True),
    "no epoch check": Holes(no_epoch_in_database=True, no_epoch_in_connectors=True),
    "no epoch check in the database": Holes(no_epoch_in_database=True),
    "no epoch check in connectors": Holes(no_epoch_in_connectors=True),
}

HOLES: Final = _SINGLE | _REPLICAS
KINDS: Final = dict.fromkeys(_SINGLE, Kind.SINGLE) | dict.fromkeys(_REPLICAS, Kind.REPLICAS)
"""With which members each hole is looked for."""
