"""How a connector under test is reached, and what may be done to it: attached by address, or launched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from photinus_sanity import tasks

START_S = 20.0
END_S = 20.0
LOG_LINES_MAX = 50_000
LINE_BYTES_MAX = 1 << 20


_NOT_OURS = "somebody else runs this connector: the suite does not end it"


class UnreachableError(Exception):
    """The connector cannot be reached, or did not start; the text says why."""


class Target(Protocol):
    """A connector under test.

    Attributes:
        address: What to dial; known after `start`.
        restartable: Whether `kill`, `terminate` and a further `start` work.
    """

    address: str
    restartable: bool

    async def start(self) -> None:
        """Makes it dialable. Raises UnreachableError."""

    async def kill(self) -> None:
        """Ends it at once, as a crash would (kill -9)."""

    async def terminate(self) -> int:
        """Asks it to end (SIGTERM) and waits; its exit status."""

    def log(self) -> str:
        """Everything it has printed in all its lives, after the handshake."""

    def twin(self) -> Target | None:
        """Another connector of the same kind with a store of its own; None when there is no way."""

    async def aclose(self) -> None:
        """Ends it for good and takes away what the suite made for it."""


class Attached:
    """A connector somebody else runs: it can be talked to, nothing else.

    Args:
        address: `unix:/path` or `127.0.0.1:port`.
    """

    restartable = False

    def __init__(self, address: str) -> None:
        self.address = address

    async def start(self) -> None:
        return

    async def kill(self) -> None:
        raise UnreachableError(_NOT_OURS)

    async def terminate(self) -> int:
        raise UnreachableError(_NOT_OURS)

    def log(self) -> str:
        return ""

    def twin(self) -> Target | None:
        return None

    async def aclose(self) -> None:
        return


class Launched:
    """A connector the suite starts, as the core would: handshake on standard output, data directory by environment.

    Args:
        command: Program and arguments.
        data_dir: Where its durable store lives; a temporary directory when not given.
        env: Further environment.
        cwd: Where to run it.

    Attributes:
        handshake: The handshake line, read.
        process: The running process.
    """

    restartable = True

    def __init__(
        self,
        command: Sequence[str],
        *,
        data_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = tuple(command)
        self.address = ""
        self.handshake: dict[str, Any] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._env = dict(env or {})
        self._cwd = cwd
        self._temporary = None if data_dir else tempfile.TemporaryDirectory(prefix="sanity-")
        self.data_dir = data_dir or Path(self._temporary.name if self._temporary else "")
        self._lines: deque[str] = deque(maxlen=LOG_LINES_MAX)
        self._readers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        env = {**os.environ, **self._env, "PHOTINUS_LAUNCHED": "1"}
        env["PHOTINUS_DATA_DIR"] = str(self.data_dir)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=env,
                cwd=self._cwd,
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        except OSError as error:
            raise UnreachableError(f"{self.command[0]} cannot be started: {error}") from error
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        errors = tasks.start(self._keep(self.process.stderr), "connector's standard error")
        self._readers = [errors]
        try:
            async with asyncio.timeout(START_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            await self.kill()
            raise UnreachableError(f"No handshake line within {START_S:.0f} s") from None
        self._readers.append(
            tasks.start(self._keep(self.process.stdout), "connector's standard output")
        )
        try:
            self.handshake = json.loads(line)
            self.address = str(self.handshake["address"])
        except (ValueError, TypeError, KeyError):
            await self.kill()
            said = line.decode(errors="replace").strip() or "\n".join(list(self._lines)[-5:])
            raise UnreachableError(
                "The first line on standard output must be the handshake"
                f' {{"handshake":1,"address":…}}, but it said: {said or "nothing"}'
            ) from None

    async def kill(self) -> None:
        await self._signal(signal.SIGKILL)

    async def terminate(self) -> int:
        return await self._signal(signal.SIGTERM)

    async def close_input(self) -> int | None:
        """Closes its standard input, as the death of a core does; its exit status, None when it lives on."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self.process.wait()
                await self._read_to_the_end()
        return self.process.returncode

    def freeze(self) -> None:
        """Stops it in its tracks (SIGSTOP)."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on (SIGCONT)."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def log(self) -> str:
        return "\n".join(self._lines)

    def twin(self) -> Target | None:
        return Launched(self.command, env=self._env, cwd=self._cwd)

    async def aclose(self) -> None:
        if self.process is not None:
            await self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _signal(self, number: signal.Signals) -> int:
        process = self.process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGTERM:
                process.send_signal(number)
            else:
                os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(END_S):
                status = await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            status = -int(signal.SIGKILL)
        await self._read_to_the_end()
        if process.stdin is not None:
            process.stdin.close()
        return status

    async def _read_to_the_end(self) -> None:
        """What was printed last; a grandchild may hold the pipes open, so not for ever."""
        for reader in self._readers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await asyncio.shield(reader)
            await tasks.end(reader)
        self._readers = []

    async def _keep(self, pipe: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await pipe.readline()
            except ValueError:
                continue  # longer than the limit: the reader has dropped it
            if not line:
                return
            self._lines.append(line.decode(errors="replace").rstrip("\n"))
