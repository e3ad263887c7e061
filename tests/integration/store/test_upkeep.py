"""What waits is counted, and pruning deletes what is old and not needed, and nothing else.

Method: the contract of `ports.Store` against a real database; for each reason to keep a row there is
one that has it and one that does not.
"""

from itertools import pairwise

import msgspec
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Namespace, Nanoseconds, new_uuid
from photinus_core.model.ledger import (
    OperationStatus,
    OperationType,
    ReceivedBatchKey,
    TransactionType,
)
from photinus_core.model.messages import MessageState, TransactionRef
from photinus_core.ports.store import (
    Backlog,
    OperationChange,
    Prunable,
    PruneWindow,
    Store,
)
from photinus_core.store.upkeep import WINDOW_ROWS

from tests.support.store_records import (
    NS,
    make_batch,
    make_blockchain_event,
    make_data,
    make_dead_letter,
    make_event,
    make_message,
    make_operation,
    make_pin,
    make_subscription,
    make_transaction,
    write,
)

OLD, NOW = Nanoseconds(1_000), Nanoseconds(10_000)


def event(created: Nanoseconds) -> NewEvent:
    return msgspec.structs.replace(make_event(), created=created)


async def prune(store: Store, collection: Prunable, before: int = NOW) -> tuple[int, int]:
    """Prunes a collection whole; gives how many rows went and how many old ones stayed."""
    gone = kept = after = 0
    more = True
    while more:
        async with store.write(NS) as tx:
            window = await tx.prune_window(collection, after, before)
            await tx.prune(collection, window.free)
        gone, kept, after, more = (
            gone + len(window.free),
            kept + window.kept,
            window.last,
            window.more,
        )
    return gone, kept


async def test_the_backlog_counts_what_waits(store: Store) -> None:
    async with store.read(NS) as reader:
        assert await reader.backlog() == Backlog(0, 0, 0)
    message = make_message(make_data())
    batch = make_batch(message)
    slow, fast = make_subscription("slow"), make_subscription("fast")
    async with store.write(NS) as tx:
        await tx.insert_messages([write(make_data()), write(make_data())])
        pins = await tx.insert_pins([make_pin(batch), make_pin(batch, 1), make_pin(batch, 2)])
        await tx.mark_dispatched([pins[0].sequence])
        tx.append_events([make_event() for _ in range(5)])
    async with store.read(NS) as reader:
        assert await reader.backlog() == Backlog(2, 2, 0)
    async with store.write(NS) as tx:
        await tx.save_subscription(slow, 2)
        await tx.save_subscription(fast, 4)
    async with store.read(NS) as reader:
        assert (await reader.backlog()).events_behind == 3


async def test_subscriptions_are_as_far_behind_as_their_offsets_are(store: Store) -> None:
    async with store.read(NS) as reader:
        assert await reader.subscription_lags(10) == []
    async with store.write(NS) as tx:
        tx.append_events([make_event() for _ in range(5)])
        await tx.save_subscription(make_subscription("at the end"), 5)
        await tx.save_subscription(make_subscription("slow"), 2)
        await tx.save_subscription(make_subscription("never served"), None)
    async with store.write(Namespace("another")) as tx:
        await tx.save_subscription(
            msgspec.structs.replace(make_subscription("elsewhere"), namespace=Namespace("another")),
            0,
        )
    async with store.read(NS) as reader:
        lags = await reader.subscription_lags(10)
        assert [(lag.name, lag.events) for lag in lags] == [
            ("never served", 5),
            ("slow", 3),
            ("at the end", 0),
        ]
        assert await reader.subscription_lags(1) == lags[:1]


async def test_events_go_up_to_what_every_subscription_has_got(store: Store) -> None:
    async with store.write(NS) as tx:
        tx.append_events([event(OLD) for _ in range(5)])
        tx.append_events([event(NOW)])
        await tx.save_subscription(make_subscription("slow"), 3)
        await tx.save_subscription(make_subscription("fast"), 6)
    assert await prune(store, Prunable.EVENTS) == (3, 2)
    async with store.write(NS) as tx:
        assert [e.sequence for e in await tx.events_after(0, 10)] == [4, 5, 6]
        tx.append_events([make_event()])
    async with store.read(NS) as reader:
        assert await reader.last_event_sequence() == 7, "sequences go on"


async def test_a_subscription_that_was_never_served_keeps_all_events(store: Store) -> None:
    async with store.write(NS) as tx:
        tx.append_events([event(OLD)])
        await tx.save_subscription(make_subscription("new"), None)
    assert await prune(store, Prunable.EVENTS) == (0, 1)


async def test_without_subscriptions_all_old_events_go(store: Store) -> None:
    count = WINDOW_ROWS + 5
    async with store.write(NS) as tx:
        tx.append_events([event(OLD) for _ in range(count)])
        tx.append_events([event(NOW) for _ in range(3)])
    assert await prune(store, Prunable.EVENTS) == (count, 0)
    async with store.read(NS) as reader:
        left = await reader.events_after(0, 10)
    assert [e.created for e in left] == [NOW] * 3
    assert [b.sequence - a.sequence for a, b in pairwise(left)] == [1, 1]


