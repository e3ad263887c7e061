"""Changes of the configuration while the node runs.

The file is read again when it changes (with `config.autoReload`) and on SIGHUP. A file that cannot
be used changes nothing. Of one that can, exactly what differs is stopped, started or told; all else
goes on untouched.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from photinus_core.access.gate import Gate
from photinus_core.app.assembly import Assembly
from photinus_core.app.config import ConfigError, NodeSettings, Problem, load_text
from photinus_core.app.config.changes import Changes, compare, refusals
from photinus_core.app.config.places import Places
from photinus_core.app.electing import configuration_digest
from photinus_core.app.logs import set_level
from photinus_core.host import ConnectorHost
from photinus_core.model.errors import Conflict, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Namespace
from photinus_core.namespaces.node import Node
from photinus_core.namespaces.status import Condition
from photinus_core.ports.clock import SystemClock
from photinus_core.rpc.server import ApiServer

log: Final = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the file is looked at."""
SETTLED_S: Final = 0.3
"""A file is read when it was left alone so long: editors write in several steps."""
PROBLEMS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a configuration comes from.

    Attributes:
        path: Its file.
        again: Set by whoever wants it to be read now.
    """

    path: Path
    again: asyncio.Event


@dataclass(frozen=True, slots=True)
class RunningNode:
    """The parts of a node that a change is carried out on."""

    host: ConnectorHost
    node: Node
    server: ApiServer
    gate: Gate


class Reloader:
    """Keeps a running node as its configuration says. `run` is started by the node.

    Args:
        source: Where the configuration comes from.
        settings: What the node was started with.
        parts: Makes what is new.
        running: The node.
    """

    def __init__(
        self,
        source: ConfigSource,
        settings: NodeSettings,
        parts: Assembly,
        running: RunningNode,
    ) -> None:
        self._source = source
        self._settings = settings
        self._parts = parts
        self._host, self._node, self._server = running.host, running.node, running.server
        self._gate = running.gate
        self._clock = SystemClock()
        self._asking: list[asyncio.Future[str]] = []
        self._text: str | None = None
        self._stamp: tuple[int, ...] | None = None

    async def run(self) -> None:
        """Follows the file until cancelled."""
        try:
            while True:
                asked = await self._asked()
                asking, self._asking = self._asking, []
                outcome = await self._look(asked=asked)
                for one in asking:
                    if not one.done():
                        one.set_result(outcome)
        finally:
            for one in self._asking:
                one.cancel()

    async def _look(self, *, asked: bool) -> str:
        try:
            if asked or (self._settings.auto_reload and await self._has_changed()):
                return await self.reload(asked=asked)
        except Exception as failure:
            log.exception("the configuration could not be changed in full; restart the core")
            text = f"changed in part only, restart the core: {failure}"
            self._show(text)
            return text
        return ""

    async def reset(self) -> None:
        """Has the file be read now, for who asks over the API; returns when that is done.

        It is done also when the caller is cancelled. Idempotent.

        Raises:
            Conflict: FF10438, the file is followed by itself; FF19050, it cannot be used.
            Unavailable: FF19011, this replica is leaving.
        """
        if self._settings.auto_reload:
            raise Conflict("FF10438")
        if self._node.is_draining:
            raise Unavailable("FF19011")
        outcome = asyncio.get_running_loop().create_future()
        self._asking.append(outcome)
        self._source.again.set()
        await asyncio.wait([outcome])
        if outcome.cancelled():
            raise Unavailable("FF19011")
        if outcome.result():
            raise Conflict("FF19050", outcome.result())

    async def reload(self, *, asked: bool = False) -> str:
        """Reads the file and does what it says. One that cannot be used changes nothing.

        Gives what is wrong with it; empty for nothing.
        """
        path = self._source.path
        try:
            text = await asyncio.to_thread(path.read_text, "utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            why = failure.strerror if isinstance(failure, OSError) else str(failure)
            return self._refuse([Problem(str(path), 0, "", str(Rejected("FF19301", path, why)))])
        if text == self._text and not asked:
            return ""
        self._text = text
        try:
            wanted = load_text(text, str(path), os.environ)
            changes = await self._checked(wanted, Places(text, str(path)))
        except ConfigError as failure:
            return self._refuse(failure.problems)
        if self._node.is_draining:
            log.info("the configuration is not changed any more: this replica is being drained")
            return ""
        if not changes.is_empty:
            log.info("the configuration has changed: %s", changes.told())
        elif asked:
            log.info("the configuration was read again; nothing differs")
        await self._carry_out(changes)
        self._settings = changes.settings
        for elector in self._parts.electors.values():
            await elector.redescribe(configuration_digest(self._settings))
        for warning in wanted.warnings if asked or not changes.is_empty else ():
            log.warning("%s", warning)
        self._show_rest(changes)
        return ""

    # Looking.

    async def _asked(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._source.again.wait()
        asked = self._source.again.is_set()
        self._source.again.clear()
        return asked

    async def _has_changed(self) -> bool:
        """Whether the file is another one than before, and was left alone for a moment."""
        stamp = await asyncio.to_thread(_stamp, self._source.path)
        if stamp == self._stamp:
            return False
        while True:
            await asyncio.sleep(SETTLED_S)
            now = await asyncio.to_thread(_stamp, self._source.path)
            if now == stamp:
                self._stamp = stamp
                return True
            stamp = now

    # Checking: nothing is changed here.

    async def _checked(self, wanted: NodeSettings, places: Places) -> Changes:
        """Finds what is to be done.

        Raises:
            ConfigError: what a running node cannot take, or what a connector has against it.
        """
        problems = [
            places.problem(places.of_namespace(each.namespace, each.key), str(each.failure))
            for each in refusals(self._settings, wanted)
        ]
        if problems:
            raise ConfigError(problems)
        changes = compare(self._settings, wanted, self._parts.databases)
        problems = [
            problem
            for name in changes.connectors_changed
            for problem in await self._findings(changes.settings, name, places)
        ]
        if problems:
            raise ConfigError(problems)
        try:
            for elector in await self._parts.open_databases(changes.settings):
                self._node.add_elector(elector)
            for store in self._parts.stores.values():
                self._node.changes.add(store)
        except PhotinusError as failure:
            raise ConfigError([places.problem("plugins.database", str(failure))]) from failure
        return changes

    async def _findings(
        self, settings: NodeSettings, name: str, places: Places
    ) -> Sequence[Problem]:
        """What a connector that is there has against its new settings."""
        plugin = settings.plugin(name)
        if plugin.config == self._settings.plugin(name).config or plugin.connector is None:
            return []
        found = await self._host.findings(self._parts.instance(plugin, plugin.connector))
        return [
            places.problem(
                places.of_plugin(plugin.category, name, plugin.type, pointer),
                str(Rejected("FF19205", name, summary)),
            )
            for pointer, summary in found
        ]

    # Doing.

    async def _carry_out(self, changes: Changes) -> None:
        node, host, settings = self._node, self._host, changes.settings
        # First of all, so that what is new is never open to those who may not have it.
        await self._gate.change(settings.access)
        stopped = [Namespace(name) for name in changes.namespaces_stopped]
        self._server.restart_streams_of(stopped)
        async with asyncio.TaskGroup() as group:
            for name in stopped:
                group.create_task(node.stop(name))
        # Those that were being opened meanwhile.
        self._server.restart_streams_of(stopped)
        # Before a default namespace goes, another one is the default.
        if settings.default_namespace not in changes.namespaces_new:
            node.set_default(settings.default_namespace)
        for gone in changes.namespaces_gone:
            node.remove(Namespace(gone))
        for connector in changes.connectors_gone:
            await host.remove(connector)
        for config in await self._parts.instances(settings, changes.connectors_changed):
            host.change(config)
        host.add(await self._parts.instances(settings, changes.connectors_new))
        for namespace in settings.namespaces:
            if namespace.name in (*changes.namespaces_new, *changes.namespaces_restarted):
                node.add(self._parts.runtime(namespace, settings, host))
        node.set_default(settings.default_namespace)
        set_level(settings.log)

    # Telling.

    def _refuse(self, problems: Sequence[Problem]) -> str:
        shown = "; ".join(str(problem) for problem in problems[:PROBLEMS_SHOWN])
        more = len(problems) - PROBLEMS_SHOWN
        text = f"{shown}; and {more} more" if more > 0 else shown
        log.error("the configuration is not changed, its file cannot be used: %s", text)
        self._show(f"the file cannot be used, the former configuration is in force: {text}")
        return text

    def _show_rest(self, changes: Changes) -> None:
        if not changes.needs_restart:
            self._node.configuration = None
            return
        text = f"takes effect when the core is restarted: {', '.join(changes.needs_restart)}"
        log.warning("the configuration: %s", text)
        self._show(text)

    def _show(self, text: str) -> None:
        self._node.configuration = Condition("configuration", text, self._clock.now())


def _stamp(path: Path) -> tuple[int, ...]:
    """Differs when a file was written or replaced; empty when there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
