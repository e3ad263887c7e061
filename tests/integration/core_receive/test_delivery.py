"""Delivery to applications: windows, acks in any order, batches, standbys, changes, slow clients.

Method: events are appended to a real store; connections deliver into lists.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from photinus_core.cluster import LocalElector
from photinus_core.events import delivery
from photinus_core.events.delivery import Connection, Delivered, DeliveryService
from photinus_core.events.subscriptions import (
    SubscriptionInput,
    SubscriptionService,
    SubscriptionSettings,
)
from photinus_core.events.turns import SubscriptionTurns
from photinus_core.model.errors import Conflict, Exhausted, NotFound, Rejected
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import Transaction, TransactionType
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.store import Store

from tests.integration.core_receive.senders import (
    NS,
)
from tests.support.waiting import until


class Client:
    """A client of one connection: a list of what it got."""

    def __init__(self) -> None:
        self.got: list[Delivered] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, delivered: Delivered) -> None:
        await self.gate.wait()
        self.got.append(delivered)

    @property
    def sequences(self) -> list[int]:
        return [e.event.sequence for d in self.got for e in d.events]

    def last(self) -> Uuid:
        delivered = self.got[-1]
        return delivered.batch or delivered.events[0].event.id


@pytest.fixture
async def service(store: Store) -> AsyncIterator[DeliveryService]:
    made = DeliveryService(store, NS, SystemClock(), SubscriptionTurns(NS, LocalElector(store)))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def subscriptions(store: Store) -> SubscriptionService:
    return SubscriptionService(store, NS, SystemClock(), SubscriptionSettings(subscriptions_max=5))


@asynccontextmanager
async def running(connection: Connection) -> AsyncIterator[Connection]:
    task = asyncio.create_task(connection.run())
    try:
        await asyncio.wait_for(connection.wait_started(), 5)
        yield connection
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def append(
    store: Store,
    count: int,
    kind: EventType = EventType.TRANSACTION_SUBMITTED,
    topic: str = "batch_pin",
    txtype: TransactionType = TransactionType.BATCH_PIN,
) -> None:
    async with store.write(NS) as tx:
        transaction = Transaction(new_uuid(), NS, txtype, Nanoseconds(1))
        await tx.insert_transactions([transaction])
        tx.append_events(
            [
                NewEvent(new_uuid(), kind, NS, transaction.id, Nanoseconds(1), topic=topic)
                for _ in range(count)
            ]
        )


Make = Callable[..., Awaitable[None]]


async def durable(
    subscriptions: SubscriptionService, options: str = "{}", filters: str = "{}", name: str = "app"
) -> Uuid:
    made = await subscriptions.create(
        SubscriptionInput(name, filter_json=filters, options_json=options)
    )
    return made.id


async def test_one_event_at_a_time_until_acked(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    subscription = await durable(subscriptions)
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        await append(store, 3)
        for sequence in (1, 2, 3):
            await until(lambda: len(client.sequences) >= sequence)  # noqa: B023 - used at once
            assert client.sequences == list(range(1, sequence + 1))
            connection.ack(client.last())
        await until_offset(subscriptions, subscription, 3)
    assert client.got[0].events[0].transaction is not None, "references are added"


async def until_offset(subscriptions: SubscriptionService, subscription: Uuid, offset: int) -> None:
    async with asyncio.timeout(30):
        while await subscriptions.offset(subscription) != offset:
            await asyncio.sleep(0.005)


async def test_acks_in_any_order_and_redelivery_to_the_next_connection(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    subscription = await durable(subscriptions, '{"readAhead":4}')
    first = Client()
    async with running(service.start_durable("app", first.deliver)) as connection:
        await append(store, 8)
        await until(lambda: first.sequences == [1, 2, 3, 4, 5])
        for index in (0, 1, 3, 4):
            connection.ack(first.got[index].events[0].event.id)
        await until_offset(subscriptions, subscription, 2)
    second = Client()
    async with running(service.start_durable("app", second.deliver)):
        await until(lambda: second.sequences[:2] == [3, 4])


async def test_batches_are_acked_as_one(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    options = '{"batch":true,"readAhead":3,"batchTimeout":"20ms"}'
    subscription = await durable(subscriptions, options)
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        await append(store, 5)
        await until(lambda: client.sequences == [1, 2, 3])
        connection.ack(client.last())
        await until(lambda: client.sequences == [1, 2, 3, 4, 5])
        connection.ack()
        await until_offset(subscriptions, subscription, 5)
    assert [len(d.events) for d in client.got] == [3, 2]


async def test_a_quiet_subscription_is_woken_by_what_happens(
    store: Store,
    service: DeliveryService,
    subscriptions: SubscriptionService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing looks at the log by the clock: with an hour between two looks events come all the same."""
    monkeypatch.setattr(delivery, "POLL_S", 3_600.0)
    await durable(subscriptions, '{"readAhead":5}')
    client, batches = Client(), Client()
    async with (
        running(service.start_durable("app", client.deliver)),
        running(
            service.start_ephemeral("{}", '{"batch":true,"batchTimeout":"5ms"}', batches.deliver)
        ),
    ):
        for number in range(1, 4):
            await append(store, 1)
            await until(lambda: client.sequences == list(range(1, number + 1)))  # noqa: B023 - used at once
        await until(lambda: batches.sequences[:1] == [1])


