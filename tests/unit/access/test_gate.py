"""The gate: several ways to prove oneself, what is told to whom, and changes while it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from photinus_core.access.gate import Gate, policy_of
from photinus_core.access.roles import ALL, NOBODY, Caller, Grant, Need, Role, Scope
from photinus_core.access.settings import (
    AccessSettings,
    AuthenticatorSettings,
    PasswordSettings,
    TokenSettings,
)
from photinus_core.model.errors import Forbidden, Rejected, Unauthenticated, Unavailable
from photinus_core.model.ids import Nanoseconds

from tests.support.tokens import AUDIENCE, BEGUN_S, ISSUER, Issuer, basic, bearer, password_file

READ = Need(Scope.NAMESPACE, Role.READER, "red")
OPERATE = Need(Scope.NODE, Role.OPERATOR)
PASSWORDS = 'Basic realm="photinus", charset="UTF-8"'
TOKENS = 'Bearer realm="photinus"'


class Clock:
    def now(self) -> Nanoseconds:
        return Nanoseconds((BEGUN_S + 10) * 10**9)

    def monotonic_s(self) -> float:
        return 100.0


def users(folder: Path, name: str = "users") -> AuthenticatorSettings:
    return AuthenticatorSettings(name, PasswordSettings(folder / name))


def sso(folder: Path, issuer: str = ISSUER, name: str = "sso") -> AuthenticatorSettings:
    how = TokenSettings(issuer, (AUDIENCE,), jwks_file=folder / "keys")
    return AuthenticatorSettings(name, how, (Grant(Role.READER, (ALL,)),))


def settings(*plugins: AuthenticatorSettings) -> AccessSettings:
    return AccessSettings("red", plugins, {"red": tuple(p.name for p in plugins), "blue": ()})


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    made = Issuer()
    (tmp_path / "keys").write_text(made.key_set())
    (tmp_path / "users").write_text(password_file(alice="a"))
    return made


@pytest.fixture
async def gate(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Gate]:
    made = Gate(settings(users(tmp_path), sso(tmp_path)), Clock())
    await made.open()
    yield made
    await made.aclose()


async def test_passwords_and_tokens_side_by_side(gate: Gate, issuer: Issuer) -> None:
    assert (await gate.admit(basic("alice", "a"), READ)).role is Role.OPERATOR
    assert (await gate.admit(bearer(issuer.token()), READ)).role is Role.READER


@pytest.mark.parametrize(
    ("authorization", "text", "challenge"),
    [
        ("", "FF00169: Unauthorized", f"{PASSWORDS}, {TOKENS}"),
        (basic("alice", "b"), "FF00169: Unauthorized", f"{PASSWORDS}, {TOKENS}"),
        (
            "Bearer x",
            "FF00169: Unauthorized: the token cannot be read",
            f'{PASSWORDS}, {TOKENS}, error="invalid_token"',
        ),
        (
            "Digest x",
            "FF00169: Unauthorized: use the scheme Basic or Bearer",
            f"{PASSWORDS}, {TOKENS}",
        ),
    ],
)
async def test_refusals_say_how(gate: Gate, authorization: str, text: str, challenge: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await gate.admit(authorization, READ)
    assert str(caught.value) == text
    assert caught.value.challenge == challenge


async def test_only_what_is_configured_is_asked_for(tmp_path: Path, issuer: Issuer) -> None:
    gate = Gate(settings(sso(tmp_path)), Clock())
    for authorization in ("", basic("alice", "a")):
        with pytest.raises(Unauthenticated) as caught:
            await gate.admit(authorization, READ)
        assert caught.value.challenge == TOKENS


async def test_wrong_credentials_are_refused_where_none_are_wanted(gate: Gate) -> None:
    open_to_all = Need(Scope.NAMESPACE, Role.OPERATOR, "blue")
    assert (await gate.admit("", open_to_all)).role is Role.OPERATOR
    with pytest.raises(Unauthenticated):
        await gate.admit(basic("alice", "b"), open_to_all)


async def test_an_open_gate_looks_at_nothing() -> None:
    gate = Gate(AccessSettings("red", (), {"red": ()}), Clock())
    assert gate.is_open
    assert await gate.authenticate("nonsense") == NOBODY
    assert (await gate.admit("nonsense", OPERATE)).role is Role.OPERATOR


async def test_of_several_issuers_the_one_that_is_named_tells(
    tmp_path: Path, issuer: Issuer
) -> None:
    other = sso(tmp_path, "https://other", "other")
    gate = Gate(settings(other, sso(tmp_path)), Clock())
    assert await gate.authenticate(bearer(issuer.token())) != NOBODY
    with pytest.raises(Unauthenticated, match="has expired"):
        await gate.authenticate(bearer(issuer.token(exp=BEGUN_S - 3600)))


async def test_keys_that_are_away_are_not_the_clients_fault(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "keys").unlink()
    gate = Gate(settings(users(tmp_path), sso(tmp_path)), Clock())
    await gate.open()
    with pytest.raises(Unavailable, match="FF19060"):
        await gate.authenticate(bearer(issuer.token()))
    assert await gate.authenticate(basic("alice", "a")) != NOBODY
    await gate.aclose()


async def test_a_password_file_must_be_there_at_the_start(tmp_path: Path) -> None:
    gate = Gate(settings(users(tmp_path)), Clock())
    with pytest.raises(Rejected, match=r"FF19305.*users"):
        await gate.open()
    await gate.aclose()


async def test_changed_settings(gate: Gate, tmp_path: Path, issuer: Issuer) -> None:
    """What did not change keeps what it knows; what is new must be in order, or nothing changes."""
    former = gate._made["users"]
    await gate.change(settings(users(tmp_path)))
    assert gate._made == {"users": former}
    with pytest.raises(Unauthenticated):
        await gate.admit(bearer(issuer.token()), READ)
    with pytest.raises(Rejected, match=r"FF19305.*more"):
        await gate.change(settings(users(tmp_path), users(tmp_path, "more")))
    await gate.admit(basic("alice", "a"), READ)
    reading = replace(users(tmp_path), grants=(Grant(Role.READER, ("alice",)),))
    await gate.change(settings(reading))
    with pytest.raises(Forbidden):
        await gate.admit(basic("alice", "a"), replace(READ, role=Role.WRITER))
    await gate.change(AccessSettings("red", (), {"red": ()}))
    assert gate.is_open


def test_without_grants_users_do_what_fireflys_do(tmp_path: Path) -> None:
    """Everything in the namespaces that name the plugin; with `http.auth` everything."""
    plugin = policy_of(settings(users(tmp_path)))
    assert plugin.grants["users"] == (Grant(Role.OPERATOR, (ALL,), namespaces=("red",)),)
    http = policy_of(replace(settings(), http=users(tmp_path, "http.auth")))
    assert http.grants["http.auth"] == (Grant(Role.OPERATOR, (ALL,), namespaces=(ALL,)),)
    assert http.http == "http.auth"


def test_a_caller_is_known_until_its_first_proof_expires() -> None:
    assert Caller().expires_s() is None