async def test_events_of_dead_letters_stay(store: Store) -> None:
    kept, free = event(OLD), event(OLD)
    async with store.write(NS) as tx:
        tx.append_events([kept, free])
        await tx.save_dead_letters([make_dead_letter(new_uuid(), kept.id)])
    assert await prune(store, Prunable.EVENTS) == (1, 1)
    async with store.read(NS) as reader:
        assert list(await reader.events([kept.id, free.id])) == [kept.id]


async def test_looking_deletes_nothing_and_stops_where_all_is_young(store: Store) -> None:
    async with store.write(NS) as tx:
        tx.append_events([event(OLD) for _ in range(2)])
        tx.append_events([event(NOW)])
    async with store.read(NS) as reader:
        assert await reader.prune_window(Prunable.EVENTS, 0, NOW) == PruneWindow(
            (1, 2), 0, 3, False
        )
        assert await reader.prune_window(Prunable.EVENTS, 3, NOW) == PruneWindow((), 0, 3, False)
        assert len(await reader.events_after(0, 10)) == 3


async def test_operations_stay_while_something_may_need_them(store: Store) -> None:
    message = make_message(make_data())
    decided, open_batch, unpinned = (
        make_batch(message),
        make_batch(message),
        make_batch(message, kind=TransactionType.UNPINNED),
    )
    done = OperationStatus.SUCCEEDED
    gone = [make_operation(b.tx.id, done) for b in (decided, unpinned)]
    gone.append(make_operation(new_uuid(), OperationStatus.FAILED))
    download = msgspec.structs.replace(
        make_operation(new_uuid(), OperationStatus.FAILED),
        type=OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH,
    )
    kept = [
        make_operation(open_batch.tx.id, done),
        make_operation(new_uuid(), OperationStatus.PENDING),
        make_operation(new_uuid(), OperationStatus.INITIALIZED),
        download,
    ]
    young = make_operation(new_uuid())
    async with store.write(NS) as tx:
        for batch in (decided, open_batch, unpinned):
            await tx.seal_batch(batch, [], {})
        await tx.finish_batch(decided.id, MessageState.SENT, OLD)
        await tx.finish_batch(open_batch.id, MessageState.SENT, OLD)
        await tx.finish_batch(unpinned.id, MessageState.CONFIRMED, OLD)
        await tx.confirm_batches([ReceivedBatchKey(decided.id, decided.hash)], OLD)
        await tx.insert_operations([*gone, *kept, young])
        await tx.change_operations([OperationChange(young.id, done, NOW)])
    assert await prune(store, Prunable.OPERATIONS) == (len(gone), len(kept))
    async with store.read(NS) as reader:
        left = await reader.operations([o.id for o in (*gone, *kept, young)])
    assert set(left) == {o.id for o in (*kept, young)}


async def test_blockchain_events_of_undecided_pins_stay(store: Store) -> None:
    batch = make_batch(make_message(make_data()))
    decided, waiting = make_pin(batch, block=1), make_pin(batch, block=2)
    first, second = (make_blockchain_event(p.protocol_id) for p in (decided, waiting))
    async with store.write(NS) as tx:
        stored = await tx.insert_pins([decided, waiting])
        await tx.mark_dispatched([stored[0].sequence])
        await tx.insert_blockchain_events([first, second])
    assert await prune(store, Prunable.BLOCKCHAIN_EVENTS) == (1, 1)
    async with store.read(NS) as reader:
        assert set(await reader.blockchain_events([first.id, second.id])) == {second.id}


async def test_transactions_go_when_nothing_names_them(store: Store) -> None:
    lone, of_batch, of_operation, of_event = (make_transaction() for _ in range(4))
    batch = make_batch(make_message(make_data()))
    batch = msgspec.structs.replace(
        batch, tx=TransactionRef(TransactionType.BATCH_PIN, of_batch.id)
    )
    async with store.write(NS) as tx:
        await tx.insert_transactions([lone, of_batch, of_operation, of_event])
        await tx.seal_batch(batch, [], {})
        await tx.insert_operations([make_operation(of_operation.id)])
        await tx.insert_blockchain_events([make_blockchain_event("1", tx=of_event.id)])
    assert await prune(store, Prunable.TRANSACTIONS) == (1, 3)
    async with store.read(NS) as reader:
        found = await reader.transactions([t.id for t in (lone, of_batch, of_operation, of_event)])
    assert set(found) == {of_batch.id, of_operation.id, of_event.id}


async def test_another_namespace_keeps_its_own(store: Store) -> None:
    async with store.write(NS) as tx:
        tx.append_events([event(OLD)])
        await tx.insert_operations([make_operation(new_uuid(), OperationStatus.SUCCEEDED)])
    other = Namespace("beta")
    for collection in Prunable:
        async with store.write(other) as tx:
            window = await tx.prune_window(collection, 0, NOW)
            assert window.free == ()
            await tx.prune(collection, (1, 2, 3))
    async with store.read(NS) as reader:
        assert len(await reader.events_after(0, 10)) == 1
