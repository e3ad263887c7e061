"""What becomes of leaderships when servers, replicas and connections die, freeze or are cut off.

Method: real ZooKeeper servers and replicas, killed (SIGKILL), frozen (SIGSTOP) and cut off (a TCP proxy). Times are
held against the promise: work rests when in doubt, moves within the session timeout and a second, and never runs on
two replicas at once, whatever wall clocks say.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from photinus_core.cluster import EnsembleSettings, ZooKeeperElector, candidacy
from photinus_core.model.errors import Unavailable
from photinus_core.ports.elector import Lease, Replica
from photinus_core.sequencing.spreading import preference
from photinus_core.store import SqliteStore

from tests.integration.cluster.conftest import SESSION_S, MakeElector
from tests.robustness.fault_proxy import FaultProxy
from tests.support.elector_child import ROLE, ElectorChild, elector_child
from tests.support.waiting import until
from tests.support.zookeeper import SESSION_MAX_S, ZooKeeperServer

LONG_S = SESSION_MAX_S
SHORT_S = 1.5
CLOCK_ERROR_S = 600.0
MORE_S = 1.0
"""What a failover may take beyond the session timeout."""

StartChild = Callable[..., AbstractContextManager[ElectorChild]]


@pytest.fixture
async def child(tmp_path: Path, store: SqliteStore, chroot: str) -> StartChild:
    """Starts replicas as processes; each has a copy of the database, so that the cluster's id is the same."""
    files = [path for path in tmp_path.iterdir() if path.name.startswith("core.db")]

    def start(hosts: str, session_s: float, skew_s: float = 0.0) -> Any:
        folder = tmp_path / "child"
        folder.mkdir()
        for path in files:
            if not path.name.endswith("lock"):
                shutil.copy(path, folder / path.name)
        place = (hosts, chroot)
        return elector_child(folder, folder / "core.db", place, "child", session_s, skew_s)

    return start


async def led(child: ElectorChild, times: int = 1) -> dict[str, Any]:
    """Waits until the child leads for the n-th time."""
    await until(lambda: len(child.lines("leading")) >= times, 20.0)
    await until(lambda: child.lines("work"), 5.0)
    return child.lines("leading")[-1]


async def moment_of(lease: asyncio.Task[Lease]) -> float:
    await asyncio.wait([lease], timeout=20.0)
    assert lease.done()
    return time.monotonic()


async def test_a_server_that_comes_back_in_time_costs_a_pause(
    server: ZooKeeperServer, replica: MakeElector
) -> None:
    elector = await replica("a", hosts=server.hosts, session_s=LONG_S)
    lease = await elector.campaign(ROLE)
    server.kill()
    await until(lambda: not lease.running.is_set(), 1.0)
    with pytest.raises(Unavailable, match="FF19150"):
        await elector.members()
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(LONG_S / 3):  # a connection the starting server forgot costs little
        await lease.running.wait()
    assert not lease.lost.is_set()
    (standing,) = (await elector.members()).roles
    assert standing.epoch == lease.epoch


async def test_a_connection_that_is_never_answered_is_given_up_long_before_the_session(
    ensemble: ZooKeeperServer, replica: MakeElector
) -> None:
    """As a server does that is just starting; kazoo alone would wait for the whole session."""
    async with Forgetful("127.0.0.1", ensemble.port) as proxy:
        elector = await replica("a", hosts=f"127.0.0.1:{proxy.port}", session_s=LONG_S)
        async with asyncio.timeout(LONG_S / 2):
            await elector.campaign(ROLE)
        assert proxy.forgot


class Forgetful(FaultProxy):
    """Never answers its first connection."""

    forgot = False

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.forgot:
            self.forgot = True
            await asyncio.Event().wait()
        await super()._carry(reader, writer)


async def test_a_server_away_for_longer_ends_leaderships_and_new_ones_begin(
    server: ZooKeeperServer, replica: MakeElector
) -> None:
    elector = await replica("a", hosts=server.hosts, session_s=SHORT_S)
    lease = await elector.campaign(ROLE)
    server.kill()
    began = time.monotonic()
    async with asyncio.timeout(SHORT_S + MORE_S):
        await lease.lost.wait()
    assert time.monotonic() - began > SHORT_S / 2
    await elector.resign(lease)
    again = asyncio.create_task(elector.campaign(ROLE))
    await until(lambda: "FF19150" in elector.trouble)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(10):
        new = await again
    assert new.epoch > lease.epoch
    assert new.running.is_set()
    assert elector.trouble == ""


