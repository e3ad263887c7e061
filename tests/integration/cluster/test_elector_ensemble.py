"""An ensemble of three servers loses one of them, the one that leads, and then most: leadership stays where it is.

Method: real servers that vote, killed (SIGKILL) and started again; two replicas, one of which leads. Sessions are long,
so that a slow machine does not end what the servers kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest
from photinus_core.cluster import ZooKeeperElector
from photinus_core.model.errors import Unavailable
from photinus_core.ports.elector import Lease

from tests.integration.cluster.conftest import MakeElector
from tests.support.elector_child import ROLE
from tests.support.waiting import until
from tests.support.zookeeper import SESSION_MAX_S, ZooKeeperEnsemble, ZooKeeperServer

WAIT_S = SESSION_MAX_S
"""Within it a session lives on, or the leadership is lost and the test fails."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperEnsemble]:
    with ZooKeeperEnsemble.started(tmp_path_factory.mktemp("three")) as ensemble:
        yield ensemble


async def test_leadership_survives_the_loss_of_servers(
    three: ZooKeeperEnsemble, replica: MakeElector
) -> None:
    leading = await replica("a", hosts=three.hosts, session_s=SESSION_MAX_S)
    other = await replica("b", hosts=three.hosts, session_s=SESSION_MAX_S)
    lease = await leading.campaign(ROLE)
    standby = asyncio.create_task(other.campaign(ROLE))

    connected = await server_of(three, leading)
    connected.kill()
    assert await server_of(three, leading) is not connected
    await goes_on(leading, lease)
    await asyncio.to_thread(connected.start)

    first = await asyncio.to_thread(three.leader)
    first.kill()
    assert await asyncio.to_thread(three.leader) is not first
    await goes_on(leading, lease)

    # One of three decides nothing: work rests. With two it goes on, under the same session.
    second = await server_of(three, leading)
    second.kill()
    await until(lambda: not lease.running.is_set(), WAIT_S)
    await asyncio.to_thread(first.start)
    await goes_on(leading, lease)

    assert not standby.done()
    await leading.resign(lease)
    async with asyncio.timeout(WAIT_S):
        taken = await standby
    assert taken.epoch > lease.epoch


async def server_of(three: ZooKeeperEnsemble, elector: ZooKeeperElector) -> ZooKeeperServer:
    """The server that a replica is connected to."""
    async with asyncio.timeout(WAIT_S):
        while True:
            assert elector._session is not None
            found = await asyncio.to_thread(three.holder, elector._session.id)
            if found is not None:
                return found
            await asyncio.sleep(0.02)


async def goes_on(elector: ZooKeeperElector, lease: Lease) -> None:
    """Waits until the ensemble has confirmed a leadership after a loss, and sees that it is the same one."""
    async with asyncio.timeout(WAIT_S):
        while True:
            await lease.running.wait()
            with suppress(Unavailable):
                (standing,) = (await elector.members()).roles
                break
            await asyncio.sleep(0.02)
    assert not lease.lost.is_set()
    assert (standing.leader, standing.epoch) == ("a", lease.epoch)
