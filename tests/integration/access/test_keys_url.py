"""Goal: keys behind a URL are followed: rotation, outages, nonsense, and many who ask at once.

Method: a server on loopback that gives, counts and refuses, and a clock that the test moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from photinus_core.access import keys
from photinus_core.access.gate import Gate
from photinus_core.access.roles import Grant, Need, Role, Scope
from photinus_core.access.settings import AccessSettings, AuthenticatorSettings, TokenSettings
from photinus_core.model.errors import Forbidden, Unauthenticated, Unavailable
from photinus_core.model.ids import Nanoseconds

from tests.support.tokens import AUDIENCE, BEGUN_S, ISSUER, Issuer, bearer

READ = Need(Scope.NAMESPACE, Role.READER, "red")


@dataclass
class Clock:
    steady_s: float = 1_000.0

    def now(self) -> Nanoseconds:
        return Nanoseconds((BEGUN_S + 10) * 10**9)

    def monotonic_s(self) -> float:
        return self.steady_s


@dataclass
class Login:
    """The issuer's server, and a gate that asks it."""

    issuer: Issuer = field(default_factory=Issuer)
    clock: Clock = field(default_factory=Clock)
    status: int = 200
    text: str | None = None
    asked: int = 0
    url: str = ""

    async def keys(self, _: web.Request) -> web.Response:
        self.asked += 1
        headers = {"Location": self.url} if self.status in (301, 302) else {}
        text = self.issuer.key_set() if self.text is None else self.text
        return web.Response(text=text, status=self.status, headers=headers)

    def gate(self) -> Gate:
        how = TokenSettings(ISSUER, (AUDIENCE,), self.url, refresh_s=300, keep_s=3_600)
        grants = (Grant(Role.READER, ("alice",)),)
        sso = AuthenticatorSettings("sso", how, grants)
        return Gate(AccessSettings("red", (sso,), {"red": ("sso",)}), self.clock)


@pytest.fixture
async def login() -> AsyncIterator[Login]:
    made = Login()
    app = web.Application()
    app.router.add_get("/keys", made.keys)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield made
    await runner.cleanup()


async def looked(gate: Gate) -> None:
    """What `run` does, once."""
    for made in gate._made.values():
        await made.look()
    gate._note()


async def test_keys_are_fetched_when_they_are_needed_first(login: Login) -> None:
    gate = login.gate()
    await gate.open()
    assert (await gate.admit(bearer(login.issuer.token()), READ)).role is Role.READER
    with pytest.raises(Forbidden):
        await gate.admit(bearer(login.issuer.token("bob")), READ)
    assert login.asked == 1


async def test_of_those_who_come_at_once_one_fetches(login: Login) -> None:
    gate = login.gate()
    tokens = [bearer(login.issuer.token(jti=str(number))) for number in range(30)]
    async with asyncio.TaskGroup() as group:
        for token in tokens:
            group.create_task(gate.admit(token, READ))
    assert login.asked == 1


async def test_a_rotated_key_is_found_at_once_but_not_by_guessing(login: Login) -> None:
    gate = login.gate()
    await looked(gate)
    login.issuer.add("second")
    login.clock.steady_s += keys.MISS_PAUSE_S
    await gate.admit(bearer(login.issuer.token(key="second")), READ)
    assert login.asked == 2
    for number in range(5):
        invented = login.issuer.token(header={"kid": f"invented {number}"})
        with pytest.raises(Unauthenticated, match="does not have") as caught:
            await gate.admit(bearer(invented), READ)
        assert caught.value.challenge == 'Bearer realm="photinus", error="invalid_token"'
    assert login.asked == 2


async def test_keys_are_fetched_again_in_time(login: Login) -> None:
    gate = login.gate()
    token = bearer(login.issuer.token())
    await looked(gate)
    await looked(gate)
    assert login.asked == 1
    login.issuer.add("second")
    login.issuer.drop("first")
    login.clock.steady_s += 300
    await looked(gate)
    assert login.asked == 2
    with pytest.raises(Unauthenticated):
        await gate.admit(token, READ)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, None),
        (302, None),
        (200, "<html>"),
        (200, '{"keys": []}'),
        (200, " " * (keys.SET_BYTES_MAX + 1)),
        (200, "\xff"),
    ],
)
async def test_an_outage_degrades(login: Login, status: int, text: str | None) -> None:
    """Known keys go on for an hour; what needs new ones is FF19060, and the status says so."""
    gate = login.gate()
    await looked(gate)
    login.status, login.text = status, text
    login.clock.steady_s += 300
    await looked(gate)
    await gate.admit(bearer(login.issuer.token()), READ)
    ((told, _),) = gate.troubles()
    assert "known keys go on counting" in told
    login.issuer.add("second")
    login.clock.steady_s += keys.MISS_PAUSE_S
    with pytest.raises(Unavailable, match="FF19060"):
        await gate.admit(bearer(login.issuer.token(key="second")), READ)
    login.clock.steady_s += 3_600
    await looked(gate)
    with pytest.raises(Unavailable, match="FF19060"):
        await gate.admit(bearer(login.issuer.token(jti="new")), READ)
    login.status, login.text = 200, None
    login.clock.steady_s += 60
    await looked(gate)
    assert gate.troubles() == []
    await gate.admit(bearer(login.issuer.token(key="second")), READ)


async def test_a_server_that_is_away_from_the_start(login: Login) -> None:
    port, login.url = login.url, "http://127.0.0.1:1/keys"
    gate = login.gate()
    await gate.open()  # a node starts without it
    with pytest.raises(Unavailable, match=r"FF19060.*no token can be checked"):
        await gate.admit(bearer(login.issuer.token()), READ)
    with pytest.raises(Unauthenticated, match="another issuer"):
        await gate.admit(bearer(login.issuer.token(iss="https://elsewhere")), READ)
    login.url = port
    other = login.gate()
    await gate.change(other._settings)
    await gate.admit(bearer(login.issuer.token()), READ)
