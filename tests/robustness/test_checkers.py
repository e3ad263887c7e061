"""Goal: each checker lets a good history pass and finds what it is there to find.

Method: a made-up good history, spoiled in one way for each promise a checker keeps; the checker named
must find it, and say where. No processes, no network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.robustness.checkers import CHECKERS, check_all
from tests.robustness.made_history import (
    GROUP,
    call,
    changed,
    delivery,
    good_history,
    logged,
    without,
)
from tests.robustness.records import (
    Call,
    Delivery,
    EventAck,
    History,
    LeaderWrite,
    LoggedEvent,
    Mark,
    Mined,
    Pending,
    Record,
    StoredBatch,
    StoredBlob,
    StoredMessage,
    StoredPin,
    read_history,
)

Spoil: TypeAlias = Callable[[list[Record]], list[Record]]


def swapped(records: list[Record], member: int, one: str, two: str) -> list[Record]:
    """Two messages delivered the other way round at one member."""
    first = next(
        d for d in records if isinstance(d, Delivery) and (d.member, d.op) == (member, one)
    )
    second = next(
        d for d in records if isinstance(d, Delivery) and (d.member, d.op) == (member, two)
    )
    places = records.index(first), records.index(second)
    spoiled = list(records)
    spoiled[places[0]] = delivery(member, two, first.sequence)
    spoiled[places[1]] = delivery(member, one, second.sequence)
    return spoiled


def swapped_everywhere(records: list[Record]) -> list[Record]:
    """All agree on an order that is not the client's."""
    spoiled = swapped(swapped(records, 0, "three", "four"), 1, "three", "four")
    spoiled = without(spoiled, LoggedEvent, lambda e: e.message in {"id-three", "id-four"})
    for member in (0, 1):
        spoiled += [logged(member, "four", 3), logged(member, "three", 4)]
    return spoiled


def redelivered_late(records: list[Record]) -> list[Record]:
    """An event comes for the first time on a later connection, below what was delivered and acked."""
    moved = next(d for d in records if isinstance(d, Delivery) and (d.member, d.op) == (1, "two"))
    spoiled = [each for each in records if each is not moved]
    spoiled.append(EventAck(29.0, "sub1", 1, 4))
    return [*spoiled, again(moved, connection=2)]


def again(of: Delivery, **values: object) -> Delivery:
    """A delivery once more, with other values."""
    found = changed([of], Delivery, lambda _: True, **values)[0]
    assert isinstance(found, Delivery)
    return found


def first_delivery(records: list[Record]) -> Delivery:
    return next(each for each in records if isinstance(each, Delivery))


