"""Where a development network keeps its things, and what is remembered between two starts."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from photinus_core.app.devnet.processes import StartError

FIRST_PORT: Final = 5000
PORT_STEP: Final = 100
PORTS_TRIED: Final = 50
STATE_FILE: Final = "network.json"
FRESH: Final = "`photinus up --fresh`"

# The first of anvil's well-known development keys, one for each member; public on purpose.
DEV_KEYS: Final = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
)
DEV_ADDRESSES: Final = (
    "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
    "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
    "0x90f79bf6eb2c4f870365e785982e1f101e93b906",
    "0x15d34aaf54267db7d7c367839aaf71a00a2c6a65",
    "0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
    "0x976ea74026e726554db657fa54763abd0c3a0aa9",
    "0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
)
# The next ones: a second key for each member, to register a child organisation or a custom identity.
SPARE_KEYS: Final = (
    "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    "f214f2b2cd398c806f84e317254e0f0b801d0643303237d97a22a48e01628897",
    "701b615bbdfb9de65240bc28bd21bbc0d996645a3dd57e7b12bc2bdf6f192c82",
    "a267530f49f8280200edf313ee7af6b827f2a8bce2897751d06a843f644967b1",
    "47c99abed3324a2707c28affff1267e45918ec8c3f20b8aa892e8b065d2942dd",
    "c526ee95bf44d8fc405a158bb884d9d1238d99f0612e9f33d006bb0789009aaa",
    "8166f546bab6da521a8369cab06c5d2b9e46670292d85c875ee9ec20e84ffb61",
)
SPARE_ADDRESSES: Final = (
    "0x23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f",
    "0xa0ee7a142d267c1f36714e4a8f75612f20a79720",
    "0xbcd4042de499d14e55001ccbb24a551f3b954096",
    "0x71be63f3384f5fb98995898a86b02fb2426c5788",
    "0xfabb0ac9d68b0b445fb7357272ff202c5651694a",
    "0x1cbd3b2770909d4e10f157cabc84c7264073c9ec",
    "0xdf3e18d64bc6a983f673ab319ccae4f1a57c7097",
    "0xcd3b766ccdd6ae721141f452c550ca635964ce71",
)
MEMBERS_MAX: Final = len(DEV_KEYS)


class MemberState(msgspec.Struct, frozen=True):
    """One member's place."""

    index: int
    http_port: int
    grpc_port: int
    dx_port: int
    more_grpc_ports: tuple[int, ...] = ()
    """Of the replicas behind the first one."""
    connector_ports: tuple[int, ...] = ()
    """Of connectors that run on their own; empty where the core launches them."""

    @property
    def org(self) -> str:
        """Name of its organisation."""
        return f"org_{self.index}"

    @property
    def node(self) -> str:
        """Name of its node."""
        return f"node_{self.index}"

    @property
    def url(self) -> str:
        """Where its gateway is; REST paths begin with `/api/v1`."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def ws_url(self) -> str:
        """Where applications listen."""
        return f"ws://127.0.0.1:{self.http_port}/ws"

    @property
    def grpc_address(self) -> str:
        """Where its core serves gRPC; of several replicas, the first."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def grpc_addresses(self) -> tuple[str, ...]:
        """Where all its replicas serve gRPC."""
        return tuple(f"127.0.0.1:{port}" for port in (self.grpc_port, *self.more_grpc_ports))

    @property
    def ports(self) -> tuple[int, ...]:
        """All ports it listens on."""
        own = (self.http_port, self.grpc_port, self.dx_port)
        return (*own, *self.more_grpc_ports, *self.connector_ports)


