"""Goal: what is not built, and nothing else, goes out of what is expected of the rest.

Method: short recordings made up for it.
"""

from typing import Any

import pytest

from scripts.recorded_scope import Scope, recording

TOKEN = "00000000-0000-4000-8000-000000000001"
POOL = "00000000-0000-4000-8000-000000000002"
OURS = "00000000-0000-4000-8000-000000000003"
OURS_TOO = "00000000-0000-4000-8000-000000000004"


def line(number: int, path: str, body: Any) -> dict[str, Any]:
    return {"id": f"a{number}", "method": "GET", "path": f"/api/v1{path}", "response_body": body}


def test_objects_that_name_what_was_made_by_a_step_left_out_go() -> None:
    scope = Scope()
    made = line(1, "/tokens/pools", {"id": POOL})
    assert not scope.is_replayed(made)
    scope.expected(made)
    listed = line(2, "/events", [{"id": TOKEN, "reference": POOL}, {"id": OURS}])
    found = scope.expected(listed)
    assert (found.body, found.removed, found.is_open) == ([{"id": OURS}], 1, False)
    # What names only an object that went is gone as well.
    assert scope.expected(line(3, "/data", [{"id": OURS_TOO, "of": TOKEN}])).body == []


def test_what_was_known_before_stays() -> None:
    scope = Scope({"a2"})
    scope.expected(line(1, "/messages", [{"id": OURS}]))
    scope.expected(line(2, "/messages", {"id": OURS_TOO, "group": OURS}))
    found = scope.expected(line(3, "/messages", [{"id": OURS}, {"id": OURS_TOO}]))
    assert found.body == [{"id": OURS}]


@pytest.mark.parametrize(
    ("path", "more", "counted"),
    [
        ("/events?count", False, {"count": 1, "total": 1, "items": [{"id": OURS}]}),
        ("/events?count&limit=2", True, {"count": 1, "items": [{"id": OURS}]}),
    ],
)
def test_counts_follow(path: str, more: bool, counted: dict[str, Any]) -> None:
    items = [{"id": TOKEN, "type": "token_pool_confirmed"}, {"id": OURS}]
    answer = {"count": 2, "total": 2, "items": items}
    found = Scope().expected(line(1, path, answer))
    assert (found.body, found.removed, found.is_open) == (counted, 1, more)


def test_the_token_connector_goes_out_of_a_status() -> None:
    plugins = {"tokens": [{"name": "erc20"}], "blockchain": [{"name": "b"}]}
    found = Scope().expected(line(1, "/status", {"plugins": plugins}))
    assert found.body == {"plugins": {**plugins, "tokens": []}}


@pytest.mark.parametrize("path", ["/contracts/invoke", "/namespaces/gw/apis", "/tokens/mint"])
def test_steps_that_are_not_built(path: str) -> None:
    assert not Scope().is_replayed(line(1, path, {}))


def test_only_what_is_not_built_is_left_out() -> None:
    lines = list(recording())
    kept = [each for each in lines if Scope().is_replayed(each)]
    assert [each["id"] for each in lines] == sorted(each["id"] for each in lines)
    assert len(lines) - len(kept) < 20
