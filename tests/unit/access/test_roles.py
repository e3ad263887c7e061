"""Who may do what where: the whole table of callers, layers and needs. Pure and table-driven."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photinus_core.access.roles import (
    NOBODY,
    Binding,
    Caller,
    Grant,
    Need,
    Policy,
    Proof,
    Role,
    Scope,
    as_did,
)
from photinus_core.model.errors import Forbidden, Unauthenticated

READER, WRITER, OPERATOR = Role.READER, Role.WRITER, Role.OPERATOR
ANY, NODE, SPI, NAMESPACE = Scope.ANY, Scope.NODE, Scope.SPI, Scope.NAMESPACE


def caller(*names: str, groups: tuple[str, ...] = ()) -> Caller:
    """`users/alice` is alice, proven by the authenticator `users`."""
    parts = (name.split("/") for name in names)
    return Caller(tuple(Proof(by, name, frozenset(groups)) for by, name in parts))


def outcome(policy: Policy, who: Caller, need: Need) -> int:
    try:
        policy.check(who, need)
    except Unauthenticated:
        return 401
    except Forbidden:
        return 403
    return 200


GRANTS = {
    "users": (
        Grant(OPERATOR, ("root",)),
        Grant(WRITER, ("alice",), namespaces=("red", "blue")),
        Grant(READER, ("bob",), namespaces=("red",)),
        Grant(READER, ("carol",)),
    ),
    "sso": (
        Grant(OPERATOR, groups=("admins",), namespaces=("blue",)),
        Grant(WRITER, ("*",), namespaces=("blue",)),
    ),
}
MIXED = Policy("red", GRANTS, {"red": ("users",), "blue": ("users", "sso"), "open": ()})


@pytest.mark.parametrize(
    ("who", "need", "want"),
    [
        # nobody in particular
        (NOBODY, Need(NAMESPACE, READER, "red"), 401),
        (NOBODY, Need(NAMESPACE, READER, ""), 401),
        (NOBODY, Need(NAMESPACE, OPERATOR, "open"), 200),
        (NOBODY, Need(ANY, READER), 200),
        (NOBODY, Need(NODE, OPERATOR), 401),
        (NOBODY, Need(SPI, OPERATOR), 401),
        # each role has what is below it, and no more
        (caller("users/bob"), Need(NAMESPACE, READER, "red"), 200),
        (caller("users/bob"), Need(NAMESPACE, READER, ""), 200),
        (caller("users/bob"), Need(NAMESPACE, WRITER, "red"), 403),
        (caller("users/bob"), Need(NAMESPACE, READER, "blue"), 403),
        (caller("users/alice"), Need(NAMESPACE, WRITER, "blue"), 200),
        (caller("users/alice"), Need(NAMESPACE, OPERATOR, "red"), 403),
        (caller("users/root"), Need(NAMESPACE, OPERATOR, "blue"), 200),
        (caller("users/eve"), Need(NAMESPACE, READER, "red"), 403),
        # an authenticator counts where a namespace names it
        (caller("sso/zoe"), Need(NAMESPACE, WRITER, "blue"), 200),
        (caller("sso/zoe"), Need(NAMESPACE, READER, "red"), 401),
        (caller("sso/zoe", groups=("admins",)), Need(NAMESPACE, OPERATOR, "blue"), 200),
        (caller("users/bob", "sso/bob"), Need(NAMESPACE, WRITER, "blue"), 200),
        # the node is for operators of all namespaces
        (caller("users/root"), Need(NODE, OPERATOR), 200),
        (caller("users/carol"), Need(NODE, OPERATOR), 403),
        (caller("users/alice"), Need(NODE, OPERATOR), 403),
        (caller("sso/zoe", groups=("admins",)), Need(NODE, OPERATOR), 403),
        (caller("users/root"), Need(SPI, OPERATOR), 200),
        (caller("users/alice"), Need(SPI, OPERATOR), 403),
        # names of namespaces are not to be found out by strangers
        (NOBODY, Need(NAMESPACE, READER, "absent"), 200),
        (caller("users/bob"), Need(NAMESPACE, READER, "absent"), 200),
    ],
)
def test_with_some_open_namespaces(who: Caller, need: Need, want: int) -> None:
    assert outcome(MIXED, who, need) == want


CLOSED = Policy("red", GRANTS, {"red": ("users",), "blue": ("sso",)})


@pytest.mark.parametrize(
    ("who", "need", "want"),
    [
        (NOBODY, Need(ANY, READER), 401),
        (NOBODY, Need(NAMESPACE, READER, "absent"), 401),
        (caller("users/eve"), Need(ANY, READER), 403),
        (caller("users/eve"), Need(NAMESPACE, READER, "absent"), 403),
        (caller("users/bob"), Need(ANY, READER), 200),
        (caller("users/bob"), Need(ANY, WRITER), 403),
        (caller("sso/zoe"), Need(ANY, WRITER), 200),
    ],
)
def test_with_no_open_namespace(who: Caller, need: Need, want: int) -> None:
    assert outcome(CLOSED, who, need) == want


HTTP = {
    **GRANTS,
    "http.auth": (Grant(OPERATOR, ("root",)), Grant(READER, ("bob", "alice"))),
    "spi.auth": (Grant(OPERATOR, ("robot",)),),
}
LAYERED = Policy("red", HTTP, {"red": ("users",), "open": ()}, "http.auth", "spi.auth")


@pytest.mark.parametrize(
    ("who", "need", "want"),
    [
        (NOBODY, Need(NAMESPACE, READER, "open"), 401),
        (caller("http.auth/bob"), Need(NAMESPACE, READER, "open"), 200),
        (caller("http.auth/bob"), Need(NAMESPACE, WRITER, "open"), 403),
        # both layers are to be passed, and the smaller role counts
        (caller("http.auth/alice"), Need(NAMESPACE, READER, "red"), 401),
        (caller("users/alice"), Need(NAMESPACE, READER, "red"), 401),
        (caller("http.auth/alice", "users/alice"), Need(NAMESPACE, READER, "red"), 200),
        (caller("http.auth/alice", "users/alice"), Need(NAMESPACE, WRITER, "red"), 403),
        (caller("http.auth/root", "users/alice"), Need(NAMESPACE, WRITER, "red"), 200),
        (caller("http.auth/root"), Need(NODE, OPERATOR), 200),
        (caller("users/root"), Need(NODE, OPERATOR), 401),
        (caller("http.auth/bob"), Need(NODE, OPERATOR), 403),
        # the SPI has its own
        (caller("spi.auth/robot"), Need(SPI, OPERATOR), 200),
        (caller("spi.auth/robot"), Need(NODE, OPERATOR), 401),
        (caller("http.auth/root"), Need(SPI, OPERATOR), 401),
    ],
)
def test_with_http_auth_and_spi_auth(who: Caller, need: Need, want: int) -> None:
    assert outcome(LAYERED, who, need) == want


def test_an_spi_authenticator_makes_no_operator_of_the_node() -> None:
    policy = Policy("red", HTTP, {"red": ("users",)}, spi="spi.auth")
    assert outcome(policy, caller("spi.auth/robot"), Need(NODE, OPERATOR)) == 401
    assert outcome(policy, caller("users/root"), Need(NODE, OPERATOR)) == 200


def test_without_any_rule_everybody_may_do_everything() -> None:
    policy = Policy("red", {}, {"red": (), "blue": ()})
    assert policy.is_open
    for scope, role in product(Scope, Role):
        assert outcome(policy, NOBODY, Need(scope, role, "red")) == 200
    assert not MIXED.is_open
    assert not Policy(http="http.auth").is_open


def test_a_node_without_namespaces() -> None:
    assert outcome(Policy(), NOBODY, Need(ANY, READER)) == 200
    guarded = Policy(grants=HTTP, http="http.auth")
    assert outcome(guarded, NOBODY, Need(ANY, READER)) == 401
    assert outcome(guarded, caller("http.auth/bob"), Need(ANY, READER)) == 200


def test_the_first_grant_that_fits_counts() -> None:
    grants = {"users": (Grant(READER, ("alice",)), Grant(OPERATOR, ("*",)))}
    policy = Policy("red", grants, {"red": ("users",)})
    assert outcome(policy, caller("users/alice"), Need(NAMESPACE, WRITER, "red")) == 403
    assert outcome(policy, caller("users/bob"), Need(NAMESPACE, OPERATOR, "red")) == 200


def test_texts_say_what_is_missing() -> None:
    with pytest.raises(
        Forbidden, match=r"^FF00170: Forbidden: this needs the role writer in namespace 'red'$"
    ):
        MIXED.check(caller("users/bob"), Need(NAMESPACE, WRITER))
    with pytest.raises(Forbidden, match="nothing is granted to you for the whole node"):
        MIXED.check(caller("users/alice"), Need(NODE, OPERATOR))
    with pytest.raises(Unauthenticated, match=r"^FF00169: Unauthorized$"):
        MIXED.check(NOBODY, Need(NAMESPACE, READER))


# Those who send as one identity.

BOUND = Binding("did:firefly:org/acme", "0xABCD")


@pytest.mark.parametrize(
    ("author", "key", "want"),
    [
        ("", "", ("did:firefly:org/acme", "0xABCD")),
        ("acme", "", ("did:firefly:org/acme", "0xABCD")),
        ("did:firefly:org/acme", "0xabcd", ("did:firefly:org/acme", "0xabcd")),
    ],
)
def test_author_and_key_are_filled_in(author: str, key: str, want: tuple[str, str]) -> None:
    assert BOUND.signer(author, key) == want


@pytest.mark.parametrize(
    ("author", "key"),
    [("other", ""), ("did:firefly:acme", ""), ("acme", "0x1234"), ("", "0x1234"), ("ACME", "")],
)
def test_nobody_sends_as_another(author: str, key: str) -> None:
    with pytest.raises(Forbidden, match="FF00170"):
        BOUND.signer(author, key)


def test_an_author_without_a_key_leaves_the_key_open() -> None:
    assert Binding(as_did("acme")).signer("", "0x1") == ("did:firefly:org/acme", "0x1")


def test_the_namespaces_binding_counts_before_that_for_all() -> None:
    http, own = Binding("did:a"), Binding("did:b")
    grants = {
        "http.auth": (Grant(WRITER, ("*",), binding=http),),
        "users": (Grant(WRITER, ("alice",), binding=own), Grant(WRITER, ("*",))),
    }
    policy = Policy("red", grants, {"red": ("users",)}, http="http.auth")
    need = Need(NAMESPACE, WRITER)
    assert policy.check(caller("http.auth/alice", "users/alice"), need).binding == own
    assert policy.check(caller("http.auth/bob", "users/bob"), need).binding == http


names = st.sampled_from(["a", "b", "c"])
roles = st.sampled_from(list(Role))
grants_of = st.lists(
    st.builds(
        Grant,
        roles,
        st.lists(st.sampled_from(["x", "y", "*"])).map(tuple),
        st.just(()),
        st.lists(st.sampled_from(["a", "b", "*"]), min_size=1).map(tuple),
    )
).map(tuple)
callers = st.lists(st.builds(Proof, st.sampled_from(["p", "q"]), st.sampled_from(["x", "y"]))).map(
    lambda proofs: Caller(tuple(proofs))
)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries({"p": grants_of, "q": grants_of}),
    st.dictionaries(names, st.sampled_from([("p",), ("q",), ("p", "q")])),
    st.sampled_from(["", "p", "q"]),
    callers,
    st.sampled_from(list(Scope)),
    names,
)
def test_nothing_is_given_that_nobody_granted(
    grants: dict[str, tuple[Grant, ...]],
    namespaces: dict[str, tuple[str, ...]],
    http: str,
    who: Caller,
    scope: Scope,
    namespace: str,
) -> None:
    """A role comes from a grant to a proven name; more needs are never met by less."""
    policy = Policy("a", grants, namespaces, http)
    met = [outcome(policy, who, Need(scope, role, namespace)) == 200 for role in Role]
    assert met == sorted(met, reverse=True)
    if not any(met) or policy.is_open:
        return
    granted = [
        grant.role
        for proof in who.proofs
        for grant in grants[proof.authenticator]
        if proof.name in grant.users or "*" in grant.users
    ]
    assert granted
    assert max(granted) >= sum(met)
