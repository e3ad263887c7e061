"""Replicas on one database: they hear of each other's commits, write in one order, and a deposed leader's
transactions are ended and refused.

Method: two stores on one PostgreSQL, as two processes would have them; transactions stopped at chosen
points.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec
import pytest
from photinus_core.definitions.effects import Effects
from photinus_core.events import commit
from photinus_core.events.facts import event_position
from photinus_core.events.updates import correct_status
from photinus_core.model.errors import Deposed, PhotinusError, Unavailable
from photinus_core.model.ids import Epoch, Namespace, Nanoseconds
from photinus_core.model.ledger import OperationStatus, OperationType
from photinus_core.model.messages import Pin
from photinus_core.ports.store import Fence, Notification, OperationChange, Wakeup, WriteTransaction
from photinus_core.ports.tasks import Background
from photinus_core.sequencing.decisions import BatchVoided
from photinus_core.sequencing.facts import BatchKey
from photinus_core.store import PostgresSettings, PostgresStore, postgres
from photinus_core.store.notifier import Notifier
from photinus_core.store.postgres_connections import Opener
from photinus_core.store.postgres_listener import CHANNEL, Listener, pack, unpack

from tests.support.store_records import (
    NS,
    make_batch,
    make_data,
    make_event,
    make_message,
    make_operation,
    make_pin,
    make_subscription,
    write,
)

ROLE = "namespace/alpha"
# Long enough for what is ready to happen; tests that wait for nothing to happen wait so long.
WHILE_S = 0.2
FROZEN_S = 20.0

Act = Callable[[PostgresStore], Coroutine[Any, Any, None]]


@pytest.fixture
def settings(postgres_url: str) -> PostgresSettings:
    return PostgresSettings(postgres_url, poll_s=30.0)


@pytest.fixture
async def here(settings: PostgresSettings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings)
    await store.wait_listening()
    yield store
    await store.aclose()


@pytest.fixture
async def there(settings: PostgresSettings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings)
    await store.wait_listening()
    yield store
    await store.aclose()


class Heard:
    """What a store told its listeners."""

    def __init__(self, store: PostgresStore) -> None:
        self.all: list[Notification] = []
        self._changed = asyncio.Event()
        store.subscribe(self._take)

    def _take(self, notification: Notification) -> None:
        self.all.append(notification)
        self._changed.set()

    async def until(self, *wanted: Notification) -> None:
        async with asyncio.timeout(10):
            while not set(wanted) <= set(self.all):
                self._changed.clear()
                await self._changed.wait()


async def append(store: PostgresStore, number: int = 1) -> None:
    async with store.write(NS) as tx:
        tx.append_events([make_event() for _ in range(number)])


async def test_replicas_hear_each_others_commits(here: PostgresStore, there: PostgresStore) -> None:
    heard = Heard(there), Heard(here)
    async with here.write(NS) as tx:
        await tx.insert_messages([write(), write()])
        await tx.insert_wakeups([Wakeup("data", "x")])
        await tx.insert_operations([make_operation(make_batch().tx.id)])
        await tx.save_subscription(make_subscription("s"), None)
        tx.append_events([make_event(), make_event()])
    await heard[0].until((NS, "messages", 2), (NS, "wakeups", 1), (NS, "events", 2))
    await heard[0].until((NS, "operations", 1), (NS, "subscriptions", 2))
    await append(there)
    await heard[1].until((NS, "events", 3))
    assert here.cluster_id == there.cluster_id


async def test_notifications_hold_no_data(
    here: PostgresStore, there: PostgresStore, settings: PostgresSettings
) -> None:
    lines: set[str] = set()
    wanted = {"alpha messages 1", "alpha events 1", "alpha subscriptions 1"}
    all_here = asyncio.Event()

    def take(*received: object) -> None:
        lines.update(str(received[3]).splitlines())
        if wanted <= lines:
            all_here.set()

    spy = await asyncpg.connect(settings.url)
    await spy.add_listener(CHANNEL, take)
    heard = Heard(there)
    message = write(make_data('"secret"'), tag="secret", topics=("secret",), key="secret")
    async with here.write(NS) as tx:
        await tx.insert_messages([message])
        await tx.save_subscription(make_subscription("secret"), None)
        tx.append_events([make_event()])
    await heard.until((NS, "messages", 1), (NS, "events", 1), (NS, "subscriptions", 1))
    async with asyncio.timeout(10):
        await all_here.wait()
    await spy.close()
    assert lines == wanted


async def test_notifications_are_coalesced(settings: PostgresSettings) -> None:
    """What came together while one sending was under way is sent at once, of each topic the newest."""
    payloads: list[str] = []
    arrived = asyncio.Event()

    def take(*received: object) -> None:
        payloads.append(str(received[3]))
        arrived.set()

    async def nothing() -> None:
        pass

    spy = await asyncpg.connect(settings.url)
    await spy.add_listener(CHANNEL, take)
    listener = Listener(Opener(settings), settings, Notifier(), nothing)
    for number in range(1, 101):
        listener.committed([(NS, "events", number), (NS, "messages", number)])
    async with asyncio.timeout(10), Background("test") as work:
        work.start("listener", listener.run())
        await arrived.wait()
        arrived.clear()
        listener.committed([(NS, "events", 101)])
        await arrived.wait()
    await spy.close()
    assert payloads == ["alpha events 100\nalpha messages 100", "alpha events 101"]


async def test_a_lost_notification_is_made_up_for(settings: PostgresSettings) -> None:
    """What a replica committed that died before it told anyone is found by the poll."""
    store = await PostgresStore.open(replace(settings, poll_s=0.1))
    await store.wait_listening()
    await append(store)
    heard = Heard(store)
    dead = await asyncpg.connect(settings.url)
    await dead.execute("UPDATE event_heads SET sequence = 7")
    await heard.until((NS, "events", 7))
    await dead.close()
    await store.aclose()


async def test_a_listener_that_was_away_takes_everything_as_changed(
    here: PostgresStore, there: PostgresStore, settings: PostgresSettings
) -> None:
    await append(here)
    heard = Heard(there)
    other = await asyncpg.connect(settings.url)
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'photinus listener' AND datname = current_database()"
    )
    await other.close()
    await heard.until((NS, "definitions", 0), (NS, "subscriptions", 0), (NS, "events", 1))
    await append(here)
    await heard.until((NS, "events", 2))


def test_payloads_are_read_as_written_and_strange_ones_skipped() -> None:
    told = [(Namespace(f"ns{n}"), "events", n) for n in range(500)]
    payloads = pack(told)
    assert len(payloads) > 1
    assert all(len(payload.encode()) < 8000 for payload in payloads)
    assert [found for payload in payloads for found in unpack(payload)] == told
    assert unpack("x\na b\na b c\na events -1\n\nalpha events 5") == [(NS, "events", 5)]


INSERTS: dict[str, Act] = {}


def inserting(name: str) -> Callable[[Act], Act]:
    def keep(act: Act) -> Act:
        INSERTS[name] = act
        return act

    return keep


@inserting("messages")
async def _messages(store: PostgresStore) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(key="k")])


@inserting("wakeups")
async def _wakeups(store: PostgresStore) -> None:
    async with store.write(NS) as tx:
        await tx.insert_wakeups([Wakeup("data", "x")])


@inserting("pins")
async def _pins(store: PostgresStore) -> None:
    async with store.write(NS) as tx:
        await tx.insert_pins([make_pin(make_batch())])


@inserting("events")
async def _events(store: PostgresStore) -> None:
    await append(store)


@pytest.mark.parametrize("table", ["messages", "wakeups", "pins", "events"])
async def test_sequences_are_committed_in_their_order(
    here: PostgresStore, there: PostgresStore, table: str
) -> None:
    """A reader that goes on from the newest sequence must not miss a lower one that commits later."""
    held, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with here.write(NS) as tx:
            await tx.insert_messages([write()])
            await tx.insert_wakeups([Wakeup("data", "y")])
            await tx.insert_pins([make_pin(make_batch())])
            if table != "events":
                await tx.last_event_sequence()
                held.set()
                await go_on.wait()
            tx.append_events([make_event()])

    async with asyncio.TaskGroup() as group:
        if table != "events":
            group.create_task(first())
            await held.wait()
            second = group.create_task(INSERTS[table](there))
            done, _ = await asyncio.wait([second], timeout=WHILE_S)
            assert not done
            go_on.set()
        else:
            for _ in range(20):
                group.create_task(append(here, 2))
                group.create_task(append(there, 3))
    async with here.read(NS) as reader:
        events = await reader.events_after(0, 1000)
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))


async def test_one_idempotency_key_on_two_replicas_is_stored_once(
    here: PostgresStore, there: PostgresStore
) -> None:
    async def send(store: PostgresStore) -> object:
        async with store.write(NS) as tx:
            (taken_by,) = await tx.insert_messages([sent := write(key="same")])
        return taken_by or sent.message.header.id

    ids = await asyncio.gather(*(send(store) for store in (here, there) * 5))
    assert len(set(ids)) == 1


async def test_one_operation_is_finished_once(here: PostgresStore, there: PostgresStore) -> None:
    operation = make_operation(make_batch().tx.id)
    async with here.write(NS) as tx:
        await tx.insert_operations([operation])
    change = OperationChange(operation.id, OperationStatus.SUCCEEDED, Nanoseconds(1))

    async def finish(store: PostgresStore) -> int:
        async with store.write(NS) as tx:
            return len(await tx.change_operations([change]))

    assert sum(await asyncio.gather(*(finish(s) for s in (here, there) * 5))) == 1


async def test_one_end_of_an_operation_is_told_once(
    here: PostgresStore, there: PostgresStore
) -> None:
    """Two replicas are told at the same time, and the second when the first has written but not committed."""
    operation = msgspec.structs.replace(
        make_operation(make_batch().tx.id), type=OperationType.BLOCKCHAIN_INVOKE
    )
    async with here.write(NS) as tx:
        await tx.insert_operations([operation])
    change = OperationChange(operation.id, OperationStatus.SUCCEEDED, Nanoseconds(1))
    says_more = replace(change, output='{"more":1}')
    async with asyncio.TaskGroup() as group:
        async with here.write(NS) as tx:
            await correct_status(tx, NS, change)
            other = group.create_task(tell(there, says_more))
            await asyncio.wait([other], timeout=WHILE_S)
        for store in (here, there) * 5:
            group.create_task(tell(store, replace(change, output="{}")))
    async with here.read(NS) as reader:
        assert len(await reader.events_after(0, 100)) == 1


async def test_a_decision_on_what_is_taken_back_meanwhile_is_not_stored(
    here: PostgresStore, there: PostgresStore
) -> None:
    """The decision reads the pin before its removal is committed, and writes after that."""
    batch = make_batch()
    async with here.write(NS) as tx:
        (pin,) = await tx.insert_pins([make_pin(batch, 0)])
    voided = BatchVoided(event_position(pin), BatchKey(batch.id, batch.hash), "")
    decided = commit.Commit(NS, Nanoseconds(1), [voided], Effects(), (), -1)

    async def decide() -> None:
        async with there.write(NS) as tx:
            await commit.write(tx, decided)

    async with here.write(NS) as tx:
        await tx.delete_pins([pin.protocol_id])
        assert await tx.pins_of_batches([batch.id]) == []
        deciding = asyncio.create_task(decide())
        await asyncio.wait([deciding], timeout=WHILE_S)
    with pytest.raises(commit.TakenBackError):
        await deciding
    async with here.write(NS) as tx:  # the other way round the decision stays
        await tx.insert_pins([pin])
        await commit.write(tx, decided)
        removing = asyncio.create_task(remove(there, pin))
        await asyncio.wait([removing], timeout=WHILE_S)
    await removing
    async with here.read(NS) as reader:
        assert [pin.dispatched for pin in await reader.pins_of_batches([batch.id])] == [True]


async def remove(store: PostgresStore, pin: Pin) -> None:
    async with store.write(NS) as tx:
        await tx.delete_pins([pin.protocol_id])


async def tell(store: PostgresStore, change: OperationChange) -> None:
    async with store.write(NS) as tx:
        await correct_status(tx, NS, change)


# ------------------------------------------------------------------------------------ fencing


async def freeze(
    store: PostgresStore, fence: Fence, holds: asyncio.Event, woken: asyncio.Event
) -> None:
    """A leader that stops in the middle of its work and goes on once it is woken."""
    async with store.write(NS, fence) as tx:
        await tx.insert_received(make_batch(), [make_message()], [])
        await tx.insert_wakeups([Wakeup("data", "old")])
        await tx.last_event_sequence()
        holds.set()
        async with asyncio.timeout(FROZEN_S):
            await woken.wait()
        tx.append_events([make_event()])


async def test_a_frozen_leader_is_ended_and_refused(
    here: PostgresStore, there: PostgresStore
) -> None:
    """Its transaction holds rows the successor needs: they are free as soon as that one leads."""
    old = Fence(ROLE, await here.raise_epoch(ROLE, Epoch(5)))
    holds, woken = asyncio.Event(), asyncio.Event()
    frozen = asyncio.create_task(freeze(here, old, holds, woken))
    await holds.wait()
    loop = asyncio.get_running_loop()
    started = loop.time()
    new = Fence(ROLE, await there.raise_epoch(ROLE, Epoch(6)))
    async with there.write(NS, new) as tx:
        await tx.insert_wakeups([Wakeup("data", "new")])
        tx.append_events([make_event()])
    assert loop.time() - started < FROZEN_S / 2
    woken.set()
    with pytest.raises(Unavailable, match=r"FF1913[58]"):
        await frozen
    for _ in range(3):
        with pytest.raises(Deposed, match="FF19120"):
            async with here.write(NS, old) as tx:
                tx.append_events([make_event()])
    async with there.read(NS) as reader:
        assert [w.key for w in await reader.wakeups(10)] == ["new"]
        assert await reader.last_event_sequence() == 1


async def test_a_leaders_transaction_under_way_is_waited_for(
    here: PostgresStore, there: PostgresStore
) -> None:
    """Once the epoch is raised nothing of the former leader can still commit."""
    old = Fence(ROLE, await here.raise_epoch(ROLE, None))
    async with here.write(NS, old) as tx:
        await tx.last_event_sequence()
        raising = asyncio.create_task(there.raise_epoch(ROLE, None))
        done, _ = await asyncio.wait([raising], timeout=postgres.LEASE_GRACE_S / 2)
        assert not done
        tx.append_events([make_event()])
    assert await raising == old.epoch + 1
    async with there.read(NS) as reader:
        assert await reader.last_event_sequence() == 1


async def test_other_leaders_are_left_alone_by_a_takeover(
    here: PostgresStore, there: PostgresStore
) -> None:
    beta = Fence("namespace/beta", await here.raise_epoch("namespace/beta", None))
    await here.raise_epoch(ROLE, None)
    async with here.write(Namespace("beta"), beta) as tx:
        await tx.last_event_sequence()
        await there.raise_epoch(ROLE, None)
        tx.append_events([make_event(namespace=Namespace("beta"))])


async def test_the_database_ends_a_transaction_that_stands_still(
    settings: PostgresSettings, there: PostgresStore
) -> None:
    """Also without a successor: others must get the rows a frozen replica holds."""
    store = await PostgresStore.open(replace(settings, idle_in_transaction_s=1.0))
    started = asyncio.Event()

    async def stand_still() -> None:
        async with store.write(NS) as tx:
            await tx.insert_wakeups([Wakeup("data", "x")])
            await tx.last_event_sequence()
            started.set()
            # The other replica gets what this one holds only once this transaction was ended.
            async with there.write(NS) as other:
                await other.insert_wakeups([Wakeup("data", "y")])
            tx.append_events([make_event()])

    with pytest.raises(Unavailable, match=r"FF1913[58]"):
        await stand_still()
    assert started.is_set()
    async with there.read(NS) as reader:
        assert [w.key for w in await reader.wakeups(10)] == ["y"]
    await append(store)
    await store.aclose()


async def test_an_offset_moves_only_under_the_current_epoch(
    here: PostgresStore, there: PostgresStore
) -> None:
    subscription = make_subscription("s")
    async with here.write(NS) as tx:
        await tx.save_subscription(subscription, 1)
    role = f"subscription/{subscription.id}"
    old = Fence(role, await here.raise_epoch(role, None))
    async with here.write(NS) as tx:
        await tx.set_offset(subscription.id, 2, old)
        await tx.last_event_sequence()
        raising = asyncio.create_task(there.raise_epoch(role, None))
        done, _ = await asyncio.wait([raising], timeout=postgres.LEASE_GRACE_S / 2)
        assert not done
    new = Fence(role, await raising)
    async with there.write(NS) as tx:
        await tx.set_offset(subscription.id, 5, new)
    async with here.write(NS) as tx:
        await tx.set_offset(subscription.id, 3, old)
    async with here.read(NS) as reader:
        assert await reader.offset(subscription.id) == 5


async def test_a_deleted_subscription_leaves_no_offset(
    here: PostgresStore, there: PostgresStore
) -> None:
    subscription = make_subscription("s")

    async def move(tx: WriteTransaction) -> None:
        await tx.set_offset(subscription.id, 2)

    async def delete(tx: WriteTransaction) -> None:
        await tx.delete_subscription(subscription.id)

    async def do(act: Callable[[WriteTransaction], Awaitable[None]]) -> None:
        async with there.write(NS) as tx:
            await act(tx)

    for first, second in ((move, delete), (delete, move)):
        async with here.write(NS) as tx:
            await tx.save_subscription(subscription, 1)
        async with here.write(NS) as tx:
            await first(tx)
            await tx.last_event_sequence()  # has it written
            other = asyncio.create_task(do(second))
            await asyncio.wait([other], timeout=WHILE_S)
        await other
        async with here.read(NS) as reader:
            assert await reader.subscription(subscription.id) is None
            assert await reader.offset(subscription.id) is None


async def test_a_deadlock_is_said_and_leaves_nothing_behind(
    here: PostgresStore, there: PostgresStore
) -> None:
    """The order of locks rules deadlocks out; should one happen all the same, one of the two is refused."""
    barrier = asyncio.Barrier(2)

    async def cross(store: PostgresStore, first: str, second: str) -> str:
        async with store.write(NS) as tx:
            await tx.set_notes("deadlock", {first: "x"})
            await tx.last_event_sequence()
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await barrier.wait()
            await tx.set_notes("deadlock", {second: "x"})
        return "stored"

    outcomes = await asyncio.gather(
        cross(here, "a", "b"), cross(there, "b", "a"), return_exceptions=True
    )
    refused = [o for o in outcomes if isinstance(o, PhotinusError)]
    assert outcomes.count("stored") == 1
    assert [o.code for o in refused] == ["FF19137"]
    assert isinstance(refused[0], Unavailable)
