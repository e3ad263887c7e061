"""What a person is told about a run: the faults, the longest stalls, the findings. Pure but for the text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.robustness.findings import Finding
from tests.robustness.records import (
    Call,
    Delivery,
    Ended,
    Fault,
    Mark,
    Record,
    Subscribed,
    Trouble,
    of,
)

FINDINGS_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Stall:
    """How long things stood still during faults of one kind.

    Attributes:
        faults: How many there were.
        confirming_s: Longest time without a confirmation at some member.
        answering_s: Longest time from a first call to its success, of calls begun meanwhile.
    """

    kind: str
    faults: int
    confirming_s: float
    answering_s: float


def stalls(records: Sequence[Record]) -> list[Stall]:
    """The longest stalls by kind of fault.

    A wait counts for the fault that covers most of it, else for the last one before its end: what follows a fault is
    recovery. Faults that overlap may take each other's blame.
    """
    faults = sorted(of(records, Fault), key=lambda fault: fault.begin)
    confirming: dict[str, float] = defaultdict(float)
    answering: dict[str, float] = defaultdict(float)
    for times in _progress(records).values():
        for before, after in pairwise(times):
            kind = _blamed(faults, before, after)
            confirming[kind] = max(confirming[kind], after - before)
    first_calls: dict[str, float] = {}
    for call in of(records, Call):
        called = first_calls.setdefault(call.op, call.called)
        if call.outcome == "acked":
            kind = _blamed(faults, called, call.returned)
            answering[kind] = max(answering[kind], call.returned - called)
    counts = Counter(fault.kind for fault in faults)
    return [Stall(kind, counts[kind], confirming[kind], answering[kind]) for kind in sorted(counts)]


def summary(records: Sequence[Record]) -> str:
    """Numbers, stalls, and processes that ended by themselves, as text."""
    calls = of(records, Call)
    acked = {call.op for call in calls if call.outcome == "acked"}
    unclear = sum(call.outcome == "unclear" for call in calls)
    deliveries = of(records, Delivery)
    first = {(each.subscription, each.sequence) for each in deliveries}
    again = len(deliveries) - len(first)
    lines = [
        f"{len(acked)} messages acked in {len(calls)} calls, {unclear} of them unclear",
        f"{len(first)} events delivered on {len(of(records, Subscribed))} subscriptions, {again} again",
        f"{len(of(records, Fault))} faults, {len(of(records, Trouble))} lost connections of clients",
        "",
        f"{'fault':18} {'times':>5}  {'no confirmation for':>20}  {'slowest answer':>15}",
    ]
    lines += [
        f"{stall.kind:18} {stall.faults:5}  {stall.confirming_s:18.1f} s  {stall.answering_s:13.1f} s"
        for stall in stalls(records)
    ]
    ended = of(records, Ended)
    if ended:
        lines += ["", "Processes that ended by themselves:"]
        lines += [f"  {each.name} with {each.code}; {each.log}" for each in ended]
    return "\n".join(lines)


def time_line(records: Sequence[Record]) -> str:
    """Faults and turning points in the order they began, in seconds after the start."""
    start = next((mark.time for mark in of(records, Mark) if mark.what == "start"), 0.0)
    entries = [(mark.time, f"-- {mark.what}") for mark in of(records, Mark)]
    entries += [
        (
            fault.begin,
            f"{fault.kind} {fault.target} for {fault.end - fault.begin:.1f} s ({fault.detail})",
        )
        for fault in of(records, Fault)
    ]
    entries += [(e.time, f"{e.name} ended by itself with {e.code}") for e in of(records, Ended)]
    return "\n".join(f"{time - start:8.1f} s  {text}" for time, text in sorted(entries))


def verdict(findings: Sequence[Finding], records: Sequence[Record]) -> str:
    """What is wrong, most telling first; the time line is beside it for the causes."""
    start = next((mark.time for mark in of(records, Mark) if mark.what == "start"), 0.0)
    lines = [f"{len(findings)} findings"]
    for finding in findings[:FINDINGS_SHOWN]:
        at = f" (at {finding.time - start:.1f} s)" if finding.time is not None else ""
        lines.append(f"  {finding}{at}")
    if len(findings) > FINDINGS_SHOWN:
        lines.append(f"  … and {len(findings) - FINDINGS_SHOWN} more")
    return "\n".join(lines)


def _progress(records: Sequence[Record]) -> dict[int, list[float]]:
    """For each member, when something was confirmed to a subscriber for the first time."""
    seen: set[tuple[int, int]] = set()
    found: dict[int, list[float]] = defaultdict(list)
    for each in of(records, Delivery):
        if (each.member, each.sequence) not in seen:
            seen.add((each.member, each.sequence))
            found[each.member].append(each.time)
    return found


def _blamed(faults: Sequence[Fault], begin: float, end: float) -> str:
    """Kind of the fault to blame for a wait; empty when none had begun."""
    begun = [fault for fault in faults if fault.begin < end]
    if not begun:
        return ""
    overlap = {fault: min(fault.end, end) - max(fault.begin, begin) for fault in begun}
    worst = max(begun, key=lambda fault: overlap[fault])
    return worst.kind if overlap[worst] > 0 else begun[-1].kind
