"""A leader that stops itself (SIGSTOP) in the middle of one kind of its work; run as a process.

    python -m tests.integration.fencing.frozen_leader URL ENSEMBLE CHROOT KIND WHERE

It wins the namespace, prepares the work, stops before or within the transaction of that work, and,
when it is woken, goes on as if nothing had happened. It says in lines how far it is: `frozen`, then
`committed` or the class of what stopped it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from photinus_core.cluster import ElectionRules, EnsembleSettings, ZooKeeperElector
from photinus_core.events.offsets import OffsetWriter
from photinus_core.events.subscriptions import SubscriptionInput, SubscriptionService
from photinus_core.events.turns import subscription_role
from photinus_core.messaging.dispatch import BatchDispatcher, Connectors, Journey
from photinus_core.messaging.sealing import BatchSealer
from photinus_core.messaging.sender import BatchLimits
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.model.ledger import OperationStatus, OperationType
from photinus_core.operations.submission import Submissions
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.elector import Replica
from photinus_core.ports.leases import LeaderStore, fence_of
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, OperationChange, Store
from photinus_core.store import PostgresSettings, PostgresStore

from tests.integration.core_receive.network import Chain, Member, SharedDictionary, begin_namespace
from tests.integration.core_receive.senders import (
    NETWORK,
    NS,
    Org,
    broadcast,
    claim_node,
    claim_org,
    group_of,
    private,
)
from tests.support.store_records import make_operation, make_transaction
from tests.unit.messaging.office import PLUGINS, ROLE, Office, Place, Steps, place_over, text

SESSION_S = 1.5
STANDSTILL_S = 1.0
"""How long the database lets a transaction stand still: less than a session."""
RULES = ElectionRules(session_min_s=0.5)

Work = Callable[[], Awaitable[None]]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class StoppingStore:
    """A store in whose next leader transaction the process stops."""

    inner: Store
    where: str
    armed: bool = False
    plain_too: bool = False
    """Also a transaction without a fence: offsets carry theirs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @asynccontextmanager
    async def write(self, namespace: Namespace, fence: Fence | None = None) -> AsyncIterator[Any]:
        stops = self.armed and (fence is not None or self.plain_too)
        if stops and self.where == "before":
            self.stop()
        async with self.inner.write(namespace, fence) as tx:
            yield tx
            if stops and self.where == "within":
                await tx.last_event_sequence()  # what was noted for later is written before it
                self.stop()

    def stop(self) -> None:
        self.armed = False
        say("frozen")
        os.kill(os.getpid(), signal.SIGSTOP)


@dataclass
class Desk:
    """What the work is done with."""

    plain: PostgresStore
    stopping: "StoppingStore"
    leader: Store
    fence: Fence
    elector: ZooKeeperElector
    stack: AsyncExitStack
    storage: SharedDictionary = field(default_factory=SharedDictionary)

    def __post_init__(self) -> None:
        self.chain = Chain(self.storage)

    def member(self, store: Store) -> Member:
        return Member(store, self.storage, Org("alice"), self.fence)

    @property
    def scope(self) -> Scope:
        return Scope(self.leader, SystemClock(), NS, NETWORK)


async def sealing(desk: Desk) -> Work:
    _, office = await _office(desk)
    sent = await office.sender.broadcast(text())
    sealer = BatchSealer(desk.scope, office.identities, PLUGINS, "alice_node")

    async def work() -> None:
        await sealer.seal([sent.header.id], desk.fence)

    return work


async def finishing(desk: Desk) -> Work:
    place, office = await _office(desk)
    sent = await office.sender.broadcast(text())
    sealer = BatchSealer(
        Scope(desk.plain, SystemClock(), NS, NETWORK), office.identities, PLUGINS, "alice_node"
    )
    journey = Journey(await sealer.seal([sent.header.id], desk.fence))
    connectors = Connectors(place.own.blockchain, place.own.data_exchange, place.own.shared_storage)
    dispatcher = BatchDispatcher(
        desk.scope, connectors, office.identities, office.active_contract, desk.fence
    )
    await dispatcher.prepare(journey)

    async def work() -> None:
        await dispatcher.finish(journey)

    return work


async def chain_intake(desk: Desk) -> Work:
    event = desk.chain.pin(claim_org(Org("bob")))
    member = desk.member(desk.leader)

    async def work() -> None:
        await member.take([event])

    return work