BAD: Final[dict[str, tuple[str, Spoil, str]]] = {
    "acked but not delivered": (
        "C1",
        lambda h: without(h, Delivery, lambda d: (d.member, d.op) == (1, "two")),
        "acked broadcast two (message id-two) never came to sub1",
    ),
    "one topic of two missing": (
        "C1",
        lambda h: changed(h, Call, lambda c: c.op == "two", topics=("topic", "other")),
        "topics other",
    ),
    "acked and rejected": (
        "C1",
        lambda h: changed(h, Delivery, lambda d: d.op == "two", type="message_rejected"),
        "rejected at sub0",
    ),
    "blob missing": (
        "C1",
        lambda h: changed(h, StoredBlob, lambda b: b.member == 1, digest=""),
        "member 1 has nothing",
    ),
    "blob with other content": (
        "C1",
        lambda h: changed(h, StoredBlob, lambda b: b.member == 1, digest="other"),
        "member 1 has other",
    ),
    "message nobody sent": (
        "C2",
        lambda h: [*h, delivery(0, "strange", 9)],
        "nobody sent",
    ),
    "refused message delivered": (
        "C2",
        lambda h: changed(h, Call, lambda c: c.op == "one", outcome="refused", message=""),
        "was refused",
    ),
    "one operation, two messages": (
        "C2",
        lambda h: [*h, again(first_delivery(h), message="id-twin", sequence=9, event="twin")],
        "became several messages",
    ),
    "unclear operation, two messages": (
        "C2",
        lambda h: [
            *changed(h, Call, lambda c: c.op == "one", outcome="unclear", message=""),
            again(first_delivery(h), message="id-twin", sequence=9, event="twin"),
        ],
        "one became several messages",
    ),
    "other content": (
        "C2",
        lambda h: changed(h, Delivery, lambda d: d.op == "one", value="other"),
        "other than one was sent",
    ),
    "members disagree on order": (
        "C3",
        lambda h: swapped(h, 1, "three", "four"),
        "private topic topic group gggggggg: place 0 is",
    ),
    "log and subscriber disagree": (
        "C3",
        lambda h: [
            *without(h, LoggedEvent, lambda e: e.message == "id-one" and e.member == 1),
            logged(1, "one", 9),
        ],
        "place 0 is",
    ),
    "one confirms, the other rejects": (
        "C3",
        lambda h: changed(
            h, Delivery, lambda d: (d.member, d.op) == (1, "one"), type="message_rejected"
        ),
        "id-one rejected at sub1",
    ),
    "shorter list after quiet": (
        "C3",
        lambda h: without(h, Delivery, lambda d: (d.member, d.op) == (1, "four")),
        "nothing at sub1",
    ),
    "client's order turned round": (
        "C4",
        swapped_everywhere,
        "client sent three before four, sub0 got them reversed",
    ),
    "event late, though nothing was acked yet": (
        "C5",
        lambda h: [*h, delivery(0, "late", 9), delivery(0, "later", 8)],
        "8 appeared when 9 had been delivered",
    ),
    "event below the committed offset": (
        "C5",
        redelivered_late,
        "2 appeared below the committed offset",
    ),
    "one sequence, two events": (
        "C5",
        lambda h: [*h, again(first_delivery(h), connection=2, event="twin")],
        "is event event-0-one and event twin",
    ),
    "gap in the log": (
        "C5",
        lambda h: without(h, LoggedEvent, lambda e: (e.member, e.sequence) == (1, 2)),
        "log of member 1: 3 follows 1",
    ),
    "nonce left out": (
        "C6",
        lambda h: changed(
            h, StoredMessage, lambda m: m.op == "four", pins=("pin-four:0000000000000002",)
        ),
        "message id-four has nonce 2 where 1 is due",
    ),
    "nonce used twice": (
        "C6",
        lambda h: changed(
            h, StoredMessage, lambda m: m.op == "four", pins=("pin-four:0000000000000000",)
        ),
        "has nonce 0 where 1 is due",
    ),
    "decided twice": (
        "C6",
        lambda h: [*h, logged(1, "three", 5)],
        "member 1 decided message id-three 2 times",
    ),
    "pin not dispatched": (
        "C6",
        lambda h: changed(h, StoredPin, lambda p: p.batch == "batch-one", dispatched=False),
        "pin 0 of batch batch-one is not dispatched",
    ),
    "pin missing": (
        "C6",
        lambda h: without(h, StoredPin, lambda p: (p.member, p.batch) == (0, "batch-one")),
        "member 0 lacks pin 0 of batch batch-one",
    ),
    "pin stored twice": (
        "C6",
        lambda h: [*h, StoredPin(1, "batch-one", 0, "pin-one", dispatched=True)],
        "more often than the chain",
    ),
    "message in two batches": (
        "C6",
        lambda h: [*h, StoredBatch(0, "batch-other", ("id-one",))],
        "message id-one of member 0 is in batches batch-one, batch-other",
    ),
    "message in no batch": (
        "C6",
        lambda h: changed(h, StoredBatch, lambda b: b.id == "batch-one", messages=()),
        "is in batches none",
    ),
    "batch pinned twice": (
        "C7",
        lambda h: [*h, Mined("tx-again", 9, "batch-one", ("pin-one",))],
        "batch batch-one was pinned 2 times: tx-one, tx-again",
    ),
    "key stored twice": (
        "C7",
        lambda h: changed(h, StoredMessage, lambda m: m.op == "two", op="one"),
        "key one has several messages: id-one, id-two",
    ),
    "key acked with two messages": (
        "C7",
        lambda h: [*h, *changed([call("one", 5.0)], Call, lambda _: True, message="id-twin")],
        "key one has several messages: id-one, id-twin",
    ),
    "message pinned by two batches": (
        "C7",
        lambda h: [
            *h,
            StoredBatch(0, "batch-other", ("id-one",)),
            Mined("tx-other", 9, "batch-other", ("pin-one",)),
        ],
        "key one was pinned by several transactions: tx-one, tx-other",
    ),
    "epoch goes back": (
        "C8",
        lambda h: [*h, LeaderWrite(0, 5, "leader/default", 1, "a", "batches")],
        "batches row 5 was written under epoch 1 after one of 2",
    ),
    "two writers in one epoch": (
        "C8",
        lambda h: [*h, LeaderWrite(0, 5, "leader/default", 2, "a", "batches")],
        "was written by a under epoch 2 of b",
    ),
    "never acked": (
        "C9",
        lambda h: changed(h, Call, lambda c: c.op == "one", outcome="unclear", error="lost"),
        "one was never acked after 1 attempts: lost",
    ),
    "still undecided": (
        "C9",
        lambda h: [*h, Pending(40.0, 1, 2, "message id-three")],
        "member 1: 2 undecided at the end, oldest message id-three",
    ),
    "head of the queue stays": (
        "C9",
        lambda h: [*h, Pending(200.0, 1, 1, "message id-four"), Pending(201.0, 1, 0, "")],
        "message id-four is at the head for 169 s after healing",
    ),
    "not quiet": (
        "C9",
        lambda h: without(h, Mark, lambda m: m.what == "quiet"),
        "did not become quiet",
    ),
    "not healed": (
        "C9",
        lambda h: without(h, Mark, lambda m: m.what == "heal"),
        "ended before it was healed",
    ),
}


