"""What must come out, computed from the chain alone by someone who has all data from the start.

Broadcasts: the chain is walked in order and each message decided on the spot; definitions below
it are all decided, so nothing ever waits. Private messages: the model of the ordering rule
(`private_order_model`) is given, group by group, the messages whose pins count. None of the
production machine's code is used except the content rules (`Definitions`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from photinus_core.model.canonical import broadcast_context, private_pin
from photinus_core.sequencing.facts import BatchKey, ChainEvent, KeyReference, PinEvent, Reference
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import Candidate, Confirm

from tests.simulation.content import Definitions, SimBatch, SimMessage, facts_of_batch
from tests.simulation.private_order_model import Member as Model
from tests.simulation.private_order_model import ModelPin

NONCES_MAX = 200
"""More than any author of a run uses in one context."""


@dataclass
class Verdicts:
    """Outcome by message hash, and order of the confirmed ones."""

    outcomes: dict[str, str] = field(default_factory=dict)
    broadcast_order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Message ids by topic."""
    private_order: dict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Message ids by topic and group."""
    definitions: Definitions = field(default_factory=Definitions)


@dataclass(frozen=True)
class _Found:
    position: Position
    event: PinEvent
    message: SimMessage
    contexts: tuple[str, ...]


def verdicts(
    chain: Mapping[int, list[ChainEvent]],
    batches: Mapping[BatchKey, SimBatch],
    groups: Mapping[str, tuple[str, ...]],
) -> Verdicts:
    """Decides a whole chain."""
    result = Verdicts()
    private: dict[str, list[_Found]] = defaultdict(list)
    for event in _counting_events(chain, result):
        batch = batches.get(event.batch)
        if batch is None:
            continue
        found = list(_messages(event, batch))
        if event.masked:
            for one in found:
                if one.message.group is not None and one.message.group in groups:
                    private[one.message.group].append(one)
        elif all(f.contexts == tuple(map(broadcast_context, f.message.topics)) for f in found):
            for one in found:
                _broadcast(one, result)
    for group, found_in_group in private.items():
        _private(group, groups[group], found_in_group, result)
    return result


def _counting_events(chain: Mapping[int, list[ChainEvent]], result: Verdicts) -> Iterator[PinEvent]:
    """Events in order, without those beyond a final event.

    Actions are judged when their turn comes.
    """
    for contract in sorted(chain):
        for event in chain[contract]:
            if isinstance(event, PinEvent):
                yield event
                continue
            owner = result.definitions.owners.get(event.signer)
            if (
                event.kind == "terminate"
                and owner
                and owner.root
                and owner.position < event.position
            ):
                break
        else:
            return


def _messages(event: PinEvent, batch: SimBatch) -> list[_Found]:
    found, base = [], 0
    for message in batch.messages:
        contexts = event.contexts[base : base + len(message.topics)]
        found.append(_Found(event.position._replace(pin=base), event, message, contexts))
        base += len(message.topics)
    return found if base == len(event.contexts) else []


def _judge(found: _Found, result: Verdicts) -> bool:
    message, definitions = found.message, result.definitions
    facts = facts_of_batch(
        SimBatch("", (message,), message.group), {message.body.blob}, ()
    ).messages[0]
    owner = definitions.owners.get(message.key)
    registered = owner.did if owner and owner.position < found.event.position else None
    if message.key != found.event.signer:
        return False
    if not facts.is_claim and registered != message.author:
        return False
    if facts.definition_topic is not None and message.topics != (facts.definition_topic,):
        return False
    references: list[Reference] = [*facts.references]
    references += definitions.further_references(facts, found.position)
    if facts.is_claim:
        references.append(KeyReference(message.key))
    resolved: dict[Reference, Position | None] = {}
    for reference in references:
        if isinstance(reference, KeyReference):
            holder = definitions.owners.get(reference.key)
            where = holder.position if holder else None
        else:
            where = definitions.effective_at(reference)
        resolved[reference] = where if where is not None and where < found.position else None
    candidate = Candidate(facts, found.position, message.key, registered, resolved)
    return isinstance(definitions.judge(candidate), Confirm)


def _broadcast(found: _Found, result: Verdicts) -> None:
    message = found.message
    if message.key != found.event.signer or message.hash in result.outcomes:
        return
    confirmed = _judge(found, result)
    result.outcomes[message.hash] = "confirmed" if confirmed else "rejected"
    if confirmed:
        for topic in message.topics:
            result.broadcast_order[topic].append(message.id)


def _private(
    group: str, members: tuple[str, ...], all_found: list[_Found], result: Verdicts
) -> None:
    """Definitions are complete here, which is right: only what is below a message's position is
    looked at.
    """
    model = Model(members)
    by_number: dict[int, _Found] = {}
    for number, found in enumerate(all_found):
        pins = _pins(found, group, members, result)
        if pins is None:
            continue
        by_number[number] = found
        model.chain(number, pins)
    for number, found in by_number.items():
        model.data(number, _pins_known(found, group))
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


def _pins(
    found: _Found, group: str, members: tuple[str, ...], result: Verdicts
) -> tuple[ModelPin, ...] | None:
    """The pins of a message, if its signer was its author's and its author is in the group."""
    owner = result.definitions.owners.get(found.event.signer)
    author = found.message.author
    if owner is None or owner.position >= found.event.position or owner.did != author:
        return None
    if author not in members:
        return None
    return _pins_known(found, group)


def _pins_known(found: _Found, group: str) -> tuple[ModelPin, ...]:
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