async def peer_intake(desk: Desk) -> Work:
    bob, alice = Org("bob"), Org("alice")
    sent = private(bob, group_of(alice, bob), 1, introduce=True)
    member = desk.member(desk.leader)

    async def work() -> None:
        await member.receive(sent, bob)

    return work


async def downloading(desk: Desk) -> Work:
    await desk.member(desk.plain).take([desk.chain.pin(broadcast(Org("bob"), 1))])
    member = desk.member(desk.leader)
    return lambda: _until(
        desk, member.downloads.run(), "SELECT 1 FROM wakeups WHERE kind = 'batch'"
    )


async def deciding(desk: Desk) -> Work:
    bob = Org("bob")
    before = desk.member(desk.plain)
    await before.take([desk.chain.pin(s) for s in (claim_org(bob), claim_node(bob))])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(before.downloads.run())
        async with asyncio.timeout(20):
            while await _count(desk, "SELECT 1 FROM wakeups WHERE kind = 'batch'") < 2:
                await asyncio.sleep(0.02)
        task.cancel()
    member = desk.member(desk.leader)
    return lambda: _until(desk, member.aggregator.run(), "SELECT 1 FROM identities")


async def submitting(desk: Desk) -> Work:
    transaction = make_transaction()
    action = msgspec.structs.replace(
        make_operation(transaction.id, OperationStatus.INITIALIZED),
        type=OperationType.BLOCKCHAIN_NETWORK_ACTION,
    )
    async with desk.plain.write(NS) as tx:
        await tx.insert_transactions([transaction])
        await tx.insert_operations([action])

    async def run(_: Any) -> OperationChange:
        return OperationChange(action.id, OperationStatus.PENDING, Nanoseconds(9))

    runners = {OperationType.BLOCKCHAIN_NETWORK_ACTION: run}
    submissions = Submissions(desk.scope, desk.fence, runners, lambda _: False)
    done = "SELECT 1 FROM operations WHERE status = 'Pending'"
    return lambda: _until(desk, submissions.run(), done)


async def moving_offsets(desk: Desk) -> Work:
    service = SubscriptionService(desk.plain, NS, SystemClock())
    made = await service.create(SubscriptionInput("app", options_json='{"firstEvent":"oldest"}'))
    role = subscription_role(NS, made.id)
    lease = await desk.elector.campaign(role)
    offsets = OffsetWriter(desk.stopping, NS)

    async def work() -> None:
        offsets.move(made.id, 7, fence_of(lease))
        await offsets.flush()

    return work


KINDS = {
    made.__name__: made
    for made in (
        sealing,
        finishing,
        chain_intake,
        peer_intake,
        downloading,
        deciding,
        submitting,
        moving_offsets,
    )
}


async def _office(desk: Desk) -> tuple[Place, Office]:
    place = await desk.stack.enter_async_context(place_over(desk.plain))
    return place, Office(place, Steps(), BatchLimits(), desk.fence.epoch)


async def _count(desk: Desk, query: str) -> int:
    return len(await desk.plain.read_rows(query))


async def _until(desk: Desk, running: Awaitable[None], query: str) -> None:
    """Runs work that never ends by itself until its effect is there, or it fails."""
    task = asyncio.ensure_future(running)
    while not task.done() and not await _count(desk, query):
        await asyncio.sleep(0.02)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    else:
        await task


async def main(url: str, hosts: str, chroot: str, kind: str, where: str) -> None:
    settings = PostgresSettings(url, connections_max=6, idle_in_transaction_s=STANDSTILL_S)
    store = await PostgresStore.open(settings)
    replica = Replica("first", "unix:first.sock", "1", "same")
    ensemble = EnsembleSettings(hosts, chroot, SESSION_S)
    async with (
        AsyncExitStack() as stack,
        ZooKeeperElector(ensemble, store, replica, RULES) as elector,
    ):
        lease = await elector.campaign(ROLE)
        await begin_namespace(store)
        stopping = StoppingStore(store, where, plain_too=kind == "moving_offsets")
        leader = LeaderStore(stopping, lease)
        desk = Desk(store, stopping, leader, fence_of(lease), elector, stack)
        work = await KINDS[kind](desk)
        stopping.armed = True
        try:
            await work()
        except Exception as failure:  # noqa: BLE001 - the test says which may come
            say(_innermost(failure))
        else:
            say("committed")
    await store.aclose()


def _innermost(failure: BaseException) -> str:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return type(failure).__name__


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
