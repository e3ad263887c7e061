"""A whole network for tests: `photinus up` as a process of its own, and its members over REST."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil
from photinus_core.app.devnet.layout import Layout, MemberState

from tests.support.rest import Rest, wait_until

START_S: Final = 120.0
STOP_S: Final = 60.0


class Member(MemberState, Rest, frozen=True, kw_only=True):
    """One member of a running network, over REST."""

    folder: Path
    """Its configuration and databases."""


@dataclass(frozen=True, slots=True)
class RunningNetwork:
    """A network that is up.

    Attributes:
        members: Its members, in order.
        chain_url: JSON-RPC of its chain.
        contract: Address of the multiparty contract.
        folder: Its `--dir`; `logs` below has a file for each process.
        pid: Process of `photinus up`.
    """

    members: tuple[Member, ...]
    chain_url: str
    contract: str
    folder: Path
    pid: int


@contextmanager
def network_up(folder: Path, members: int = 2, *arguments: str) -> Iterator[RunningNetwork]:
    """Runs `photinus up` on a folder; on leaving it is ended, and nothing of it may stay behind."""
    output = folder.with_name(f"{folder.name}.up.log")
    command = [sys.executable, "-m", "photinus_core.app.cli", "up", "--dir", str(folder)]
    with output.open("ab") as file:
        earlier = file.tell()  # what former runs on this folder have said
        process = subprocess.Popen(
            [*command, "--members", str(members), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        _wait_up(process, output, earlier)
        yield _read(folder, process.pid)
    finally:
        _end(process)


def _wait_up(process: subprocess.Popen[bytes], output: Path, earlier: int) -> None:
    def is_up() -> bool:
        text = output.read_bytes()[earlier:].decode(errors="replace")
        if process.poll() is not None:
            raise AssertionError(f"`photinus up` ended with {process.returncode}:\n{text}")
        return "Ctrl-C ends it" in text

    wait_until(is_up, START_S, lambda: f"the network is not up:\n{output.read_text()}")


def _read(folder: Path, pid: int) -> RunningNetwork:
    layout = Layout(folder)
    state = layout.load()
    assert state is not None
    members = tuple(
        Member(**msgspec.structs.asdict(each), folder=layout.member(each.index))
        for each in state.members
    )
    chain_url = f"http://127.0.0.1:{state.chain_port}"
    return RunningNetwork(members, chain_url, state.contract, folder, pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command as Ctrl-C would; what it leaves behind is ended too, and is a failure."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    left = [child for child in children if child.is_running()]
    names = [f"{child.pid} {child.name()}" for child in left]
    for child in left:
        child.kill()
    assert not left, f"`photinus up` left processes behind: {names}"
