"""Composition root: makes a node out of its settings and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Final

from photinus_core.app.attaching import in_folder, instance_config, socket_directory
from photinus_core.app.config import NodeSettings, PluginSettings
from photinus_core.app.electing import describe_replica, open_electors
from photinus_core.host import ConnectorHost, CoreFacts
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace
from photinus_core.model.names import RESERVED_NAMESPACE
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.node import Node, NodeInfo
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import NamespaceSettings, PluginRef
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.elector import Elector
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Store
from photinus_core.ports.tasks import Background
from photinus_core.rpc.server import ApiServer
from photinus_core.store import PostgresStore, SqliteStore

log: Final = logging.getLogger(__name__)

CORE_VERSION: Final = version("photinus-core")


async def serve(
    settings: NodeSettings, directory: Path, ready: Callable[[list[str]], None]
) -> None:
    """Runs a node until SIGTERM or SIGINT.

    Args:
        settings: What the node is made of.
        directory: Where relative paths of the configuration begin.
        ready: Called with the addresses once the API is served.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_node(settings, directory, ready, stop)


async def run_node(
    settings: NodeSettings,
    directory: Path,
    ready: Callable[[list[str]], None],
    stop: asyncio.Event,
) -> None:
    """Runs a node until `stop` is set; several may run in one process, each in its own directory.

    Args:
        settings: As for `serve`.
        directory: As for `serve`.
        ready: As for `serve`.
        stop: Ends it, with its work drained.
    """
    async with AsyncExitStack() as stack:
        stores = await open_stores(settings, directory, stack)
        main = next(iter(stores.values()))
        facts = CoreFacts(
            cluster_id=main.cluster_id,
            version=CORE_VERSION,
            data_dir=directory / "connectors",
            store_ids=StoredIds(main),
            clock=SystemClock(),
        )
        address = in_folder(settings.listen.address, directory)
        replica = describe_replica(settings, address, CORE_VERSION)
        electors = await open_electors(settings, directory, stores, replica, stack)
        is_alone = all(elector.is_local for elector in electors.values())
        host = await stack.enter_async_context(
            ConnectorHost(
                facts, may_launch=is_alone, sockets=socket_directory(settings, directory)
            )
        )
        host.add(
            instance_config(p, p.connector, directory)
            for p in settings.plugins
            if p.connector is not None
        )
        node = _node(settings, stores, electors, host, replica.name)
        server = ApiServer(node, [address])
        async with Background("node") as work:
            work.start("namespaces", node.run())
            await server.start()
            log.info("serving on %s", ", ".join(server.addresses))
            ready(server.addresses)
            await stop.wait()
            log.info("stopping")
            async with asyncio.TaskGroup() as ending:
                ending.create_task(node.drain())
                ending.create_task(server.aclose())


class StoredIds:
    """Remembers the stores of connectors in the core's database, under the reserved namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def known_store(self, name: str) -> str:
        """The store's id as it was last seen; empty when it never was."""
        async with self._store.read(_NODE) as reader:
            return (await reader.notes(_STORE_IDS)).get(name, "")

    async def remember_store(self, name: str, store_id: str) -> None:
        """Keeps the id."""
        async with self._store.write(_NODE) as tx:
            await tx.set_notes(_STORE_IDS, {name: store_id})


_NODE: Final = Namespace(RESERVED_NAMESPACE)
_STORE_IDS: Final = "connector_store"


async def open_stores(
    settings: NodeSettings, directory: Path, stack: AsyncExitStack
) -> Mapping[str, Store]:
    """Opens the databases that namespaces use, by plugin; the stack closes them."""
    stores: dict[str, Store] = {}
    for name in dict.fromkeys(n.database.name for n in settings.namespaces):
        plugin = settings.plugin(name)
        store = await _open_store(plugin, directory)
        stack.push_async_callback(store.aclose)
        stores[name] = store
    return stores


async def _open_store(plugin: PluginSettings, directory: Path) -> Store:
    if plugin.postgres is not None:
        return await PostgresStore.open(plugin.postgres)
    return await SqliteStore.open(_database_path(plugin, directory))


def _database_path(plugin: PluginSettings, directory: Path) -> Path:
    """The file of an SQLite plugin; FireFly's URLs carry driver options behind a question mark.

    Raises:
        Rejected: FF10122, another kind of database.
    """
    if plugin.type != "sqlite3":
        raise Rejected("FF10122", plugin.type)
    config = plugin.config if isinstance(plugin.config, dict) else {}
    url = next((v for k, v in config.items() if k.lower() == "url"), None)
    path = str(url or "").partition("?")[0].removeprefix("file:")
    return directory / path


def _node(
    settings: NodeSettings,
    stores: Mapping[str, Store],
    electors: Mapping[str, Elector],
    host: ConnectorHost,
    replica: str,
) -> Node:
    clock = SystemClock()
    namespaces = [
        NamespaceRuntime(
            Scope(stores[n.database.name], clock, n.name, n.network_name),
            n,
            electors[n.database.name],
            _connectors(n, settings, host),
        )
        for n in settings.namespaces
    ]
    cluster_id = next(iter(stores.values())).cluster_id
    info = NodeInfo(CORE_VERSION, cluster_id, replica, clock.now())
    return Node(info, namespaces, settings.default_namespace, host, list(electors.values()))


def _connectors(
    namespace: NamespaceSettings, settings: NodeSettings, host: ConnectorHost
) -> NamespaceConnectors:
    def reachable(ref: PluginRef | None) -> str | None:
        if ref is None or settings.plugin(ref.name).connector is None:
            return None
        return ref.name

    blockchain = reachable(namespace.blockchain)
    exchange = reachable(namespace.data_exchange)
    storage = reachable(namespace.shared_storage)
    return NamespaceConnectors(
        blockchain=host.blockchain(blockchain) if blockchain else None,
        data_exchange=host.data_exchange(exchange) if exchange else None,
        shared_storage=host.shared_storage(storage) if storage else None,
    )

