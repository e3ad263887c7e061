"""The order of private messages: nonce chains, keys and rivals.

Contexts on chain are masked, so a pin says nothing until its hash is met: each author counts
nonces per topic and group, and the hash of the next one is known. For every author of a context
the run of hashes from the expected nonce on is kept as far as the chain has them. A message is
decided when all its pins are expected and no other expected pin in its contexts, at a position
up to T, belongs to a message with a smaller or unknown key (`OrderKey`; the rule as a model with
its proof by random chains is tests/simulation/private_order_model.py).

Of several pins with one hash the lowest counts whose signer was registered to the author before
it and whose message says that it is this author's, in this topic and group; the others are void,
and so is a message with a void pin. A pin that is no nonce of its author at all is never
expected; its message is parked, and keeps its place for its other pins. All of this depends on
positions and on what hashes cover, never on the order of arrival.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Container, Generator, Iterable
from itertools import islice
from typing import Any, Final, TypeAlias

from photinus_core.model.canonical import private_context, private_pin, private_pins
from photinus_core.sequencing._agenda import Agenda
from photinus_core.sequencing._state import (
    Blocker,
    EventState,
    Occurrence,
    PinState,
    any_of,
)
from photinus_core.sequencing.decisions import NextPinUpdate, WaitReason
from photinus_core.sequencing.facts import BatchKey, ContextState, PrivateContext
from photinus_core.sequencing.position import OrderKey, Position


class _NotYet:
    """The key of a message whose predecessor is not on chain: larger than any key at hand."""


NOT_YET: Final = _NotYet()
Step: TypeAlias = "Generator[Step, Any, Any]"


def _contexts_of(occurrence: Occurrence) -> list[PrivateContext]:
    group = occurrence.message.group
    assert group is not None
    return [PrivateContext(topic, group) for topic in occurrence.message.topics]


def _says(occurrence: Occurrence, pin: PinState, chain: _Chain) -> bool:
    """Whether a message says of its pin that it is the chain's."""
    message, name = occurrence.message, chain.context.name
    topic = message.topics[pin.index - occurrence.pins[0].index]
    return (message.author, message.group, topic) == (chain.author, name.group, name.topic)


def _run(step: Step) -> Any:
    """Runs steps that call each other without Python's stack: senders choose how deep it gets."""
    stack, answer = [step], None
    while stack:
        try:
            deeper = stack[-1].send(answer)
        except StopIteration as stop:
            stack.pop()
            answer = stop.value
        else:
            stack.append(deeper)
            answer = None
    return answer


class _Chain:
    """One author's nonces in one context."""

    __slots__ = ("author", "context", "expected", "last_key", "run", "used")

    def __init__(
        self, context: _Context, author: str, expected: int, last_key: OrderKey | None
    ) -> None:
        self.context = context
        self.author = author
        self.expected = expected
        self.last_key = last_key
        self.run: deque[str] = deque()
        """Pin hashes from the expected nonce on; all but the last are on chain."""
        self.used: set[str] | None = None
        """Pin hashes below the expected nonce; computed when somebody first asks."""

    def was_used(self, pin_hash: str) -> bool:
        """Whether a nonce below the expected one has this hash."""
        if self.used is None:
            name = self.context.name
            self.used = set(private_pins(name.topic, name.group, self.author, self.expected))
        return pin_hash in self.used


class _Context:
    """A topic within a group, with the chain of every member."""

    __slots__ = ("chains", "name")

    def __init__(self, name: PrivateContext) -> None:
        self.name = name
        self.chains: dict[str, _Chain] = {}


