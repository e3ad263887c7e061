"""A real ZooKeeper of a test's own: a child process on a loopback port, which can be killed, restarted and frozen.

    with ZooKeeperServer.started(tmp_path) as server:
        settings = EnsembleSettings(server.hosts, ...)
        server.kill()
        await asyncio.to_thread(server.start)

`ZooKeeperEnsemble` is three of them that vote.

The program is the one that the set-up provides (`zookeeper-server`); its data survive a restart.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".toolchain" / "bin" / "zookeeper-server"
JVM = "-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
START_S = 60.0
ENSEMBLE_SIZE = 3
POLL_S = 0.02
TICK_MS = 400
SESSION_MIN_S = 0.8
SESSION_MAX_S = 30.0
"""Long enough for a server to be started again on a busy machine."""


class ZooKeeperServer:
    """One server, stopped and started at will.

    Args:
        folder: Where its configuration, data and log are.
        extra: More lines of its configuration; with `secureClientPort={port}` it serves TLS alone.
        jvm: More options of its Java.
    """

    def __init__(self, folder: Path, extra: str = "", jvm: str = "") -> None:
        self.folder = folder
        self.port = _free_port()
        self.hosts = f"127.0.0.1:{self.port}"
        self._extra = extra
        self._jvm = jvm
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def started(cls, folder: Path, extra: str = "", jvm: str = "") -> Iterator[ZooKeeperServer]:
        """A running server, killed at the end."""
        server = cls(folder, extra, jvm)
        try:
            server.start()
            yield server
        finally:
            server.kill()

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    def start(self) -> None:
        """Starts it and waits until it serves; what was stored before is there again. Blocks."""
        self.launch()
        self.wait_serving()

    def launch(self) -> None:
        """Starts it."""
        assert self._process is None
        program = str(PROGRAM) if PROGRAM.exists() else shutil.which("zookeeper-server")
        assert program is not None, "no zookeeper-server: run scripts/setup test"
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "zoo.cfg"
        config.write_text(self._config())
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ZOOKEEPER_JVM": f"{JVM} {self._jvm}"},
                start_new_session=True,
            )

    def wait_serving(self) -> None:
        """Waits until it serves: one of several does when most of them run. Blocks."""
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while not self._serves():
            output = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(POLL_S)

    def kill(self) -> None:
        """Kills it (SIGKILL) and waits until it is gone. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def freeze(self) -> None:
        """Stops its process (SIGSTOP): connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen process go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _config(self) -> str:
        plain = f"clientPort={self.port}\nclientPortAddress=127.0.0.1\n"
        return (
            f"tickTime={TICK_MS}\nminSessionTimeout={SESSION_MIN_S * 1000:.0f}\n"
            f"maxSessionTimeout={SESSION_MAX_S * 1000:.0f}\ndataDir={self.folder / 'data'}\nadmin.enableServer=false\n"
            f"4lw.commands.whitelist=srvr,cons\n{'' if self._is_secure else plain}"
            f"{self._extra.format(port=self.port)}\n"
        )

    @property
    def _is_secure(self) -> bool:
        return "secureClientPort" in self._extra

    def _serves(self) -> bool:
        if not self._is_secure:
            return "Mode:" in self.told("srvr")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def told(self, word: str) -> str:
        """What it answers to one of ZooKeeper's four-letter words; empty when nothing."""
        said = b""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(word.encode())
                while more := probe.recv(4096):
                    said += more
        except OSError:
            return ""
        return said.decode()


class ZooKeeperEnsemble:
    """Three servers, of which two make decisions. Which of them leads is theirs to say.

    Args:
        folder: Where each has a folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        numbers = range(1, ENSEMBLE_SIZE + 1)
        voting = [f"server.{n}=127.0.0.1:{_free_port()}:{_free_port()}" for n in numbers]
        votes = "\n".join(["initLimit=50", "syncLimit=25", *voting])
        self.servers = [ZooKeeperServer(folder / f"server{n}", votes) for n in numbers]
        for number, server in zip(numbers, self.servers, strict=True):
            data = server.folder / "data"
            data.mkdir(parents=True)
            (data / "myid").write_text(f"{number}\n")
        self.hosts = ",".join(server.hosts for server in self.servers)

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[ZooKeeperEnsemble]:
        """Running servers, killed at the end."""
        ensemble = cls(folder)
        try:
            for server in ensemble.servers:
                server.launch()
            for server in ensemble.servers:
                server.wait_serving()
            yield ensemble
        finally:
            for server in ensemble.servers:
                server.kill()

    def leader(self) -> ZooKeeperServer:
        """The server that leads the others; waits until one does. Blocks."""
        deadline = time.monotonic() + START_S
        while True:
            running = [s for s in self.servers if s.is_running]
            found = [s for s in running if "Mode: leader" in s.told("srvr")]
            if len(found) == 1:
                return found[0]
            assert time.monotonic() < deadline, "no server leads"
            time.sleep(POLL_S)

    def holder(self, session: str) -> ZooKeeperServer | None:
        """The server that a session, by its number in hexadecimal, is connected to, if any."""
        word = f"sid=0x{session.lstrip('0')},"
        return next((s for s in self.servers if s.is_running and word in s.told("cons")), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
