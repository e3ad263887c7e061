"""A durable subscription has one active connection in the whole cluster, and moves without loss.

Method: the delivery services of two replicas over one store, with an ensemble in memory whose
leases the test suspends and ends.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from photinus_core.events import delivery
from photinus_core.events.delivery import Connection, DeliveryService
from photinus_core.events.subscriptions import SubscriptionInput, SubscriptionService
from photinus_core.events.turns import SubscriptionTurns, subscription_role
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Uuid
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.leases import fence_of
from photinus_core.ports.store import Store

from tests.integration.core_receive.senders import NS
from tests.integration.core_receive.test_delivery import Client, append, running
from tests.support.electors import Ensemble, EnsembleElector
from tests.support.waiting import until


@pytest.fixture
def ensemble(store: Store) -> Ensemble:
    return Ensemble(store)


@pytest.fixture
async def replicas(
    store: Store, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[DeliveryService]]:
    monkeypatch.setattr(delivery, "ELSEWHERE_S", 0.05)
    made = [
        DeliveryService(store, NS, SystemClock(), SubscriptionTurns(NS, EnsembleElector(ensemble)))
        for _ in range(2)
    ]
    tasks = [asyncio.create_task(service.run()) for service in made]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def subscription(store: Store) -> Uuid:
    service = SubscriptionService(store, NS, SystemClock())
    made = await service.create(SubscriptionInput("app", options_json='{"firstEvent":"oldest"}'))
    return made.id


async def offset(store: Store, subscription: Uuid) -> int | None:
    async with store.read(NS) as reader:
        return await reader.offset(subscription)


async def test_one_replica_serves_and_the_other_goes_on_where_it_ended(
    store: Store, replicas: list[DeliveryService], subscription: Uuid
) -> None:
    first, second = Client(), Client()
    one = replicas[0].start_durable("app", first.deliver)
    two = replicas[1].start_durable("app", second.deliver)
    async with running(two) as waiting:
        # Whoever came first is served; the other one stands by.
        await append(store, 3)
        await until(lambda: second.sequences == [1])
        async with running(one):
            waiting.ack()
            await until(lambda: second.sequences == [1, 2])
            assert first.got == []
    async with running(replicas[0].start_durable("app", first.deliver)):
        await until(lambda: first.sequences == [2])
    assert await offset(store, subscription) == 1


async def test_a_lost_lease_ends_serving_and_late_acks_move_nothing(
    store: Store, ensemble: Ensemble, replicas: list[DeliveryService], subscription: Uuid
) -> None:
    role = subscription_role(NS, subscription)
    first, second = Client(), Client()
    one = replicas[0].start_durable("app", first.deliver)
    two = replicas[1].start_durable("app", second.deliver)
    async with running(one), running(two):
        await append(store, 2)
        await until(lambda: first.sequences == [1])
        frozen = ensemble.held[role]
        ensemble.expire(role)
        await until(lambda: second.sequences == [1])
        two.ack()
        await until(lambda: second.sequences == [1, 2])
        await replicas[1].offsets.flush()
        assert await offset(store, subscription) == 1
        stale = fence_of(frozen)
        replicas[0].offsets.move(subscription, 2, stale)
        await replicas[0].offsets.flush()
        assert await offset(store, subscription) == 1, "an older epoch moves nothing"
        await append(store, 1)
        two.ack()
        await until(lambda: second.sequences == [1, 2, 3])
    assert first.sequences == [1]


async def test_nothing_is_delivered_while_the_lease_is_in_doubt(
    store: Store, ensemble: Ensemble, replicas: list[DeliveryService], subscription: Uuid
) -> None:
    role = subscription_role(NS, subscription)
    client = Client()
    connection = replicas[0].start_durable("app", client.deliver)
    async with running(connection):
        await append(store, 1)
        await until(lambda: client.sequences == [1])
        ensemble.doubt(role)
        connection.ack()
        await append(store, 1)
        other = Client()
        ephemeral = replicas[0].start_ephemeral("{}", '{"firstEvent":"oldest"}', other.deliver)
        async with running(ephemeral):
            await until(lambda: other.sequences == [1])
            ephemeral.ack()
            await until(lambda: other.sequences == [1, 2])
        assert client.sequences == [1]
        ensemble.trust(role)
        await until(lambda: client.sequences == [1, 2])


async def test_a_database_that_is_away_ends_the_turn_and_not_the_connection(
    store: Store,
    replicas: list[DeliveryService],
    subscription: Uuid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "RETRY_S", 0.01)
    client = Client()
    connection = replicas[0].start_durable("app", client.deliver)
    failures = [Unavailable("FF19100")]
    read = Connection._read

    async def failing(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        await read(*arguments)

    monkeypatch.setattr(Connection, "_read", failing)
    async with running(connection):
        await append(store, 1)
        await until(lambda: client.sequences == [1])
    assert failures == []
