"""Composition root: makes a node out of its settings and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from photinus_core.app.assembly import CORE_VERSION, Assembly
from photinus_core.app.attaching import socket_directory
from photinus_core.app.config import NodeSettings
from photinus_core.app.reloading import ConfigSource, Reloader, RunningNode
from photinus_core.host import ConnectorHost
from photinus_core.namespaces.node import Node, NodeInfo
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.tasks import Background
from photinus_core.rpc.server import ApiServer

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
        parts = Assembly(settings, directory, stack)
        await parts.open_databases(settings)
        is_alone = all(elector.is_local for elector in parts.electors.values())
        host = await stack.enter_async_context(
            ConnectorHost(
                parts.core_facts(),
                may_launch=is_alone,
                sockets=socket_directory(settings, directory),
            )
        )
        host.add(await parts.instances(settings))
        node = _node(settings, parts, host)
        server = ApiServer(node, [parts.address])
        async with Background("node") as work:
            work.start("namespaces", node.run())
            await server.start()
            log.info("serving on %s", ", ".join(server.addresses))
            ready(server.addresses)
            changing = None
            if source is not None:
                reloader = Reloader(source, settings, parts, RunningNode(host, node, server))
                changing = work.start("configuration", reloader.run())
            await stop.wait()
            log.info("stopping")
            if changing is not None:
                changing.cancel()
                await asyncio.wait([changing])
            async with asyncio.TaskGroup() as ending:
                ending.create_task(node.drain())
                ending.create_task(server.aclose())


def _node(settings: NodeSettings, parts: Assembly, host: ConnectorHost) -> Node:
    namespaces = [parts.runtime(n, settings, host) for n in settings.namespaces]
    info = NodeInfo(CORE_VERSION, parts.main.cluster_id, parts.replica.name, SystemClock().now())
    electors = list(parts.electors.values())
    return Node(info, namespaces, settings.default_namespace, host, electors)