class PrivateOrder:
    """Says whose turn it is in private contexts."""

    def __init__(
        self,
        agenda: Agenda,
        evicted: Callable[[EventState], None],
        *,
        complete: bool,
        events_max: int,
        contexts_max: int,
    ) -> None:
        self._agenda = agenda
        self._evicted = evicted
        self._events_max = events_max
        self._contexts_max = contexts_max
        self.complete = complete
        """Whether all undecided masked pins are in memory; otherwise they are asked for by hash."""
        self._groups: dict[str, tuple[str, ...]] = {}
        self._contexts: dict[PrivateContext, _Context] = {}
        self._recent: OrderedDict[PrivateContext, None] = OrderedDict()
        """Contexts in memory, the longest unused first."""
        self._live: Counter[PrivateContext] = Counter()
        """Undecided messages by context."""
        self._pins: dict[str, list[PinState]] = {}
        """Undecided masked pins by hash, by position."""
        self._unclaimed: OrderedDict[Position, EventState] = OrderedDict()
        """Events without content and without a hash anybody cares for: the first to leave memory.

        """
        self._in_run: dict[str, tuple[_Chain, int]] = {}
        """Hashes of all runs: whose, which nonce."""
        self._looked_up: set[str] = set()
        self.wanted_contexts: dict[PrivateContext, None] = {}
        self.wanted_pins: dict[str, None] = {}

    # Inputs

    def add_group(self, group: str, members: Iterable[str]) -> None:
        """Learns who is in a group; its hash proves it, so the first answer is the only one."""
        if group not in self._groups:
            self._groups[group] = tuple(dict.fromkeys(members))
            self._agenda.notify(("group", group))

    def add_event(self, event: EventState) -> None:
        """Takes the pins of a masked event."""
        cared_for = False
        for pin in event.pins:
            if pin.dispatched:
                continue
            known = self._pins.setdefault(pin.hash, [])
            known.append(pin)
            if len(known) > 1:
                known.sort(key=lambda other: other.position)
            where = self._in_run.get(pin.hash)
            if where is not None:
                self._extend(where[0])
            cared_for = (
                cared_for
                or where is not None
                or pin.hash in self.wanted_pins
                or pin.hash in self._looked_up
            )
        if not cared_for:
            self._unclaimed[event.position] = event

    def evict(self, kept: Container[BatchKey]) -> None:
        """Lets the oldest events go that nobody cares for, where there are too many.

        Args:
            kept: Batches whose events stay, and with them all that are newer.
        """
        while len(self._unclaimed) > self._events_max:
            oldest = next(iter(self._unclaimed.values()))
            if oldest.chain.batch in kept:
                return
            del self._unclaimed[oldest.position]
            if self.complete:
                # Pins of runs never leave, so what is known of them so far stays known.
                self.complete = False
                self._looked_up.update(self._in_run)
            self.remove_event(oldest)
            self._evicted(oldest)

    def claim_event(self, event: EventState) -> None:
        """Keeps an event in memory: its content is here."""
        self._unclaimed.pop(event.position, None)

    def remove_event(self, event: EventState) -> None:
        """Takes the undecided pins of an event out."""
        self._unclaimed.pop(event.position, None)
        for pin in event.pins:
            self._remove_pin(pin)

    def add_context(self, state: ContextState) -> None:
        """Loads the stored next pins of a context. One that is in memory stays as it is."""
        name = state.context
        self.wanted_contexts.pop(name, None)
        if name in self._contexts or name.group not in self._groups:
            return
        context = self._contexts[name] = _Context(name)
        for author in self._groups[name.group]:
            stored = state.chains.get(author)
            chain = _Chain(
                context,
                author,
                stored.nonce if stored else 0,
                stored.last_key if stored else None,
            )
            context.chains[author] = chain
            self._extend(chain)
        self._recent[name] = None
        self._agenda.notify(("context", name))
        self._evict_contexts()

    def add_found(self, hashes: Iterable[str]) -> None:
        """Notes that the undecided pins with these hashes are all in memory now."""
        for pin_hash in hashes:
            self.wanted_pins.pop(pin_hash, None)
            self._looked_up.add(pin_hash)
            self._agenda.notify(("lookup", pin_hash))

    # Questions

    def turn(self, occurrence: Occurrence) -> OrderKey | Blocker | str:
        """Says whether it is a message's turn.

        Returns:
            Its key if so; what it waits for; or why it is void.
        """
        message, event = occurrence.message, occurrence.event
        if event.owner != message.author:
            return f"signed by {event.owner or 'an unregistered key'}, not by its author"
        members = self._groups.get(message.group or "")
        if members is None:
            return Blocker((("group", message.group),), WaitReason.GROUP_UNKNOWN)
        if message.author not in members:
            return "its author is not in the group"
        stands = _run(self._stands(occurrence))
        if isinstance(stands, Blocker):
            return stands
        if not stands:
            return "a lower pin uses the same nonce"
        for pin in occurrence.pins:
            where = self._in_run.get(pin.hash)
            if where is None or where[0] is not self._chain_of(pin):
                return Blocker((("run", pin.hash),), WaitReason.EARLIER_NONCE_MISSING)
            chain, nonce = where
            if nonce != chain.expected:
                ahead = self._pins.get(chain.run[nonce - 1 - chain.expected])
                behind = ahead[0].position if ahead else None
                return Blocker(((id(chain), nonce),), WaitReason.BEHIND_PIN, behind)
        key = _run(self._key(occurrence))
        assert isinstance(key, OrderKey), "all its pins are expected"
        return self.rival(occurrence, key) or key

    def rival(self, occurrence: Occurrence, key: OrderKey) -> Blocker | None:
        """What must be decided before a message whose pins are all expected."""
        for pin in occurrence.pins:
            own = self._in_run[pin.hash][0]
            for chain in own.context.chains.values():
                if chain is not own and (blocker := self._rival_in(chain, key)):
                    return blocker
        return None

    def _rival_in(self, chain: _Chain, key: OrderKey) -> Blocker | None:
        expected = chain.run[0]
        if blocker := self._lookup(expected):
            return blocker
        for pin in self._pins.get(expected, ()):
            position = pin.occurrence.position if pin.occurrence else pin.position
            if position > key.latest:
                return None
            counted = _run(self._counted(pin, chain))
            if isinstance(counted, Blocker):
                return counted
            if not counted:
                continue
            assert pin.occurrence is not None
            rival = _run(self._key(pin.occurrence))
            if isinstance(rival, Blocker):
                return rival
            if rival is not NOT_YET and rival < key:
                return Blocker((pin.occurrence,), WaitReason.BEHIND_PIN, pin.occurrence.position)
            return None
        return None

    def _stands(self, occurrence: Occurrence) -> Step:
        """Whether a message is the lowest that counts for each pin: True, False or a Blocker."""
        if occurrence.void_reason:
            return False
        if occurrence.counts is not None:
            return occurrence.counts
        unknown: list[Blocker] = []
        for pin in occurrence.pins:
            chain = self._chain_of(pin)
            if isinstance(chain, Blocker):
                unknown.append(chain)
                continue
            where = self._in_run.get(pin.hash)
            if (where is None or where[0] is not chain) and chain.was_used(pin.hash):
                occurrence.counts = False
                return False
            if blocker := self._lookup(pin.hash):
                unknown.append(blocker)
            for other in self._pins.get(pin.hash, ()):
                if other.position >= pin.position:
                    break
                counted = yield self._counted(other, chain)
                if isinstance(counted, Blocker):
                    unknown.append(counted)
                elif counted:
                    occurrence.counts = False
                    return False
        if unknown:
            return any_of(unknown, occurrence)
        occurrence.counts = True
        return True

    def _counted(self, pin: PinState, chain: _Chain) -> Step:
        """Whether a pin counts as the chain's: True, False or a Blocker."""
        event = pin.event
        if not event.settled:
            return Blocker((event.signer_settled,), WaitReason.DEFINITION_UNDECIDED, event.position)
        if event.owner != chain.author or event.void_reason:
            return False
        if event.facts is None:
            return Blocker((event.batch_arrived,), WaitReason.BEHIND_PIN, pin.position)
        if pin.occurrence is None or not _says(pin.occurrence, pin, chain):
            return False
        return (yield self._stands(pin.occurrence))

    def _key(self, occurrence: Occurrence) -> Step:
        """The key of a message: an OrderKey, NOT_YET or a Blocker."""
        if occurrence.key is not None:
            return occurrence.key
        if occurrence.visiting:
            # Nonces that cross: each needs the other first, so neither is ever decided.
            return NOT_YET
        occurrence.visiting = True
        before: list[OrderKey] = []
        unknown: list[Blocker] = []
        not_yet = False
        for pin in occurrence.pins:
            chain = self._chain_of(pin)
            if isinstance(chain, Blocker):
                unknown.append(chain)
                continue
            where = self._in_run.get(pin.hash)
            if where is None or where[0] is not chain:
                if blocker := self._lookup(chain.run[-1]):
                    unknown.append(blocker)
                else:
                    not_yet = True
                continue
            nonce = where[1]
            if nonce == chain.expected:
                if chain.last_key is not None:
                    before.append(chain.last_key)
                continue
            previous = yield self._occupant(chain.run[nonce - 1 - chain.expected], chain)
            key = (yield self._key(previous)) if isinstance(previous, Occurrence) else previous
            if isinstance(key, Blocker):
                unknown.append(key)
            elif key is NOT_YET:
                not_yet = True
            else:
                before.append(key)
        occurrence.visiting = False
        if not_yet:
            return NOT_YET
        if unknown:
            return any_of(unknown, occurrence)
        own = occurrence.position
        latest = max([own, *(key.latest for key in before)])
        depth = 0 if latest == own else 1 + max(k.depth for k in before if k.latest == latest)
        occurrence.key = OrderKey(latest, depth, own)
        return occurrence.key

    def _occupant(self, pin_hash: str, chain: _Chain) -> Step:
        """The message that counts for a hash of a run: an Occurrence, NOT_YET or a Blocker."""
        if blocker := self._lookup(pin_hash):
            return blocker
        for pin in self._pins.get(pin_hash, ()):
            counted = yield self._counted(pin, chain)
            if isinstance(counted, Blocker):
                return counted
            if counted:
                return pin.occurrence
        return NOT_YET

    def _chain_of(self, pin: PinState) -> _Chain | Blocker:
        """The chain that a pin's message says it is of."""
        occurrence = pin.occurrence
        assert occurrence is not None
        message = occurrence.message
        assert message.group is not None
        name = PrivateContext(message.topics[pin.index - occurrence.pins[0].index], message.group)
        context = self._contexts.get(name)
        if context is None:
            self.wanted_contexts[name] = None
            return Blocker((("context", name),), WaitReason.LOOKUP)
        return context.chains[message.author]

    def _lookup(self, pin_hash: str) -> Blocker | None:
        if self.complete or pin_hash in self._looked_up:
            return None
        self.wanted_pins[pin_hash] = None
        return Blocker((("lookup", pin_hash),), WaitReason.LOOKUP)

    # Decisions

    def advance(
        self, occurrence: Occurrence, key: OrderKey
    ) -> tuple[list[NextPinUpdate], list[Occurrence]]:
        """Uses up the nonces of a message whose turn it was.

        Returns:
            The next pins to store, and messages that are void now: they repeat one of its pins.
        """
        updates: list[NextPinUpdate] = []
        void: list[Occurrence] = []
        for pin in occurrence.pins:
            chain, _ = self._in_run.pop(pin.hash)
            chain.run.popleft()
            chain.expected += 1
            chain.last_key = key
            if chain.used is not None:
                chain.used.add(pin.hash)
            void.extend(
                other.occurrence
                for other in self._pins.pop(pin.hash)
                if other is not pin and other.occurrence and _says(other.occurrence, other, chain)
            )
            self._looked_up.discard(pin.hash)
            self._extend(chain)
            name = chain.context.name
            self._recent.move_to_end(name)
            updates.append(
                NextPinUpdate(
                    topic=name.topic,
                    group=name.group,
                    context=private_context(name.topic, name.group),
                    author=chain.author,
                    nonce=chain.expected,
                    hash=chain.run[0],
                    last_key=key,
                )
            )
            self._agenda.notify((id(chain), chain.expected))
        return updates, void

    def enter(self, occurrence: Occurrence) -> None:
        """Keeps an undecided message's contexts in memory."""
        self._live.update(_contexts_of(occurrence))

    def leave(self, occurrence: Occurrence) -> None:
        """Takes a decided message, or a void one, out."""
        for name in _contexts_of(occurrence):
            self._live[name] -= 1
            if not self._live[name]:
                del self._live[name]
        for pin in occurrence.pins:
            self._remove_pin(pin)

    def _remove_pin(self, pin: PinState) -> None:
        pins = self._pins.get(pin.hash)
        if pins is None or pin not in pins:
            return
        pins.remove(pin)
        if not pins:
            del self._pins[pin.hash]
            if pin.hash not in self._in_run:
                self._looked_up.discard(pin.hash)

    def _evict_contexts(self) -> None:
        for name in list(islice(self._recent, max(0, len(self._recent) - self._contexts_max))):
            context = self._contexts[name]
            if name in self._live or any(len(c.run) > 1 for c in context.chains.values()):
                self._recent.move_to_end(name)
                continue
            for chain in context.chains.values():
                for pin_hash in chain.run:
                    del self._in_run[pin_hash]
                    self.wanted_pins.pop(pin_hash, None)
                    self._looked_up.discard(pin_hash)
            del self._contexts[name], self._recent[name]

    def _extend(self, chain: _Chain) -> None:
        """Follows the chain as far as its hashes are on chain, and one further."""
        name, author = chain.context.name, chain.author
        while not chain.run or chain.run[-1] in self._pins:
            nonce = chain.expected + len(chain.run)
            pin_hash = private_pin(name.topic, name.group, author, nonce)
            chain.run.append(pin_hash)
            self._in_run[pin_hash] = (chain, nonce)
            for pin in self._pins.get(pin_hash, ()):
                self._unclaimed.pop(pin.event.position, None)
            if not self.complete and pin_hash not in self._looked_up:
                self.wanted_pins[pin_hash] = None
            self._agenda.notify(("run", pin_hash))
