"""All namespaces of this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from photinus_core.events.changes import ChangeFeed
from photinus_core.model.errors import NotFound, NotReady
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.status import Condition
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import ConnectorInfo
from photinus_core.ports.elector import Cluster, Elector
from photinus_core.ports.registry import ConnectorRegistry
from photinus_core.ports.tasks import Background

log: Final = logging.getLogger(__name__)

DRAIN_S: Final = 10.0
"""Longest time for leader work to end when a replica is drained."""

CANCEL_AGAIN_S: Final = 5.0

READY: Final = "ready"
"""State of a connector that serves."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What this replica says of itself."""

    version: str
    cluster_id: str
    replica: str
    started: Nanoseconds


class Node:
    """The namespaces of a node, and what they are connected to."""

    def __init__(
        self,
        info: NodeInfo,
        namespaces: Sequence[NamespaceRuntime],
        default: Namespace,
        connectors: ConnectorRegistry,
        electors: Sequence[Elector],
        changes: ChangeFeed | None = None,
    ) -> None:
        self.info = info
        self._electors = tuple(electors)
        self._draining = False
        self._namespaces = {runtime.settings.name: runtime for runtime in namespaces}
        self._default = default
        self._connectors = connectors
        self._work: Background | None = None
        self._runs: dict[Namespace, asyncio.Task[None]] = {}
        self._numbers = count(1)
        self.changes = changes or ChangeFeed(SystemClock())
        """What changes in its databases, for who wants to follow it."""
        self.configuration: Condition | None = None
        """What is wrong with the configuration as it is now in its file; None for nothing."""
        self.also_troubled_by: Callable[[], Sequence[Condition]] = tuple
        """Tells of what all namespaces suffer from besides."""

    def namespace(self, name: str) -> NamespaceRuntime:
        """Finds a namespace that serves calls; empty stands for the default one.

        Raises:
            NotFound: FF10436, it is not configured.
            NotReady: FF10441, it is starting.
        """
        runtime = self._configured(name)
        if not runtime.is_started:
            raise NotReady("FF10441", runtime.settings.name)
        return runtime

    def readable_namespace(self, name: str) -> NamespaceRuntime:
        """Finds a namespace for a call that only reads; errors as `namespace`.

        One that has run before is read also while it starts.
        """
        runtime = self._configured(name)
        if not runtime.is_readable:
            raise NotReady("FF10441", runtime.settings.name)
        return runtime

    def _configured(self, name: str) -> NamespaceRuntime:
        runtime = self._namespaces.get(Namespace(name or self._default))
        if runtime is None:
            raise NotFound("FF10436", name)
        return runtime

    def namespaces(self) -> list[NamespaceRuntime]:
        """All configured namespaces, by name."""
        return [self._namespaces[name] for name in sorted(self._namespaces)]

    def connectors(self) -> list[ConnectorInfo]:
        """All connectors, by name."""
        return sorted(self._connectors.list_connectors(), key=lambda c: c.instance)

    def users_of(self, plugin: str) -> list[str]:
        """Namespaces that use a plugin, by name."""
        return [
            runtime.settings.name
            for runtime in self.namespaces()
            if plugin in runtime.settings.plugin_names
        ]

    # Changes while it runs.

    def add(self, runtime: NamespaceRuntime) -> None:
        """Runs a namespace: one more, or another one in the place of one that was stopped."""
        assert runtime.settings.name not in self._runs, f"{runtime.settings.name} runs"
        self._namespaces[runtime.settings.name] = runtime
        self._begin(runtime)

    async def stop(self, name: Namespace) -> None:
        """Ends a namespace's run: its leadership is handed over when this returns.

        Until `add` or `remove`, calls for it are answered as while it starts.
        """
        runtime = self._namespaces[name]
        runtime.is_stopped = True
        run = self._runs.pop(name)
        while not run.done():
            # A TaskGroup before Python 3.13 drops a cancellation that comes while it ends.
            run.cancel()
            await asyncio.wait([run], timeout=CANCEL_AGAIN_S)
        await runtime.aclose()

    def remove(self, name: Namespace) -> None:
        """Forgets a namespace that was stopped: it is unknown from now on."""
        assert name not in self._runs, f"{name} runs"
        del self._namespaces[name]

    def set_default(self, name: Namespace) -> None:
        """Makes another namespace the default one."""
        self._default = name

    def add_elector(self, elector: Elector) -> None:
        """Counts an elector as the node's, for a database that was opened later."""
        self._electors += (elector,)

    def _begin(self, runtime: NamespaceRuntime) -> None:
        assert self._work is not None, "the node runs"
        name = runtime.settings.name
        self._runs[name] = self._work.start(f"{name} {next(self._numbers)}", runtime.run())

    @property
    def is_draining(self) -> bool:
        """Whether this replica leads nothing any more, for good."""
        return self._draining

    async def drain(self) -> None:
        """Hands all leaderships over and stands in no election any more; calls are still served.

        Returns when the work of each leadership has ended here, or after `DRAIN_S`: what still
        runs then is fenced. Idempotent.
        """
        self._draining = True
        try:
            async with asyncio.timeout(DRAIN_S):
                for elector in self._electors:
                    await elector.drain()
                for runtime in self._namespaces.values():
                    await runtime.wait_rest()
        except TimeoutError:
            log.warning("not all leader work has ended after %.0f s", DRAIN_S)

    async def cluster(self) -> list[Cluster]:
        """The replicas and who leads what, for each database.

        Raises:
            Unavailable: FF19150, the ensemble cannot be reached.
        """
        return [await elector.members() for elector in self._electors]

    def troubles(self, runtime: NamespaceRuntime) -> list[Condition]:
        """What a namespace suffers from and did not cause: its connectors, the configuration."""
        found = self.connector_troubles(runtime)
        found += self.also_troubled_by()
        return found if self.configuration is None else [*found, self.configuration]

    def connector_troubles(self, runtime: NamespaceRuntime) -> list[Condition]:
        """Connectors that a namespace uses and that do not serve now."""
        return [
            Condition(
                "connector",
                f"{c.instance} is {c.state}" + (f": {c.last_error}" if c.last_error else ""),
                c.since,
            )
            for c in self.connectors()
            if c.instance in runtime.settings.plugin_names and c.state != READY
        ]

    async def run(self) -> None:
        """Runs all namespaces until cancelled."""
        try:
            async with Background("namespaces") as work:
                self._work = work
                for runtime in self._namespaces.values():
                    self._begin(runtime)
                await asyncio.Event().wait()
        finally:
            self._work = None
            for runtime in self._namespaces.values():
                await runtime.aclose()
