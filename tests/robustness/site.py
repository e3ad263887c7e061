"""A running network that the harness owns: every process, every link through a fault proxy.

Unlike `photinus up`, which ends when one of its processes does, it starts again whatever ends, as the
service manager of an operator would.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import psutil
from photinus.api.v1 import namespace_service_pb2, node_service_pb2
from photinus_client import Client, PhotinusError
from photinus_core.app.devnet import chain

from tests.robustness.fault_proxy import FaultProxy
from tests.robustness.processes import (
    POLL_S,
    NotReadyError,
    send_signal,
    start,
    wait_ready,
)
from tests.robustness.records import Ended, History
from tests.robustness.topology import CONNECTORS, Topology
from tests.robustness.wiring import PROBE_S, Service, Wiring
from tests.support.postgres import PostgresServer, create_database
from tests.support.zookeeper import ZooKeeperServer

REGISTER_S: Final = 180.0
RESTART_PAUSE_S: Final = 0.3


class Site:
    """Two members and all they need; `async with` starts and ends it.

    Args:
        folder: Where everything is kept; absolute.
        topology: What is started.
        history: Hears of processes that end by themselves.
    """

    def __init__(self, folder: Path, topology: Topology, history: History) -> None:
        self.topology = topology
        self.wiring = Wiring(folder, topology)
        self._history = history
        self._services: dict[str, Service] = {}
        self._stack = AsyncExitStack()
        self._zookeeper: ZooKeeperServer | None = None
        self._watching: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def leader(self, member: int) -> str:
        """Name of the core that leads a member's namespace; the first core when none says so now."""
        for replica in range(self.topology.replicas):
            async with Client(self.wiring.core_address(member, replica)) as client:
                try:
                    info = await client.node.GetNodeInfo(
                        node_service_pb2.GetNodeInfoRequest(), timeout=PROBE_S
                    )
                except PhotinusError:
                    continue
            if "default" in info.leading:
                return f"core/{member}/{replica}"
        return f"core/{member}/0"

    def pid(self, name: str) -> int | None:
        """Process of a service, or of a connector that a core launched; None when there is none now."""
        service = self._services.get(name)
        if service is not None:
            child = service.child
            return child.pid if child is not None and child.is_alive else None
        _, member, connector = name.split("/")
        core = self.pid(f"core/{member}/0")
        if core is None:
            return None
        try:
            for process in psutil.Process(core).children():
                if any(CONNECTORS[connector] in word for word in process.cmdline()):
                    return int(process.pid)
        except psutil.Error:
            return None
        return None

    def kill(self, name: str, *, hold: bool) -> int | None:
        """SIGKILL, in which state ever it is; gives the process that was hit.

        Args:
            name: Name of a process.
            hold: Keep it down until `release`; what a core launched comes back when the core wants.
        """
        return self._end(name, signal.SIGKILL, hold=hold)

    def stop(self, name: str) -> int | None:
        """SIGTERM; otherwise as `kill` with `hold`."""
        return self._end(name, signal.SIGTERM, hold=True)

    def _end(self, name: str, number: signal.Signals, *, hold: bool) -> int | None:
        pid = self.pid(name)
        if pid is not None:
            service = self._services.get(name)
            if service is not None:
                service.killed, service.held = True, hold
            send_signal(pid, number)
        return pid

    async def release(self, name: str) -> None:
        """Lets a killed process be started again, and waits until it serves."""
        service = self._services.get(name)
        if service is None:
            return
        service.held = False
        await wait_ready(None, service.ready, name)

    def freeze(self, name: str) -> int | None:
        """SIGSTOP; gives the process that was hit."""
        pid = self.pid(name)
        if pid is not None:
            send_signal(pid, signal.SIGSTOP)
        return pid

    @staticmethod
    def thaw(pid: int) -> None:
        """SIGCONT, if it still runs."""
        send_signal(pid, signal.SIGCONT)

    async def restart_database(self) -> str:
        """`pg_ctl restart -m immediate`; gives what was done."""
        assert self.wiring.postgres is not None
        await asyncio.to_thread(self.wiring.postgres.restart)
        return "immediate"

    async def restart_zookeeper(self, away_s: float) -> str:
        """SIGKILL, and a start after a time; gives what was done."""
        assert self._zookeeper is not None
        await asyncio.to_thread(self._zookeeper.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self._zookeeper.start)
        return f"away for {away_s:.1f} s"

    async def _start(self) -> None:
        members = range(self.topology.members)
        await self._start_servers()
        for link in self.topology.links:
            proxy = FaultProxy("127.0.0.1", self.wiring.target_port(link))
            self.wiring.links[link] = await self._stack.enter_async_context(proxy)
        await self._run(self.wiring.chain_service())
        self.wiring.contract = await chain.deploy_contract(self.wiring.chain_port)
        wiring, places = self.wiring, self.topology.places
        if not self.topology.launches:
            pairs = [(member, name) for member in members for name in CONNECTORS]
            await self._run(*(wiring.connector_service(member, name) for member, name in pairs))
        await self._run(*(wiring.core_service(m, r) for m, r in places))
        await self._run(*(wiring.gateway_service(m, r) for m, r in places))
        for member, replica in places:
            has_begun = partial(self._has_begun, member, replica)
            await wait_ready(None, has_begun, f"the namespace of core/{member}/{replica}")
        await self._register()

    async def _start_servers(self) -> None:
        """PostgreSQL with a database for each member, and ZooKeeper, where there are any."""
        if self.topology.postgres:
            self.wiring.postgres = PostgresServer(port=self.wiring.postgres_port)
            self._stack.callback(self.wiring.postgres.close)
            await asyncio.to_thread(self.wiring.postgres.__enter__)
            for member in range(self.topology.members):
                await create_database(self.wiring.postgres, f"member{member}")
        if self.topology.zookeeper:
            self._zookeeper = ZooKeeperServer(self.wiring.folder / "zookeeper")
            self._zookeeper.port = self.wiring.zookeeper_port
            self._stack.callback(self._zookeeper.kill)
            await asyncio.to_thread(self._zookeeper.start)

    async def _run(self, *services: Service) -> None:
        """Starts processes at once, and waits until all of them serve."""
        for service in services:
            self._services[service.name] = service
            await self._launch(service)
            # Ends with the site; a failure in it is a failure of the harness and shows at the end.
            self._watching.append(asyncio.create_task(self._keep(service), name=service.name))
        for service in services:
            await wait_ready(service.child, service.ready, service.name)

    async def _launch(self, service: Service) -> None:
        service.child = await start(service.name, service.command, self.wiring.folder / "logs")

    async def _keep(self, service: Service) -> None:
        """Starts a process again whenever it ends, until the site closes."""
        while True:
            assert service.child is not None
            code = await service.child.wait()
            if self._closing.is_set():
                return
            if not service.killed:
                log = service.child.log_end()
                self._history.add(Ended(time.monotonic(), service.name, code, log))
            await asyncio.sleep(RESTART_PAUSE_S)
            while service.held and not self._closing.is_set():
                await asyncio.sleep(POLL_S)
            if self._closing.is_set():
                return
            service.killed = False
            await self._launch(service)
            if self._closing.is_set():
                await service.child.end()

    async def _register(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REGISTER_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            for member in range(self.topology.members):
                url = f"{self.wiring.direct_url(member)}/api/v1"
                for what in ("organizations", "nodes"):
                    path = f"{url}/network/{what}/self?confirm=true"
                    try:
                        async with http.post(path, json={}) as answer:
                            text = await answer.text()
                    except TimeoutError:
                        logs = (service.child for service in self._services.values())
                        ends = "\n".join(child.log_end() for child in logs if child is not None)
                        raise NotReadyError(f"{path}: no answer; {ends}") from None
                    if answer.status != 200:
                        raise NotReadyError(f"{path}: {answer.status} {text}")
        for member in range(self.topology.members):
            await wait_ready(None, partial(self._knows_all, member), f"nodes of member {member}")

    async def _has_begun(self, member: int, replica: int) -> bool:
        """Whether the default namespace takes calls; one that another replica has begun is read before."""
        async with Client(self.wiring.core_address(member, replica)) as client:
            try:
                status = await client.namespaces.GetStatus(
                    namespace_service_pb2.GetStatusRequest(), timeout=PROBE_S
                )
            except PhotinusError:
                return False
        return not status.namespace.initializing

    async def _knows_all(self, member: int) -> bool:
        nodes = await get_json(f"{self.wiring.direct_url(member)}/api/v1/network/nodes")
        return nodes is not None and len(nodes) == self.topology.members

    async def _close(self) -> None:
        self._closing.set()
        for service in reversed(self._services.values()):
            if service.child is not None:
                await service.child.end()
        if self._watching:
            await asyncio.wait(self._watching)
        await self._stack.aclose()
        for task in self._watching:
            task.result()


async def get_json(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """The answer's JSON; None for any other than a success."""
    timeout = aiohttp.ClientTimeout(total=PROBE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(url, headers=headers) as answer,
        ):
            return await answer.json() if answer.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
