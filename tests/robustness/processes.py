"""Processes of a run: started with a log each, signalled by their id, ended together.

Where util-linux is there, the kernel ends them when the harness dies, so that nothing stays behind. (Asking it from
between fork and exec is no way: gRPC's threads run in the harness, and now and then the child crashes there.)
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import psutil
from photinus_core.app.devnet.processes import only_with_parent

READY_S: Final = 60.0
TERM_WAIT_S: Final = 15.0
KILL_WAIT_S: Final = 5.0
POLL_S: Final = 0.1
LOG_LINES_SHOWN: Final = 15

Ready: TypeAlias = Callable[[], Awaitable[bool]]


class NotReadyError(Exception):
    """Something did not start or answer; the text has the end of its log."""


class Running:
    """A process that was started."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its id, which is also that of its group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet; frozen ones are alive."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Waits for its end; gives the exit code, negative for a signal."""
        return await self._process.wait()

    async def end(self) -> None:
        """Ends it and all it started: asks first, insists later."""
        family = descendants(self.pid) if self.is_alive else []
        if self.is_alive:
            send_signal(self.pid, signal.SIGCONT)
            send_signal(self.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(TERM_WAIT_S):
                    await self._process.wait()
            except TimeoutError:
                send_signal(self.pid, signal.SIGKILL)
                await self._process.wait()
        _, left = await asyncio.to_thread(psutil.wait_procs, family, KILL_WAIT_S)
        for process in left:
            send_signal(process.pid, signal.SIGKILL)

    def log_end(self) -> str:
        """The last lines it wrote."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return f"{self._log} ends with:\n  " + "\n  ".join(lines)


async def start(
    name: str, command: Sequence[str], logs: Path, environment: Mapping[str, str] | None = None
) -> Running:
    """Starts a process; its output goes to a log that former starts have written too."""
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{name.replace('/', '-')}.log"
    with path.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *_bound_to_us(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    return Running(process, path)


async def wait_ready(running: Running | None, ready: Ready, what: str) -> None:
    """Waits until something serves.

    Args:
        running: Its process, if an end of it ends the waiting.
        ready: Whether it serves.
        what: For the error.

    Raises:
        NotReadyError: the process ended, or the time is up.
    """
    try:
        async with asyncio.timeout(READY_S):
            while not await ready():
                if running is not None and not running.is_alive:
                    raise NotReadyError(f"{what} ended at once; {running.log_end()}")
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        log = "" if running is None else f"; {running.log_end()}"
        raise NotReadyError(f"{what} is not ready after {READY_S:.0f} s{log}") from None


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signals one process; one that is gone does not mind."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


async def has_ended(pid: int, timeout_s: float) -> bool:
    """Waits until a process, of whomever, is no more; False when the time is up."""
    try:
        async with asyncio.timeout(timeout_s):
            while _runs(pid):
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[psutil.Process]:
    """All that a process has started and that still runs."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found


def _bound_to_us(command: Sequence[str]) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(command)
    return [setpriv, "--pdeathsig=TERM", "--", *only_with_parent(os.getpid()), *command]
