"""A small made-up run in which everything is as promised, for the tests of the checkers to spoil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from tests.robustness.records import (
    Call,
    Delivery,
    EventAck,
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
    Subscribed,
)

R = TypeVar("R", bound=msgspec.Struct)

GROUP: Final = "g" * 64
SENT: Final = ("one", "two", "three", "four")
"""Operations in the order one client sends them: `one` and `two` are broadcasts, the others private."""


def good_history() -> list[Record]:
    """Two members, a subscription each, four messages of one client on one topic; `two` has a blob."""
    records: list[Record] = [Subscribed(f"sub{member}", member, "grpc") for member in (0, 1)]
    records += [call(op, float(number)) for number, op in enumerate(SENT)]
    for member in (0, 1):
        for number, op in enumerate(SENT):
            records += [delivery(member, op, number + 1), EventAck(20.5, f"sub{member}", 1, 1)]
            records.append(logged(member, op, number + 1))
            records.append(stored(member, op, number))
            records.append(StoredBatch(member, f"batch-{op}", (f"id-{op}",)))
            records.append(StoredPin(member, f"batch-{op}", 0, f"pin-{op}", dispatched=True))
        records.append(StoredBlob(member, "two", "digest"))
        records += [LeaderWrite(member, n, "leader/default", 1, "a", "pins") for n in (1, 2)]
        records += [LeaderWrite(member, n, "leader/default", 2, "b", "pins") for n in (3, 4)]
    records += [
        Mined(f"tx-{op}", number, f"batch-{op}", (f"pin-{op}",)) for number, op in enumerate(SENT)
    ]
    records.append(Mark(30.0, "heal"))
    records += [Pending(31.0, member, 1, "message id-four") for member in (0, 1)]
    records += [Pending(32.0, member, 0, "") for member in (0, 1)]
    records.append(Mark(33.0, "quiet"))
    return records


def call(op: str, called: float) -> Call:
    """A call that was acked at once."""
    return Call(
        op=op,
        client="client",
        member=0,
        kind="broadcast" if op in {"one", "two"} else "private",
        topics=("topic",),
        group="" if op in {"one", "two"} else "g",
        value=f"value-{op}",
        blob="digest" if op == "two" else "",
        attempt=1,
        called=called,
        returned=called + 0.5,
        outcome="acked",
        message=f"id-{op}",
    )


def delivery(member: int, op: str, sequence: int) -> Delivery:
    """The confirmation of a message."""
    return Delivery(
        time=20.0 + sequence,
        subscription=f"sub{member}",
        member=member,
        connection=1,
        sequence=sequence,
        event=f"event-{member}-{op}",
        type="message_confirmed",
        message=f"id-{op}",
        op=op,
        kind="broadcast" if op in {"one", "two"} else "private",
        topic="topic",
        group="" if op in {"one", "two"} else GROUP,
        value=f"value-{op}",
    )


def logged(member: int, op: str, sequence: int) -> LoggedEvent:
    """The same in the event log."""
    return LoggedEvent(member, sequence, "message_confirmed", f"id-{op}", "topic")


def stored(member: int, op: str, number: int) -> StoredMessage:
    """The message as a member has it."""
    private = op in {"three", "four"}
    return StoredMessage(
        member=member,
        id=f"id-{op}",
        op=op if member == 0 else "",
        state="confirmed",
        type="private" if private else "broadcast",
        author="org_0",
        group=GROUP if private else "",
        topics=("topic",),
        pins=(f"pin-{op}:{number - 2:016d}",) if private and member == 0 else (),
    )


def changed(
    records: list[Record], kind: type[R], where: Callable[[R], bool], **values: object
) -> list[Record]:
    """The history with other values in the records of a type that a condition picks; at least one."""
    picked = [each for each in records if isinstance(each, kind) and where(each)]
    assert picked, "the test picks nothing"
    return [msgspec.structs.replace(each, **values) if each in picked else each for each in records]


def without(records: list[Record], kind: type[R], where: Callable[[R], bool]) -> list[Record]:
    """The history without the records of a type that a condition picks; at least one."""
    left = [each for each in records if not (isinstance(each, kind) and where(each))]
    assert len(left) < len(records), "the test picks nothing"
    return left