async def test_a_replica_drained_while_cut_off_is_shown_as_such_later(
    ensemble: ZooKeeperServer, replica: MakeElector
) -> None:
    async with FaultProxy("127.0.0.1", ensemble.port) as proxy:
        cut_off = await replica("a", hosts=f"127.0.0.1:{proxy.port}", session_s=LONG_S)
        other = await replica("b", session_s=LONG_S)
        lease = await cut_off.campaign(ROLE)
        proxy.cut()
        await until(lambda: not lease.running.is_set(), LONG_S)
        await cut_off.drain()
        assert lease.lost.is_set()
        await cut_off.resign(lease)
        standby = asyncio.create_task(other.campaign(ROLE))
        proxy.heal()
        async with asyncio.timeout(LONG_S):
            await standby  # the node went as soon as it could be removed
            while not any(r.draining for r in (await other.members()).replicas):
                await asyncio.sleep(0.02)


async def test_a_session_the_ensemble_ends_ends_the_lease(
    ensemble: ZooKeeperServer, replica: MakeElector
) -> None:
    elector = await replica("a", session_s=LONG_S)
    lease = await elector.campaign(ROLE)
    assert elector._session is not None
    known = elector._session._client.client_id
    twin = KazooClient(ensemble.hosts, client_id=known)  # takes the session over, and closes it
    await asyncio.to_thread(twin.start)
    await asyncio.to_thread(twin.stop)
    twin.close()
    async with asyncio.timeout(LONG_S / 2):
        await lease.lost.wait()
    await elector.resign(lease)
    async with asyncio.timeout(LONG_S):
        assert (await elector.campaign(ROLE)).epoch > lease.epoch


async def test_a_replica_without_database_lets_others_lead(
    replica: MakeElector, store: SqliteStore, tmp_path: Path, ensemble: ZooKeeperServer, chroot: str
) -> None:
    other = await replica("b")
    await other.resign(await other.campaign(ROLE))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.glob("core.db*"):
        if not path.name.endswith("lock"):
            shutil.copy(path, copy / path.name)
    own = await SqliteStore.open(copy / "core.db")
    settings = EnsembleSettings(ensemble.hosts, chroot, SESSION_S)
    facts = Replica("a", "unix:a.sock", "1.0", "f")
    async with ZooKeeperElector(settings, own, facts) as lame:
        await until(lambda: lame._registry is not None)
        await own.aclose()
        waiting = asyncio.create_task(lame.campaign(ROLE))
        await until(lambda: "FF19100" in lame.trouble)
        async with asyncio.timeout(SESSION_S):
            lease = await other.campaign(ROLE)
        assert lease.running.is_set()
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_work_that_does_not_end_holds_the_next_leader_up_for_a_while_only(
    replica: MakeElector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidacy, "END_WAIT_S", 0.5)
    low, high = sorted("ab", key=lambda name: preference(ROLE, name))
    stuck = await replica(low, quiet_s=0.2)
    lease = await stuck.campaign(ROLE)
    preferred = asyncio.create_task((await replica(high, quiet_s=0.2)).campaign(ROLE))
    async with asyncio.timeout(10):
        await lease.lost.wait()
        asked = time.monotonic()
        await preferred
    assert time.monotonic() - asked > 0.4
    await stuck.resign(lease)
    assert preferred.result().running.is_set()


async def test_a_silent_server_ends_leaderships_by_the_replicas_own_clock(
    server: ZooKeeperServer, replica: MakeElector
) -> None:
    elector = await replica("a", hosts=server.hosts, session_s=SHORT_S)
    lease = await elector.campaign(ROLE)
    server.freeze()  # its connections stay open
    began = time.monotonic()
    await until(lambda: not lease.running.is_set(), SHORT_S)
    assert not lease.lost.is_set()
    async with asyncio.timeout(SHORT_S):
        await lease.lost.wait()
    assert time.monotonic() - began < SHORT_S + MORE_S
    server.thaw()
    await elector.resign(lease)
    async with asyncio.timeout(10):
        assert (await elector.campaign(ROLE)).epoch > lease.epoch


