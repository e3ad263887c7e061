"""One member to measure: its database, the in-memory connectors, a core and a gateway, as processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from photinus_core.app.devnet.processes import find_program

from tests.support.postgres import PostgresServer, create_database
from tests.support.rest import Rest
from tests.support.solo import running

POSTGRES_SETTINGS: Final = ("shared_buffers=512MB",)
KEY: Final = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
CONTRACT: Final = "0x000000000000000000000000000000000000f1f1"
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where the member is kept.

    Attributes:
        folder: Everything of it.
        database: URL of a PostgreSQL database, or path of a file of SQLite.
        pids: The processes that were there before it.
    """

    folder: Path
    database: str
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Node(Rest):
    """The member, running.

    Attributes:
        address: Base URL of its gateway.
        grpc_address: Where its core serves gRPC.
        pids: Its processes, by role.
    """

    address: str
    grpc_address: str
    pids: Mapping[str, int]

    @property
    def url(self) -> str:
        return self.address

    @property
    def host(self) -> str:
        """The gateway's host and port."""
        return self.address.removeprefix("http://")

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far of each process and what it started."""
        return {role: _cpu_s(pid) for role, pid in self.pids.items()}

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of core and gateway."""
        return {
            role: round(psutil.Process(self.pids[role]).memory_info().rss / MIB, 1)
            for role in ("core", "gateway")
        }


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


@contextmanager
def place_for(kind: str, folder: Path) -> Iterator[Place]:
    """Makes an empty database, and starts what a member needs around it.

    Args:
        kind: `postgres` or `sqlite`.
        folder: Of mode 0700, for everything.
    """
    memory = [find_program("photinus-memory", "PHOTINUS_MEMORY")]
    memory += ["--address", f"unix:{folder / 'memory.sock'}"]
    with ExitStack() as stack:
        stack.enter_context(running(memory, folder / "memory.log"))
        if kind == "sqlite":
            yield Place(folder, str(folder / "core.db"), {})
            return
        server = stack.enter_context(PostgresServer(POSTGRES_SETTINGS))
        url = asyncio.run(create_database(server, "bench"))
        yield Place(folder, url, {"database": server.pid})


@contextmanager
def node_at(place: Place) -> Iterator[Node]:
    """Runs the member of a place."""
    folder = place.folder
    socket = f"unix:{folder / 'core.sock'}"
    path = folder / "photinus.core.yaml"
    path.write_text(yaml.safe_dump(_config(place, socket), sort_keys=False))
    core = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(path)]
    gateway = [find_program("photinus-gateway", "PHOTINUS_GATEWAY")]
    gateway += ["-listen", "127.0.0.1:0", "-core", socket]
    with (
        running(core, folder / "core.log") as serving,
        running(gateway, folder / "gateway.log", subprocess.PIPE) as passing,
    ):
        assert passing.stdout is not None
        address = passing.stdout.readline().decode().strip()
        yield Node(address, socket, {"core": serving.pid, "gateway": passing.pid, **place.pids})


def _config(place: Place, socket: str) -> dict[str, Any]:
    if "://" in place.database:
        database = {"type": "postgres", "postgres": {"url": place.database}}
    else:
        database = {"type": "sqlite3", "sqlite3": {"url": place.database}}
    plugins: dict[str, Any] = {
        kind: [
            {
                "name": f"{kind}0",
                "type": "memory",
                "connector": {"address": f"unix:{place.folder / 'memory.sock'}", "instance": kind},
                "memory": {"member": "org_0", "keys": [KEY], "contract": CONTRACT},
            }
        ]
        for kind in ("blockchain", "dataexchange", "sharedstorage")
    }
    multiparty = {
        "enabled": True,
        "networkNamespace": "default",
        "org": {"name": "org_0", "key": KEY},
        "node": {"name": "node_0"},
        "contract": [{"location": {"address": CONTRACT}, "firstEvent": "oldest"}],
    }
    return {
        "grpc": {"address": socket},
        "plugins": {"database": [{"name": "database0", **database}], **plugins},
        "namespaces": {
            "default": "default",
            "predefined": [{"name": "default", "defaultKey": KEY, "multiparty": multiparty}],
        },
    }
