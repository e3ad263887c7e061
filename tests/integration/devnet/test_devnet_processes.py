"""Goal: the processes of a development network start whatever else the starting process does.

Method: real processes, started while gRPC's threads are busy in this one, as they are when one replica is
started and others are asked whether they serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import grpc
import psutil
from photinus_core.app.devnet.processes import Processes, Program, only_with_parent

from tests.support.rest import wait_until

STARTS: Final = 40
CHANNELS: Final = 3
LIMIT_S: Final = 60.0
_PARENT: Final = """
import asyncio, sys
from pathlib import Path
from photinus_core.app.devnet.processes import Processes, Program
async def main():
    child = await Processes(Path(sys.argv[1])).run(Program("sleeper", ["sleep", "300"]))
    print(child.pid, flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


async def test_starts_while_grpc_is_busy(tmp_path: Path) -> None:
    """Found by the robustness tests: a fork with code of ours before the exec crashed one time in five."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def ask(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/no/body")
        return method(b"")

    async def chat(number: int) -> None:
        options = [("photinus.number", number)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await ask(channel)

    chats = [asyncio.create_task(chat(number)) for number in range(CHANNELS)]
    processes = Processes(tmp_path)
    async with asyncio.timeout(LIMIT_S):
        children = [await processes.run(Program(f"p{n}", ["true"])) for n in range(STARTS)]
        codes = [await child.wait() for child in children]
    for task in chats:
        task.cancel()
    await asyncio.wait(chats)
    await server.stop(None)
    assert codes == [0] * STARTS


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_child_whose_parent_was_faster_does_not_begin() -> None:
    """A parent that dies before its child asked the kernel for a signal at its death is not missed by that."""
    for parent, output in ((os.getpid(), b"two words\n"), (1, b"")):
        command = [*only_with_parent(parent), "echo", "two words"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=LIMIT_S)
        assert (done.stdout, done.returncode != 0) == (output, not output)