async def test_a_replica_cut_off_rests_before_another_leads(
    ensemble: ZooKeeperServer, replica: MakeElector
) -> None:
    async with FaultProxy("127.0.0.1", ensemble.port) as proxy:
        cut_off = await replica("a", hosts=f"127.0.0.1:{proxy.port}", session_s=SHORT_S)
        other = await replica("b", session_s=SHORT_S)
        lease = await cut_off.campaign(ROLE)
        standby = asyncio.create_task(other.campaign(ROLE))
        await until_queued(other, 1)
        proxy.black_hole()
        began = time.monotonic()
        await until(lambda: not lease.running.is_set(), SHORT_S)
        assert not standby.done()
        taken = await moment_of(standby) - began
        assert taken < SHORT_S + MORE_S
        assert not lease.running.is_set()
        await until(lease.lost.is_set, MORE_S)
        await cut_off.resign(lease)
        again = asyncio.create_task(cut_off.campaign(ROLE))
        proxy.heal()
        await until_queued(other, 1)
        assert standby.result().running.is_set()
        again.cancel()
        await asyncio.wait([again])


async def test_a_connection_that_is_reset_costs_a_pause(
    ensemble: ZooKeeperServer, replica: MakeElector
) -> None:
    async with FaultProxy("127.0.0.1", ensemble.port) as proxy:
        elector = await replica("a", hosts=f"127.0.0.1:{proxy.port}", session_s=SESSION_S)
        lease = await elector.campaign(ROLE)
        proxy.cut()
        await until(lambda: not lease.running.is_set(), SESSION_S)
        proxy.heal()
        async with asyncio.timeout(SESSION_S):
            await lease.running.wait()
        assert not lease.lost.is_set()


async def test_a_killed_leader_is_followed_though_its_clock_was_fast(
    ensemble: ZooKeeperServer, replica: MakeElector, child: StartChild
) -> None:
    other = await replica("b", session_s=SHORT_S)
    with child(ensemble.hosts, SHORT_S, CLOCK_ERROR_S) as leader:
        first = await led(leader)
        standby = asyncio.create_task(other.campaign(ROLE))
        await until_queued(other, 1)
        leader.send(signal.SIGKILL)
        began = time.monotonic()
        taken = await moment_of(standby) - began
        print(f"killed: led again after {taken:.2f} s of a session of {SHORT_S} s")
        assert taken < SHORT_S + MORE_S
        assert standby.result().epoch > first["epoch"]


async def test_a_stopped_leader_hands_over_at_once(
    ensemble: ZooKeeperServer, replica: MakeElector, child: StartChild
) -> None:
    other = await replica("b")
    with child(ensemble.hosts, SESSION_S) as leader:
        await led(leader)
        standby = asyncio.create_task(other.campaign(ROLE))
        await until_queued(other, 1)
        leader.send(signal.SIGTERM)
        began = time.monotonic()
        taken = await moment_of(standby) - began
        print(f"stopped: led again after {taken * 1000:.0f} ms")
        assert taken < 0.5
        await asyncio.to_thread(leader.wait)
        assert leader.lines("ended")


async def test_a_frozen_leader_does_nothing_when_it_wakes(
    ensemble: ZooKeeperServer, replica: MakeElector, child: StartChild
) -> None:
    other = await replica("b", session_s=SHORT_S)
    with child(ensemble.hosts, SHORT_S, -CLOCK_ERROR_S) as leader:
        first = await led(leader)
        standby = asyncio.create_task(other.campaign(ROLE))
        await until_queued(other, 1)
        leader.send(signal.SIGSTOP)
        began = time.monotonic()
        taken = await moment_of(standby)
        assert taken - began < SHORT_S + MORE_S
        assert standby.result().epoch > first["epoch"]
        leader.send(signal.SIGCONT)
        await until(lambda: leader.lines("lost"), 5.0)
        await until_queued(other, 1)  # it stands by again
        worked = [line["at"] for line in leader.lines("work")]
        assert max(worked) < began + 0.1, "it worked after it woke"
        await other.resign(standby.result())
        last = await led(leader, 2)
        assert last["epoch"] > standby.result().epoch


async def until_queued(elector: Any, number: int) -> None:
    """Waits until so many candidates stand by for the role."""
    async with asyncio.timeout(10):
        while True:
            roles = (await elector.members()).roles
            if any(r.role == ROLE and r.leader and len(r.candidates) == number for r in roles):
                return
            await asyncio.sleep(0.02)
