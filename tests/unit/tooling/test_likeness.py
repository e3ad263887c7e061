"""Goal: an answer that is not the recorded one is found out; ids, hashes and times of its own are none.

Method: pairs of a recorded and an answered value.
"""

from typing import Any

import pytest

from tests.support.likeness import Likeness, lasting_hashes

ONE = "00000000-0000-4000-8000-000000000001"
TWO = "00000000-0000-4000-8000-000000000002"
OTHER = "00000000-0000-4000-8000-00000000000f"
TIME = "2026-11-21T08:33:38.094413257Z"


@pytest.mark.parametrize(
    ("recorded", "answered"),
    [
        ({"id": ONE}, {"id": OTHER}),
        ({"id": ONE, "tx": ONE}, {"id": OTHER, "tx": OTHER}),
        ({"hash": "a" * 64}, {"hash": "b" * 64}),
        ({"created": TIME}, {"created": "2027-01-01T00:00:00Z"}),
        ({"error": f"FF10109: {ONE} is not there"}, {"error": f"FF10109: {TWO} is not there"}),
        ({"sequence": 4}, {"sequence": 9}),
        ({"options": {"firstEvent": "4"}}, {"options": {"firstEvent": "9"}}),
        ([{"id": ONE}, {"id": TWO}], [{"id": TWO}, {"id": OTHER}]),
    ],
)
def test_alike(recorded: Any, answered: Any) -> None:
    assert list(Likeness().differences(recorded, answered)) == []


@pytest.mark.parametrize(
    ("recorded", "answered", "why"),
    [
        ({"id": ONE}, {"id": "x"}, "$.id is 'x'"),
        ({"id": ONE, "tx": ONE}, {"id": OTHER, "tx": TWO}, "$.tx is"),
        ({"id": ONE, "tx": TWO}, {"id": OTHER, "tx": OTHER}, "$.tx is"),
        ({"id": ONE}, {}, "$.id is missing"),
        ({}, {"id": ONE}, "$.id is extra"),
        ({"created": TIME}, {"created": None}, "$.created is None"),
        ({"created": TIME}, {"created": "yesterday"}, "$.created is 'yesterday'"),
        ({"n": 1}, {"n": 1.0}, "$.n is 1.0"),
        ({"n": 1}, {"n": True}, "$.n is True"),
        ({"sequence": 4}, {"sequence": "4"}, "$.sequence is '4'"),
        ({"error": "FF10109: a"}, {"error": "FF10109: b"}, "$.error is"),
        ([1], [1, 2], "$ has 2 items, recorded 1"),
    ],
)
def test_unlike(recorded: Any, answered: Any, why: str) -> None:
    (found,) = Likeness().differences(recorded, answered)
    assert found.startswith(why)


def test_hashes_of_content_that_never_changes_must_be_the_same() -> None:
    lasting = min(lasting_hashes() - {"0" * 64})
    assert list(Likeness().differences({"hash": lasting}, {"hash": lasting})) == []
    (found,) = Likeness().differences({"hash": lasting}, {"hash": "b" * 64})
    assert found.startswith("$.hash is")


def test_what_was_learnt_holds_for_later_answers_and_requests() -> None:
    likeness = Likeness()
    assert list(likeness.differences([{"id": ONE}], [{"id": OTHER}])) == []
    assert likeness.translated(f"/messages/{ONE}?x={TWO}") == f"/messages/{OTHER}?x={TWO}"
    # Another page, in another order, with an item more: the known one is found in it.
    page = [{"id": TWO, "tag": "new"}, {"id": OTHER, "tag": "b"}]
    found = list(likeness.differences([{"id": ONE, "tag": "a"}], page))
    assert found == ["$ has 2 items, recorded 1", "$[1].tag is 'b', recorded 'a'"]
    copied = likeness.copy()
    assert list(copied.differences({"id": TWO}, {"id": TWO})) == []
    assert likeness.translated(TWO) == TWO


def test_a_list_in_another_order() -> None:
    likeness = Likeness()
    assert list(likeness.differences([{"id": ONE}, {"id": TWO}], [{"id": ONE}, {"id": TWO}])) == []
    found = list(likeness.differences([{"id": ONE}, {"id": TWO}], [{"id": TWO}, {"id": ONE}]))
    assert found == ["$ is in another order"]


def test_times_of_a_recording_are_moved_to_those_of_the_run() -> None:
    likeness = Likeness()
    then, now = {"created": "1970-01-01T00:00:10Z"}, {"created": "1970-01-01T01:00:00Z"}
    assert list(likeness.differences(then, now)) == []
    second = 10**9
    assert likeness.moved(11 * second) == 3601 * second
    assert likeness.moved(9 * second) == 3599 * second
