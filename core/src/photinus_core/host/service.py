"""The host as the rest of the core sees it: connectors by name, and what an operator is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from photinus_core.host.calls import Calls
from photinus_core.host.discovery import SocketDirectory
from photinus_core.host.instances import Category, InstanceConfig
from photinus_core.host.proxies import BlockchainProxy, DataExchangeProxy, SharedStorageProxy
from photinus_core.host.registration import CoreFacts
from photinus_core.host.strangers import Strangers
from photinus_core.host.stream import StreamClient
from photinus_core.host.stream_session import StreamRequest
from photinus_core.host.supervisor import Supervisor
from photinus_core.model.errors import InternalBug, Unavailable
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.connectors import (
    BlockchainConnector,
    ConnectorInfo,
    DataExchangeConnector,
    EventHandler,
    EventStream,
    Listener,
    SharedStorage,
)
from photinus_core.ports.meter import UNMETERED, LedgerMeter
from photinus_core.ports.tasks import Background
from photinus_core.sequencing.connector_life import LIMITS

log: Final = logging.getLogger(__name__)

REATTACH_VARIABLE: Final = "PHOTINUS_REATTACH"
STOP_WAIT_S: Final = 30.0


class ConnectorHost:
    """All connectors of a core. An async context manager; leaving it ends what it launched.

    Args:
        core: What connectors are told, and where launched ones keep their data.
        may_launch: False when there may be other replicas: launched connectors have one core.
        sockets: Directory in which connectors are discovered; None for none.
        meter: Counts what ledgers are asked.
    """

    def __init__(
        self,
        core: CoreFacts,
        *,
        may_launch: bool = True,
        sockets: Path | None = None,
        meter: LedgerMeter = UNMETERED,
    ) -> None:
        self._core = core
        self._meter = meter
        self._may_launch = may_launch
        self._supervisors: dict[str, Supervisor] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._calls: dict[str, Calls] = {}
        self._streams: list[tuple[str, StreamClient]] = []
        self._numbers = count(1)
        self._work = Background("connectors")
        self._directory = None if sockets is None else SocketDirectory(sockets, self._seen)
        self._sockets: Mapping[str, str] = {}
        self._blind = ""
        self._strangers = Strangers(core, self._work)

    async def __aenter__(self) -> Self:
        await self._work.__aenter__()
        if self._directory is not None:
            self._work.start("discovery", self._directory.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for _, stream in list(self._streams):
                await stream.aclose()
            for supervisor in self._supervisors.values():
                supervisor.stop()
            if self._runs:
                await asyncio.wait(self._runs.values(), timeout=STOP_WAIT_S)
        finally:
            await self._work.__aexit__(kind, failure, trace)

    # Which connectors there are.

    def add(self, configs: Iterable[InstanceConfig]) -> None:
        """Begins to reach connectors; returns at once.

        Raises:
            Unavailable: FF19210, a connector is to be launched by a core with replicas.
        """
        for config in configs:
            assert config.name not in self._supervisors, f"{config.name} is there already"
            supervisor = Supervisor(self._used(config), self._core)
            self._supervisors[config.name] = supervisor
            self._calls[config.name] = Calls(supervisor)
            self._match(supervisor)
            self._runs[config.name] = self._work.start(
                f"{config.name} {next(self._numbers)}", supervisor.run()
            )
        self._name_strangers()

    def change(self, config: InstanceConfig) -> None:
        """Gives a connector another configuration; returns at once.

        Proxies and streams stay good: calls wait or fail as while it is away, streams are opened
        anew behind their checkpoints. A launched process stays when its command does. A failed
        connector begins afresh. Nothing happens when nothing has changed.

        Raises:
            Unavailable: FF19210, as `add`.
        """
        supervisor, used = self._supervisors[config.name], self._used(config)
        assert used.category is supervisor.config.category, "another category is another plugin"
        if used == supervisor.config:
            return
        supervisor.change(used)
        self._match(supervisor)
        self._name_strangers()

    async def findings(self, config: InstanceConfig) -> list[tuple[str, str]]:
        """What a connector has against another configuration, before `change`.

        Returns:
            (JSON Pointer, text) each; nothing, too, when it is away or cannot say.
        """
        return await self._supervisors[config.name].findings(config)

    def restart(self, name: str) -> None:
        """Reaches a connector anew, a launched one in another process; returns at once."""
        self._supervisors[name].restart()

    async def remove(self, name: str) -> None:
        """Stops using a connector; its calls end, a launched process is ended."""
        supervisor = self._supervisors.pop(name)
        del self._calls[name]
        for owner, stream in list(self._streams):
            if owner == name:
                await stream.aclose()
        supervisor.stop()
        await asyncio.wait([self._runs.pop(name)], timeout=STOP_WAIT_S)
        self._name_strangers()

    def _used(self, config: InstanceConfig) -> InstanceConfig:
        """The configuration, or where the environment says that somebody debugs the connector."""
        used = _reattached().get(config.name)
        if used is not None:
            # A breakpoint is no reason to give a connector up.
            patient = replace(config.limits or LIMITS, ping_every_ns=0)
            return replace(config, **used, launch=(), discover=(), tls=None, limits=patient)
        if config.launch and not self._may_launch:
            raise Unavailable("FF19210", config.name)
        return config

    # Discovery.

    def _seen(self, sockets: Mapping[str, str], blind: str) -> None:
        self._sockets, self._blind = sockets, blind
        for supervisor in self._supervisors.values():
            self._match(supervisor)
        self._name_strangers()

    def _match(self, supervisor: Supervisor) -> None:
        """Tells a supervisor of the socket that is its, or that there is none."""
        names = supervisor.config.discover
        if not names:
            return
        there = next((self._sockets[name] for name in names if name in self._sockets), "")
        lost = bool(supervisor.found) and supervisor.found not in self._sockets.values()
        if lost:
            supervisor.vanished("its socket was removed")
        if there and not supervisor.found:
            supervisor.appeared(there)
        elif not there and not lost:
            supervisor.vanished(self._blind or self._nothing_for(names))

    def _nothing_for(self, names: Sequence[str]) -> str:
        wanted = " or ".join(f"{name}.sock" for name in names)
        where = "no directory is watched" if self._directory is None else self._directory.path
        return f"no socket {wanted} was found ({where})"

    def _name_strangers(self) -> None:
        taken = {supervisor.found for supervisor in self._supervisors.values()}
        taken |= {supervisor.config.address for supervisor in self._supervisors.values()}
        self._strangers.show(
            {name: address for name, address in self._sockets.items() if address not in taken}
        )

    # What they are used for.

    def blockchain(self, name: str) -> BlockchainConnector:
        """A ledger. The proxy stays good whatever becomes of the connector's process."""
        return BlockchainProxy(*self._parts(name, Category.BLOCKCHAIN), self._meter)

    def data_exchange(self, name: str) -> DataExchangeConnector:
        """A data exchange; as `blockchain`."""
        return DataExchangeProxy(*self._parts(name, Category.DATA_EXCHANGE))

    def shared_storage(self, name: str) -> SharedStorage:
        """A storage; as `blockchain`."""
        return SharedStorageProxy(*self._parts(name, Category.SHARED_STORAGE))

    def list_connectors(self) -> list[ConnectorInfo]:
        """All connectors, by name; behind them those that were discovered and nobody uses."""
        used = [
            supervisor.info([stream.info for owner, stream in self._streams if owner == name])
            for name, supervisor in sorted(self._supervisors.items())
        ]
        return used + self._strangers.infos()

    async def wait_ready(self, name: str, wait_s: float) -> None:
        """Returns once a connector is in use. Raises Unavailable FF19200 when the time is up."""
        await self._supervisors[name].wait_connection(wait_s)

    def _parts(self, name: str, category: Category) -> tuple[Calls, str, Any]:
        supervisor = self._supervisors[name]
        if supervisor.config.category is not category:
            raise InternalBug("FF19000", f"{name} is no {category}")

        async def open_stream(
            namespace: Namespace,
            network_namespace: str,
            epoch: Epoch,
            listeners: Sequence[Listener],
            handler: EventHandler,
        ) -> EventStream:
            request = StreamRequest(self._core.cluster_id, namespace, network_namespace, epoch)
            stream = StreamClient(supervisor, request, listeners, handler)
            entry = (name, stream)
            self._streams.append(entry)
            title = f"stream {name} {namespace} {next(self._numbers)}"
            stream.task = self._work.start(title, stream.run())
            stream.task.add_done_callback(lambda _: self._streams.remove(entry))
            return stream

        return self._calls[name], self._core.cluster_id, open_stream


def _reattached() -> dict[str, dict[str, Any]]:
    """How connectors are reached, by name, that somebody started by hand, under a debugger say."""
    text = os.environ.get(REATTACH_VARIABLE, "")
    if not text:
        return {}
    try:
        found = json.loads(text)
        return {
            str(name): {
                "address": str(entry["address"]),
                "insecure": entry.get("insecure") is True,
            }
            for name, entry in found.items()
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        log.warning('%s is not {"<name>": {"address": "unix:…"}}; ignored', REATTACH_VARIABLE)
        return {}
