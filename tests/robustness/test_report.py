"""Goal: the report of a run blames the right fault, and a person can read what was found.

Method: made-up histories; the figures in them are known.
"""

from __future__ import annotations

from tests.robustness.findings import Finding
from tests.robustness.made_history import call, delivery
from tests.robustness.records import Call, Delivery, Ended, Fault, Mark, Record
from tests.robustness.report import Stall, stalls, summary, time_line, verdict


def at(time: float, sequence: int) -> Delivery:
    """A confirmation at a time."""
    made = delivery(0, "one", sequence)
    return Delivery(
        **{name: getattr(made, name) for name in made.__struct_fields__} | {"time": time}
    )


def answered(called: float, returned: float) -> Call:
    """A call that took a time."""
    made = call("one", called)
    values = {name: getattr(made, name) for name in made.__struct_fields__}
    return Call(**values | {"op": f"op-{called}", "returned": returned})


HISTORY: list[Record] = [
    Mark(100.0, "start"),
    at(100.5, 1),
    at(101.0, 2),
    Fault("kill leader", "core/0/0", 102.0, 104.0, "process 7"),
    answered(103.0, 107.0),
    at(108.0, 3),
    at(108.0, 3),
    Fault("slow link", "dx/0", 110.0, 111.0, "1 connections"),
    Fault("slow link", "dx/1", 115.0, 116.0, "1 connections"),
    answered(115.5, 116.5),
    at(112.0, 4),
    at(117.5, 5),
    Ended(118.0, "core/1/0", 1),
    Mark(120.0, "heal"),
]


def test_a_stall_counts_for_the_fault_that_covers_it() -> None:
    assert stalls(HISTORY) == [
        Stall("kill leader", 1, confirming_s=7.0, answering_s=4.0),
        Stall("slow link", 2, confirming_s=5.5, answering_s=1.0),
    ]


def test_of_two_faults_the_longer_one_is_blamed_and_recovery_counts() -> None:
    short, long = Fault("cut link", "dx/0", 2.0, 3.0), Fault("freeze chain", "chain", 2.5, 9.0)
    assert stalls([at(1.0, 1), short, long, at(10.0, 2), at(12.0, 3)]) == [
        Stall("cut link", 1, confirming_s=0.0, answering_s=0.0),
        Stall("freeze chain", 1, confirming_s=9.0, answering_s=0.0),
    ]


def test_nothing_is_blamed_on_faults_to_come() -> None:
    assert not stalls(HISTORY[:3])
    assert stalls([*HISTORY[:3], Fault("cut link", "dx/0", 105.0, 106.0)]) == [
        Stall("cut link", 1, confirming_s=0.0, answering_s=0.0)
    ]


def test_the_report_tells_faults_stalls_and_ends() -> None:
    text = summary(HISTORY)
    assert "2 messages acked in 2 calls, 0 of them unclear" in text
    assert "5 events delivered on 0 subscriptions, 1 again" in text
    assert "core/1/0 with 1" in text
    lines = time_line(HISTORY).splitlines()
    assert lines[0].split() == ["0.0", "s", "--", "start"]
    assert lines[1].split(maxsplit=2)[2] == "kill leader core/0/0 for 2.0 s (process 7)"
    assert lines[-1].endswith("-- heal")


def test_findings_say_when() -> None:
    found = [Finding("C1", "lost", 103.5), Finding("C3", "turned round")] * 30
    text = verdict(found, HISTORY)
    assert "60 findings" in text
    assert "  C1: lost (at 3.5 s)" in text
    assert "  C3: turned round\n" in text
    assert "and 20 more" in text
