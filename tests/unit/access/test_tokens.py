"""Tokens: signatures, keys and their rotation, with keys in a file. What is in the claims has tests of its own."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest
from photinus_core.access import tokens
from photinus_core.access.credentials import Password, Token
from photinus_core.access.keys import read_keys
from photinus_core.access.roles import Proof
from photinus_core.access.settings import ALGORITHMS, TokenSettings
from photinus_core.access.tokens import Tokens
from photinus_core.model.errors import Unauthenticated, Unavailable
from photinus_core.model.ids import Nanoseconds

from tests.support.tokens import AUDIENCE, BEGUN_S, ISSUER, Issuer


@dataclass
class Clock:
    at_s: float = BEGUN_S + 10
    steady_s: float = 100.0

    def now(self) -> Nanoseconds:
        return Nanoseconds(int(self.at_s * 1e9))

    def monotonic_s(self) -> float:
        return self.steady_s


class Desk:
    """An issuer, a file with its keys, and who checks its tokens."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.file = folder / "keys.json"
        self.issuer = Issuer(*names)
        self.clock = Clock()
        self.publish()
        self.settings = TokenSettings(
            ISSUER, (AUDIENCE,), jwks_file=self.file, algorithms=("ES256", "RS256")
        )
        self.tokens = Tokens("sso", self.settings, self.clock)

    def publish(self) -> None:
        self.file.write_text(self.issuer.key_set())

    async def prove(self, token: str) -> Proof | None:
        return await self.tokens.prove(Token(token))

    async def why_not(self, token: str) -> str:
        with pytest.raises(Unauthenticated, match=r"^FF00169: Unauthorized: the token ") as caught:
            await self.prove(token)
        return str(caught.value).removeprefix("FF00169: Unauthorized: the token ")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_good_token(desk: Desk) -> None:
    token = desk.issuer.token(groups=["ops"])
    want = Proof("sso", "alice", frozenset({"ops"}), BEGUN_S + 3600 + 30.0)
    assert await desk.prove(token) == want
    assert await desk.prove(token) == want
    assert await desk.tokens.prove(Password("alice", "x")) is None


async def test_a_token_that_was_good_expires(desk: Desk) -> None:
    token = desk.issuer.token()
    assert await desk.prove(token)
    desk.clock.at_s = BEGUN_S + 3600 + 30
    assert await desk.why_not(token) == "has expired"
    assert await desk.why_not(token) == "has expired"


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_tokens_that_are_none(desk: Desk) -> None:
    good = desk.issuer.token()
    for text in ("x", "a.b", "a.b.c", "..", good + ".x", f"{part([])}.{part({})}.x", "ä.b.c"):
        assert await desk.why_not(text) == "cannot be read"
    header, _, signature = good.split(".")
    assert await desk.why_not(f"{header}.{part([1])}.{signature}") == "cannot be read"


async def test_a_changed_token(desk: Desk) -> None:
    header, payload, signature = desk.issuer.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = f"{header}.{part(claims | {'sub': 'root'})}.{signature}"
    assert await desk.why_not(forged) == "has a wrong signature"


async def test_another_issuers_token(desk: Desk) -> None:
    assert await desk.why_not(desk.issuer.token(iss="https://evil")) == "is of another issuer"
    assert await desk.why_not(Issuer("first").token()) == "has a wrong signature"


