"""Goal: who watches hears of every row that changed, once it is committed, also on another replica; who does
not watch costs nothing.

Method: transactions on both databases with a watcher that keeps what it hears; two stores on one PostgreSQL
as two replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import asyncpg
import msgspec
import pytest
from photinus_core.model.changes import Change, ChangeCollection, ChangeKind
from photinus_core.model.errors import PhotinusError
from photinus_core.model.ids import Namespace, Nanoseconds, new_uuid
from photinus_core.model.ledger import OperationStatus, ReceivedBatchKey
from photinus_core.model.messages import Group, GroupMember, MessageState
from photinus_core.model.network import Datatype
from photinus_core.ports.store import Decision, OperationChange, Prunable, Store
from photinus_core.store import PostgresSettings, PostgresStore, postgres_changes
from photinus_core.store.postgres_changes import CHANGES, pack_changes, unpack_changes

from tests.support.store_records import (
    NS,
    make_batch,
    make_blockchain_event,
    make_data,
    make_event,
    make_identity,
    make_message,
    make_operation,
    make_pin,
    make_subscription,
    make_transaction,
    new_hash,
    write,
)

WAIT_S = 30

Told = tuple[str, str, str]
"""Collection, kind, and id, hash or sequence."""


class Watcher:
    """Keeps what it hears."""

    def __init__(self, store: Store) -> None:
        self.all: list[Change] = []
        self.lost_counts: list[int] = []
        self._news = asyncio.Event()
        self.stop = store.watch_changes(self)

    def changed(self, changes: Sequence[Change]) -> None:
        self.all.extend(changes)
        self._news.set()

    def lost(self, count: int) -> None:
        self.lost_counts.append(count)
        self._news.set()

    def take(self) -> set[Told]:
        found, self.all = self.all, []
        told = [(c.collection, c.kind, c.id or c.hash or str(c.sequence)) for c in found]
        assert len(set(told)) == len(told), "each object once for a transaction"
        assert {c.namespace for c in found} <= {NS}
        return {(str(a), str(b), c) for a, b, c in told}

    async def until(self, collection: str, key: str) -> Change:
        async with asyncio.timeout(WAIT_S):
            while True:
                for change in self.all:
                    if change.collection == collection and key in (change.id, change.hash):
                        return change
                self._news.clear()
                await self._news.wait()

    async def until_lost(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.lost_counts:
                self._news.clear()
                await self._news.wait()


async def test_what_own_messages_go_through_is_told(store: Store) -> None:
    watcher = Watcher(store)
    data = make_data(blob=True)
    sent = write(data)
    message = sent.message.header.id
    async with store.write(NS) as tx:
        await tx.insert_messages([sent])
    (created,) = [c for c in watcher.all if c.id == message]
    async with store.read(NS) as reader:
        (ready,) = await reader.ready_messages(0, 10)
    assert created.sequence == ready.sequence, "as lists show it"
    assert watcher.take() == {("messages", "created", message), ("data", "created", data.id)}

    batch, transaction = make_batch(sent.message), make_transaction()
    operation = make_operation(transaction.id)
    async with store.write(NS) as tx:
        await tx.insert_transactions([transaction])
        await tx.add_blockchain_ids({transaction.id: "0xAB"})
        await tx.seal_batch(batch, [(message, ("pin",))], {})
        await tx.insert_operations([operation])
    assert watcher.take() == {
        ("transactions", "created", transaction.id),
        ("batches", "created", batch.id),
        ("messages", "updated", message),
        ("operations", "created", operation.id),
    }

    async with store.write(NS) as tx:
        again = msgspec.structs.replace(transaction, created=Nanoseconds(9))
        await tx.insert_transactions([again])
        await tx.change_operations(
            [OperationChange(operation.id, OperationStatus.SUCCEEDED, Nanoseconds(2))]
        )
        await tx.set_batch_payload_ref(batch.id, "Qm")
        await tx.finish_batch(batch.id, MessageState.SENT, Nanoseconds(3))
        await tx.set_data_public({data.id: "Qm"})
        tx.append_events([first := make_event(), second := make_event()])
    assert [c.sequence for c in watcher.all if c.collection is ChangeCollection.EVENTS] == [1, 2]
    assert watcher.take() == {
        ("operations", "updated", operation.id),
        ("batches", "updated", batch.id),
        ("messages", "updated", message),
        ("data", "updated", data.id),
        ("events", "created", first.id),
        ("events", "created", second.id),
    }, "a transaction that was there already is not created again"

    async with store.write(NS) as tx:
        pins = await tx.insert_pins([make_pin(batch), make_pin(batch, 1)])
        chain_event = make_blockchain_event("1/2/3")
        await tx.insert_blockchain_events([chain_event])
        await tx.confirm_batches([ReceivedBatchKey(batch.id, batch.hash)], Nanoseconds(4))
        await tx.decide(
            [Decision(message, sent.message.hash, MessageState.CONFIRMED, Nanoseconds(4))]
        )
    assert watcher.take() == {
        *(("pins", "created", str(pin.sequence)) for pin in pins),
        ("blockchainevents", "created", chain_event.id),
        ("batches", "updated", batch.id),
        ("messages", "updated", message),
    }

    async with store.write(NS) as tx:
        await tx.mark_dispatched([pins[0].sequence])
        await tx.delete_pins([pins[1].protocol_id])
        assert await tx.delete_data(data.id) is None
        await tx.set_operation_retry(operation.id, new_uuid())
    assert watcher.take() == {
        ("pins", "updated", str(pins[0].sequence)),
        ("pins", "deleted", str(pins[1].sequence)),
        ("data", "deleted", data.id),
        ("operations", "updated", operation.id),
    }


async def test_what_others_sent_is_told_when_it_can_be_seen(store: Store) -> None:
    watcher = Watcher(store)
    data = make_data()
    message = make_message(data, state=MessageState.PENDING)
    batch = make_batch(message)
    async with store.write(NS) as tx:
        await tx.insert_received(batch, [message], [data])
    assert watcher.take() == {("messages", "created", message.header.id)}
    async with store.write(NS) as tx:
        await tx.confirm_batches([ReceivedBatchKey(batch.id, batch.hash)], Nanoseconds(4))
        await tx.decide(
            [Decision(message.header.id, message.hash, MessageState.CONFIRMED, Nanoseconds(4))]
        )
    assert watcher.take() == {
        ("messages", "updated", message.header.id),
        ("batches", "created", batch.id),
        ("data", "created", data.id),
    }


async def test_definitions_and_subscriptions_are_told(store: Store) -> None:
    watcher = Watcher(store)
    identity = msgspec.structs.replace(make_identity("org", update=None), updated=Nanoseconds(1))
    datatype = Datatype(new_uuid(), NS, "widget", "1", new_hash(), Nanoseconds(5), "{}")
    group = Group(
        NS,
        "network",
        "g",
        (GroupMember("did:firefly:org/o", new_uuid()),),
        new_hash(),
        Nanoseconds(6),
    )
    subscription = make_subscription("s")
    async with store.write(NS) as tx:
        await tx.upsert_identity(identity)
        await tx.insert_datatype(datatype)
        await tx.insert_groups([group])
        await tx.save_subscription(subscription, 0)
    assert watcher.take() == {
        ("identities", "created", identity.base.id),
        ("datatypes", "created", datatype.id),
        ("groups", "created", group.hash),
        ("subscriptions", "created", subscription.id),
    }
    late = Datatype(new_uuid(), NS, "widget", "1", new_hash(), Nanoseconds(7), "{}")
    async with store.write(NS) as tx:
        await tx.upsert_identity(msgspec.structs.replace(identity, updated=Nanoseconds(2)))
        await tx.insert_datatype(late)
        await tx.insert_groups([msgspec.structs.replace(group, created=Nanoseconds(8))])
        await tx.save_subscription(subscription, None)
    assert watcher.take() == {
        ("identities", "updated", identity.base.id),
        ("subscriptions", "updated", subscription.id),
    }, "a name or group that is there keeps its first definition: nothing changed"
    async with store.write(NS) as tx:
        await tx.delete_subscription(subscription.id)
        assert not await tx.delete_subscription(new_uuid())
    assert watcher.take() == {("subscriptions", "deleted", subscription.id)}


async def test_what_is_pruned_is_told(store: Store) -> None:
    async with store.write(NS) as tx:
        tx.append_events([event := make_event()])
        await tx.insert_transactions([transaction := make_transaction()])
    watcher = Watcher(store)
    for collection in (Prunable.EVENTS, Prunable.TRANSACTIONS):
        async with store.write(NS) as tx:
            window = await tx.prune_window(collection, 0, 1 << 62)
            await tx.prune(collection, window.free)
    assert watcher.take() == {
        ("events", "deleted", event.id),
        ("transactions", "deleted", transaction.id),
    }


async def test_nothing_is_told_of_what_was_not_committed_or_not_watched(store: Store) -> None:
    watcher = Watcher(store)
    with pytest.raises(RuntimeError, match="on purpose"):
        await break_off(store)
    assert watcher.take() == set()
    watcher.stop()
    watcher.stop()
    async with store.write(NS) as tx:
        assert tx.noted is None, "nobody listens: nothing is collected"  # type: ignore[attr-defined]  # the adapter's own
        await tx.insert_messages([write()])
    assert watcher.take() == set()


async def break_off(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data())])
        raise RuntimeError("on purpose")


class Refusing:
    """A watcher that fails."""

    def changed(self, changes: Sequence[Change]) -> None:
        raise RuntimeError(f"on purpose: {len(changes)}")

    def lost(self, count: int) -> None:
        raise RuntimeError(f"on purpose: {count}")


async def test_a_watcher_that_fails_disturbs_nobody(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.watch_changes(Refusing())
    watcher = Watcher(store)
    async with store.write(NS) as tx:
        tx.append_events([event := make_event()])
    assert watcher.take() == {("events", "created", event.id)}
    assert "a watcher of changes failed" in caplog.text


# Two replicas.


@pytest.fixture
def settings(postgres_url: str) -> PostgresSettings:
    return PostgresSettings(postgres_url, poll_s=30.0)


@pytest.fixture
async def replicas(
    settings: PostgresSettings,
) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    here, there = await PostgresStore.open(settings), await PostgresStore.open(settings)
    await here.wait_listening()
    await there.wait_listening()
    yield here, there
    await here.aclose()
    await there.aclose()


async def told_by(there: PostgresStore, watcher: Watcher) -> Change:
    """Writes on one replica until a watcher on another one hears of it: it must be known to listen first."""
    async with asyncio.timeout(WAIT_S):
        while there.noted() is None:
            await asyncio.sleep(0.01)
    async with there.write(NS) as tx:
        tx.append_events([event := make_event()])
    return await watcher.until("events", event.id)


async def until_heard(there: PostgresStore, watcher: Watcher) -> None:
    """Writes on one replica, again and again, until a watcher on another one hears of it."""
    async with asyncio.timeout(WAIT_S):
        while not watcher.all:
            with suppress(PhotinusError):
                async with there.write(NS) as tx:
                    tx.append_events([make_event()])
            await asyncio.sleep(0.05)
    assert watcher.all[0].collection is ChangeCollection.EVENTS


async def test_replicas_hear_each_others_changes(
    replicas: tuple[PostgresStore, PostgresStore],
) -> None:
    here, there = replicas
    watcher = Watcher(here)
    told = await told_by(there, watcher)
    assert told == Change(
        ChangeCollection.EVENTS, ChangeKind.CREATED, NS, told.id, sequence=told.sequence
    )
    assert told.sequence == 1
    watcher.all.clear()
    # Many at once need several payloads.
    sent = [write() for _ in range(200)]
    async with there.write(NS) as tx:
        await tx.insert_messages(sent)
    for each in sent:
        await watcher.until("messages", each.message.header.id)
    assert len(watcher.all) == 200
    assert watcher.lost_counts == []


async def test_replicas_stop_when_nobody_watches_any_more(
    replicas: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_changes, "KEPT_S", 0.2)
    monkeypatch.setattr(postgres_changes, "RENEW_S", 0.05)
    here, there = replicas
    watcher = Watcher(here)
    await until_heard(there, watcher)
    watcher.stop()
    async with asyncio.timeout(WAIT_S):
        while there.noted() is not None:
            await asyncio.sleep(0.01)
    # Who comes later is heard again.
    await until_heard(there, Watcher(here))


async def test_more_changes_than_can_wait_are_counted(
    replicas: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = replicas
    watcher = Watcher(here)
    await told_by(there, watcher)
    monkeypatch.setattr(postgres_changes, "OUTGOING_MAX", 10)
    async with there.write(NS) as tx:
        tx.append_events([make_event() for _ in range(25)])
    await watcher.until_lost()
    assert watcher.lost_counts == [15]


async def test_who_watches_is_told_when_the_connection_was_lost(
    replicas: tuple[PostgresStore, PostgresStore], settings: PostgresSettings
) -> None:
    here, there = replicas
    watcher = Watcher(here)
    await told_by(there, watcher)
    connection = await asyncpg.connect(settings.url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )
    await connection.close()
    await watcher.until_lost()
    assert watcher.lost_counts[0] == 0, "nobody knows how many"
    # The other one may not have noticed yet that its connection was cut as well.
    watcher.all.clear()
    await until_heard(there, watcher)


async def test_what_strangers_send_on_the_channel_is_skipped(
    replicas: tuple[PostgresStore, PostgresStore], settings: PostgresSettings
) -> None:
    here, there = replicas
    watcher = Watcher(here)
    await told_by(there, watcher)
    watcher.all.clear()
    connection = await asyncpg.connect(settings.url)
    for payload in ("", "junk", "a b c d e f", "lost many", "ns events vanished x - 1", "\n\n"):
        await connection.execute("SELECT pg_notify($1, $2)", CHANGES, payload)
    await connection.close()
    await told_by(there, watcher)
    assert len(watcher.all) == 1
    assert watcher.lost_counts == []


def test_payloads_stay_within_what_the_database_takes() -> None:
    name = Namespace("n" * 64)
    changes = [
        Change(
            ChangeCollection.CONTRACT_LISTENERS, ChangeKind.DELETED, name, new_uuid(), sequence=n
        )
        for n in range(300)
    ]
    changes += [Change(ChangeCollection.GROUPS, ChangeKind.CREATED, NS, hash=new_hash())]
    changes += [Change(ChangeCollection.PINS, ChangeKind.UPDATED, NS, sequence=7)]
    payloads = pack_changes(changes, 3)
    assert max(map(len, payloads)) < 8000
    read = [unpack_changes(payload) for payload in payloads]
    assert [change for found, _ in read for change in found] == changes
    assert sum(lost for _, lost in read) == 3
