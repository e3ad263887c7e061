"""A core in the test's process, served over gRPC, and the real gateway in front with its SPI on a port."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
from photinus.api.v1 import spi_service_pb2_grpc
from photinus_core.cluster.local import LocalElector
from photinus_core.events.changes import ChangeFeed, ChangeLimits
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.node import Node, NodeInfo
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import NamespaceSettings
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Store
from photinus_core.rpc.server import ApiServer
from photinus_core.rpc.subscribing import shown

from tests.support.waiting import until

WAIT_S: Final = 60
NAMES: Final = (Namespace("alpha"), Namespace("beta"))


@dataclass
class Core:
    """A replica: its node, its database, and how to reach it."""

    node: Node
    store: Store
    server: ApiServer
    address: str

    @asynccontextmanager
    async def calls(self) -> AsyncIterator[Any]:
        """SpiService over a connection of the test's own."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            yield spi_service_pb2_grpc.SpiServiceStub(channel)


@asynccontextmanager
async def core_up(
    store: Store, electors: Sequence[Any] = (), limits: ChangeLimits | None = None
) -> AsyncIterator[Core]:
    """Serves two gateway-mode namespaces of a database."""
    runtimes = [
        NamespaceRuntime(
            Scope(store, SystemClock(), name, name),
            NamespaceSettings(name),
            LocalElector(store),
            NamespaceConnectors(None, None, None),
            shown,
        )
        for name in NAMES
    ]
    registry: Any = None
    feed = ChangeFeed(SystemClock(), limits)
    feed.add(store)
    info = NodeInfo("1", store.cluster_id, "replica", Nanoseconds(1))
    node = Node(info, runtimes, NAMES[0], registry, electors, feed)
    server = ApiServer(node, ["127.0.0.1:0"])
    life = asyncio.create_task(node.run())
    try:
        await server.start()
        await until(lambda: all(runtime.is_started for runtime in runtimes))
        yield Core(node, store, server, server.addresses[0])
    finally:
        await server.aclose()
        life.cancel()
        await asyncio.wait([life])


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    api: str
    spi: str
    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: Any = None, base: str = ""
    ) -> tuple[int, Any]:
        """Status and parsed body of a request to the SPI, or to another base."""
        body = {} if body is None and method in ("POST", "PATCH") else body
        options = {"data": body, "headers": {"Content-Type": "application/json"}}
        if not isinstance(body, str):
            options = {} if body is None else {"json": body}
        async with self.session.request(method, (base or self.spi) + path, **options) as answer:
            text = await answer.read()
            return answer.status, await answer.json(content_type=None) if text else None


@asynccontextmanager
async def gateway_up(program: Path, *cores: str) -> AsyncIterator[Gateway]:
    """Runs the gateway for some cores, on free ports."""
    async with AsyncExitStack() as stack:
        process = await asyncio.create_subprocess_exec(
            program,
            *("-listen", "127.0.0.1:0", "-spi", "127.0.0.1:0", "-core", ",".join(cores)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        stack.push_async_callback(_end, process)
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            api = (await process.stdout.readline()).decode().strip()
            spi = (await process.stdout.readline()).decode().strip()
        timeout = aiohttp.ClientTimeout(total=WAIT_S)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Gateway(api, spi, session)


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 0
