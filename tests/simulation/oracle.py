"""What must come out, computed from the chain alone by someone who has all data that ever comes.

The chain is walked once, in order. Broadcasts are decided on the spot, or are found to wait for
something that never comes; what that is, is remembered (`_Open`), and it is all that can hold up
anything above. Private messages are given, group by group, to the model of the ordering rule
(`private_order_model`). None of the production machine's code is used except the content rules
(`Definitions`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from photinus_core.model.canonical import broadcast_context, private_pin
from photinus_core.sequencing.facts import (
    BatchKey,
    ChainEvent,
    DefinitionReference,
    KeyReference,
    MessageFacts,
    PinEvent,
    Reference,
)
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import Candidate, Confirm

from tests.simulation.content import Definitions, SimBatch, SimMessage, facts_of_batch
from tests.simulation.private_order_model import Member as Model
from tests.simulation.private_order_model import ModelPin

NONCES_MAX: Final = 200
"""More than any author of a run uses in one context."""

UNSETTLED: Final = "?"
"""Nobody can say who owned a key before an event."""


@dataclass
class Verdicts:
    """Outcome by message hash, and order of the confirmed ones. What is missing is never decided."""

    outcomes: dict[str, str] = field(default_factory=dict)
    broadcast_order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Message ids by topic."""
    private_order: dict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Message ids by topic and group."""
    unjudged_groups: set[str] = field(default_factory=set)
    """Groups in which something never comes that the model has no word for; members still must
    agree.
    """
    definitions: Definitions = field(default_factory=Definitions)


@dataclass
class _Open:
    """What is below the walk's position and never decided."""

    contexts: set[str] = field(default_factory=set)
    strays: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By context: signers unknown before their pins."""
    keys: set[str] = field(default_factory=set)
    """Keys that may have been claimed."""

    def add(self, signer: str, owner: str | None, contexts: tuple[str, ...]) -> None:
        if owner is None:
            for context in contexts:
                self.strays[context].add(signer)
        else:
            self.contexts.update(contexts)

    def holds_up(self, facts: MessageFacts, signer: str, contexts: tuple[str, ...]) -> bool:
        for context in contexts:
            strays = self.strays.get(context, set())
            if context in self.contexts or signer in strays or (strays and facts.is_identity):
                return True
        return False


@dataclass(frozen=True)
class _Found:
    """One occurrence of a message, as of its position."""

    position: Position
    event: PinEvent
    message: SimMessage
    contexts: tuple[str, ...]
    owner: str | None = None
    held: bool = False
    """Private: a definition it refers to is never decided."""


def verdicts(
    chain: Mapping[int, list[ChainEvent]],
    batches: Mapping[BatchKey, SimBatch],
    groups: Mapping[str, tuple[str, ...]],
) -> Verdicts:
    """Decides a whole chain."""
    walk = _Walk(batches, groups)
    for event in walk.events(chain):
        walk.take(event)
    for group, found_in_group in walk.private.items():
        _private(group, groups[group], found_in_group, walk.result)
    return walk.result


class _Walk:
    def __init__(
        self, batches: Mapping[BatchKey, SimBatch], groups: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.batches = batches
        self.groups = groups
        self.result = Verdicts()
        self.open = _Open()
        self.private: dict[str, list[_Found]] = defaultdict(list)

    def events(self, chain: Mapping[int, list[ChainEvent]]) -> Iterator[PinEvent]:
        """Pin events that count; actions are judged when their turn comes."""
        for contract in sorted(chain):
            for event in chain[contract]:
                if isinstance(event, PinEvent):
                    yield event
                elif event.kind == "terminate":
                    owner = self.owner(event.signer)
                    if owner == UNSETTLED:
                        return
                    if owner and self.result.definitions.owners[event.signer].root:
                        break
            else:
                return

    def owner(self, key: str) -> str | None:
        """Who owns a key as of now: a DID, None, or UNSETTLED."""
        definitions = self.result.definitions
        if key in definitions.owners:
            return definitions.owners[key].did
        if key in self.open.keys or self.open.contexts & set(definitions.open_claims(key)):
            return UNSETTLED
        return None

    def take(self, event: PinEvent) -> None:
        batch = self.batches.get(event.batch)
        owner = self.owner(event.signer)
        if batch is None:
            if not event.masked:
                self.open.add(event.signer, owner, event.contexts)
                self.open.keys.add(event.signer)
            return
        found = _messages(event, batch, owner)
        if event.masked:
            for one in found:
                group = one.message.group
                if group is not None and group in self.groups:
                    held = self.waits_for_definitions(one)
                    self.private[group].append(
                        _Found(one.position, event, one.message, one.contexts, owner, held)
                    )
        elif all(f.contexts == tuple(map(broadcast_context, f.message.topics)) for f in found):
            for one in found:
                self.broadcast(one)

    def broadcast(self, found: _Found) -> None:
        message, signer = found.message, found.event.signer
        facts = _facts(message)
        if message.key != signer:
            return
        repeated = message.hash in self.result.outcomes
        if (
            found.owner == UNSETTLED
            or self.open.holds_up(facts, signer, found.contexts)
            or (
                not repeated and not _is_refused(found, facts) and self.waits_for_definitions(found)
            )
        ):
            self.open.add(signer, found.owner, found.contexts)
            if facts.is_claim:
                self.open.keys.add(signer)
        elif not repeated:
            confirmed = _judge(found, self.result)
            self.result.outcomes[message.hash] = "confirmed" if confirmed else "rejected"
            if confirmed:
                for topic in message.topics:
                    self.result.broadcast_order[topic].append(message.id)

    def waits_for_definitions(self, found: _Found) -> bool:
        """Whether something it refers to is never decided."""
        for reference in _references(found, self.result.definitions):
            if isinstance(reference, KeyReference):
                if self.owner(reference.key) == UNSETTLED:
                    return True
            elif (
                reference.context in self.open.contexts
                and self.result.definitions.effective_at(reference) is None
            ):
                return True
        return False


def _messages(event: PinEvent, batch: SimBatch, owner: str | None) -> list[_Found]:
    found, base = [], 0
    for message in batch.messages:
        contexts = event.contexts[base : base + len(message.topics)]
        found.append(_Found(event.position._replace(pin=base), event, message, contexts, owner))
        base += len(message.topics)
    return found if base == len(event.contexts) else []


def _facts(message: SimMessage) -> MessageFacts:
    batch = SimBatch("", (message,), message.group)
    return facts_of_batch(batch, {message.body.blob}, ()).messages[0]


def _is_refused(found: _Found, facts: MessageFacts) -> bool:
    """Whether it is rejected whatever it refers to."""
    message = found.message
    if message.key != found.event.signer:
        return True
    if not facts.is_claim and found.owner != message.author:
        return True
    return facts.definition_topic is not None and message.topics != (facts.definition_topic,)


def _references(found: _Found, definitions: Definitions) -> list[Reference]:
    facts = _facts(found.message)
    references: list[Reference] = [*facts.references]
    references += definitions.further_references(facts, found.position)
    if facts.is_claim:
        references.append(KeyReference(found.message.key))
    return references


def _judge(found: _Found, result: Verdicts) -> bool:
    message, definitions = found.message, result.definitions
    facts = _facts(message)
    if _is_refused(found, facts):
        return False
    resolved: dict[Reference, Position | None] = {}
    for reference in _references(found, definitions):
        where: Position | None
        match reference:
            case KeyReference(key):
                holder = definitions.owners.get(key)
                where = holder.position if holder else None
            case DefinitionReference():
                where = definitions.effective_at(reference)
        resolved[reference] = where if where is not None and where < found.position else None
    candidate = Candidate(facts, found.position, message.key, found.owner, resolved)
    return isinstance(definitions.judge(candidate), Confirm)


def _private(
    group: str, members: tuple[str, ...], all_found: list[_Found], result: Verdicts
) -> None:
    """Orders a group's messages by the model.

    Definitions are complete by now, which is right: only what is below a message is looked at.
    """
    model = Model(members)
    by_number: dict[int, _Found] = {}
    times = Counter(found.message.hash for found in all_found)
    for number, found in enumerate(all_found):
        message = found.message
        if message.author not in members:
            continue
        if found.owner == UNSETTLED or (found.held and times[message.hash] > 1):
            result.unjudged_groups.add(group)
            return
        if found.owner == message.author:
            by_number[number] = found
            model.chain(number, _pins(found, group))
            if found.held and not _is_refused(found, _facts(message)):
                model.held.add(number)
    for number, found in by_number.items():
        model.data(number, _pins(found, group))
    for number in model.order:
        found = by_number[number]
        message = found.message
        if message.hash in result.outcomes:
            continue
        confirmed = _judge(found, result)
        result.outcomes[message.hash] = "confirmed" if confirmed else "rejected"
        if confirmed:
            for topic in message.topics:
                result.private_order[topic, group].append(message.id)


def _pins(found: _Found, group: str) -> tuple[ModelPin, ...]:
    message = found.message
    return tuple(
        (topic, message.author, _nonce(topic, group, message.author, pin_hash))
        for topic, pin_hash in zip(message.topics, found.contexts, strict=True)
    )


def _nonce(topic: str, group: str, author: str, pin_hash: str) -> int:
    for nonce in range(NONCES_MAX):
        if private_pin(topic, group, author, nonce) == pin_hash:
            return nonce
    # No nonce of its author: it is never expected. Equal hashes still are equal pins.
    return NONCES_MAX + int(pin_hash[:12], 16)
