"""A ZooKeeper server, electors over a database they share, and the local elector beside them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from photinus_core.cluster import ElectionRules, EnsembleSettings, LocalElector, ZooKeeperElector
from photinus_core.ports.elector import Elector, Replica
from photinus_core.store import SqliteStore

from tests.support.zookeeper import ZooKeeperServer

SESSION_S = 3.0
_chroots = itertools.count(1)


@pytest.fixture(scope="session")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """A server for all tests; each takes a chroot of its own."""
    with ZooKeeperServer.started(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture(scope="session")
def unlucky_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer.started(tmp_path_factory.mktemp("unlucky")) as server:
        yield server


@pytest.fixture
def server(unlucky_server: ZooKeeperServer) -> ZooKeeperServer:
    """A running server that the test may kill and freeze."""
    if unlucky_server.is_running:
        unlucky_server.thaw()
    else:
        unlucky_server.start()
    return unlucky_server


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    yield opened
    await opened.aclose()


@pytest.fixture
def chroot() -> str:
    return f"/photinus/test{next(_chroots)}"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


MakeElector = Callable[..., Awaitable[ZooKeeperElector]]


@pytest.fixture
def replica(
    ensemble: ZooKeeperServer, store: SqliteStore, chroot: str, stack: AsyncExitStack
) -> MakeElector:
    """Makes a replica's elector by name; they share database and chroot."""

    async def make(
        name: str,
        *,
        hosts: str = "",
        session_s: float = SESSION_S,
        quiet_s: float = 60.0,
        fingerprint: str = "f",
        address: str = "",
    ) -> ZooKeeperElector:
        settings = EnsembleSettings(hosts or ensemble.hosts, chroot, session_s)
        facts = Replica(name, address or f"unix:{name}.sock", "1.0", fingerprint)
        rules = ElectionRules(session_min_s=0.5, quiet_s=quiet_s)
        return await stack.enter_async_context(ZooKeeperElector(settings, store, facts, rules))

    return make


@pytest.fixture(params=["local", "zookeeper"])
async def elector(
    request: pytest.FixtureRequest, store: SqliteStore, replica: MakeElector
) -> Elector:
    """Each kind of elector, alone."""
    return LocalElector(store) if request.param == "local" else await replica("alone")
