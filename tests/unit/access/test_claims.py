"""What a token's claims must be, whatever its signature. Pure and table-driven."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photinus_core.access.claims import read_claims
from photinus_core.access.settings import TokenSettings
from photinus_core.model.errors import Unauthenticated

NOW_S = 1_700_000_000.0
SETTINGS = TokenSettings("https://issuer", ("photinus", "other"), leeway_s=30.0)


def claims(**changes: Any) -> dict[str, Any]:
    made = {"iss": "https://issuer", "aud": "photinus", "sub": "alice", "exp": NOW_S + 60}
    return {name: value for name, value in (made | changes).items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["x", "other"]},
        {"exp": NOW_S - 29.5},
        {"exp": int(NOW_S) + 1},
        {"nbf": NOW_S + 29, "iat": NOW_S + 29},
        {"groups": None},
    ],
)
def test_taken(changes: dict[str, Any]) -> None:
    assert read_claims(claims(**changes), SETTINGS, NOW_S).subject == "alice"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://issuer/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "photinus2"}, "another audience"),
        ({"aud": ["x"]}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": [["photinus"]]}, "another audience"),
        ({"aud": {"photinus": 1}}, "another audience"),
        ({"exp": None}, "never expires"),
        ({"exp": NOW_S - 30}, "has expired"),
        ({"exp": "2030"}, "no time"),
        ({"exp": True}, "no time"),
        ({"exp": float("nan")}, "no time"),
        ({"exp": float("inf")}, "no time"),
        ({"nbf": NOW_S + 31}, "not valid yet"),
        ({"iat": NOW_S + 31}, "not valid yet"),
        ({"nbf": []}, "no time"),
        ({"sub": None}, "names somebody"),
        ({"sub": ""}, "names somebody"),
        ({"sub": 7}, "names somebody"),
        ({"sub": "x" * 1025}, "names somebody"),
    ],
)
def test_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Unauthenticated, match=f"^FF00169: Unauthorized: the token .*{why}"):
        read_claims(claims(**changes), SETTINGS, NOW_S)


@pytest.mark.parametrize(
    ("path", "found", "want"),
    [
        ("groups", {"groups": ["a", "b"]}, {"a", "b"}),
        ("groups", {"groups": "a b"}, {"a", "b"}),
        ("groups", {"groups": ["a", 1, None]}, {"a"}),
        ("groups", {"groups": {"a": 1}}, set()),
        ("groups", {}, set()),
        ("scope", {"scope": "read write"}, {"read", "write"}),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
        ("realm_access.roles", {"realm_access": ["roles"]}, set()),
        ("https://x.example/groups", {"https://x.example/groups": ["a"]}, {"a"}),
    ],
)
def test_groups_are_found(path: str, found: dict[str, Any], want: set[str]) -> None:
    settings = TokenSettings("https://issuer", ("photinus",), groups=path)
    assert read_claims(claims(**found), settings, NOW_S).groups == want


def test_the_subject_is_found_elsewhere() -> None:
    settings = TokenSettings("https://issuer", ("photinus",), subject="email")
    assert read_claims(claims(email="a@b"), settings, NOW_S).subject == "a@b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "groups"]), json_values
    )
)
def test_nonsense_is_refused_and_never_breaks(found: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        read_claims(
            {"iss": "https://issuer", "aud": "photinus"} | found | {"exp": 1}, SETTINGS, NOW_S
        )
