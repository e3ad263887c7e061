"""A node with a configuration of the test's own: one core and one gateway, as processes.

What it is connected to is the test's business: connectors are launched by the core, or attached by
address and started with `connector`, so that a test can have one be absent.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from photinus_core.app.devnet.processes import find_program

from tests.support.rest import Rest

STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Solo(Rest):
    """A running node.

    Attributes:
        address: Base URL of its gateway.
        grpc_address: Where its core serves gRPC.
        folder: Its configuration, databases and logs.
    """

    address: str
    grpc_address: str
    folder: Path

    @property
    def url(self) -> str:
        return self.address


@contextmanager
def node_up(folder: Path, config: Mapping[str, Any]) -> Iterator[Solo]:
    """Runs a core with a configuration, and a gateway for it, on free ports."""
    socket = f"unix:{folder / 'core.sock'}"
    path = folder / "photinus.core.yaml"
    path.write_text(yaml.safe_dump({"grpc": {"address": socket}, **config}, sort_keys=False))
    core = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(path)]
    gateway = [
        find_program("photinus-gateway", "PHOTINUS_GATEWAY"),
        "-listen",
        "127.0.0.1:0",
        "-core",
        socket,
    ]
    with ExitStack() as stack:
        stack.enter_context(running(core, folder / "core.log"))
        process = stack.enter_context(running(gateway, folder / "gateway.log", subprocess.PIPE))
        assert process.stdout is not None
        yield Solo(process.stdout.readline().decode().strip(), socket, folder)


@contextmanager
def connector(name: str, folder: Path, socket: Path) -> Iterator[None]:
    """Runs one of our connectors where a core attaches to it.

    Args:
        name: Its program, `photinus-ipfs`.
        folder: Its data and its log.
        socket: Where it listens; in a folder of mode 0700.
    """
    data = folder / name
    command = [program(name), "--address", f"unix:{socket}", "--data-dir", str(data)]
    with running(command, folder / f"{name}.log"):
        yield


@contextmanager
def running(
    command: list[str], log: Path, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program until the block is left; it must end when it is told to."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def program(name: str) -> str:
    """A program of the environment that the tests run in."""
    return str(Path(sys.executable).parent / name)