@pytest.mark.parametrize("name", CHECKERS)
def test_a_good_history_passes(name: str) -> None:
    assert not CHECKERS[name](good_history())


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_found(name: str) -> None:
    check, spoil, text = BAD[name]
    checker = next(each for known, each in CHECKERS.items() if known.startswith(check))
    found = checker(spoil(good_history()))
    assert any(finding.check == check and text in finding.text for finding in found), found


def test_each_checker_has_a_bad_history() -> None:
    assert {name.split()[0] for name in CHECKERS} == {check for check, _, _ in BAD.values()}


GOOD: Final[dict[str, Spoil]] = {
    "redelivery on another connection": lambda h: [*h, again(first_delivery(h), connection=2)],
    "redelivery on the same connection": lambda h: [*h, again(first_delivery(h))],
    "unclear, then the key is taken": lambda h: [
        *changed(h, Call, lambda c: c.op == "one", outcome="unclear", message="", error="lost"),
        *changed([call("one", 9.0)], Call, lambda _: True, attempt=2, error="FF10430"),
    ],
    "overlapping calls in any order": lambda h: swapped_everywhere(
        changed(h, Call, lambda c: c.op == "three", returned=9.0)
    ),
    "calls of two clients in any order": lambda h: swapped_everywhere(
        changed(h, Call, lambda c: c.op == "three", client="another")
    ),
    "prefix while running": lambda h: without(
        without(h, Mark, lambda m: m.what == "quiet"),
        Delivery,
        lambda d: (d.member, d.op) == (1, "four"),
    ),
    "undecided before healing": lambda h: [Pending(1.0, 0, 9, "x"), Pending(29.0, 0, 9, "x"), *h],
}
NOT_ASKED: Final = {"prefix while running": {"C1", "C9"}}
"""What else the history breaks, and rightly."""


@pytest.mark.parametrize("name", GOOD)
def test_what_is_allowed_is_not_found(name: str) -> None:
    found = check_all(GOOD[name](good_history()))
    assert not [each for each in found if each.check not in NOT_ASKED.get(name, ())]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        for record in good_history():
            history.add(record)
    with path.open("ab") as file:
        file.write(b'{"record":"call","op":"cut sh')
    assert read_history(path) == good_history() == history.records
    assert len(GROUP) == 64
