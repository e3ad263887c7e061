"""What a checker says, and what the checkers share: operations made of calls, orders made of deliveries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.robustness.records import Call, Delivery, Record, of

CONFIRMED: Final = "message_confirmed"
DECIDED: Final = frozenset({CONFIRMED, "message_rejected"})

Context: TypeAlias = tuple[str, str, str]
"""What has one order: kind, topic, hash of the group."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise.

    Attributes:
        check: `C1` to `C9`.
        text: What was seen, for a person.
        time: When it shows in the history; None when no one moment does.
    """

    check: str
    text: str
    time: float | None = None

    def __str__(self) -> str:
        return f"{self.check}: {self.text}"


Checker: TypeAlias = Callable[[Sequence[Record]], list[Finding]]


@dataclass(frozen=True, slots=True)
class Operation:
    """All attempts of one client at one thing.

    Attributes:
        acked: When the first success was known; None when it never was.
        messages: Ids that successes named.
    """

    first: Call
    attempts: tuple[Call, ...]
    acked: float | None
    messages: tuple[str, ...]

    @property
    def may_exist(self) -> bool:
        """Whether some attempt may have had an effect."""
        return any(call.outcome != "refused" for call in self.attempts)


def operations(records: Sequence[Record]) -> dict[str, Operation]:
    """The operations of a history by their key, in order of their first call."""
    attempts: dict[str, list[Call]] = defaultdict(list)
    for call in of(records, Call):
        attempts[call.op].append(call)
    found = {}
    for op, calls in sorted(attempts.items(), key=lambda each: each[1][0].called):
        acked = [call for call in calls if call.outcome == "acked"]
        found[op] = Operation(
            first=calls[0],
            attempts=tuple(calls),
            acked=min((call.returned for call in acked), default=None),
            messages=tuple(dict.fromkeys(call.message for call in acked)),
        )
    return found


def by_subscription(records: Sequence[Record]) -> Mapping[str, list[Delivery]]:
    """Deliveries of each subscription, in the order they came."""
    found: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in of(records, Delivery):
        found[delivery.subscription].append(delivery)
    return found


def orders(deliveries: Sequence[Delivery]) -> dict[Context, list[str]]:
    """The messages of each context in the order of their first delivery, with their outcome."""
    found: dict[Context, dict[str, None]] = defaultdict(dict)
    for each in deliveries:
        if each.type in DECIDED:
            outcome = each.message if each.type == CONFIRMED else f"{each.message} rejected"
            found[each.kind, each.topic, each.group].setdefault(outcome)
    return {context: list(messages) for context, messages in found.items()}
