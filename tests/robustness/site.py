"""A running network that the harness owns: every process, every link through a fault proxy.

Unlike `photinus up`, which ends when one of its processes does, it starts again whatever ends, as the
service manager of an operator would.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import psutil
from photinus_core.app.devnet import chain

from tests.robustness.databases import Database, PostgresDatabase, SqliteDatabase
from tests.robustness.fault_proxy import FaultProxy
from tests.robustness.member_config import CHAIN_ID, CoreConfig, org_name, program, write_config
from tests.robustness.processes import (
    POLL_S,
    NotReadyError,
    Ready,
    Running,
    send_signal,
    start,
    wait_ready,
)
from tests.robustness.records import Ended, History
from tests.robustness.topology import CONNECTORS, Topology
from tests.support import chains
from tests.support.chains import free_port
from tests.support.postgres import PostgresServer, create_database
from tests.support.zookeeper import ZooKeeperServer

REGISTER_S: Final = 60.0
RESTART_PAUSE_S: Final = 0.3
PROBE_S: Final = 2.0
BLOCK_S: Final = 1


@dataclass
class Service:
    """A process that is started again when it ends.

    Attributes:
        command: Program and arguments; the same at each start.
        ready: Whether it serves.
        child: The process now.
        held: Whether the harness keeps it down for a while.
        killed: Whether the harness has ended it, so that its end is no news.
    """

    name: str
    command: Sequence[str]
    ready: Ready
    child: Running | None = None
    held: bool = False
    killed: bool = False


class Site:
    """Two members and all they need; `async with` starts and ends it.

    Args:
        folder: Where everything is kept; absolute.
        topology: What is started.
        history: Hears of processes that end by themselves.
    """

    def __init__(self, folder: Path, topology: Topology, history: History) -> None:
        self.topology = topology
        self.folder = folder
        self.links: dict[str, FaultProxy] = {}
        self.contract = ""
        self._history = history
        self._services: dict[str, Service] = {}
        self._stack = AsyncExitStack()
        self._postgres: PostgresServer | None = None
        self._zookeeper: ZooKeeperServer | None = None
        self._watching: list[asyncio.Task[None]] = []
        self._ports: dict[str, int] = {}
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

    # ------------------------------------------------------------------------ where clients go

    @property
    def chain_port(self) -> int:
        """Port of the chain itself, past every proxy."""
        return self._ports["chain"]

    @property
    def orgs(self) -> list[str]:
        """Names of the members' organisations."""
        return [org_name(member) for member in range(self.topology.members)]

    def core_addresses(self, member: int) -> list[str]:
        """gRPC of a member's replicas, through the clients' proxies."""
        return [
            f"127.0.0.1:{self.links[f'client-core/{member}/{r}'].port}"
            for r in range(self.topology.replicas)
        ]

    def gateway_urls(self, member: int) -> list[str]:
        """REST of a member's gateways, through the clients' proxies."""
        return [
            f"http://127.0.0.1:{self.links[f'client-gateway/{member}/{r}'].port}"
            for r in range(self.topology.replicas)
        ]

    def direct_url(self, member: int, replica: int = 0) -> str:
        """REST past the proxies, for the harness itself."""
        return f"http://127.0.0.1:{self._ports[f'gateway/{member}/{replica}']}"

    def member_folder(self, member: int) -> Path:
        """Configuration and databases of a member."""
        return self.folder / f"member{member}"

    # ---------------------------------------------------------------------------------- faults

    async def leader(self, member: int) -> str:
        """Name of the core that leads a member's namespace; the first core when none says so."""
        for replica in range(self.topology.replicas):
            url = f"{self.direct_url(member, replica)}/api/v1/node"
            answer = await get_json(url)
            if answer is not None and "default" in answer.get("leading", []):
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
        pid = self.pid(name)
        if pid is not None:
            service = self._services.get(name)
            if service is not None:
                service.killed, service.held = True, hold
            send_signal(pid, signal.SIGKILL)
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
        assert self._postgres is not None
        await asyncio.to_thread(self._postgres.restart)
        return "immediate"

    async def restart_zookeeper(self, away_s: float) -> str:
        """SIGKILL, and a start after a time; gives what was done."""
        assert self._zookeeper is not None
        await asyncio.to_thread(self._zookeeper.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self._zookeeper.start)
        return f"away for {away_s:.1f} s"

    # ----------------------------------------------------------------------------------- start

    async def _start(self) -> None:
        members = range(self.topology.members)
        for name in ("chain", *self.topology.gateways, *self._core_names()):
            self._ports[name] = free_port()
        for member in members:
            self._ports[f"dx/{member}"] = free_port()
        if not self.topology.launches:
            for name in self.topology.connectors:
                self._ports[name] = free_port()
        await self._start_servers()
        for link in self.topology.links:
            proxy = FaultProxy("127.0.0.1", self._target_port(link))
            self.links[link] = await self._stack.enter_async_context(proxy)
        await self._run(self._chain())
        self.contract = await chain.deploy_contract(self.chain_port)
        for member in members:
            if not self.topology.launches:
                for name in CONNECTORS:
                    await self._run(self._connector(member, name))
            for replica in range(self.topology.replicas):
                await self._run(self._core(member, replica))
                await self._run(self._gateway(member, replica))
        await self._register()

    async def _start_servers(self) -> None:
        """PostgreSQL with a database for each member, and ZooKeeper, where there are any."""
        if self.topology.postgres:
            self._postgres = PostgresServer()
            self._stack.callback(self._postgres.close)
            await asyncio.to_thread(self._postgres.__enter__)
            for member in range(self.topology.members):
                await create_database(self._postgres, f"member{member}")
        if self.topology.zookeeper:
            self._zookeeper = ZooKeeperServer(self.folder / "zookeeper")
            self._stack.callback(self._zookeeper.kill)
            await asyncio.to_thread(self._zookeeper.start)

    def database(self, member: int) -> Database:
        """The harness's own way into a member's database."""
        if self._postgres is None:
            return SqliteDatabase(self.member_folder(member) / "core.db")
        return PostgresDatabase(self._postgres.url(f"member{member}"), self._core_of_port)

    def _core_of_port(self, port: int) -> str:
        """The core whose connection to the database came from a port."""
        return next(
            f"core/{link.partition('/')[2]}"
            for link, proxy in self.links.items()
            if link.startswith("database/") and port in proxy.far_ports
        )

    def _core_names(self) -> list[str]:
        return [f"core/{m}/{r}" for m, r in self.topology.places]

    def _target_port(self, link: str) -> int:
        kind, _, where = link.partition("/")
        match kind:
            case "chain":
                return self._ports["chain"]
            case "dx":
                return self._ports[link]
            case "client-gateway":
                return self._ports[f"gateway/{where}"]
            case "client-core" | "gateway-core" | "core-core":
                return self._ports[f"core/{where}"]
            case "database":
                assert self._postgres is not None
                return self._postgres.port
            case "zookeeper":
                assert self._zookeeper is not None
                return self._zookeeper.port
            case _:
                member = where.partition("/")[0]
                return self._ports[f"connector/{member}/{kind.removeprefix('core-')}"]

    def _chain(self) -> Service:
        port = self.chain_port
        command = [
            chains.program("anvil"),
            *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)),
            *("--block-time", str(BLOCK_S), "--gas-limit", "1000000000", "--silent"),
        ]
        return Service("chain", command, lambda: chain.answers(port))

    def _connector(self, member: int, name: str) -> Service:
        service = f"connector/{member}/{name}"
        port = self._ports[service]
        command = [
            *(program(CONNECTORS[name]), "--address", f"127.0.0.1:{port}", "--insecure"),
            *("--data-dir", str(self.member_folder(member) / "connectors" / name)),
        ]
        return Service(service, command, _connects(port))

    def _core(self, member: int, replica: int) -> Service:
        where = f"{member}/{replica}"
        port = self._ports[f"core/{where}"]
        folder = self.member_folder(member)
        postgres = ""
        if self._postgres is not None:
            own = f":{self._postgres.port}/"
            through = f":{self.links[f'database/{where}'].port}/"
            postgres = self._postgres.url(f"member{member}").replace(own, through)
        config = CoreConfig(
            member=member,
            replica=replica,
            grpc_port=port,
            chain_port=self.links[f"chain/{member}"].port,
            dx_port=self._ports[f"dx/{member}"],
            dx_public_port=self.links[f"dx/{member}"].port,
            content=self.folder / "content",
            contract=self.contract,
            connector_ports={
                name: self.links[f"core-{name}/{where}"].port
                for name in CONNECTORS
                if f"core-{name}/{where}" in self.links
            },
            postgres=postgres,
            zookeeper_port=self._link_port(f"zookeeper/{where}"),
            peer_port=self._link_port(f"core-core/{where}"),
        )
        path = write_config(folder, config)
        command = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(path)]
        return Service(f"core/{where}", [*command, "--dir", str(folder)], _connects(port))

    def _link_port(self, link: str) -> int:
        """Where a proxy listens; 0 when this topology has no such link."""
        return self.links[link].port if link in self.links else 0

    def _gateway(self, member: int, replica: int) -> Service:
        cores = [
            f"127.0.0.1:{self.links[f'gateway-core/{member}/{r}'].port}"
            for r in range(self.topology.replicas)
        ]
        port = self._ports[f"gateway/{member}/{replica}"]
        command = [
            *(program("photinus-gateway"), "-listen", f"127.0.0.1:{port}"),
            *("-core", ",".join(cores)),
        ]
        return Service(f"gateway/{member}/{replica}", command, _connects(port))

    async def _run(self, service: Service) -> None:
        self._services[service.name] = service
        await self._launch(service)
        assert service.child is not None
        await wait_ready(service.child, service.ready, service.name)
        # Ends with the site; a failure in it is a failure of the harness and shows at the end.
        self._watching.append(asyncio.create_task(self._keep(service), name=service.name))

    async def _launch(self, service: Service) -> None:
        service.child = await start(service.name, service.command, self.folder / "logs")

    async def _keep(self, service: Service) -> None:
        """Starts a process again whenever it ends, until the site closes."""
        while True:
            assert service.child is not None
            code = await service.child.wait()
            if self._closing.is_set():
                return
            if not service.killed:
                self._history.add(Ended(time.monotonic(), service.name, code))
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
                url = f"{self.direct_url(member)}/api/v1"
                await wait_ready(None, partial(_answers, f"{url}/status"), url)
                for what in ("organizations", "nodes"):
                    path = f"{url}/network/{what}/self?confirm=true"
                    async with http.post(path, json={}) as answer:
                        text = await answer.text()
                        if answer.status != 200:
                            raise NotReadyError(f"{path}: {answer.status} {text}")
        for member in range(self.topology.members):
            await wait_ready(None, partial(self._knows_all, member), f"nodes of member {member}")

    async def _knows_all(self, member: int) -> bool:
        nodes = await get_json(f"{self.direct_url(member)}/api/v1/network/nodes")
        return nodes is not None and len(nodes) == self.topology.members

    # ------------------------------------------------------------------------------------- end

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


def _connects(port: int) -> Ready:
    async def ready() -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    return ready


async def _answers(url: str) -> bool:
    return await get_json(url) is not None


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
