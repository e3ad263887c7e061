"""What a node is made of, part by part: databases, electors, connectors, namespaces.

Used when it starts, and again when its configuration changes while it runs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from photinus_core.app.attaching import in_folder, instance_config
from photinus_core.app.config import ConnectorSettings, NodeSettings, PluginSettings
from photinus_core.app.electing import describe_replica, open_elector
from photinus_core.host import ConnectorHost, CoreFacts, InstanceConfig
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace
from photinus_core.model.names import RESERVED_NAMESPACE
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import NamespaceSettings, PluginRef
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.elector import Elector
from photinus_core.ports.meter import UNMETERED, LedgerMeter
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Store
from photinus_core.rpc.subscribing import shown
from photinus_core.store import SqliteStore

if TYPE_CHECKING:
    from photinus_core.app.metrics import CoreMetrics

CORE_VERSION: Final = version("photinus-core")


class Assembly:
    """The parts of one node that configuration makes.

    Args:
        settings: What the node starts with.
        directory: Where relative paths of the configuration begin.
        stack: Closes what is opened, last first.
        metrics: Counts; None where nobody monitors.

    Attributes:
        stores, electors: By plugin of a database, once it is open.
        databases: These plugins, as they were opened.
    """

    def __init__(
        self,
        settings: NodeSettings,
        directory: Path,
        stack: AsyncExitStack,
        metrics: CoreMetrics | None = None,
    ) -> None:
        self._directory = directory
        self._stack = stack
        self._metrics = metrics
        self.address = in_folder(settings.listen.address, directory)
        self.replica = describe_replica(settings, self.address, CORE_VERSION)
        self.stores: dict[str, Store] = {}
        self.electors: dict[str, Elector] = {}
        self.databases: dict[str, PluginSettings] = {}

    @property
    def ledger_meter(self) -> LedgerMeter:
        """Counts what ledgers are asked."""
        return self._metrics or UNMETERED

    @property
    def main(self) -> Store:
        """The database that keeps what belongs to the whole node."""
        return next(iter(self.stores.values()))

    async def open_databases(self, settings: NodeSettings) -> list[Elector]:
        """Opens the databases that namespaces use and that are not open; gives their electors.

        Raises:
            PhotinusError: one cannot be opened; those before it stay open.
        """
        opened = []
        for name in dict.fromkeys(n.database.name for n in settings.namespaces):
            if name in self.stores:
                continue
            plugin = settings.plugin(name)
            store = await open_store(plugin, self._directory, self._stack)
            elector = await open_elector(
                settings,
                self._directory,
                store,
                self.replica,
                self._stack,
                name if self.stores else "",
            )
            self.stores[name], self.electors[name] = store, elector
            self.databases[name] = plugin
            opened.append(elector)
        return opened

    def core_facts(self) -> CoreFacts:
        """What connectors are told."""
        return CoreFacts(
            cluster_id=self.main.cluster_id,
            version=CORE_VERSION,
            data_dir=self._directory / "connectors",
            store_ids=StoredIds(self.main),
            clock=SystemClock(),
        )

    async def instances(
        self, settings: NodeSettings, names: Iterable[str] | None = None
    ) -> list[InstanceConfig]:
        """The connectors of a configuration, or some of them, with their revisions."""
        chosen = [
            p
            for p in settings.plugins
            if p.connector is not None and (names is None or p.name in names)
        ]
        revisions = await StoredRevisions(self.main).of(chosen)
        return [
            replace(self.instance(p, p.connector), revision=revisions[p.name])
            for p in chosen
            if p.connector is not None
        ]

    def instance(self, plugin: PluginSettings, connector: ConnectorSettings) -> InstanceConfig:
        """A plugin's connector as the host takes it, as yet without a revision."""
        return instance_config(plugin, connector, self._directory)

    def runtime(
        self, namespace: NamespaceSettings, settings: NodeSettings, host: ConnectorHost
    ) -> NamespaceRuntime:
        """A namespace, ready to run; its connectors are known to the host."""
        return NamespaceRuntime(
            self._scope(namespace),
            replace(namespace, webhooks=namespace.webhooks.below(self._directory)),
            self.electors[namespace.database.name],
            _connectors(namespace, settings, host),
            shown,
        )

    def _scope(self, namespace: NamespaceSettings) -> Scope:
        """What a namespace's services are built on; timed and counted where somebody monitors."""
        name = namespace.database.name
        scope = Scope(self.stores[name], SystemClock(), namespace.name, namespace.network_name)
        if self._metrics is None:
            return scope
        from photinus_core.app.metrics import (  # noqa: PLC0415 - its library, when it is used
            MeasuredStore,
            NamespaceMetrics,
        )

        timed = MeasuredStore(scope.store, self._metrics.transactions.of(name))
        return replace(scope, store=timed, meter=NamespaceMetrics(self._metrics, namespace.name))


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


class StoredRevisions:
    """Numbers the configurations of connectors, so that a connector can tell the newest.

    A connector outlives the core, and serves several replicas of it: the number is kept in their
    database, and rises when somebody comes with another configuration than the one before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, plugins: Iterable[PluginSettings]) -> dict[str, int]:
        """The revisions of configurations as they are now, by plugin."""
        async with self._store.read(_NODE) as reader:
            notes = await reader.notes(_REVISIONS)
        found, changed = dict[str, int](), dict[str, str]()
        for plugin in plugins:
            text = json.dumps(plugin.config, sort_keys=True)
            digest = hashlib.sha256(f"{self._store.cluster_id} {text}".encode()).hexdigest()
            number, _, known = notes.get(plugin.name, "").partition(" ")
            former = int(number or 0)
            if known == digest:
                found[plugin.name] = former
                continue
            # Beyond what a database that was restored from a copy has forgotten.
            found[plugin.name] = max(former + 1, int(time.time())) if former else 1
            changed[plugin.name] = f"{found[plugin.name]} {digest}"
        if changed:
            async with self._store.write(_NODE) as tx:
                await tx.set_notes(_REVISIONS, changed)
        return found


_NODE: Final = Namespace(RESERVED_NAMESPACE)
_STORE_IDS: Final = "connector_store"
_REVISIONS: Final = "connector_revision"


async def open_stores(
    settings: NodeSettings, directory: Path, stack: AsyncExitStack
) -> dict[str, Store]:
    """Opens the databases that namespaces use, by plugin; the stack closes them."""
    names = dict.fromkeys(n.database.name for n in settings.namespaces)
    return {name: await open_store(settings.plugin(name), directory, stack) for name in names}


async def open_store(plugin: PluginSettings, directory: Path, stack: AsyncExitStack) -> Store:
    """Opens a database; the stack closes it."""
    store: Store
    if plugin.postgres is not None:
        from photinus_core.store import PostgresStore  # noqa: PLC0415 - its library, when it is used

        store = await PostgresStore.open(plugin.postgres)
    else:
        store = await SqliteStore.open(_database_path(plugin, directory))
    stack.push_async_callback(store.aclose)
    return store


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
