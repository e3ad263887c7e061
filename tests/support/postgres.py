"""A PostgreSQL server of a test run's own, and a fresh database for each test.

The server's programs are looked for on PATH, where Debian keeps them, and where `scripts/setup test`
puts those of a wheel. It listens on a free loopback port, writes to a folder of its own, keeps fsync
on, and ends with the test run, also when that is killed. PostgreSQL refuses to run as root: then it
runs as `nobody`.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

import asyncpg
import pytest
from photinus_core.model.ids import new_uuid
from photinus_core.store import PostgresSettings, PostgresStore

ROOT: Final = Path(__file__).resolve().parents[2]
USER: Final = "photinus"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
UNPRIVILEGED: Final = "nobody"
PROGRAMS: Final = ("initdb", "postgres", "pg_basebackup", "pg_ctl")

_PROVIDED: Final = ROOT / ".toolchain" / "postgres"
_DEBIAN: Final = Path("/usr/lib/postgresql")


_STARTER: Final = ThreadPoolExecutor(1, "postgres")
"""Starts all servers: each ends with the thread that started it, so that must last as long as the run."""


class NoPostgresError(Exception):
    """There is no PostgreSQL here; the text says how to get one."""


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: the newest there is.

    Raises:
        NoPostgresError: none was found.
    """
    candidates = [
        *sorted(_DEBIAN.glob("*/bin"), key=_version_of, reverse=True),
        *sorted(_PROVIDED.glob("lib/python3*/site-packages/*/pginstall/bin")),
    ]
    on_path = shutil.which("initdb")
    if on_path is not None:
        candidates.insert(0, Path(on_path).resolve().parent)
    for folder in candidates:
        if all((folder / name).exists() for name in PROGRAMS):
            return folder
    message = "no PostgreSQL found: run `scripts/setup test`, or `apt-get install postgresql`"
    raise NoPostgresError(message)


