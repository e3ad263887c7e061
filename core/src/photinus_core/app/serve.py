"""Composition root: makes a node out of its settings and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from photinus_core.access.gate import Gate
from photinus_core.app.assembly import CORE_VERSION, Assembly
from photinus_core.app.attaching import socket_directory
from photinus_core.app.config import NodeSettings
from photinus_core.app.reloading import ConfigSource, Reloader, RunningNode
from photinus_core.events.changes import ChangeFeed
from photinus_core.host import ConnectorHost
from photinus_core.namespaces.node import Node, NodeInfo
from photinus_core.namespaces.status import Condition
from photinus_core.ports import tracing
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.tasks import Background
from photinus_core.rpc.server import ApiServer
from photinus_core.rpc.tls import ServerTls

if TYPE_CHECKING:
    from photinus_core.app.monitoring import Monitoring

log: Final = logging.getLogger(__name__)


async def serve(
    settings: NodeSettings,
    directory: Path,
    ready: Callable[[list[str]], None],
    config: Path | None = None,
) -> None:
    """Runs a node until SIGTERM or SIGINT. SIGHUP has it read its configuration again.

    Args:
        settings: What the node is made of.
        directory: Where relative paths of the configuration begin.
        ready: Called with the addresses once the API is served.
        config: The file of the configuration; None when changes are of no interest.
    """
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if config is not None:
        loop.add_signal_handler(signal.SIGHUP, again.set)
    source = None if config is None else ConfigSource(config, again)
    async with _traced(settings):
        await run_node(settings, directory, ready, stop, source)


async def run_node(
    settings: NodeSettings,
    directory: Path,
    ready: Callable[[list[str]], None],
    stop: asyncio.Event,
    source: ConfigSource | None = None,
) -> None:
    """Runs a node until `stop` is set; several may run in one process, each in its own directory.

    Args:
        settings: As for `serve`.
        directory: As for `serve`.
        ready: As for `serve`.
        stop: Ends it, with its work drained.
        source: Where changes of the configuration come from; None for nowhere.
    """
    async with AsyncExitStack() as stack:
        monitoring = await _monitored(settings, directory, stack)
        metrics = None if monitoring is None else monitoring.metrics
        parts = Assembly(settings, directory, stack, metrics)
        await parts.open_databases(settings)
        is_alone = all(elector.is_local for elector in parts.electors.values())
        host = await stack.enter_async_context(
            ConnectorHost(
                parts.core_facts(),
                may_launch=is_alone,
                sockets=socket_directory(settings, directory),
                meter=parts.ledger_meter,
            )
        )
        host.add(await parts.instances(settings))
        node = _node(settings, parts, host)
        for store in parts.stores.values():
            node.changes.add(store)
        gate = Gate(settings.access, SystemClock())
        stack.push_async_callback(gate.aclose)
        await gate.open()
        node.also_troubled_by = lambda: [Condition("auth", *each) for each in gate.troubles()]
        server = ApiServer(
            node,
            [parts.address],
            gate,
            None if settings.listen.tls is None else ServerTls(settings.listen.tls),
            counted=metrics.call if metrics else None,
        )
        async with Background("node") as work:
            work.start("namespaces", node.run())
            work.start("access", gate.run())
            await server.start()
            log.info("serving on %s", ", ".join(server.addresses))
            if monitoring is not None:
                monitoring.show(node, parts.stores)
            ready(server.addresses)
            changing = None
            if source is not None:
                reloader = Reloader(source, settings, parts, RunningNode(host, node, server, gate))
                changing = work.start("configuration", reloader.run())
                server.spi.reset = reloader.reset
            await stop.wait()
            log.info("stopping")
            if monitoring is not None:
                monitoring.stopping()
            if changing is not None:
                changing.cancel()
                await asyncio.wait([changing])
            async with asyncio.TaskGroup() as ending:
                ending.create_task(node.drain())
                ending.create_task(server.aclose())


async def _monitored(
    settings: NodeSettings, directory: Path, stack: AsyncExitStack
) -> Monitoring | None:
    """Begins to show numbers and probes, if that is wanted; before anything that may take long."""
    if not settings.monitoring.enabled:
        return None
    from photinus_core.app.monitoring import Monitoring  # noqa: PLC0415 - its libraries, when used

    monitoring = Monitoring()
    await monitoring.serve(settings.monitoring, directory, stack)
    return monitoring


@asynccontextmanager
async def _traced(settings: NodeSettings) -> AsyncIterator[None]:
    """Records spans, if that is wanted; at the end sends those that are left."""
    if not settings.tracing.is_wanted(os.environ):
        yield
        return
    from photinus_core.app.tracing import OtelTracer  # noqa: PLC0415 - its libraries, when used

    if settings.tracing.endpoint:
        # For what is launched.
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.tracing.endpoint
    tracer = OtelTracer(settings.tracing, {"service.version": CORE_VERSION})
    tracing.install(tracer)
    try:
        yield
    finally:
        tracing.uninstall(tracer)
        await asyncio.to_thread(tracer.aclose)


def _node(settings: NodeSettings, parts: Assembly, host: ConnectorHost) -> Node:
    namespaces = [parts.runtime(n, settings, host) for n in settings.namespaces]
    info = NodeInfo(CORE_VERSION, parts.main.cluster_id, parts.replica.name, SystemClock().now())
    electors = list(parts.electors.values())
    changes = ChangeFeed(SystemClock(), settings.changes)
    return Node(info, namespaces, settings.default_namespace, host, electors, changes)
