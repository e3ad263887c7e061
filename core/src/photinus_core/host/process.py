"""A launched connector: started, listened to, and ended with everything it started itself.

The child gets a small environment, its own process group, and a standard input that closes when
the core is gone. Its first line on standard output is the handshake; all else goes to our log, without
the connector's secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from photinus_core.host.one_time_tls import OneTimeTls, remove
from photinus_core.host.secrets import Redactor
from photinus_core.model.errors import PhotinusError, Unavailable
from photinus_core.ports import tracing
from photinus_core.ports.tasks import Background

HANDSHAKE_WAIT_S: Final = 20.0
TERM_WAIT_S: Final = 5.0
"""From SIGTERM to SIGKILL."""
KILL_WAIT_S: Final = 5.0
LINE_BYTES_MAX: Final = 64 << 10
LINES_A_SECOND_MAX: Final = 1000
"""What is printed beyond is dropped, so that one connector does not fill the log of all."""
SHOWN_CHARS_MAX: Final = 200
TLS_FOLDER: Final = ".one-time-tls"
"""In the connector's data directory, under a name that no instance can have."""
PROTOCOL: Final = "v1"

_PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_FIELDS: Final = frozenset({"exception", "error_id", "httpreq", "trace_id", "span_id"})
"""What is taken over of a connector's lines beside level and text."""
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class ChildProcess:
    """One run of a connector's command. Make it with `launch`."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        tls: OneTimeTls,
        redactor: Redactor,
    ) -> None:
        self._name = name
        self._process = process
        self._redactor = redactor
        self._log = logging.getLogger(f"photinus.connector.{name}")
        self._pumps: list[asyncio.Task[None]] = []
        self._was_ended = False
        self.tls = tls
        self.address = ""
        self.serves_tls = False

    @classmethod
    async def launch(
        cls,
        name: str,
        command: tuple[str, ...],
        data_dir: Path,
        work: Background,
        redactor: Redactor,
    ) -> ChildProcess:
        """Starts the command and waits for its handshake.

        Args:
            name: Name of the instance, for logs and errors.
            command: Program and arguments; no shell.
            data_dir: Where the connector may keep what must outlive it.
            work: Runs the tasks that carry its output to the log.
            redactor: Knows the connector's secrets, once it is configured.

        Raises:
            Unavailable: FF19206, it cannot be started or said something else than a handshake.
        """
        await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        environment |= _tracing_environment()
        environment |= {"PHOTINUS_LAUNCHED": "1", "PHOTINUS_DATA_DIR": str(data_dir)}
        tls = await asyncio.to_thread(OneTimeTls.make)
        try:
            environment |= await asyncio.to_thread(tls.hand_over, data_dir / TLS_FOLDER)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        except (OSError, ValueError) as error:
            raise Unavailable("FF19206", name, f"{' '.join(command)}: {error}") from error
        child = cls(name, process, tls, redactor)
        try:
            await child._begin(work)
        except BaseException:
            await child.end()
            raise
        finally:
            await asyncio.to_thread(remove, data_dir / TLS_FOLDER)
        return child

    @property
    def pid(self) -> int:
        """Process id; also the id of its group."""
        return self._process.pid

    async def end(self, *, at_once: bool = False) -> None:
        """Ends the process and its group: SIGTERM, after `TERM_WAIT_S` SIGKILL. Idempotent.

        Args:
            at_once: Leaves SIGTERM out, for a process that would not notice.
        """
        if self._process.returncode is None:
            self._was_ended = True
        if self._process.returncode is None and not at_once:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(TERM_WAIT_S):
                    await self._process.wait()
            except TimeoutError:
                self._log.warning("did not end within %.0f s; killed", TERM_WAIT_S)
        # Also when the process itself is gone: what it started is in its group.
        self._signal(signal.SIGKILL)
        await self._process.wait()
        for pump in self._pumps:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_WAIT_S):
                    await asyncio.wait([pump])
            pump.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def ended_by_itself(self) -> bool:
        """Whether it has ended, and nobody here asked for it."""
        return self._process.returncode is not None and not self._was_ended

    def outcome(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        if code is None:
            return "the process runs"
        if code < 0:
            return f"the process was ended by {signal.Signals(-code).name}"
        return f"the process ended with status {code}"

    async def wait(self) -> None:
        """Returns when the process has ended."""
        await self._process.wait()

    async def _begin(self, work: Background) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._pumps.append(work.start(f"stderr {self.pid}", self._pump(self._process.stderr)))
        try:
            async with asyncio.timeout(HANDSHAKE_WAIT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self._failed(f"no handshake within {HANDSHAKE_WAIT_S:.0f} s") from None
        except ValueError:
            raise self._failed("its first line is longer than a handshake") from None
        if not line:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_WAIT_S):
                    await self._process.wait()
            raise self._failed(f"{self.outcome()}; see the log")
        self.address = self._address(line)
        self._pumps.append(work.start(f"stdout {self.pid}", self._pump(self._process.stdout)))

    def _address(self, line: bytes) -> str:
        try:
            handshake: Any = json.loads(line)
        except (ValueError, RecursionError):
            handshake = None
        if not isinstance(handshake, dict) or handshake.get("handshake") != 1:
            shown = line[:SHOWN_CHARS_MAX].decode(errors="replace").strip()
            raise self._failed(f"its first line is no handshake: {shown}")
        protocols = handshake.get("protocol")
        if not isinstance(protocols, list) or PROTOCOL not in protocols:
            raise Unavailable("FF19211", self._name, PROTOCOL)
        address = handshake.get("address")
        if not isinstance(address, str) or not address:
            raise self._failed("its handshake names no address")
        self.serves_tls = handshake.get("tls") is True
        return address

    def _failed(self, reason: str) -> PhotinusError:
        return Unavailable("FF19206", self._name, reason)

    async def _pump(self, pipe: asyncio.StreamReader) -> None:
        """Carries the child's lines to our log, for as long as there are any."""
        loop = asyncio.get_running_loop()
        second, count = loop.time(), 0
        while True:
            try:
                line = await pipe.readline()
            except ValueError:
                # Longer than the limit: the reader has dropped what it held of it.
                self._log.warning("a line longer than %d bytes was dropped", LINE_BYTES_MAX)
                continue
            if loop.time() >= second + 1 or not line:
                if count > LINES_A_SECOND_MAX:
                    dropped = count - LINES_A_SECOND_MAX
                    self._log.warning("%d lines were dropped: too many in a second", dropped)
                second, count = loop.time(), 0
            if not line:
                return
            count += 1
            if count > LINES_A_SECOND_MAX:
                continue
            level, message, extra = _parsed(line.decode(errors="replace").rstrip())
            clean = self._redactor.clean
            extra = {key: clean(value) for key, value in extra.items()}
            self._log.log(level, "%s", clean(message), extra={"connector": self._name, **extra})

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _tracing_environment() -> dict[str, str]:
    """Where spans go, for a connector of a core that records some; it has a name of its own."""
    if tracing.tracer() is tracing.UNTRACED:
        return {}
    return {
        key: value
        for key, value in os.environ.items()
        if key.startswith("OTEL_") and key != "OTEL_SERVICE_NAME"
    }


def _parsed(line: str) -> tuple[int, str, Mapping[str, str]]:
    """Level, text and fields of a line; connectors of the kit log JSON, others anything."""
    try:
        entry = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or "message" not in entry:
        return logging.INFO, line, {}
    fields = {key: str(value) for key, value in entry.items() if key in _FIELDS}
    return _LEVELS.get(str(entry.get("level")), logging.INFO), str(entry["message"]), fields
