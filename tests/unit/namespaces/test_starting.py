"""Goal: what a namespace does until it runs, when a connector or an election lets it wait.

Method: a runtime over the real SQLite store, with connectors in memory that go away and come back,
and electors that never come to an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from photinus.api.v1 import message_service_pb2 as messages
from photinus.api.v1 import namespace_service_pb2 as namespaces
from photinus_core.cluster.local import LocalElector
from photinus_core.host.fakes import FakeWorld
from photinus_core.model.errors import NotReady, Rejected, Unavailable
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import (
    NamespaceSettings,
)
from photinus_core.namespaces.status import Condition
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.elector import Lease
from photinus_core.ports.scope import Scope
from photinus_core.rpc.services.messages import MessageServicer
from photinus_core.rpc.services.namespaces import NamespaceServicer
from photinus_core.rpc.subscribing import shown
from photinus_core.store import SqliteStore

from tests.support.store_records import make_batch
from tests.unit.namespaces.runtimes import NS, node_of, running, settings

WAIT_S = 20.0
POLL_S = 0.005


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    yield opened
    await opened.aclose()


@pytest.fixture
async def world() -> AsyncIterator[FakeWorld]:
    async with FakeWorld() as made:
        yield made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(POLL_S)


async def test_a_new_namespace_serves_nothing_until_its_ledger_is_there(
    store: SqliteStore, world: FakeWorld
) -> None:
    member = world.member("alice")
    member.blockchain.go_away()
    async with running(store, member) as runtime:
        await until(lambda: bool(runtime._error))
        assert "FF19200" in (await runtime.state()).error
        with pytest.raises(NotReady, match="FF10441"):
            node_of(runtime).readable_namespace("")
        member.blockchain.come_back()
        await until(lambda: runtime.is_started)
        assert (await runtime.state()).error == ""
        assert node_of(runtime).readable_namespace("") is runtime


async def test_a_known_namespace_is_read_while_its_ledger_is_away(
    store: SqliteStore, world: FakeWorld
) -> None:
    member = world.member("alice")
    async with running(store, member) as first:
        await until(lambda: first.is_started)
    member.blockchain.go_away()
    async with running(store, member) as runtime:
        await until(lambda: bool(runtime._error))
        node: Any = node_of(runtime)
        context: Any = None
        read = await MessageServicer(node).ListMessages(messages.ListMessagesRequest(), context)
        assert list(read.items) == []
        calls: Any = None
        listed = await NamespaceServicer(node, calls).ListNamespaces(
            namespaces.ListNamespacesRequest(), context
        )
        assert [(each.name, each.initializing) for each in listed.items] == [(NS, True)]
        assert "FF19200" in listed.items[0].initialization_error
        with pytest.raises(NotReady, match="FF10441"):
            await MessageServicer(node).BroadcastMessage(
                messages.BroadcastMessageRequest(), context
            )
        assert runtime.delivery is node.readable_namespace("").delivery

        member.blockchain.come_back()
        await until(lambda: runtime.is_started and runtime.leadership is not None)
        assert node.namespace("") is runtime


class NeverElected:
    """Stands in an election that does not come to an end, and says why."""

    is_local = False

    def __init__(self, trouble: str) -> None:
        self.trouble = trouble
        self.stands = asyncio.Event()

    async def campaign(self, role: str) -> Lease:
        self.stands.set()
        await asyncio.Event().wait()
        raise AssertionError(role)


async def elections(runtime: NamespaceRuntime) -> list[Condition]:
    return [c for c in (await runtime.state()).conditions if c.type == "election"]


async def test_an_election_that_cannot_be_held_is_a_condition(
    store: SqliteStore, world: FakeWorld
) -> None:
    elector = NeverElected("FF19130: the ensemble does not answer")
    async with running(store, world.member("alice"), elector) as runtime:
        await asyncio.wait_for(elector.stands.wait(), WAIT_S)
        (told,) = await elections(runtime)
        assert told.message == "FF19130: the ensemble does not answer"
        assert (await elections(runtime)) == [told], "since when stays as it is"
        elector.trouble = "FF19131: it is another one"
        (other,) = await elections(runtime)
        assert other.message == "FF19131: it is another one"
        assert other.since >= told.since
        elector.trouble = ""
        assert await elections(runtime) == []


async def test_whoever_leads_has_no_trouble_with_elections(
    store: SqliteStore, world: FakeWorld
) -> None:
    class Loud(LocalElector):
        trouble = "FF19130: told although it leads"

    async with running(store, world.member("alice"), Loud(store)) as runtime:
        await until(lambda: runtime.leadership is not None)
        assert await elections(runtime) == []


async def test_a_gateway_namespace_stands_in_no_election(store: SqliteStore) -> None:
    elector: Any = NeverElected("FF19130: nobody asked")
    runtime = NamespaceRuntime(
        Scope(store, SystemClock(), NS, NS),
        NamespaceSettings(NS),
        elector,
        NamespaceConnectors(),
        shown,
    )
    assert await elections(runtime) == []


async def test_only_the_leader_cancels_batches_and_only_own_ones(
    store: SqliteStore, world: FakeWorld
) -> None:
    async with running(store, world.member("alice"), NeverElected("")) as runtime:
        await until(lambda: runtime.is_started)
        with pytest.raises(Rejected, match="FF10466"):
            await runtime.cancel_batch(make_batch())
        with pytest.raises(Rejected, match="FF10466"):
            await runtime.cancel_batch(structs.replace(make_batch(dispatched=True), seal_order=1))
        with pytest.raises(Unavailable, match="FF19407"):
            await runtime.cancel_batch(structs.replace(make_batch(), seal_order=1))


async def test_a_network_without_its_connectors_says_which_are_missing(store: SqliteStore) -> None:
    runtime = NamespaceRuntime(
        Scope(store, SystemClock(), NS, "net"),
        settings("0x1"),
        LocalElector(store),
        NamespaceConnectors(None, None, None),
        shown,
    )
    life = asyncio.create_task(runtime.run())
    try:
        await until(lambda: runtime._error.startswith("FF19307"))
        assert (await runtime.state()).error.endswith("chain0, dx0, storage0 has no connector")
    finally:
        life.cancel()
        await asyncio.wait([life])
        await runtime.aclose()
