"""The IPFS test node as a process, and storages that talk to it."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from photinus_ipfs.kubo import KuboStorage
from photinus_ipfs.settings import HttpService

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "tests" / "support" / "ipfs_node"
PROGRAM = ROOT / "build" / "ipfs-node"
BUILD_LIMIT_S = 600
STOP_LIMIT_S = 10


@dataclass(frozen=True)
class Node:
    """A running node: the addresses of its two services, and its process."""

    rpc: str
    gateway: str
    process: "subprocess.Popen[bytes]"


def built() -> Path:
    """The node's program, built anew only when its sources are newer."""
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir() if path.suffix != ".md")
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest:
        PROGRAM.parent.mkdir(exist_ok=True)
        own = PROGRAM.with_suffix(f".{os.getpid()}")
        command = ["go", "build", "-buildvcs=false", "-trimpath", "-o", str(own), "."]
        subprocess.run(command, cwd=SOURCES, check=True, timeout=BUILD_LIMIT_S)
        own.replace(PROGRAM)
    return PROGRAM


def start_node() -> Node:
    process = subprocess.Popen([built()], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    addresses = json.loads(process.stdout.readline())
    return Node(addresses["rpc"], addresses["gateway"], process)


def stop_node(node: Node) -> None:
    node.process.terminate()
    node.process.wait(STOP_LIMIT_S)
    assert node.process.stdout is not None
    node.process.stdout.close()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """One node for all tests; what they store does not disturb each other."""
    running = start_node()
    yield running
    stop_node(running)


@pytest.fixture
def mortal_node() -> Iterator[Node]:
    """A node of the test's own, which may end it."""
    running = start_node()
    yield running
    stop_node(running)


def storage_of(
    rpc: str, gateway: str = "", *, max_bytes: int = 1 << 30, timeout_s: float = 10.0
) -> KuboStorage:
    return KuboStorage(
        HttpService(url=f"http://{rpc}"),
        HttpService(url=f"http://{gateway}") if gateway else None,
        timeout_s=timeout_s,
        max_bytes=max_bytes,
    )


@pytest.fixture(params=["rpc", "gateway"])
async def kubo(node: Node, request: pytest.FixtureRequest) -> AsyncIterator[KuboStorage]:
    """A storage that reads by the RPC API, and one that reads by the gateway."""
    storage = storage_of(node.rpc, node.gateway if request.param == "gateway" else "")
    yield storage
    await storage.aclose()
