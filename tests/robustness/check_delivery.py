"""C1 to C5: what clients were told, and what came out at the subscribers.

Pure functions over a history, linear or nearly so: ids are unique and lists only grow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from tests.robustness.findings import (
    CONFIRMED,
    DECIDED,
    Context,
    Finding,
    Operation,
    by_subscription,
    operations,
    orders,
)
from tests.robustness.records import (
    Delivery,
    EventAck,
    LoggedEvent,
    Mark,
    Record,
    StoredBlob,
    Subscribed,
    of,
)


def no_loss(records: Sequence[Record]) -> list[Finding]:
    """C1: every acked message is delivered, confirmed, once per topic, to every subscription; blobs too."""
    found = []
    confirmed: dict[str, set[tuple[str, str]]] = defaultdict(set)
    rejected: dict[str, set[str]] = defaultdict(set)
    for each in of(records, Delivery):
        if each.type == CONFIRMED:
            confirmed[each.subscription].add((each.message, each.topic))
        elif each.type in DECIDED:
            rejected[each.subscription].add(each.message)
    acked = {op: done for op, done in operations(records).items() if done.acked is not None}
    for subscription in of(records, Subscribed):
        name = subscription.subscription
        for op, done in acked.items():
            for message in done.messages:
                topics = [t for t in done.first.topics if (message, t) not in confirmed[name]]
                if topics:
                    what = "rejected at" if message in rejected[name] else "never came to"
                    text = f"acked {_about(op, done)} {what} {name}, topics {', '.join(topics)}"
                    found.append(Finding("C1", text, done.acked))
    blobs = {(blob.member, blob.op): blob.digest for blob in of(records, StoredBlob)}
    for member in sorted({subscription.member for subscription in of(records, Subscribed)}):
        for op, done in acked.items():
            if done.first.blob and blobs.get((member, op)) != done.first.blob:
                got = blobs.get((member, op)) or "nothing"
                text = f"blob {done.first.blob} of {_about(op, done)}: member {member} has {got}"
                found.append(Finding("C1", text, done.acked))
    return found


def no_phantom(records: Sequence[Record]) -> list[Finding]:
    """C2: what is delivered was sent, with this content; an operation becomes at most one message."""
    found = []
    sent = operations(records)
    messages: dict[str, dict[str, float]] = defaultdict(dict)
    for op, done in sent.items():
        for message in done.messages:
            messages[op].setdefault(message, done.first.called)
    for each in of(records, Delivery):
        known = sent.get(each.op)
        if known is None or not known.may_exist:
            what = "nobody sent" if known is None else "was refused"
            text = f"{each.subscription} got message {each.message} ({each.op}) that {what}"
            found.append(Finding("C2", text, each.time))
            continue
        messages[each.op].setdefault(each.message, each.time)
        first = known.first
        if each.kind != first.kind or each.topic not in first.topics or each.value != first.value:
            text = f"{each.subscription} got message {each.message} other than {each.op} was sent"
            found.append(Finding("C2", text, each.time))
    for op, ids in messages.items():
        if len(ids) > 1:
            text = f"{op} became several messages: {', '.join(ids)}"
            found.append(Finding("C2", text, max(ids.values())))
    return _once(found)


def total_order(records: Sequence[Record]) -> list[Finding]:
    """C3: the order in a context is the same list everywhere: subscribers and event logs; a prefix while running."""
    quiet = any(mark.what == "quiet" for mark in of(records, Mark))
    seen = {
        name: orders(deliveries) for name, deliveries in sorted(by_subscription(records).items())
    }
    seen |= _logged_orders(records)
    found = []
    contexts = sorted({context for each in seen.values() for context in each})
    for context in contexts:
        lists = {name: each.get(context, []) for name, each in seen.items()}
        longest = max(lists, key=lambda name: len(lists[name]))
        for name, order in lists.items():
            if not quiet and order == lists[longest][: len(order)]:
                continue
            if order != lists[longest]:
                text = _first_difference(context, longest, lists[longest], name, order)
                found.append(Finding("C3", text))
    return found


def session_order(records: Sequence[Record]) -> list[Finding]:
    """C4: of two acked messages of one client in one context, the later call is delivered later."""
    found = []
    sessions: dict[tuple[str, str, str, str], list[tuple[str, Operation]]] = defaultdict(list)
    for op, done in operations(records).items():
        if done.acked is not None:
            for topic in done.first.topics:
                key = (done.first.client, done.first.kind, topic, done.first.group)
                sessions[key].append((op, done))
    for subscription, deliveries in by_subscription(records).items():
        positions: dict[tuple[str, str], int] = {}
        for number, each in enumerate(deliveries):
            if each.type in DECIDED:
                positions.setdefault((each.op, each.topic), number)
        for (client, _, topic, _), session in sessions.items():
            for earlier, later in _inversions(session, topic, positions):
                text = f"{client} sent {earlier} before {later}, {subscription} got them reversed"
                found.append(Finding("C4", text, deliveries[positions[later, topic]].time))
    return found


def monotone_sequence(records: Sequence[Record]) -> list[Finding]:
    """C5: sequences grow; only what was delivered before comes again; nothing appears late; logs have no gap."""
    found = []
    committed: dict[str, int] = defaultdict(int)
    seen: dict[str, dict[int, str]] = defaultdict(dict)
    highest: dict[str, int] = defaultdict(int)
    for record in records:
        if isinstance(record, EventAck):
            committed[record.subscription] = max(committed[record.subscription], record.sequence)
        if not isinstance(record, Delivery):
            continue
        name, number = record.subscription, record.sequence
        texts = []
        if number not in seen[name] and number < highest[name]:
            below = " below the committed offset" if number < committed[name] else ""
            texts.append(f"{number} appeared{below} when {highest[name]} had been delivered")
        if seen[name].get(number, record.event) != record.event:
            texts.append(f"{number} is event {seen[name][number]} and event {record.event}")
        found += [Finding("C5", f"{name}: sequence {text}", record.time) for text in texts]
        highest[name] = max(highest[name], number)
        seen[name].setdefault(number, record.event)
    return found + _log_gaps(records)


def _log_gaps(records: Sequence[Record]) -> list[Finding]:
    logs: dict[int, list[int]] = defaultdict(list)
    for event in of(records, LoggedEvent):
        logs[event.member].append(event.sequence)
    found = []
    for member, sequences in logs.items():
        ordered = sorted(sequences)
        for before, after in pairwise(ordered):
            if after != before + 1:
                text = f"log of member {member}: {after} follows {before}"
                found.append(Finding("C5", text))
    return found


def _logged_orders(records: Sequence[Record]) -> dict[str, dict[Context, list[str]]]:
    """Orders by the members' own event logs; the context of a message is known from its deliveries."""
    places = {each.message: (each.kind, each.group) for each in of(records, Delivery)}
    found: dict[str, dict[Context, list[str]]] = {}
    for event in sorted(of(records, LoggedEvent), key=lambda e: (e.member, e.sequence)):
        log = found.setdefault(f"log of member {event.member}", defaultdict(list))
        if event.type in DECIDED and event.message in places:
            kind, group = places[event.message]
            outcome = event.message if event.type == CONFIRMED else f"{event.message} rejected"
            log[kind, event.topic, group].append(outcome)
    return found