async def test_no_signature_and_shared_secrets(desk: Desk) -> None:
    """The oldest tricks: no algorithm at all, and the public key as the secret of an HMAC."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": BEGUN_S + 60}
    not_allowed = "is signed by an algorithm that is not allowed here"
    for header in ({"alg": "none"}, {"alg": "None", "kid": "first"}, {"alg": ["none"]}):
        assert await desk.why_not(f"{part(header)}.{part(claims)}.") in (
            not_allowed,
            "cannot be read",
        )
    signed = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(claims)}"
    mac = hmac.digest(desk.file.read_bytes(), signed.encode(), "sha256")
    forged = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert await desk.why_not(forged) == not_allowed


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_algorithm_with_a_shared_secret_can_be_allowed(algorithm: str) -> None:
    assert not algorithm.startswith("HS")
    assert algorithm.lower() != "none"


async def test_an_algorithm_that_is_not_allowed(desk: Desk) -> None:
    desk.issuer.add_rsa("big")
    desk.publish()
    assert await desk.prove(desk.issuer.token(key="big", algorithm="RS256"))
    assert "not allowed" in await desk.why_not(desk.issuer.token(key="big", algorithm="PS256"))
    assert "not allowed" in await desk.why_not(desk.issuer.token(key="big", algorithm="RS512"))


async def test_a_key_of_another_kind_than_the_algorithm(desk: Desk) -> None:
    desk.issuer.add_rsa("big")
    desk.publish()
    token = desk.issuer.token(key="big", algorithm="RS256", header={"kid": "first"})
    assert await desk.why_not(token) == "is signed with a key its issuer does not have"


async def test_headers_that_are_not_understood(desk: Desk) -> None:
    for header in ({"crit": ["x"], "x": 1}, {"crit": ["exp"]}):
        why = await desk.why_not(desk.issuer.token(header=header))
        assert why in ("has a header that is not understood", "cannot be read")


async def test_a_token_without_a_key_id(desk: Desk) -> None:
    desk.issuer.add("second")
    desk.publish()
    for key in ("first", "second"):
        token = desk.issuer.token(key=key, header={"kid": None})
        assert await desk.prove(token)


async def test_rotated_keys(desk: Desk) -> None:
    former = desk.issuer.token()
    assert await desk.prove(former)
    desk.issuer.add("second")
    later = desk.issuer.token(key="second")
    assert "does not have" in await desk.why_not(later)
    desk.publish()
    await desk.tokens.look()
    assert await desk.prove(later)
    assert await desk.prove(former)
    desk.issuer.drop("first")
    desk.publish()
    await desk.tokens.look()
    assert await desk.prove(later)
    assert "does not have" in await desk.why_not(former)


async def test_keys_that_cannot_be_had(desk: Desk) -> None:
    """Known keys go on; what only new ones could tell is FF19060, and not the client's fault."""
    token = desk.issuer.token()
    desk.file.unlink()
    with pytest.raises(Unavailable, match=f"FF19060.*{desk.file}"):
        await desk.prove(token)
    desk.clock.steady_s += 60
    desk.publish()
    assert await desk.prove(token)
    desk.file.write_text("{}")
    await desk.tokens.look()
    assert "known keys go on counting" in desk.tokens.trouble
    assert await desk.prove(desk.issuer.token("bob"))
    desk.issuer.add("second")
    desk.clock.steady_s += 60
    with pytest.raises(Unavailable, match="FF19060"):
        await desk.prove(desk.issuer.token(key="second"))


async def test_what_is_remembered_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED_MAX", 2)
    for number in range(4):
        assert await desk.prove(desk.issuer.token(f"user {number}"))
    assert len(desk.tokens._verified) == 2


async def test_a_short_key_is_no_key(desk: Desk) -> None:
    desk.issuer.add_rsa("small", 1024)
    desk.publish()
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = desk.issuer.token(key="small", algorithm="RS256")
    assert await desk.why_not(token) == "has a wrong signature"


async def test_no_part_of_a_token_is_told(desk: Desk) -> None:
    token = desk.issuer.token("very-secret-name", aud="elsewhere")
    text = await desk.why_not(token)
    assert "very-secret-name" not in text
    assert "elsewhere" not in text


# Sets of keys.

OCT = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"keys": {}}', '{"keys": []}', json.dumps({"keys": [OCT]}), "[" * 5000],
)
def test_sets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        read_keys(text)


def test_keys_for_other_purposes_are_left_out() -> None:
    issuer = Issuer("first")
    (own,) = json.loads(issuer.key_set())["keys"]
    others = [OCT, {**own, "use": "enc"}, {**own, "key_ops": ["sign"]}, {"kty": "EC"}, 7]
    text = json.dumps({"keys": [*others, own]})
    assert len(read_keys(text).fitting("first", "ES256")) == 1
    assert read_keys(text).fitting("secret", "ES256") == []
    assert read_keys(text).fitting("first", "ES384") == []
    named = json.dumps({"keys": [{**own, "alg": "ES384"}]})
    assert read_keys(named).fitting("first", "ES256") == []


def test_a_key_that_is_broken_is_no_key(desk: Desk) -> None:
    broken = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "x", "x": "AA", "y": "AA"}]})
    assert read_keys(broken).fitting("x", "ES256") == []


async def test_a_set_with_a_shared_secret_does_not_serve_it(desk: Desk) -> None:
    desk.file.write_text(desk.issuer.key_set(OCT))
    everything = replace(desk.settings, algorithms=("HS256", "ES256"))
    desk.tokens = Tokens("sso", everything, desk.clock)  # no configuration can say so
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": BEGUN_S + 60}
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        forged = jwt.encode(claims, "secret", algorithm="HS256", headers={"kid": "secret"})
    assert "does not have" in await desk.why_not(forged)
