"""C6 to C9: what members and the chain hold at the end. Pure functions over a history."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from tests.robustness.findings import DECIDED, Finding, operations
from tests.robustness.records import (
    LeaderWrite,
    LoggedEvent,
    Mark,
    Mined,
    Pending,
    Record,
    StoredBatch,
    StoredMessage,
    StoredPin,
    of,
)

STUCK_S: Final = 90.0
"""After the last fault was healed, nothing may stay at the head of a queue for so long."""


def context_chain(records: Sequence[Record]) -> list[Finding]:
    """C6: nonces of a context are contiguous; a pin is dispatched once; a message is in one sealed batch."""
    return [
        *_nonces(records),
        *_decided_once(records),
        *_pins_of_the_chain(records),
        *_one_batch(records),
    ]


def one_effect(records: Sequence[Record]) -> list[Finding]:
    """C7: an operation is one message, in one batch, pinned by one transaction."""
    found = []
    mined: dict[str, list[str]] = defaultdict(list)
    for pin in of(records, Mined):
        mined[pin.batch].append(pin.transaction)
    for batch, transactions in mined.items():
        if len(transactions) > 1:
            text = f"batch {batch} was pinned {len(transactions)} times: {', '.join(transactions)}"
            found.append(Finding("C7", text))
    ids: dict[str, set[str]] = defaultdict(set)
    for message in of(records, StoredMessage):
        if message.op:
            ids[message.op].add(message.id)
    for op, done in operations(records).items():
        ids[op] |= set(done.messages)
    batches: dict[str, set[str]] = defaultdict(set)
    for batch_row in of(records, StoredBatch):
        for each in batch_row.messages:
            batches[each].add(batch_row.id)
    for op, messages in ids.items():
        if len(messages) > 1:
            text = f"key {op} has several messages: {', '.join(sorted(messages))}"
            found.append(Finding("C7", text))
        pins = {t for m in messages for b in batches[m] for t in mined[b]}
        if len(pins) > 1:
            text = f"key {op} was pinned by several transactions: {', '.join(sorted(pins))}"
            found.append(Finding("C7", text))
    return found


def single_writer(records: Sequence[Record]) -> list[Finding]:
    """C8: epochs never decrease in the order of writes, and under one epoch one session owner writes."""
    found = []
    highest: dict[tuple[int, str], LeaderWrite] = {}
    writers: dict[tuple[int, str, int], str] = {}
    for write in sorted(of(records, LeaderWrite), key=lambda w: (w.member, w.order)):
        role = (write.member, write.role)
        before = highest.get(role)
        where = f"member {write.member}, role {write.role}: {write.table} row {write.order}"
        if before is not None and write.epoch < before.epoch:
            text = f"{where} was written under epoch {write.epoch} after one of {before.epoch}"
            found.append(Finding("C8", text))
        owner = writers.setdefault((*role, write.epoch), write.writer)
        if owner != write.writer:
            text = f"{where} was written by {write.writer} under epoch {write.epoch} of {owner}"
            found.append(Finding("C8", text))
        if before is None or write.epoch >= before.epoch:
            highest[role] = write
    return found


def liveness(records: Sequence[Record]) -> list[Finding]:
    """C9: after healing all is decided, every call succeeds in the end, and no head of a queue stays."""
    found = []
    heal = max((mark.time for mark in of(records, Mark) if mark.what == "heal"), default=None)
    if heal is None:
        return [Finding("C9", "the run ended before it was healed")]
    for op, done in operations(records).items():
        if done.acked is None:
            last = done.attempts[-1]
            text = f"{op} was never acked after {len(done.attempts)} attempts: {last.error}"
            found.append(Finding("C9", text, last.returned))
    last_samples: dict[int, Pending] = {}
    since: dict[tuple[int, str], float] = {}
    stuck: dict[tuple[int, str], float] = {}
    for sample in of(records, Pending):
        if sample.time < heal:
            continue
        last_samples[sample.member] = sample
        if sample.head:
            key = (sample.member, sample.head)
            age = sample.time - since.setdefault(key, sample.time)
            if age > STUCK_S:
                stuck[key] = age
    for (member, head), age in stuck.items():
        text = f"member {member}: {head} is at the head for {age:.0f} s after healing"
        found.append(Finding("C9", text))
    for member, sample in last_samples.items():
        if sample.count:
            text = f"member {member}: {sample.count} undecided at the end, oldest {sample.head}"
            found.append(Finding("C9", text, sample.time))
    if not any(mark.what == "quiet" for mark in of(records, Mark)):
        found.append(Finding("C9", "it did not become quiet after healing"))
    return found


def _nonces(records: Sequence[Record]) -> list[Finding]:
    contexts: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for message in of(records, StoredMessage):
        if message.group and message.pins:
            for topic, pin in zip(message.topics, message.pins, strict=True):
                nonce = int(pin.rpartition(":")[2])
                contexts[message.author, message.group, topic].append((nonce, message.id))
    found = []
    for (author, group, topic), used in contexts.items():
        where = f"context of {author}, group {group[:8]}, topic {topic}"
        for expected, (nonce, message_id) in enumerate(sorted(used)):
            if nonce != expected:
                text = f"{where}: message {message_id} has nonce {nonce} where {expected} is due"
                found.append(Finding("C6", text))
                break
    return found


def _decided_once(records: Sequence[Record]) -> list[Finding]:
    decided = Counter(
        (event.member, event.message, event.topic)
        for event in of(records, LoggedEvent)
        if event.type in DECIDED
    )
    return [
        Finding("C6", f"member {member} decided message {message} {count} times in topic {topic}")
        for (member, message, topic), count in decided.items()
        if count > 1
    ]


def _pins_of_the_chain(records: Sequence[Record]) -> list[Finding]:
    """Each member has exactly the pins of the chain, each dispatched, each once."""
    expected = Counter(
        (pin.batch, index, context)
        for pin in of(records, Mined)
        for index, context in enumerate(pin.contexts)
    )
    stored: dict[int, Counter[tuple[str, int, str]]] = defaultdict(Counter)
    found = []
    for pin in of(records, StoredPin):
        stored[pin.member][pin.batch, pin.index, pin.hash] += 1
        if not pin.dispatched:
            text = f"member {pin.member}: pin {pin.index} of batch {pin.batch} is not dispatched"
            found.append(Finding("C6", text))
    for member, pins in stored.items():
        for batch, index, _ in expected - pins:
            text = f"member {member} lacks pin {index} of batch {batch}"
            found.append(Finding("C6", text))
        for batch, index, _ in pins - expected:
            text = f"member {member} has pin {index} of batch {batch} more often than the chain"
            found.append(Finding("C6", text))
    return found


def _one_batch(records: Sequence[Record]) -> list[Finding]:
    batches: dict[str, set[str]] = defaultdict(set)
    for batch in of(records, StoredBatch):
        for message in batch.messages:
            batches[message].add(batch.id)
    found = []
    for stored in of(records, StoredMessage):
        if stored.state != "confirmed":
            continue
        inside = batches[stored.id]
        if len(inside) != 1:
            held = ", ".join(sorted(inside)) or "none"
            text = f"message {stored.id} of member {stored.member} is in batches {held}"
            found.append(Finding("C6", text))
    return found