def _first_difference(
    context: Context, longest: str, one: list[str], name: str, other: list[str]
) -> str:
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
    kind, topic, group = context
    where = f"{kind} topic {topic}" + (f" group {group[:8]}" if group else "")
    got = other[at] if at < len(other) else "nothing"
    return f"{where}: place {at} is {one[at]} at {longest}, {got} at {name}"


def _inversions(
    session: list[tuple[str, Operation]], topic: str, positions: dict[tuple[str, str], int]
) -> list[tuple[str, str]]:
    """Pairs that were sent one after the other and delivered the other way round; the worst for each message."""
    found = []
    by_ack = sorted(session, key=lambda each: each[1].acked or 0.0)
    next_acked = 0
    latest = -1
    latest_op = ""
    for op, done in session:
        while next_acked < len(by_ack) and (by_ack[next_acked][1].acked or 0.0) < done.first.called:
            earlier = by_ack[next_acked][0]
            if positions.get((earlier, topic), -1) > latest:
                latest, latest_op = positions[earlier, topic], earlier
            next_acked += 1
        if (op, topic) in positions and positions[op, topic] < latest:
            found.append((latest_op, op))
    return found


def _about(op: str, done: Operation) -> str:
    return f"{done.first.kind} {op} (message {', '.join(done.messages)})"


def _once(findings: list[Finding]) -> list[Finding]:
    return list({finding.text: finding for finding in findings}.values())
