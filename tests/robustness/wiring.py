"""How a site hangs together: ports, commands, configurations, and which link leads where. Starts nothing."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from photinus_core.app.devnet import chain

from tests.robustness.databases import Database, PostgresDatabase, SqliteDatabase
from tests.robustness.fault_proxy import FaultProxy
from tests.robustness.member_config import CHAIN_ID, CoreConfig, org_name, program, write_config
from tests.robustness.processes import Ready, Running
from tests.robustness.topology import CONNECTORS, Topology
from tests.support import chains
from tests.support.postgres import PostgresServer

PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to connections: a killed process must find its port free again."""
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


class Wiring:
    """Everything by its name: `core/<member>/<replica>`, `dx/<member>`, as the topology calls it.

    Args:
        folder: Where everything is kept; absolute.
        topology: What there is.

    Attributes:
        links: The fault proxies by their names, once started.
        contract: Address of the multiparty contract, once deployed.
        postgres: The database server, once started.
    """

    def __init__(self, folder: Path, topology: Topology) -> None:
        self.folder = folder
        self.topology = topology
        self.links: dict[str, FaultProxy] = {}
        self.contract = ""
        self.postgres: PostgresServer | None = None
        names = ["chain", "postgres", "zookeeper", *topology.gateways, *topology.connectors]
        names += [f"core/{m}/{r}" for m, r in topology.places]
        names += [f"dx/{member}" for member in range(topology.members)]
        self._ports = dict(zip(names, _free_ports(len(names)), strict=True))

    @property
    def chain_port(self) -> int:
        """Port of the chain itself, past every proxy."""
        return self._ports["chain"]

    @property
    def postgres_port(self) -> int:
        """Port of the database server."""
        return self._ports["postgres"]

    @property
    def zookeeper_port(self) -> int:
        """Port of the ensemble's one server."""
        return self._ports["zookeeper"]

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

    def core_address(self, member: int, replica: int) -> str:
        """gRPC of one core, past the proxies, for the harness itself."""
        return f"127.0.0.1:{self._ports[f'core/{member}/{replica}']}"

    def direct_url(self, member: int, replica: int = 0) -> str:
        """REST past the proxies, for the harness itself."""
        return f"http://127.0.0.1:{self._ports[f'gateway/{member}/{replica}']}"

    def member_folder(self, member: int) -> Path:
        """Configuration and databases of a member."""
        return self.folder / f"member{member}"

    def database(self, member: int) -> Database:
        """The harness's own way into a member's database."""
        if self.postgres is None:
            return SqliteDatabase(self.member_folder(member) / "core.db")
        proxies = {
            f"core/{member}/{r}": self.links[f"database/{member}/{r}"]
            for r in range(self.topology.replicas)
        }
        return PostgresDatabase(self.postgres.url(f"member{member}"), proxies)

    def target_port(self, link: str) -> int:
        """Where a link leads."""
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
                return self.postgres_port
            case "zookeeper":
                return self.zookeeper_port
            case _:
                member = where.partition("/")[0]
                return self._ports[f"connector/{member}/{kind.removeprefix('core-')}"]

    def chain_service(self) -> Service:
        """The chain, which mines a block each second."""
        port = self.chain_port
        command = [
            chains.program("anvil"),
            *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)),
            *("--block-time", str(BLOCK_S), "--gas-limit", "1000000000", "--silent"),
        ]
        return Service("chain", command, lambda: chain.answers(port))

    def connector_service(self, member: int, name: str) -> Service:
        """A connector that runs on its own."""
        service = f"connector/{member}/{name}"
        port = self._ports[service]
        command = [
            *(program(CONNECTORS[name]), "--address", f"127.0.0.1:{port}", "--insecure"),
            *("--data-dir", str(self.member_folder(member) / "connectors" / name)),
        ]
        return Service(service, command, _connects(port))

    def core_service(self, member: int, replica: int) -> Service:
        """A core; writes its configuration."""
        where = f"{member}/{replica}"
        port = self._ports[f"core/{where}"]
        folder = self.member_folder(member)
        postgres = ""
        if self.postgres is not None:
            own = f":{self.postgres_port}/"
            through = f":{self.links[f'database/{where}'].port}/"
            postgres = self.postgres.url(f"member{member}").replace(own, through)
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

    def gateway_service(self, member: int, replica: int) -> Service:
        """A gateway, which reaches all replicas of its member."""
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


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            break
    return found


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
