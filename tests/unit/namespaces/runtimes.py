"""A namespace's runtime for tests, over connectors in memory, and the node that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from photinus_core.cluster.local import LocalElector
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.node import Node, NodeInfo
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import (
    ContractSettings,
    MultipartySettings,
    NamespaceSettings,
    PluginRef,
    StartRetry,
)
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.scope import Scope
from photinus_core.rpc.subscribing import shown
from photinus_core.store import SqliteStore

NS = Namespace("alpha")


def settings(key: str) -> NamespaceSettings:
    return NamespaceSettings(
        NS,
        multiparty=MultipartySettings(
            "net", "org", key, "node", (ContractSettings('{"address":"0xa1"}'),)
        ),
        blockchain=PluginRef("chain0", "ethereum"),
        data_exchange=PluginRef("dx0", "ffdx"),
        shared_storage=PluginRef("storage0", "ipfs"),
        start_retry=StartRetry(0.005, 0.01),
    )


@asynccontextmanager
async def running(
    store: SqliteStore, member: Any, elector: Any = None
) -> AsyncIterator[NamespaceRuntime]:
    runtime = NamespaceRuntime(
        Scope(store, SystemClock(), NS, "net"),
        settings(member.key),
        elector or LocalElector(store),
        NamespaceConnectors(member.blockchain, member.data_exchange, member.shared_storage),
        shown,
    )
    life = asyncio.create_task(runtime.run())
    try:
        yield runtime
    finally:
        life.cancel()
        await asyncio.wait([life])
        await runtime.aclose()


def node_of(runtime: NamespaceRuntime) -> Node:
    registry: Any = None
    return Node(NodeInfo("1", "c", "r", Nanoseconds(0)), [runtime], NS, registry, [])
