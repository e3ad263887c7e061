"""`photinus up --in-memory`: a network that keeps nothing, until Ctrl-C or the end of a command."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from photinus_core.app.devnet.in_memory import InMemoryNetwork
from photinus_core.app.devnet.layout import SPARE_ADDRESSES, MemberState
from photinus_core.app.devnet.processes import StartError
from photinus_core.app.logs import LINE_FORM
from photinus_core.app.telling import complain, tell
from photinus_core.ports.tasks import Background

COMMAND_END_S: Final = 10.0
SIGNALLED: Final = 128
"""What shells add to the number of a signal that ended a command."""


async def up(members: int, command: Sequence[str]) -> int:
    """Runs a network until it is told to stop, or a part of it ends, or the command does.

    Args:
        members: How many.
        command: Run with the members' URLs in its environment; its exit code is given. None when empty.
    """
    if command and shutil.which(command[0]) is None:
        message = f"there is no command {command[0]!r}"
        raise StartError(message)
    quiet = bool(command)
    say = (lambda _: None) if quiet else (lambda line: tell(f"· {line}"))
    async with InMemoryNetwork(members, say, _log_to) as network:
        if quiet:
            return await _run(command, network)
        _show(network)
        complain(f"photinus: {await network.first_to_end()} has ended; what was in memory is gone")
    return 1


def _show(network: InMemoryNetwork) -> None:
    import psutil  # noqa: PLC0415 - not before the network is up

    since_s = time.time() - psutil.Process().create_time()
    tell()
    tell(f"The network is up after {since_s:.1f} s.")
    tell()
    for member in network.members:
        tell(f"  {member.org}")
        tell(f"    REST         {member.url}/api/v1")
        tell(f"    API explorer {member.url}/api")
        tell(f"    WebSocket    {member.ws_url}")
        tell(f"    gRPC         {member.grpc_address}")
        tell(f"    second key   {SPARE_ADDRESSES[member.index]}")
    tell(f"  logs           {network.logs}")
    tell()
    tell("Everything is in memory: Ctrl-C ends it and leaves nothing.")


def _log_to(folder: Path) -> None:
    handler = logging.FileHandler(folder / "cores.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter(LINE_FORM))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)


def environment(members: Sequence[MemberState]) -> Mapping[str, str]:
    """What a command learns of the members: `PHOTINUS_URL_0`, `PHOTINUS_WS_0`, `PHOTINUS_API_0`, …."""
    found = {}
    for member in members:
        found[f"PHOTINUS_URL_{member.index}"] = member.url
        found[f"PHOTINUS_WS_{member.index}"] = member.ws_url
        found[f"PHOTINUS_API_{member.index}"] = member.grpc_address
    return found


async def _run(command: Sequence[str], network: InMemoryNetwork) -> int:
    """Runs the command; the end of a part of the network ends it, too."""
    try:
        # Not by asyncio: gRPC's threads run here, and only this way of starting (vfork) bears them.
        process = subprocess.Popen(  # noqa: ASYNC220 - the user's own command; it starts at once
            list(command), env={**os.environ, **environment(network.members)}
        )
    except OSError as failure:
        message = f"{command[0]} cannot be started: {failure.strerror}"
        raise StartError(message) from failure
    outcomes: asyncio.Queue[int | str] = asyncio.Queue(2)

    async def await_command() -> None:
        outcomes.put_nowait(await asyncio.to_thread(process.wait))

    async def await_network() -> None:
        outcomes.put_nowait(await network.first_to_end())

    try:
        async with Background("command") as work:
            work.start("command", await_command())
            work.start("network", await_network())
            match await outcomes.get():
                case int(status):
                    return status if status >= 0 else SIGNALLED - status
                case str(ended):
                    complain(f"photinus: {ended} has ended; what was in memory is gone")
                    return 1
    finally:
        await asyncio.to_thread(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(COMMAND_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