def _version_of(folder: Path) -> int:
    found = re.search(r"\d+", folder.parent.name)
    return int(found[0]) if found else 0


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One server; start it, stop it, restart it the hard way.

        with PostgresServer() as server:
            url = server.url("name")

    Args:
        settings: Server settings beyond the defaults, `name=value`.
        port: Where to listen; a free port when 0.
        primary: A running server to be the standby of: a copy of it that follows, and takes no writes
            until `promote`.
    """

    def __init__(
        self, settings: Sequence[str] = (), port: int = 0, primary: PostgresServer | None = None
    ) -> None:
        self._binaries = find_binaries()
        self._settings = tuple(settings)
        self.port = port or free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="photinus-pg-"))
        self.data = self._folder / "data"
        self._primary = primary
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            if self._primary is None:
                self._initialise()
            else:
                self._copy(self._primary)
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, database: str) -> str:
        """URL of a database on this server, whether or not it exists."""
        return f"postgres://{USER}:secret@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the server and returns once it takes connections."""
        command: list[str | Path] = [
            self._binaries / "postgres",
            *("-D", self.data),
            *("-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1"),
            *("-c", "unix_socket_directories="),
            *("-c", "max_connections=200"),
            *("-c", "shared_buffers=64MB"),
            *("-c", "wal_level=replica"),
            *("-c", "log_min_messages=fatal"),
        ]
        for setting in self._settings:
            command += ["-c", setting]
        with (self._folder / "server.log").open("ab") as log:
            self._process = _STARTER.submit(
                subprocess.Popen[bytes],
                self._as_user(command, dies_with_us=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
            ).result()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoPostgresError(f"PostgreSQL did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server: SIGINT fast, SIGQUIT `immediate` (as after a crash)."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def promote(self) -> None:
        """Makes a standby take writes; returns before it does."""
        self._run("pg_ctl", "promote", "-D", self.data, "--no-wait")

    def ensure(self) -> None:
        """Starts the server unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def restart(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """`pg_ctl restart -m immediate`."""
        self.stop(how)
        self.start()

    def close(self) -> None:
        """Stops the server and deletes its data. Idempotent."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """What the server wrote so far."""
        file = self._folder / "server.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _is_ready(self) -> bool:
        # The last line of the file tells; it is there as soon as the postmaster runs.
        file = self.data / "postmaster.pid"
        try:
            return file.read_text().splitlines()[-1].strip() in ("ready", "standby")
        except (OSError, IndexError):
            return False

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text("secret\n")
        if os.geteuid() == 0:
            for path in (self._folder, secret):
                shutil.chown(path, UNPRIVILEGED)
        self._run(
            "initdb",
            *("-D", self.data, "--no-sync", "-U", USER),
            "--encoding=UTF8",
            "--locale=C",
            "--lc-ctype=C.UTF-8",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
        )

    def _copy(self, primary: PostgresServer) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, UNPRIVILEGED)
        source = f"host=127.0.0.1 port={primary.port} user={USER} password=secret"
        self._run(
            "pg_basebackup",
            *("-D", self.data, "-d", source, "--no-sync"),
            "--checkpoint=fast",
            "--write-recovery-conf",
        )

    def _run(self, program: str, *arguments: str | Path) -> None:
        """Runs one of the server's programs to its end."""
        done = subprocess.run(
            self._as_user([self._binaries / program, *arguments]),
            capture_output=True,
            check=False,
            cwd=self._folder,
            timeout=START_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise NoPostgresError(f"{program} failed: {done.stderr.decode(errors='replace')}")

    @staticmethod
    def _as_user(command: Sequence[str | Path], *, dies_with_us: bool = False) -> list[str]:
        words = [str(word) for word in command]
        options = []
        if os.geteuid() == 0:
            options += [f"--reuid={UNPRIVILEGED}", f"--regid={_group()}", "--clear-groups"]
            if not _is_reachable(Path(words[0])):
                # The programs lie below a folder of root's that lets nobody through (/root, say).
                options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        if dies_with_us:
            options.append("--pdeathsig=INT")
        return ["setpriv", *options, "--", *words] if options else words


def _is_reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.absolute().parents)


def _group() -> int:
    return pwd.getpwnam(UNPRIVILEGED).pw_gid


async def create_database(server: PostgresServer, name: str) -> str:
    """Makes an empty database; gives its URL."""
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return server.url(name)


async def empty_database(url: str) -> None:
    """Ends all sessions of a database, deletes all rows and lets sequences begin again."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables "
            "WHERE schemaname = 'public' AND tablename <> 'schema_migrations'"
        )
        deletions = [f"DELETE FROM {row[0]}" for row in rows]
        restart = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
        await connection.execute("; ".join([*deletions, restart]))
    finally:
        await connection.close()


async def drop_database(server: PostgresServer, name: str) -> None:
    """Drops a database with all its connections."""
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def wait_until_ready(server: PostgresServer, timeout_s: float = START_TIMEOUT_S) -> None:
    """Waits until the server takes connections."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                connection = await asyncpg.connect(server.url("postgres"), timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the test run; tests that stop or restart it take `postgres_restarting`."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_restarting(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The server, for a test that stops it; runs again afterwards."""
    yield postgres_server
    postgres_server.ensure()


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> str:
    """URL of a database with the core's tables, which tests use one after the other."""

    async def make() -> str:
        url = await create_database(postgres_server, "photinus_tests")
        store = await PostgresStore.open(PostgresSettings(url))
        await store.aclose()
        return url

    return asyncio.run(make())


@pytest.fixture
async def postgres_url(postgres_database: str) -> str:
    """URL of a database with the core's tables, all empty.

    Emptying one costs 10 ms, making one half a second.
    """
    await empty_database(postgres_database)
    return postgres_database


@pytest.fixture
async def postgres_new_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """URL of a new database without tables, for tests that change the schema."""
    name = f"test_{new_uuid().replace('-', '')}"
    yield await create_database(postgres_server, name)
    await drop_database(postgres_server, name)
