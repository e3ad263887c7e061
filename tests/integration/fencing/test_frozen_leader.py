"""A leader that was frozen past its session, in the middle of any kind of its work, writes nothing more.

Method: for each kind of leader work a process wins the namespace (a real ZooKeeper, a real PostgreSQL)
and stops itself within, or just before, the transaction of that work. Another replica takes over;
then the first is woken. The database must look the same before and after. The same process, woken
at once, has its effect: the comparison can see one.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from photinus_core.cluster import EnsembleSettings, ZooKeeperElector
from photinus_core.model.ids import new_uuid
from photinus_core.ports.elector import Replica
from photinus_core.store import PostgresSettings, PostgresStore

from tests.integration.fencing.frozen_leader import KINDS, RULES, SESSION_S
from tests.support.postgres import PostgresServer, create_database, drop_database
from tests.support.zookeeper import ZooKeeperServer

ROOT = Path(__file__).parents[3]
PATIENCE_S = 90.0
AT_ONCE = 4
"""Cases at a time: each mostly waits for a session to end."""
_chroots = itertools.count(1)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer.started(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@asynccontextmanager
async def frozen_leader(
    url: str, hosts: str, chroot: str, kind: str, where: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, stopped in the middle of its work."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.integration.fencing.frozen_leader", url, hosts, chroot, kind, where),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert await line_of(process) == "frozen"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        line = (await process.stdout.readline()).decode().strip()
    if not line:
        assert process.stderr is not None
        pytest.fail((await process.stderr.read()).decode())
    return line


async def contents(url: str) -> dict[str, str]:
    """A digest of each table; of leases what the election itself does not change."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
            "AND tablename NOT LIKE 'lease%'"
        )
        return {
            name: await connection.fetchval(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {name} t"
            )
            for (name,) in tables
        }
    finally:
        await connection.close()


@asynccontextmanager
async def database(server: PostgresServer) -> AsyncIterator[str]:
    """An empty database."""
    name = f"frozen_{new_uuid().replace('-', '')}"
    try:
        yield await create_database(server, name)
    finally:
        await drop_database(server, name)


async def freeze_and_depose(
    server: PostgresServer, ensemble: ZooKeeperServer, kind: str, where: str
) -> tuple[str, bool]:
    """What the woken leader says, and whether it changed anything."""
    chroot = f"/photinus/frozen{next(_chroots)}"
    async with (
        database(server) as url,
        frozen_leader(url, ensemble.hosts, chroot, kind, where) as process,
    ):
        store = await PostgresStore.open(PostgresSettings(url, connections_max=4))
        settings = EnsembleSettings(ensemble.hosts, chroot, SESSION_S)
        replica = Replica("second", "unix:second.sock", "1", "same")
        async with (
            asyncio.timeout(PATIENCE_S),
            ZooKeeperElector(settings, store, replica, RULES) as elector,
        ):
            for role in await roles(url):
                await elector.campaign(role)
            before = await contents(url)
            os.kill(process.pid, signal.SIGCONT)
            outcome = await line_of(process)
            changed = await contents(url) != before
        await store.aclose()
    return outcome, changed


async def wake_at_once(
    server: PostgresServer, ensemble: ZooKeeperServer, kind: str
) -> tuple[str, bool]:
    chroot = f"/photinus/woken{next(_chroots)}"
    async with (
        database(server) as url,
        frozen_leader(url, ensemble.hosts, chroot, kind, "before") as process,
    ):
        before = await contents(url)
        os.kill(process.pid, signal.SIGCONT)
        outcome = await line_of(process)
        return outcome, await contents(url) != before


async def all_kinds(
    case: Callable[[str], Awaitable[tuple[str, bool]]],
) -> dict[str, tuple[str, bool]]:
    """Runs a case for each kind of work, a few at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(kind: str) -> tuple[str, bool]:
        async with slots:
            return await case(kind)

    found = await asyncio.gather(*(one(kind) for kind in KINDS))
    return dict(zip(KINDS, found, strict=True))


@pytest.mark.parametrize("where", ["before", "within"])
async def test_a_frozen_leader_writes_nothing_more(
    postgres_server: PostgresServer, ensemble: ZooKeeperServer, where: str
) -> None:
    found = await all_kinds(lambda kind: freeze_and_depose(postgres_server, ensemble, kind, where))
    # Offsets are not worth an error: what was not stored is delivered again.
    offsets = found.pop("moving_offsets")
    assert [changed for _, changed in [*found.values(), offsets]] == [False] * len(KINDS)
    # A transaction that the database has ended meanwhile fails before the fence is asked.
    refusals = {"Deposed"} if where == "before" else {"Deposed", "CommitUnknown", "Unavailable"}
    assert {kind: outcome for kind, (outcome, _) in found.items() if outcome not in refusals} == {}


async def test_one_that_is_woken_at_once_has_its_effect(
    postgres_server: PostgresServer, ensemble: ZooKeeperServer
) -> None:
    found = await all_kinds(lambda kind: wake_at_once(postgres_server, ensemble, kind))
    assert found == dict.fromkeys(KINDS, ("committed", True))


async def roles(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row[0] for row in await connection.fetch("SELECT role FROM leases")}
    finally:
        await connection.close()
