"""Goal: what a leadership opens, gives up and tells.

Method: a namespace over the real SQLite store with connectors in memory; the streams it opens are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from photinus_core.cluster.local import LocalElector
from photinus_core.host.fakes import FakeMember, FakeWorld
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.leading import REPEATABLE, plugins_of
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import (
    ContractSettings,
    MultipartySettings,
    NamespaceSettings,
    PluginRef,
    StartRetry,
)
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import (
    DestinationListener,
    EventHandler,
    Listener,
    MultipartyListener,
)
from photinus_core.ports.scope import Scope
from photinus_core.rpc.subscribing import shown
from photinus_core.store import SqliteStore

from tests.support.waiting import until

NS = Namespace("alpha")
FIRST, SECOND = '{"address":"0xa1"}', '{"address":"0xa2"}'
OPTIONS = '{"customPinSupport":"true"}'
SETTINGS = NamespaceSettings(
    NS,
    blockchain=PluginRef("chain0", "ethereum"),
    data_exchange=PluginRef("dx0", "ffdx"),
    shared_storage=PluginRef("storage0", "ipfs"),
    start_retry=StartRetry(0.005, 0.01),
)
WAIT_S = 20.0


@dataclass(slots=True)
class Opened:
    """A stream that a leadership opened."""

    epoch: Epoch
    network: str
    listeners: list[Listener]
    closed: bool = False

    async def add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)

    async def aclose(self) -> None:
        self.closed = True


@dataclass(slots=True)
class Streams:
    """Stands for the streams of one connector."""

    opened: list[Opened] = field(default_factory=list)
    away: bool = False

    async def open(
        self,
        namespace: Namespace,
        network: str,
        epoch: Epoch,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> Any:
        assert namespace == NS
        if self.away:
            raise Unavailable("FF19200", "x", "away")
        self.opened.append(Opened(epoch, network, list(listeners)))
        return self.opened[-1]


@dataclass(slots=True)
class Setting:
    """A running namespace and what it opened."""

    runtime: NamespaceRuntime
    elector: LocalElector
    chain: Streams
    exchange: Streams
    member: FakeMember

    async def leads(self) -> None:
        await until(
            lambda: bool(self.exchange.opened and not self.exchange.opened[-1].closed), WAIT_S
        )


@asynccontextmanager
async def running(
    store: SqliteStore, world: FakeWorld, *, exchange_away: bool = False
) -> AsyncIterator[Setting]:
    member = world.member("alice")
    chain, exchange = Streams(), Streams(away=exchange_away)
    blockchain: Any = member.blockchain
    data_exchange: Any = member.data_exchange
    blockchain.open_stream, data_exchange.open_stream = chain.open, exchange.open
    contracts = (ContractSettings(FIRST, "7", OPTIONS), ContractSettings(SECOND, "oldest"))
    multiparty = MultipartySettings("net", "org", member.key, "node", contracts)
    settings = replace(SETTINGS, multiparty=multiparty)
    elector = LocalElector(store)
    runtime = NamespaceRuntime(
        Scope(store, SystemClock(), NS, "net"),
        settings,
        elector,
        NamespaceConnectors(blockchain, data_exchange, member.shared_storage),
        shown,
    )
    life = asyncio.create_task(runtime.run())
    try:
        yield Setting(runtime, elector, chain, exchange, member)
    finally:
        life.cancel()
        await asyncio.wait([life])
        await runtime.aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    yield opened
    await opened.aclose()


@pytest.fixture
async def setting(store: SqliteStore) -> AsyncIterator[Setting]:
    async with FakeWorld() as world, running(store, world) as made:
        await made.leads()
        yield made


async def test_one_stream_for_each_connector_with_events(setting: Setting) -> None:
    (chain,), (exchange,) = setting.chain.opened, setting.exchange.opened
    assert chain.listeners == [MultipartyListener("multiparty/0", FIRST, 2, "7", OPTIONS)]
    assert exchange.listeners == [DestinationListener("peers", "net", "node")]
    assert (chain.network, exchange.network) == ("net", "net")
    assert chain.epoch == exchange.epoch
    assert chain.epoch > 0


async def test_a_lost_lease_ends_everything_and_the_next_one_begins_anew(setting: Setting) -> None:
    first = setting.chain.opened[0]
    submissions = setting.runtime.operations._submissions
    assert submissions is not None
    (lease,) = setting.elector._held.values()
    lease.lost.set()
    await until(lambda: len(setting.chain.opened) == 2, WAIT_S)
    assert first.closed
    assert setting.exchange.opened[0].closed
    await setting.leads()
    assert setting.chain.opened[1].epoch > first.epoch
    assert setting.chain.opened[1].listeners == first.listeners
    assert setting.runtime.operations._submissions not in (None, submissions)


async def test_what_fails_to_open_ends_the_leadership_visibly(store: SqliteStore) -> None:
    async with FakeWorld() as world, running(store, world, exchange_away=True) as setting:
        await until(lambda: len(setting.chain.opened) > 1, WAIT_S)
        assert setting.chain.opened[0].closed, "what was open already is closed"
        assert "FF19200" in (await setting.runtime.state()).error
        setting.exchange.away = False
        await setting.leads()
        assert (await setting.runtime.state()).error == ""


async def test_after_the_end_of_a_contract_the_next_one_is_listened_to(
    setting: Setting, store: SqliteStore
) -> None:
    leadership = setting.runtime.leadership
    assert leadership is not None
    async with store.read(NS) as reader:
        row = await reader.namespace_row()
    assert row is not None
    services = setting.runtime.multiparty
    old = msgspec.structs.replace(row.contracts[0], final_event="000000000009/000000/000000")
    over = msgspec.structs.replace(row, contracts=(old,))
    await leadership._contract_ended(over)
    assert len(setting.chain.opened[0].listeners) == 1, "nothing is configured to follow"

    following = msgspec.structs.replace(over, contracts=(old, services.contracts.configured[1]))
    await leadership._contract_ended(following)
    assert setting.chain.opened[0].listeners[1:] == [
        MultipartyListener("multiparty/1", SECOND, 2, "oldest", "")
    ]
    assert services.contracts.active.location == SECOND


async def test_troubles_of_all_parts_are_conditions(setting: Setting) -> None:
    leadership: Any = setting.runtime.leadership
    assert leadership.troubles() == {}
    await leadership.chain_intake.trouble("multiparty/0", "it is not there", fatal=False)
    await leadership.peer_intake.trouble("peers", "no inbox", fatal=False)
    leadership.peers._refused["did:firefly:node/n"] = "bad certificate"
    told = {c.message for c in (await setting.runtime.state()).conditions if c.type == "listener"}
    assert told == {
        "multiparty/0: it is not there",
        "peers: no inbox",
        "did:firefly:node/n: bad certificate",
    }


async def test_every_type_that_can_be_repeated_has_a_runner(setting: Setting) -> None:
    leadership = setting.runtime.leadership
    assert leadership is not None
    assert set(leadership._runners()) == REPEATABLE


def test_plugins_are_named_by_their_types() -> None:
    named = plugins_of(SETTINGS)
    assert (named.blockchain, named.data_exchange, named.shared_storage) == (
        "ethereum",
        "ffdx",
        "ipfs",
    )
    none = plugins_of(NamespaceSettings(NS))
    assert (none.blockchain, none.data_exchange, none.shared_storage) == ("", "", "")
