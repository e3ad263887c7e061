"""A private message that cannot be sent is given up over the API, and what its author sends later arrives.

Method: two whole members over SQLite, with connectors in memory. The ledger of one refuses the pins
of messages with a tag.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from photinus.api.v1 import batch_service_pb2 as pb
from photinus_core.cluster.local import LocalElector
from photinus_core.data.inputs import DataInput
from photinus_core.host.fakes import FakeWorld
from photinus_core.messaging.inputs import GroupInput, MemberInput, MessageInput
from photinus_core.model.errors import NotFound, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Namespace, Uuid, new_uuid
from photinus_core.model.messages import Message, MessageState
from photinus_core.model.query_string import parse_query_string
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import (
    ContractSettings,
    MultipartySettings,
    NamespaceSettings,
    PluginRef,
    StartRetry,
)
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import ConnectorFailure, Disposition
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Table
from photinus_core.rpc.errors import HTTP_CODE_KEY
from photinus_core.rpc.leader_calls import LeaderCalls
from photinus_core.rpc.services.ledger import BatchServicer
from photinus_core.rpc.subscribing import shown
from photinus_core.store import SqliteStore

from tests.support.waiting import until

NS = Namespace("alpha")
NAMES = ("alice", "bob")
SETTINGS = NamespaceSettings(
    NS,
    blockchain=PluginRef("chain0", "ethereum"),
    data_exchange=PluginRef("dx0", "ffdx"),
    shared_storage=PluginRef("storage0", "ipfs"),
    start_retry=StartRetry(0.005, 0.01),
)
WAIT_S = 30.0


class Refusing:
    """A ledger's connector that does not take the pins of some batches."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.refused: set[Uuid] = set()
        self.refuses = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def submit_batch_pin(self, *arguments: Any) -> Any:
        if self.refuses and arguments[3].batch not in self.refused:
            self.refuses = False
            self.refused.add(arguments[3].batch)
        if arguments[3].batch in self.refused:
            raise ConnectorFailure("REVERTED", "no funds", Disposition.NOT_SENT)
        return await self._inner.submit_batch_pin(*arguments)


class Context:
    """A call, as far as the servicer looks at it."""

    def __init__(self) -> None:
        self.status = ""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.status = dict(metadata)[HTTP_CODE_KEY]


@dataclass
class Member:
    """One member with its API."""

    name: str
    runtime: NamespaceRuntime
    ledger: Refusing

    async def message(self, message: Uuid) -> Message | None:
        async with self.runtime.reader() as reader:
            return (await reader.messages([message])).get(message)

    async def reached(self, message: Uuid, state: MessageState = MessageState.CONFIRMED) -> Message:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.message(message)
                if found is not None and found.state is state:
                    return found
                await asyncio.sleep(0.01)

    async def send(self, value: object, tag: str = "") -> Uuid:
        data = (DataInput(value=json.dumps(value)),)
        group = GroupInput(tuple(MemberInput(name) for name in NAMES), "friends")
        sent = await self.runtime.sender.private(MessageInput(data=data, group=group, tag=tag))
        return sent.header.id

    async def fills(self, cid: Uuid) -> list[Message]:
        query = parse_query_string(Table.MESSAGES, f"cid={cid}")
        async with self.runtime.reader() as reader:
            return list((await reader.query(Table.MESSAGES, query)).items)

    async def cancel(self, batch: str) -> str:
        node: Any = SimpleNamespace(namespace=lambda _: self.runtime)
        calls, context = LeaderCalls(), Context()
        given: Any = context
        try:
            await BatchServicer(node, calls).CancelBatch(pb.CancelBatchRequest(id=batch), given)
        finally:
            await calls.aclose()
        return context.status


@asynccontextmanager
async def member(world: FakeWorld, name: str, folder: Path) -> AsyncIterator[Member]:
    made = world.member(name)
    store = await SqliteStore.open(folder / f"{name}.db")
    multiparty = MultipartySettings(
        "net", name, made.key, f"{name}_node", (ContractSettings('{"address":"0x1"}'),)
    )
    ledger: Any = Refusing(made.blockchain)
    runtime = NamespaceRuntime(
        Scope(store, SystemClock(), NS, "net"),
        replace(SETTINGS, multiparty=multiparty),
        LocalElector(store),
        NamespaceConnectors(ledger, made.data_exchange, made.shared_storage),
        shown,
    )
    life = asyncio.create_task(runtime.run())
    try:
        await until(lambda: runtime.is_started, WAIT_S)
        for register in (
            runtime.registration.register_own_org,
            runtime.registration.register_own_node,
        ):
            await runtime.registered(await register(), WAIT_S)
        yield Member(name, runtime, ledger)
    finally:
        life.cancel()
        await asyncio.wait([life])
        await runtime.aclose()
        await store.aclose()


@pytest.fixture
async def members(tmp_path: Path) -> AsyncIterator[tuple[Member, Member]]:
    async with FakeWorld() as world, AsyncExitStack() as stack:
        alice, bob = [
            await stack.enter_async_context(member(world, name, tmp_path)) for name in NAMES
        ]
        for other in (alice, bob):
            async with asyncio.timeout(WAIT_S):
                while True:
                    async with other.runtime.reader() as reader:
                        if await reader.identity_by_did("did:firefly:node/bob_node") is not None:
                            break
                    await asyncio.sleep(0.01)
        yield alice, bob


async def test_a_batch_is_cancelled_and_its_gap_filled_on_all_members(
    members: tuple[Member, Member],
) -> None:
    alice, bob = members
    first = await alice.send("first")
    for each in members:
        await each.reached(first)
    alice.ledger.refuses = True
    lost = await alice.send("lost", tag="lost")
    await until(lambda: bool(alice.ledger.refused), WAIT_S)
    later = await alice.send("later")
    (batch,) = alice.ledger.refused
    leadership = alice.runtime.leadership
    assert leadership is not None
    await until(lambda: leadership.sending_error(batch) != "", WAIT_S)
    assert await alice.cancel(batch) == "204"
    assert await alice.cancel(batch) == "204", "once more is no harm"
    await alice.reached(lost, MessageState.CANCELLED)
    (fill,) = await alice.fills(lost)
    answer = await bob.send("answer")
    for each in members:
        for message in (fill.header.id, later, answer):
            await each.reached(message)
    assert (fill.header.tag, fill.data) == ("ff_gap_fill", ())
    assert await bob.message(lost) is None


async def test_what_is_not_cancelled(members: tuple[Member, Member]) -> None:
    alice, bob = members
    sent = await alice.send("sent")
    found = [await each.reached(sent) for each in members]
    errors: list[tuple[Member, str, type[PhotinusError], str]] = [
        (alice, str(found[0].batch), Rejected, "FF10466"),
        (bob, str(found[1].batch), Rejected, "FF10466"),
        (alice, str(new_uuid()), NotFound, "FF10109"),
        (alice, "x", Rejected, "FF00138"),
    ]
    for who, batch, kind, code in errors:
        with pytest.raises(kind, match=code):
            await who.cancel(batch)


async def test_only_the_leader_can_cancel(members: tuple[Member, Member]) -> None:
    alice, _ = members
    await alice.reached(await alice.send("first"))
    alice.ledger.refuses = True
    lost = await alice.send("lost")
    await until(lambda: bool(alice.ledger.refused), WAIT_S)
    (batch,) = alice.ledger.refused
    alice.runtime._leadership = None
    with pytest.raises(Unavailable, match="FF19407"):
        await alice.cancel(batch)
    assert (await alice.reached(lost, MessageState.READY)).batch == batch
