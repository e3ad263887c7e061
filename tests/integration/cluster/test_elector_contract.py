"""The contract of `ports.Elector`, for both electors.

Method: one replica with the local elector, and with a real ZooKeeper; the database is SQLite, which refuses writes
under an epoch that is over.
"""

from __future__ import annotations

import asyncio

import pytest
from photinus_core.model.errors import Conflict, Deposed
from photinus_core.model.ids import Namespace
from photinus_core.ports.elector import Elector
from photinus_core.ports.store import Fence, Store

from tests.support.waiting import until

ROLE = "namespace/alpha"
NS = Namespace("alpha")


async def test_a_lease_runs_under_an_epoch_of_the_database(elector: Elector, store: Store) -> None:
    lease = await elector.campaign(ROLE)
    assert lease.role == ROLE
    assert lease.running.is_set()
    assert not lease.lost.is_set()
    async with store.write(NS, Fence(ROLE, lease.epoch)) as tx:
        await tx.set_notes("kind", {"key": "value"})
    assert elector.trouble == ""


async def test_a_role_is_held_once(elector: Elector) -> None:
    lease = await elector.campaign(ROLE)
    with pytest.raises(Conflict, match="FF19121"):
        await elector.campaign(ROLE)
    other = await elector.campaign("namespace/beta")
    assert other.running.is_set()
    assert lease.running.is_set()


async def test_giving_back_ends_the_lease_and_the_next_epoch_is_higher(
    elector: Elector, store: Store
) -> None:
    lease = await elector.campaign(ROLE)
    for _ in range(2):
        await elector.resign(lease)
        assert lease.lost.is_set()
        assert not lease.running.is_set()
    again = await elector.campaign(ROLE)
    assert again.epoch > lease.epoch
    await elector.resign(lease)  # an old lease does not end the new one
    assert again.running.is_set()
    with pytest.raises(Deposed):
        async with store.write(NS, Fence(ROLE, lease.epoch)) as tx:
            await tx.set_notes("kind", {"key": "value"})


async def test_members_tell_who_leads(elector: Elector) -> None:
    lease = await elector.campaign(ROLE)
    cluster = await elector.members()
    (own,) = cluster.replicas
    assert own.is_self
    assert not own.draining
    (standing,) = cluster.roles
    assert (standing.role, standing.leader, standing.epoch) == (ROLE, own.name, lease.epoch)
    assert standing.candidates == ()
    assert cluster.problems == ()


async def test_draining_ends_leases_and_wins_no_more(elector: Elector) -> None:
    lease = await elector.campaign(ROLE)
    await elector.drain()
    await elector.drain()
    assert lease.lost.is_set()
    assert not lease.running.is_set()
    await elector.resign(lease)
    (own,) = (await elector.members()).replicas
    assert own.draining
    async with asyncio.TaskGroup() as tasks:
        again = tasks.create_task(elector.campaign(ROLE))
        new = tasks.create_task(elector.campaign("namespace/beta"))
        await elector.members()
        assert not again.done()
        assert not new.done()
        again.cancel()
        new.cancel()


async def test_closing_ends_everything(elector: Elector) -> None:
    leases = [await elector.campaign(f"namespace/{n}") for n in range(3)]
    for _ in range(2):
        await elector.aclose()
    assert all(lease.lost.is_set() and not lease.running.is_set() for lease in leases)


async def test_a_cancelled_campaign_can_be_repeated(elector: Elector) -> None:
    task = asyncio.create_task(elector.campaign(ROLE))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():  # it had been won before
        await elector.resign(task.result())
    lease = await elector.campaign(ROLE)
    await until(lease.running.is_set)
