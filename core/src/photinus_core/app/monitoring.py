"""The monitoring port: numbers for Prometheus, probes for whoever keeps the process running.

`/livez` answers as long as the event loop turns. `/readyz` says whether requests should come here:
the configuration is loaded, the API is served, the databases answer, and nobody is taking this
replica out. A namespace that has not started is shown and does not make the replica unready: others
could not do more for it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from photinus_core.app.metrics import CoreMetrics
from photinus_core.app.survey import Survey
from photinus_core.model.errors import PhotinusError, Unavailable
from photinus_core.model.ids import Namespace
from photinus_core.model.names import RESERVED_NAMESPACE

if TYPE_CHECKING:
    from photinus_core.app.config import MonitoringSettings
    from photinus_core.namespaces.node import Node
    from photinus_core.ports.store import Store

log: Final = logging.getLogger(__name__)

STORE_WAIT_S: Final = 2.0
"""Longest time a database is given to answer a probe."""
STOP_WAIT_S: Final = 2.0


class Monitoring:
    """What one node shows of itself."""

    def __init__(self) -> None:
        self.metrics = CoreMetrics()
        self._survey = Survey()
        self.metrics.registry.register(self._survey)
        self._node: Node | None = None
        self._stores: Mapping[str, Store] = {}
        self._is_serving = False
        self.address = ""
        """Where it is served, port filled in."""

    async def serve(
        self, settings: MonitoringSettings, directory: Path, stack: AsyncExitStack
    ) -> None:
        """Begins to answer; ends with the stack.

        Raises:
            Unavailable: FF19212, the address cannot be listened on, or its certificates not be used.
        """
        place = f"{settings.address}:{settings.port}"
        app = web.Application()
        app.router.add_get(settings.metrics_path, self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WAIT_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            tls = await asyncio.to_thread(_tls, settings, directory)
            site = web.TCPSite(runner, settings.address, settings.port, ssl_context=tls)
            await site.start()
        except OSError as failure:
            raise Unavailable("FF19212", place, failure) from failure
        port = runner.addresses[0][1]
        self.address = f"{'https' if tls else 'http'}://{settings.address}:{port}"
        log.info("monitoring on %s", self.address)

    def show(self, node: Node, stores: Mapping[str, Store]) -> None:
        """Shows a node from now on; its API is served."""
        self._node, self._stores, self._is_serving = node, stores, True
        self._survey.show(node)

    def stopping(self) -> None:
        """The process is about to end: nothing new should come here."""
        self._is_serving = False

    async def _metrics(self, _: web.Request) -> web.Response:
        await self._survey.look()
        text = generate_latest(self.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _readyz(self, _: web.Request) -> web.Response:
        databases = {name: await _answers(store) for name, store in self._stores.items()}
        why = self._unready(databases)
        node = self._node
        body: dict[str, object] = {
            "ready": not why,
            "reason": why,
            "databases": {name: said or "ok" for name, said in databases.items()},
            "namespaces": {} if node is None else _namespaces(node),
        }
        return web.json_response(body, status=503 if why else 200)

    def _unready(self, databases: Mapping[str, str]) -> str:
        if self._node is None:
            return "starting"
        if not self._is_serving:
            return "stopping"
        if self._node.is_draining:
            return "draining"
        return next((f"{name}: {said}" for name, said in databases.items() if said), "")


def _namespaces(node: Node) -> dict[str, object]:
    return {
        runtime.settings.name: {
            "state": "started" if runtime.is_started else "starting",
            "leader": runtime.leadership is not None,
            "error": runtime.error,
        }
        for runtime in node.namespaces()
    }


async def _answers(store: Store) -> str:
    """What is wrong with a database; empty when it answers."""
    try:
        async with asyncio.timeout(STORE_WAIT_S):
            async with store.read(Namespace(RESERVED_NAMESPACE)) as reader:
                await reader.namespace_row()
    except TimeoutError:
        return f"no answer within {STORE_WAIT_S:.0f} s"
    except PhotinusError as failure:
        return str(failure)
    return ""


def _tls(settings: MonitoringSettings, directory: Path) -> ssl.SSLContext | None:
    if not settings.certificate_file:
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(directory / settings.certificate_file, directory / settings.key_file)
    if settings.client_ca_file:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(directory / settings.client_ca_file)
    return made
