"""The processes of a development network: started with a log each, watched, and ended together.

Where util-linux is there the kernel ends each child when its parent dies, so that nothing stays behind
even when `photinus up` is killed outright.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

log: Final = logging.getLogger(__name__)

LOG_BYTES_MAX: Final = 50 * 1024 * 1024
"""A log larger than this is moved to `<name>.log.1`; one former log is kept."""
LOG_LOOK_S: Final = 10.0
TERM_WAIT_S: Final = 12.0
KILL_WAIT_S: Final = 5.0


class StartError(Exception):
    """Something of the network did not start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to start.

    Attributes:
        name: For people and for the log's name.
        command: Program and arguments.
        environment: Beside that of this process.
        stop: Signal that asks it to end, sent to itself; SIGTERM goes to what it started, too.
        folder: Where it runs.
        wave: What has a higher one is ended before.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM
    folder: Path | None = None
    wave: int = 0


class Child:
    """One process of the network."""

    def __init__(
        self, program: Program, process: asyncio.subprocess.Process, log_path: Path
    ) -> None:
        self.program = program
        self.log_path = log_path
        self.started_s = time.monotonic()
        self._process = process

    @property
    def name(self) -> str:
        """What it is called."""
        return self.program.name

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Waits for its end; gives the exit code, negative for a signal."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends it with everything it started: asks first, insists later."""
        if self.is_running:
            if self.program.stop is signal.SIGTERM:
                self._signal(signal.SIGTERM)
            else:
                self._process.send_signal(self.program.stop)
            try:
                await asyncio.wait_for(self._process.wait(), TERM_WAIT_S)
            except TimeoutError:
                log.warning("%s does not end; killed", self.name)
        self._signal(signal.SIGKILL)
        await asyncio.wait_for(self._process.wait(), KILL_WAIT_S)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:  # the group is gone and its number is somebody else's
            log.debug("group of %s is gone", self.name)


class Processes:
    """All children, ended in waves."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    @property
    def children(self) -> Sequence[Child]:
        """In order of their start."""
        return self._children

    async def start(self, name: str, command: Sequence[str], wave: int = 0) -> Child:
        """Starts a process; errors as `run`."""
        return await self.run(Program(name, command, wave=wave))

    async def run(self, program: Program) -> Child:
        """Starts a process.

        Raises:
            StartError: the program is not there.
        """
        child = await self._spawn(program)
        self._children.append(child)
        return child

    async def run_again(self, former: Child) -> Child:
        """Starts a process again that has ended, in its former place; errors as `run`."""
        child = await self._spawn(former.program)
        self._children[self._children.index(former)] = child
        return child

    async def _spawn(self, program: Program) -> Child:
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._logs / f"{program.name}.log"
        with path.open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *_ending_with_parent(program.command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **program.environment},
                    cwd=program.folder,
                    start_new_session=True,
                )
            except OSError as failure:
                message = (
                    f"{program.name} cannot be started: {program.command[0]}: {failure.strerror}"
                )
                raise StartError(message) from failure
        return Child(program, process, path)

    async def wait_ready(
        self, child: Child, ready: Callable[[], Awaitable[bool]], timeout_s: float
    ) -> None:
        """Waits until a process serves.

        Raises:
            StartError: it ended, or the time is up; the text has the end of its log.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while child.is_running:
                    if await ready():
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            message = f"{child.name} is not ready after {timeout_s:.0f} s{_tail(child.log_path)}"
            raise StartError(message) from None
        message = f"{child.name} ended at once{_tail(child.log_path)}"
        raise StartError(message)

    def check_all(self) -> None:
        """Sees that everything that was started still runs.

        Raises:
            StartError: something has ended; the text has the end of its log.
        """
        for child in self._children:
            if not child.is_running:
                message = f"{child.name} has ended{_tail(child.log_path)}"
                raise StartError(message)

    async def rotate_logs(self) -> None:
        """Keeps the logs within bounds, until cancelled.

        A process goes on writing to the file it has: what it wrote is copied and cut off. Lines
        written between the two are lost, which a development network can bear.
        """
        while True:
            await asyncio.to_thread(self._rotate)
            await asyncio.sleep(LOG_LOOK_S)

    def _rotate(self) -> None:
        for path in self._logs.glob("*.log"):
            if path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    async def stop_all(self) -> None:
        """Ends everything, wave by wave; never raises."""
        for wave in sorted({child.program.wave for child in self._children}, reverse=True):
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    if child.program.wave == wave:
                        group.create_task(_stop(child))
        self._children.clear()


async def _stop(child: Child) -> None:
    try:
        await child.stop()
    except (TimeoutError, OSError) as failure:
        log.warning("%s could not be ended: %s", child.name, failure)


async def together(*works: Coroutine[object, object, None]) -> None:
    """Starts several things at once; what fails first ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except* StartError as failures:
        first = next(iter(_leaves(failures)))
    else:
        return
    raise first


def _leaves(group: BaseExceptionGroup[StartError]) -> Iterator[StartError]:
    for failure in group.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure


def find_program(name: str, variable: str) -> str:
    """Finds a program: named by a variable, beside this Python, or on the path.

    Raises:
        StartError: it is nowhere.
    """
    named = os.environ.get(variable)
    if named:
        return named
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        message = f"'{name}' is not installed: run `make setup`, or set {variable} to its path"
        raise StartError(message)
    return found


def _tail(path: Path, lines: int = 12) -> str:
    try:
        text = path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return ""
    return f"; {path} ends with:\n  " + "\n  ".join(text) if text else f"; {path} is empty"


def _ending_with_parent(command: Sequence[str]) -> list[str]:
    """The command with SIGTERM when its parent dies, where util-linux can ask the kernel for it.

    We cannot ask between fork and exec: gRPC's threads run here, and the child would crash now and then.
    """
    setpriv = shutil.which("setpriv")
    program = shutil.which(command[0])
    if setpriv is None or program is None:
        return list(command)
    return [
        setpriv,
        "--pdeathsig=TERM",
        "--",
        *only_with_parent(os.getpid()),
        program,
        *command[1:],
    ]


def only_with_parent(parent: int) -> list[str]:
    """Words before a command, behind those that ask the kernel, with which it ends at once if its parent was faster."""
    return ["/bin/sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(parent)]
