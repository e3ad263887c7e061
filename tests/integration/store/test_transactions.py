"""Transactions: all or nothing, fenced, gap-free event sequences, notifications after the commit.

Method: real databases, many tasks, cancellations at chosen points.
"""

import asyncio
import contextlib

import pytest
from photinus_core.model.errors import Conflict, Deposed, Rejected, Unavailable
from photinus_core.model.events import EventType
from photinus_core.model.ids import Epoch, Namespace, Nanoseconds, new_uuid
from photinus_core.ports.store import Fence, Notification, ParkedMessage, Store, Wakeup

from tests.integration.store.conftest import OpenStore
from tests.support.store_records import NS, make_event, make_subscription, write

ROLE = "namespace/alpha"


class BrokenError(Exception):
    pass


async def test_what_raises_leaves_nothing_behind(store: Store) -> None:
    heard: list[Notification] = []
    store.subscribe(heard.append)

    async def fail(key: str) -> None:
        async with store.write(NS) as tx:
            await tx.insert_messages([write(key=key)])
            tx.append_events([make_event()])
            raise BrokenError

    for key in ("read first", ""):
        with pytest.raises(BrokenError):
            await fail(key)
    async with store.read(NS) as reader:
        assert await reader.ready_messages(0, 10) == []
        assert await reader.last_event_sequence() == 0
    assert heard == []


async def test_a_failed_statement_fails_the_transaction_even_if_caught(store: Store) -> None:
    one = write()
    async with store.write(NS) as tx:
        await tx.insert_messages([one])

    async def swallow() -> None:
        async with store.write(NS) as tx:
            await tx.insert_messages([write(), one])
            with contextlib.suppress(Conflict):
                await tx.last_event_sequence()
            tx.append_events([make_event()])

    with pytest.raises(Conflict):
        await swallow()
    async with store.read(NS) as reader:
        assert len(await reader.ready_messages(0, 10)) == 1
        assert await reader.last_event_sequence() == 0


@pytest.mark.parametrize("received", [2**64 - 1, -(2**63) - 1])
async def test_numbers_no_column_can_hold_are_refused(store: Store, received: int) -> None:
    """A stranger may send any number; it must not look like a broken database."""
    parked = ParkedMessage("m", "p", "r", "x", Nanoseconds(received))
    with pytest.raises(Rejected, match="FF19112"):
        async with store.write(NS) as tx:
            await tx.park_messages([parked])


async def test_texts_no_column_can_hold_are_refused(store: Store) -> None:
    with pytest.raises(Rejected, match="FF19112"):
        async with store.write(NS) as tx:
            await tx.insert_wakeups([Wakeup("data", "\ud800")])


async def test_a_transaction_reads_its_own_writes_others_do_not(store: Store) -> None:
    one = write()
    async with store.write(NS) as tx, store.read(NS) as reader:
        await tx.insert_messages([one])
        assert set(await tx.messages([one.message.header.id])) == {one.message.header.id}
        assert await reader.messages([one.message.header.id]) == {}
    async with store.read(NS) as reader:
        assert set(await reader.messages([one.message.header.id])) == {one.message.header.id}


async def test_namespaces_do_not_see_each_other(store: Store) -> None:
    beta = Namespace("beta")
    async with store.write(NS) as tx:
        await tx.insert_messages([one := write()])
        tx.append_events([make_event()])
        await tx.save_subscription(subscription := make_subscription("s"), 1)
        await tx.insert_wakeups([Wakeup("data", "x")])
    async with store.write(beta) as tx:
        assert await tx.messages([one.message.header.id]) == {}
        assert await tx.events_after(0, 10) == []
        assert await tx.offset(subscription.id) is None
        assert not await tx.delete_subscription(subscription.id)
        await tx.delete_wakeups(1000)
        tx.append_events([make_event(namespace=beta)])
    async with store.read(beta) as reader:
        assert await reader.last_event_sequence() == 1
    async with store.read(NS) as reader:
        assert len(await reader.wakeups(10)) == 1
        assert await reader.subscription(subscription.id) == subscription


async def test_event_sequences_have_no_gaps_whoever_fails(store: Store) -> None:
    async def append(number: int) -> None:
        async with store.write(NS) as tx:
            tx.append_events([make_event() for _ in range(number % 4)])
            if number % 3 == 0:
                await tx.last_event_sequence()
            if number % 5 == 0:
                raise BrokenError

    async def cancelled(number: int) -> None:
        task = asyncio.create_task(append(number))
        for _ in range(number % 11):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    await asyncio.gather(
        *(append(n) for n in range(60)), *(cancelled(n) for n in range(60)), return_exceptions=True
    )
    async with store.read(NS) as reader:
        events = await reader.events_after(0, 1000)
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))
        assert len(events) >= sum(n % 4 for n in range(60) if n % 5)
        assert await reader.last_event_sequence() == len(events)


