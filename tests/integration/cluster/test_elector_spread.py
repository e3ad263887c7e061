"""Several replicas and roles: who leads what, how it moves, what is left behind.

Method: electors with one real ZooKeeper. The wanted spread is computed from `sequencing.spreading` alone; that it does
not flap is counted in leases granted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from urllib.parse import quote

from photinus_core.cluster import EnsembleSession, EnsembleSettings, ZooKeeperElector
from photinus_core.ports.elector import Lease
from photinus_core.sequencing.spreading import preference

from tests.integration.cluster.conftest import SESSION_S, MakeElector
from tests.support.waiting import until
from tests.support.zookeeper import ZooKeeperServer

ROLES = [f"namespace/n{number}" for number in range(12)]
QUIET_S = 0.5


class Leader:
    """Stands for all roles on one replica, and gives each back when its lease is lost."""

    def __init__(self, name: str, elector: ZooKeeperElector) -> None:
        self.name = name
        self.elector = elector
        self.held: dict[str, Lease] = {}
        self.granted = Counter[str]()

    async def lead(self, role: str) -> None:
        while True:
            lease = await self.elector.campaign(role)
            self.held[role] = lease
            self.granted[role] += 1
            try:
                await lease.lost.wait()
            finally:
                del self.held[role]
                await self.elector.resign(lease)

    def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        return [tasks.create_task(self.lead(role)) for role in ROLES]


def wanted(names: list[str]) -> dict[str, str]:
    return {role: max(names, key=lambda name: preference(role, name)) for role in ROLES}


def leaders(replicas: list[Leader]) -> dict[str, str]:
    return {role: replica.name for replica in replicas for role in replica.held}


async def test_twelve_roles_spread_over_three_replicas_and_stay(replica: MakeElector) -> None:
    replicas = [Leader(name, await replica(name, quiet_s=QUIET_S)) for name in "abc"]
    goal = wanted(["a", "b", "c"])
    assert set(goal.values()) == {"a", "b", "c"}
    async with asyncio.TaskGroup() as group:
        tasks = replicas[0].start(group)
        await until(lambda: len(leaders(replicas)) == len(ROLES))
        first = replicas[0].granted.total()
        for late in replicas[1:]:
            tasks += late.start(group)
        await until(lambda: leaders(replicas) == goal, 20.0)
        # Each role moved at most once: nothing flaps, nothing goes by way of a third replica.
        moved = sum(r.granted.total() for r in replicas) - first
        assert moved == sum(name != "a" for name in goal.values())
        # Who gave a role back stands for it again, a moment after another has it.
        async with asyncio.timeout(20):
            shown = await replicas[0].elector.members()
            while not all(len(role.candidates) == 2 for role in shown.roles):
                await asyncio.sleep(0.01)
                shown = await replicas[0].elector.members()
        assert {role.role: role.leader for role in shown.roles} == goal
        for role in shown.roles:
            order = [role.leader, *role.candidates]
            assert order == sorted(order, key=lambda n: -preference(role.role, n))
        for task in tasks:
            task.cancel()


async def test_a_replica_that_stops_gives_everything_over_at_once(replica: MakeElector) -> None:
    staying, stopping = [Leader(name, await replica(name)) for name in "ab"]
    async with asyncio.TaskGroup() as group:
        tasks = stopping.start(group)
        await until(lambda: len(stopping.held) == len(ROLES))
        tasks += staying.start(group)
        while any(not r.candidates for r in (await staying.elector.members()).roles):
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await stopping.elector.drain()
        await until(lambda: len(staying.held) == len(ROLES))
        took = time.monotonic() - began
        print(f"12 roles handed over in {took * 1000:.0f} ms")
        assert took < SESSION_S / 2, "it was waited for"
        shown = await staying.elector.members()
        assert [(r.name, r.draining) for r in shown.replicas] == [("a", False), ("b", True)]
        assert all(not r.candidates for r in shown.roles)
        for task in tasks:
            task.cancel()


async def test_other_roles_stay_with_whoever_asked_first(replica: MakeElector) -> None:
    electors = [await replica(name, quiet_s=0.01) for name in "ab"]
    roles = [f"subscription/alpha/{number}" for number in range(8)]
    async with asyncio.TaskGroup() as group:
        held = [await electors[0].campaign(role) for role in roles]
        standby = [group.create_task(electors[1].campaign(role)) for role in roles]
        while any(not r.candidates for r in (await electors[0].members()).roles):
            await asyncio.sleep(0.01)
        shown = await electors[0].members()
        assert len(shown.roles) == len(roles)
        assert all((r.leader, r.candidates) == ("a", ("b",)) for r in shown.roles)
        assert not any(lease.lost.is_set() for lease in held)
        for lease in held:
            await electors[0].resign(lease)
        for lease in await asyncio.gather(*standby):
            await electors[1].resign(lease)
    assert (await electors[0].members()).roles == (), (
        "nothing is kept of roles that nobody stands for"
    )


async def test_a_cancelled_campaign_leaves_no_node(
    replica: MakeElector, ensemble: ZooKeeperServer, chroot: str
) -> None:
    electors = [await replica(name) for name in "ab"]
    lease = await electors[0].campaign(ROLES[0])
    async with EnsembleSession(EnsembleSettings(ensemble.hosts, chroot)) as session:
        session.start()
        await session.answered()

        async def queue() -> list[str]:
            return await session.children(f"/roles/{quote(ROLES[0], safe='')}")

        waiting = asyncio.create_task(electors[1].campaign(ROLES[0]))
        while len(await queue()) < 2:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert len(await queue()) == 1
        await electors[0].resign(lease)
        assert await queue() == []


async def test_a_node_removed_by_hand_ends_the_lease(
    replica: MakeElector, ensemble: ZooKeeperServer, chroot: str
) -> None:
    elector = await replica("a")
    lease = await elector.campaign(ROLES[0])
    async with EnsembleSession(EnsembleSettings(ensemble.hosts, chroot)) as session:
        session.start()
        await session.answered()
        folder = f"/roles/{quote(ROLES[0], safe='')}"
        (node,) = await session.children(folder)
        await session.delete(f"{folder}/{node}")
    async with asyncio.timeout(5):
        await lease.lost.wait()
    await elector.resign(lease)
    assert (await elector.campaign(ROLES[0])).epoch > lease.epoch