class ClusterState(msgspec.Struct, frozen=True):
    """What the replicas of the members share.

    Attributes:
        id: Names the databases and chroots of this network, so that others may use the same servers.
        replicas: Replicas of each member.
        postgres: URL of a database on the server, from which the members' are made.
        zookeeper: Hosts of the ensemble; empty while one replica leads without asking anybody.
        postgres_port: Where our own server listens; 0 when it is somebody else's.
        zookeeper_port: Likewise.
    """

    id: str
    replicas: int
    postgres: str
    zookeeper: str = ""
    postgres_port: int = 0
    zookeeper_port: int = 0

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports of our own servers."""
        return tuple(port for port in (self.postgres_port, self.zookeeper_port) if port)


class NetworkState(msgspec.Struct, frozen=True):
    """What a network is made of; written once, so that a later start finds the same."""

    chain_port: int
    contract: str
    members: tuple[MemberState, ...]
    cluster: ClusterState | None = None
    """None when each member keeps its things in an SQLite file."""

    @property
    def ports(self) -> tuple[int, ...]:
        """All ports of the network."""
        shared = () if self.cluster is None else self.cluster.ports
        return (self.chain_port, *shared, *(port for m in self.members for port in m.ports))


@dataclass(frozen=True, slots=True)
class Layout:
    """Folders and files below `--dir`."""

    root: Path

    @property
    def chain(self) -> Path:
        """State of the chain."""
        return self.root / "chain"

    @property
    def chain_state(self) -> Path:
        """Anvil's own dump."""
        return self.chain / "state.json"

    @property
    def content(self) -> Path:
        """Shared storage of all members of this machine."""
        return self.root / "content"

    @property
    def plugins(self) -> Path:
        """What a user gave in place of plugins of ours."""
        return self.root / "plugins.yaml"

    @property
    def logs(self) -> Path:
        """Logs of all processes."""
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        """Our own PostgreSQL server."""
        return self.root / "postgres"

    @property
    def zookeeper(self) -> Path:
        """Our own ZooKeeper server."""
        return self.root / "zookeeper"

    @property
    def lock(self) -> Path:
        """Held by the `up` that runs; holds its process id."""
        return self.root / "up.pid"

    def member(self, index: int) -> Path:
        """Everything of one member."""
        return self.root / f"member{index}"

    def entries(self) -> list[Path]:
        """Everything of the network that is there, the lock apart."""
        servers = (self.chain, self.postgres, self.zookeeper)
        places = (
            *servers,
            self.content,
            self.plugins,
            self.logs,
            *self.root.glob(f"{STATE_FILE}*"),
        )
        members = (self.member(index) for index in range(MEMBERS_MAX))
        return [place for place in (*places, *members) if place.exists()]

    def load(self) -> NetworkState | None:
        """What was written before; None for a new folder.

        Raises:
            StartError: it cannot be read.
        """
        path = self.root / STATE_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=NetworkState)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as failure:
            message = f"{path} is damaged ({failure}); start over with {FRESH}"
            raise StartError(message) from failure

    def save(self, state: NetworkState) -> None:
        """Remembers what the network is made of; whole or not at all."""
        part = self.root / f"{STATE_FILE}.part"
        part.touch(mode=0o600)  # it may hold the database's password
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(state)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.root / STATE_FILE)


@asynccontextmanager
async def ports_lock() -> AsyncIterator[None]:
    """Keeps two networks that start at once from choosing the same ports."""
    path = Path(tempfile.gettempdir()) / f"photinus-ports-{os.getuid()}.lock"
    with path.open("a") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield


def free_port(wanted: int, taken: set[int]) -> int:
    """The wanted port, or a later one when it is in use; adds it to `taken`.

    Raises:
        OSError: none of the next ones is free.
    """
    for port in range(wanted, wanted + PORTS_TRIED):
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    message = f"none of the ports {wanted} to {wanted + PORTS_TRIED - 1} is free"
    raise OSError(message)


def is_free(port: int) -> bool:
    """Whether nobody listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def new_members(
    count: int, taken: set[int], replicas: int = 1, connectors: int = 0
) -> tuple[MemberState, ...]:
    """Gives each member its ports: 5000, 5100, … for REST, those behind for everything else."""
    made = []
    for index in range(count):
        base = FIRST_PORT + PORT_STEP * index
        made.append(
            MemberState(
                index=index,
                http_port=free_port(base, taken),
                grpc_port=free_port(base + 1, taken),
                dx_port=free_port(base + 2, taken),
                more_grpc_ports=tuple(free_port(base + 3, taken) for _ in range(replicas - 1)),
                connector_ports=tuple(free_port(base + 20, taken) for _ in range(connectors)),
            )
        )
    return tuple(made)