async def test_events_are_read_in_pages_and_by_type(store: Store) -> None:
    kinds = [EventType.MESSAGE_CONFIRMED, EventType.DATATYPE_CONFIRMED, EventType.MESSAGE_CONFIRMED]
    new = [make_event(kind) for kind in kinds]
    async with store.write(NS) as tx:
        tx.append_events(new[:1])
        tx.append_events(new[1:])
    async with store.read(NS) as reader:
        events = await reader.events_after(0, 10)
        assert [(e.id, e.type, e.correlator, e.tx, e.topic) for e in events] == [
            (e.id, e.type, e.correlator, e.tx, e.topic) for e in new
        ]
        assert await reader.events_after(1, 1) == events[1:2]
        assert await reader.events_after(0, 10, {"message_confirmed"}) == [events[0], events[2]]
        assert await reader.events([events[1].id, new_uuid()]) == {events[1].id: events[1]}


async def test_a_deposed_leader_writes_nothing(store: Store) -> None:
    first = await store.raise_epoch(ROLE, None)
    async with store.write(NS, Fence(ROLE, first)) as tx:
        tx.append_events([make_event()])
    second = await store.raise_epoch(ROLE, None)
    assert second == first + 1
    with pytest.raises(Deposed, match="FF19120"):
        async with store.write(NS, Fence(ROLE, first)) as tx:
            tx.append_events([make_event()])
    with pytest.raises(Deposed):
        async with store.write(NS, Fence(ROLE, first)) as tx:
            await tx.last_event_sequence()
    with pytest.raises(Deposed):
        async with store.write(NS, Fence("namespace/unknown", Epoch(1))) as tx:
            tx.append_events([make_event()])
    async with store.write(NS, Fence(ROLE, second)) as tx:
        tx.append_events([make_event()])
        assert await tx.last_event_sequence() == 1
    async with store.read(NS) as reader:
        assert await reader.last_event_sequence() == 2


async def test_epochs_only_grow(store: Store) -> None:
    assert await store.raise_epoch(ROLE, Epoch(40)) == 40
    for lower in (40, 39):
        with pytest.raises(Deposed, match="FF19121"):
            await store.raise_epoch(ROLE, Epoch(lower))
    assert await store.raise_epoch(ROLE, None) == 41
    assert await store.raise_epoch("namespace/other", None) == 1


def fail(_: Notification) -> None:
    raise BrokenError


async def test_listeners_hear_of_commits_in_the_loop(store: Store) -> None:
    heard: list[Notification] = []
    unsubscribe = store.subscribe(heard.append)
    store.subscribe(fail)
    async with store.write(NS) as tx:
        await tx.insert_messages([write(), write()])
        tx.append_events([make_event(), make_event()])
        await tx.insert_wakeups([Wakeup("data", "x")])
        assert heard == []
    assert set(heard) == {(NS, "messages", 2), (NS, "events", 2), (NS, "wakeups", 1)}
    unsubscribe()
    async with store.write(NS) as tx:
        tx.append_events([make_event()])
    assert len(heard) == 3


async def test_a_slow_reader_of_notifications_gets_the_newest(store: Store) -> None:
    stream = store.notifications(NS, {"events", "messages"})
    elsewhere = store.notifications(Namespace("beta"), {"events"})
    for _ in range(5):
        async with store.write(NS) as tx:
            tx.append_events([make_event()])
    async with store.write(NS) as tx:
        await tx.insert_messages([write()])
        await tx.insert_wakeups([Wakeup("data", "x")])
    async with asyncio.timeout(5):
        assert [await anext(stream), await anext(stream)] == [
            (NS, "events", 5),
            (NS, "messages", 1),
        ]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        async with store.write(NS) as tx:
            tx.append_events([make_event()])
        assert await waiting == (NS, "events", 6)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(elsewhere)


async def test_a_cancelled_commit_is_whole_and_announced(store: Store) -> None:
    heard: list[Notification] = []
    store.subscribe(heard.append)
    entered = asyncio.Event()

    async def commit() -> None:
        async with store.write(NS) as tx:
            tx.append_events([make_event()])
            entered.set()

    task = asyncio.create_task(commit())
    await entered.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    async with store.read(NS) as reader:
        stored = await reader.last_event_sequence()
    assert heard == [(NS, "events", 1)] * stored


async def test_an_empty_transaction_costs_and_tells_nothing(store: Store) -> None:
    heard: list[Notification] = []
    store.subscribe(heard.append)
    async with store.write(NS) as tx:
        tx.append_events([])
        await tx.decide([])
        await tx.confirm_batches([], make_event().created)
    assert heard == []


async def test_what_is_committed_survives_reopening(open_store: OpenStore) -> None:
    store = await open_store()
    cluster = store.cluster_id
    async with store.write(NS) as tx:
        tx.append_events([make_event()])
    await store.raise_epoch(ROLE, None)
    await store.aclose()
    await store.aclose()
    again = await open_store()
    assert again.cluster_id == cluster
    assert await again.raise_epoch(ROLE, None) == 2
    async with again.read(NS) as reader:
        assert await reader.last_event_sequence() == 1
    await again.aclose()


async def test_a_closed_store_says_so(open_store: OpenStore) -> None:
    store = await open_store()
    await store.aclose()
    with pytest.raises(Unavailable, match="FF19100"):
        async with store.write(NS):
            pass
    with pytest.raises(Unavailable, match="FF19100"):
        async with store.read(NS) as reader:
            await reader.last_event_sequence()