async def test_large_events_make_small_batches(
    store: Store,
    service: DeliveryService,
    subscriptions: SubscriptionService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Peers decide how large events are: a batch of them must still fit into an answer."""
    monkeypatch.setattr(delivery, "BATCH_BYTES_MAX", 3_000)
    subscription = await durable(subscriptions, '{"batch":true,"readAhead":5}')
    await append(store, 7)
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        for batches in range(1, 5):
            await until(lambda: len(client.got) >= batches)  # noqa: B023 - used at once
            connection.ack(client.last())
        await until_offset(subscriptions, subscription, 7)
    assert client.sequences == list(range(1, 8))
    assert [len(d.events) for d in client.got] == [2, 2, 2, 1]


async def test_filters_on_type_topic_and_references(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    filters = '{"events":"^transaction_","topic":"^(a|b)$","transaction":{"type":"invoke$"}}'
    subscription = await durable(subscriptions, '{"readAhead":50}', filters)
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        await append(store, 1, topic="a", txtype=TransactionType.CONTRACT_INVOKE)
        await append(store, 1, topic="c", txtype=TransactionType.CONTRACT_INVOKE)
        await append(store, 1, topic="b", txtype=TransactionType.BATCH_PIN)
        await append(store, 300, kind=EventType.MESSAGE_REJECTED, topic="a")
        await append(store, 1, topic="b", txtype=TransactionType.CONTRACT_INVOKE)
        await append(store, 10, kind=EventType.MESSAGE_REJECTED, topic="a")
        await until(lambda: client.sequences == [1, 304])
        for delivered in list(client.got):
            connection.ack(delivered.events[0].event.id)
        await until_offset(subscriptions, subscription, 314)


async def test_a_filter_that_no_type_matches_still_moves_on(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    subscription = await durable(subscriptions, filters='{"events":"^nothing$"}')
    client = Client()
    async with running(service.start_durable("app", client.deliver)):
        await append(store, 7)
        await until_offset(subscriptions, subscription, 7)
    assert client.got == []


async def test_a_second_connection_stands_by_and_takes_over(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    await durable(subscriptions)
    one, two = Client(), Client()
    async with running(service.start_durable("app", one.deliver)) as first:
        standby = service.start_durable("app", two.deliver)
        task = asyncio.create_task(standby.run())
        await asyncio.wait_for(standby.wait_started(), 5)  # its client is not held up
        await append(store, 2)
        await until(lambda: one.sequences == [1])
        first.ack()
        await until(lambda: one.sequences == [1, 2])
        assert two.got == []
    await until(lambda: two.sequences == [2])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_nack_brings_it_again_with_what_followed(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    await durable(subscriptions, '{"readAhead":2}')
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        await append(store, 3)
        await until(lambda: client.sequences == [1, 2, 3])
        second, third = (d.events[0].event.id for d in client.got[1:])
        connection.nack(second)
        connection.ack(third)
        await until(lambda: client.sequences == [1, 2, 3, 2, 3])
        for _ in range(3):
            connection.ack()
        with pytest.raises(Rejected, match="FF10175"):
            connection.ack()


async def test_wrong_acks_are_refused(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    await durable(subscriptions)
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        with pytest.raises(Rejected, match="FF10175"):
            connection.ack(new_uuid())
    async with running(service.start_durable("app", client.deliver, autoack=True)) as connection:
        await append(store, 4)
        await until(lambda: client.sequences == [1, 2, 3, 4])
        with pytest.raises(Rejected, match="FF10180"):
            connection.ack()


async def test_a_slow_client_delays_only_itself(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    await durable(subscriptions, name="slow")
    await durable(subscriptions, '{"readAhead":100}', name="quick")
    slow, quick = Client(), Client()
    slow.gate.clear()
    async with (
        running(service.start_durable("slow", slow.deliver)),
        running(service.start_durable("quick", quick.deliver)),
    ):
        await append(store, 50)
        await until(lambda: len(quick.sequences) == 50)
        assert slow.got == []


async def test_a_subscription_started_before_it_exists_begins_when_it_is_made(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        assert connection.subscription is None
        await durable(subscriptions, '{"firstEvent":"oldest"}')
        await append(store, 1)
        await until(lambda: client.sequences == [1])


async def test_a_changed_subscription_goes_on_where_it_was(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    await durable(subscriptions, '{"readAhead":1}')
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        await append(store, 4)
        await until(lambda: client.sequences == [1, 2])
        connection.ack(client.got[0].events[0].event.id)
        await until(lambda: client.sequences == [1, 2, 3])
        await subscriptions.put(SubscriptionInput("app", options_json='{"readAhead":5}'))
        await until(lambda: client.sequences == [1, 2, 3, 2, 3, 4])
        connection.ack(client.got[-1].events[0].event.id)


async def test_a_deleted_subscription_delivers_no_more(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    subscription = await durable(subscriptions, '{"readAhead":9}')
    client = Client()
    async with running(service.start_durable("app", client.deliver)) as connection:
        await append(store, 1)
        await until(lambda: client.sequences == [1])
        await subscriptions.delete(subscription)
        await until(lambda: connection.subscription is None)
        await append(store, 1)
        again = await durable(subscriptions)
        await append(store, 1)
        await until(lambda: client.sequences == [1, 3])
        assert await subscriptions.offset(again) in (None, 2)
    with pytest.raises(NotFound, match="FF10109"):
        await subscriptions.delete(subscription)


@pytest.mark.parametrize(("first", "want"), [("oldest", [1, 2, 3]), ("newest", [3]), ("1", [2, 3])])
async def test_ephemeral_subscriptions_begin_where_they_say(
    store: Store, service: DeliveryService, first: str, want: list[int]
) -> None:
    await append(store, 2)
    client = Client()
    started = service.start_ephemeral(
        "", f'{{"firstEvent":"{first}"}}', client.deliver, autoack=True
    )
    async with running(started):
        assert started.is_ephemeral
        assert service.connections() == [started]
        await append(store, 1)
        await until(lambda: client.sequences == want)
    assert service.connections() == []


@pytest.mark.parametrize("is_ephemeral", [True, False])
async def test_a_restarted_namespace_goes_on_where_it_was(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService, is_ephemeral: bool
) -> None:
    client = Client()
    if is_ephemeral:
        first = service.start_ephemeral("{}", '{"readAhead":1}', client.deliver)
    else:
        await durable(subscriptions, '{"readAhead":1}')
        first = service.start_durable("app", client.deliver)
    async with running(first):
        await append(store, 4)
        await until(lambda: client.sequences == [1, 2])
        first.ack(client.got[0].events[0].event.id)
        await until(lambda: client.sequences == [1, 2, 3])
        late = client.last()
        await service.offsets.flush()
    anew = DeliveryService(store, NS, SystemClock(), SubscriptionTurns(NS, LocalElector(store)))
    task = asyncio.create_task(anew.run())
    again = anew.start_again(first)
    again.ack(late)
    async with running(again):
        await until(lambda: client.sequences == [1, 2, 3, 2, 3])
        assert again.subscription == first.subscription
        again.ack(late)
        again.ack()
        await until(lambda: client.sequences == [1, 2, 3, 2, 3, 4])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_acks_without_an_id_are_about_what_went_out_first(
    store: Store, service: DeliveryService, subscriptions: SubscriptionService
) -> None:
    clients = [Client(), Client()]
    for name in ("a", "b"):
        await durable(subscriptions, filters=f'{{"topic":"{name}"}}', name=name)
    async with (
        running(service.start_durable("a", clients[0].deliver)) as one,
        running(service.start_durable("b", clients[1].deliver)) as two,
    ):
        await append(store, 1, topic="b")
        await until(lambda: clients[1].sequences == [1])
        await append(store, 1, topic="a")
        await until(lambda: clients[0].sequences == [2])
        turns = [connection.oldest_out for connection in (two, one)]
        assert None not in turns
        assert int(turns[0] or 0) < int(turns[1] or 0), "b's went out first"
        two.ack()
        assert [connection.oldest_out for connection in (two, one)] == [None, turns[1]]


async def test_subscriptions_are_checked(subscriptions: SubscriptionService) -> None:
    for wanted, code in (
        (SubscriptionInput(""), "FF00140"),
        (SubscriptionInput("x", transport="absent"), "FF10172"),
        (SubscriptionInput("x", transport="system"), "FF10266"),
        (SubscriptionInput("x", filter_json='{"events":"("}'), "FF10171"),
        (SubscriptionInput("x", filter_json="[]"), "FF10103"),
        (SubscriptionInput("x", filter_json='{"events":"' + "a" * 2000 + '"}'), "FF00135"),
        (SubscriptionInput("x", options_json='{"firstEvent":"junk"}'), "FF10191"),
        (SubscriptionInput("x", options_json='{"firstEvent":"-2"}'), "FF10192"),
        (SubscriptionInput("x", options_json='{"withData":true}'), "FF10244"),
        (SubscriptionInput("x", options_json='{"readAhead":70000}'), "FF19010"),
        (SubscriptionInput("x", options_json='{"readAhead":"3"}'), "FF19010"),
        (SubscriptionInput("x", options_json='{"batch":"yes"}'), "FF19002"),
        (SubscriptionInput("x", options_json='{"batchTimeout":"soon"}'), "FF00137"),
        (SubscriptionInput("x", options_json="{"), "FF10103"),
        (SubscriptionInput("x", transport="webhooks"), "FF10242"),
    ):
        with pytest.raises(Rejected, match=code):
            await subscriptions.create(wanted)
        with pytest.raises(Rejected, match=code):
            await subscriptions.put(wanted)


async def test_put_keeps_identity_and_position_and_unknown_options(
    store: Store, subscriptions: SubscriptionService
) -> None:
    await append(store, 3)
    made = await subscriptions.create(
        SubscriptionInput(
            "app1",
            "websockets",
            '{"events":"message_.*","message":{"tag":"s.*"}}',
            '{"firstEvent":"newest","readAhead":5}',
        )
    )
    assert made.filter_json == (
        '{"events":"message_.*","message":{"tag":"s.*"},"transaction":{},"blockchainevent":{}}'
    )
    assert made.options_json == '{"firstEvent":"3","readAhead":5,"withData":false}'
    put = await subscriptions.put(
        SubscriptionInput(
            "app1", "", '{"topic":"^default$"}', '{"readAhead":2,"firstEvent":"0","custom":"kept"}'
        )
    )
    assert (put.id, put.first_event, put.created) == (made.id, "3", made.created)
    assert put.updated is not None
    assert put.options_json == '{"custom":"kept","firstEvent":"3","readAhead":2,"withData":false}'
    assert await subscriptions.get(made.id) == put
    with pytest.raises(Conflict, match="FF10193: A subscription with name 'alpha:app1'"):
        await subscriptions.create(SubscriptionInput("app1"))
    for n in range(4):
        await durable(subscriptions, name=f"more{n}")
    with pytest.raises(Exhausted, match="FF19009"):
        await durable(subscriptions, name="toomany")
