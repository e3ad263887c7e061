"""Event streams and who has them: each start is asked about, and their clients prove themselves again while they last.

Method: the stream of `test_subscribing`, for a caller that a gate over a password file knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from photinus.api.v1 import event_pb2
from photinus_core.access.gate import Gate
from photinus_core.access.roles import Grant, Rights, Role
from photinus_core.access.settings import AccessSettings, AuthenticatorSettings, PasswordSettings
from photinus_core.model.errors import Forbidden, PhotinusError, Unauthenticated
from photinus_core.ports.clock import SystemClock
from photinus_core.rpc import subscribing
from photinus_core.rpc.access import Calling
from photinus_core.rpc.subscribing import EventStream

from tests.support.store_records import NS
from tests.support.tokens import basic, password_file
from tests.unit.rpc.test_subscribing import Client

ENDS_S = 30.0


class Guarded:
    """A namespace `red` for users of a file, `other` for nobody, and a gate."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "users"
        self.file.write_text(password_file(alice="a"))
        how = AuthenticatorSettings("users", PasswordSettings(self.file))
        self.settings = AccessSettings(NS, (how,), {NS: ("users",), "other": ("users",)})
        self.gate = Gate(self.settings, SystemClock())

    async def grant(self, role: Role, *namespaces: str) -> None:
        granted = (Grant(role, ("alice",), namespaces=namespaces),)
        plugin = replace(self.settings.authenticators[0], grants=granted)
        await self.gate.change(replace(self.settings, authenticators=(plugin,)))

    async def client(self) -> Client:
        """A client that has come as alice."""
        authorization = basic("alice", "a")
        caller = await self.gate.authenticate(authorization)
        calling = Calling(self.gate, caller, Rights(Role.READER), authorization)
        made = Client()
        node: Any = made.node
        made.stream = EventStream(node, "peer", calling)
        made.answers = made.stream.run(made._requests())
        return made


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    made = Guarded(tmp_path)
    await made.gate.open()
    yield made
    await made.gate.aclose()


async def finish(client: Client) -> None:
    await client.frames.put(None)
    async with asyncio.timeout(ENDS_S):
        async for _ in client.answers:
            pass


@pytest.mark.parametrize(
    ("role", "start", "refused"),
    [
        (Role.READER, {"ephemeral": True}, ""),
        (Role.READER, {"name": "app"}, f"this needs the role writer in namespace '{NS}'"),
        (Role.WRITER, {"name": "app"}, ""),
        (Role.WRITER, {"namespace": "other", "ephemeral": True}, "in namespace 'other'"),
        (Role.WRITER, {"namespace": "other", "ephemeral": True, "from_url": True}, "'other'"),
    ],
)
async def test_each_start_is_asked_about(
    guarded: Guarded, role: Role, start: dict[str, Any], refused: str
) -> None:
    await guarded.grant(role, NS)
    client = await guarded.client()
    await client.send(start=event_pb2.Start(**({"namespace": NS} | start)))
    if not refused:
        assert (await client.next()).WhichOneof("frame") == "started"
    else:
        text, closes = await client.error()
        assert text.startswith("FF10176: Invalid data: FF00170: Forbidden: ")
        assert refused in text
        assert closes  # also one of the URL, whose other errors leave the socket open
        assert client.connections == []
    await finish(client)


async def until_it_ends(client: Client) -> PhotinusError:
    try:
        async with asyncio.timeout(ENDS_S):
            async for _ in client.answers:
                pass
    except PhotinusError as failure:
        return failure
    raise AssertionError("it ended without a reason")


async def test_a_changed_password_ends_the_stream(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing, "RECHECK_S", 0.01)
    client = await guarded.client()
    await client.start(namespace=NS, ephemeral=True)
    guarded.file.write_text(password_file(alice="another"))
    await guarded.gate._made["users"].look()
    assert isinstance(await until_it_ends(client), Unauthenticated)


async def test_a_smaller_grant_ends_the_stream(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing, "RECHECK_S", 0.01)
    client = await guarded.client()
    await client.start(namespace=NS, ephemeral=True)
    await guarded.grant(Role.READER, "other")
    assert isinstance(await until_it_ends(client), Forbidden)


async def test_a_client_that_may_go_on_goes_on(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing, "RECHECK_S", 0.0)
    renewed = asyncio.Event()
    count = 0
    original = Gate.authenticate

    async def counted(self: Gate, authorization: str) -> Any:
        nonlocal count
        count += 1
        if count > 5:
            renewed.set()
        return await original(self, authorization)

    client = await guarded.client()
    monkeypatch.setattr(Gate, "authenticate", counted)
    reading = asyncio.create_task(client.start(namespace=NS, ephemeral=True))
    assert (await asyncio.wait_for(reading, ENDS_S)).WhichOneof("frame") == "started"
    await asyncio.wait_for(renewed.wait(), ENDS_S)
    await finish(client)
