"""Batches, pins, next pins, groups, wake-ups and parked messages in the store.

Method: the contract of `ports.Store` against a real database, one behaviour per test.
"""

import msgspec
from photinus_core.model.ids import Did, Nanoseconds, new_uuid
from photinus_core.model.ledger import ReceivedBatchKey, TransactionType
from photinus_core.model.messages import Group, GroupMember, MessageState, NextPin
from photinus_core.ports.store import Decision, MessageWrite, ParkedMessage, Store, Wakeup

from tests.support.store_records import NS, make_batch, make_message, make_pin, new_hash, write


async def test_own_batches_are_found_at_once_received_ones_once_confirmed(store: Store) -> None:
    own, received = make_batch(), make_batch(dispatched=True)
    async with store.write(NS) as tx:
        await tx.seal_batch(own, [], {})
        await tx.insert_received(received, [], [])
        await tx.set_batch_payload_ref(own.id, "Qm9")
    own = msgspec.structs.replace(own, payload_ref="Qm9", seal_order=1)
    async with store.read(NS) as reader:
        assert await reader.batches([own.id, received.id]) == {own.id: own}
        assert await reader.batches_of(received.tx.id) == []
        keys = [ReceivedBatchKey(b.id, b.hash) for b in (own, received)]
        assert await reader.received_batches([*keys, ReceivedBatchKey(own.id, new_hash())]) == {
            keys[0]: own,
            keys[1]: received,
        }
    async with store.write(NS) as tx:
        await tx.confirm_batches([keys[1]], Nanoseconds(8))
        await tx.confirm_batches([keys[1]], Nanoseconds(9))
    async with store.read(NS) as reader:
        confirmed = msgspec.structs.replace(received, confirmed=Nanoseconds(8))
        assert await reader.batches_of(received.tx.id) == [confirmed]


async def test_own_batches_without_pins_are_off_chain(store: Store) -> None:
    pinned, missing = make_batch(), make_batch()
    unpinned = make_batch(kind=TransactionType.UNPINNED)
    other_content = msgspec.structs.replace(make_batch(), id=missing.id)
    async with store.write(NS) as tx:
        for batch in (pinned, missing, unpinned):
            await tx.seal_batch(batch, [], {})
        await tx.finish_batch(missing.id, MessageState.SENT, Nanoseconds(1))
        await tx.insert_pins([make_pin(pinned), make_pin(other_content)])
    async with store.read(NS) as reader:
        assert [b.id for b in await reader.own_batches_off_chain()] == [missing.id]


async def test_a_cancelled_batch_is_waited_for_by_nobody(store: Store) -> None:
    batch = make_batch()
    ready, sent = (MessageWrite(make_message(), ()) for _ in range(2))
    async with store.write(NS) as tx:
        await tx.insert_messages([ready, sent])
        ids = [write.message.header.id for write in (ready, sent)]
        await tx.seal_batch(batch, [(each, ()) for each in ids], {})
    decided = Decision(
        sent.message.header.id, sent.message.hash, MessageState.CONFIRMED, Nanoseconds(1)
    )
    async with store.write(NS) as tx:
        await tx.decide([decided])
        assert await tx.cancel_batch(batch.id) == [ready.message.header.id]
        assert await tx.cancel_batch(batch.id) == []
    async with store.read(NS) as reader:
        assert (await reader.batches([batch.id]))[batch.id].cancelled
        assert await reader.open_batches() == await reader.own_batches_off_chain() == []
        states = [(await reader.messages(ids))[each].state for each in ids]
    assert states == [MessageState.CANCELLED, MessageState.CONFIRMED]


async def test_a_batch_is_on_chain_by_its_own_key_and_before_the_end(store: Store) -> None:
    """Found by the simulator: a stranger's pin, or one beyond the end, kept a batch from being
    pinned.
    """
    copied, late = make_batch(), make_batch()
    async with store.write(NS) as tx:
        for batch in (copied, late):
            await tx.seal_batch(batch, [], {})
        stranger = msgspec.structs.replace(make_pin(copied), signer="0xstranger")
        beyond = make_pin(late)
        await tx.insert_pins([stranger, beyond])
    at = (beyond.block, beyond.transaction_index, beyond.log_index)
    async with store.read(NS) as reader:
        assert [b.id for b in await reader.own_batches_off_chain()] == [copied.id]
        final = (beyond.contract_index, *at)
        assert [b.id for b in await reader.own_batches_off_chain(final)] == [copied.id]
        final = (beyond.contract_index, beyond.block - 1, 9, 9)
        assert [b.id for b in await reader.own_batches_off_chain(final)] == [copied.id, late.id]
        final = (beyond.contract_index + 1, beyond.block - 1, 9, 9)
        assert [b.id for b in await reader.own_batches_off_chain(final)] == [copied.id]


async def test_pins_are_stored_once_and_answered_in_the_order_given(store: Store) -> None:
    batch = make_batch()
    pins = [make_pin(batch, 0), make_pin(batch, 1)]
    async with store.write(NS) as tx:
        stored = await tx.insert_pins(pins)
        assert [msgspec.structs.replace(pin, sequence=-1) for pin in stored] == pins
        assert stored[0].sequence < stored[1].sequence
        (added,) = await tx.insert_pins([*pins, third := make_pin(batch, 2)])
        assert msgspec.structs.replace(added, sequence=-1) == third
        assert added.sequence > stored[1].sequence
        assert await tx.insert_pins(pins) == []
        assert await tx.insert_pins([]) == []


async def test_undispatched_pins_leave_out_strangers_masked_ones(store: Store) -> None:
    known, stranger = make_batch(), make_batch()
    async with store.write(NS) as tx:
        await tx.insert_received(known, [], [])
        stored = await tx.insert_pins(
            [
                make_pin(stranger, 0, masked=True),
                make_pin(known, 0, masked=True),
                make_pin(stranger, 1),
                make_pin(msgspec.structs.replace(known, hash=new_hash()), 0, masked=True),
            ]
        )
        assert await tx.undispatched_pins(0, 10) == [stored[1], stored[2]]
        assert await tx.undispatched_pins(stored[1].sequence, 10) == [stored[2]]
        assert await tx.undispatched_pins(0, 1) == [stored[1]]
        assert await tx.undispatched_pins(0, 10, stored[2].sequence) == stored[1:]
        assert await tx.undispatched_pins(0, 10, 0) == stored
        assert await tx.last_pin_sequence() == stored[3].sequence
        await tx.mark_dispatched([stored[1].sequence])
        assert await tx.undispatched_pins(0, 10) == [stored[2]]


async def test_pins_by_hash_and_by_batch_come_in_chain_order(store: Store) -> None:
    batch, wanted = make_batch(), new_hash()
    late, early = (make_pin(batch, 0, block=block, masked=True, hash_=wanted) for block in (9, 2))
    async with store.write(NS) as tx:
        stored = await tx.insert_pins([late, early, make_pin(batch, 1, hash_=wanted)])
        assert await tx.pins_by_hash([wanted, new_hash()]) == [stored[1], stored[0]]
        assert [p.block for p in await tx.pins_of_batches([batch.id])] == [1, 2, 9]
        await tx.mark_dispatched([stored[1].sequence])
        assert await tx.pins_by_hash([wanted]) == [stored[0]]


async def test_removed_events_take_their_undecided_pins_along(store: Store) -> None:
    batch = make_batch()
    async with store.write(NS) as tx:
        stored = await tx.insert_pins([make_pin(batch, 0, block=5), make_pin(batch, 1, block=5)])
        await tx.mark_dispatched([stored[0].sequence])
        await tx.delete_pins([stored[0].protocol_id, "nothing"])
        await tx.delete_pins([])
        left = await tx.pins_of_batches([batch.id])
        assert [(p.index, p.dispatched) for p in left] == [(0, True)]
        again = await tx.insert_pins([make_pin(batch, 1, block=6)])
        assert again[0].sequence > stored[1].sequence


async def test_next_pins_are_replaced(store: Store) -> None:
    context = new_hash()
    first = NextPin(NS, context, Did("did:firefly:org/a"), new_hash(), 0)
    second = NextPin(NS, context, Did("did:firefly:org/b"), new_hash(), 3, (1, 2, 3))
    moved = msgspec.structs.replace(first, nonce=1, hash=new_hash(), decided_key=(9, 0, 9))
    async with store.write(NS) as tx:
        await tx.set_next_pins([first, second])
        await tx.set_next_pins([moved])
    async with store.read(NS) as reader:
        assert await reader.next_pins([context, new_hash()]) == [moved, second]


async def test_groups_are_stored_once(store: Store) -> None:
    members = (GroupMember("did:a", new_uuid()), GroupMember("did:b", new_uuid()))
    group = Group(NS, "network", "ü", members, new_hash(), Nanoseconds(1), new_uuid())
    async with store.write(NS) as tx:
        await tx.insert_groups([group])
        await tx.insert_groups([msgspec.structs.replace(group, name="other")])
    async with store.read(NS) as reader:
        assert await reader.groups([group.hash, new_hash()]) == {group.hash: group}


async def test_wakeups_are_taken_up_to_a_sequence(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.insert_wakeups([Wakeup("data", "a"), Wakeup("blob", "b"), Wakeup("data", "c")])
    async with store.write(NS) as tx:
        first, second, third = await tx.wakeups(10)
        assert (first.kind, first.key, second.key, third.key) == ("data", "a", "b", "c")
        assert await tx.wakeups(1) == [first]
        await tx.delete_wakeups(second.sequence)
        await tx.insert_wakeups([Wakeup("data", "d")])
        left = await tx.wakeups(10)
    assert [w.key for w in left] == ["c", "d"]
    assert left[1].sequence > third.sequence


async def test_parked_messages_are_counted_per_peer(store: Store) -> None:
    parked = [
        ParkedMessage(f"m{i}", f"p{i % 2}", "me", "ü" * (i + 1), Nanoseconds(i)) for i in range(4)
    ]
    async with store.write(NS) as tx:
        await tx.park_messages(parked)
        await tx.park_messages(parked[:1])
        assert await tx.parked_messages("p1", 10) == [parked[1], parked[3]]
        assert await tx.parked_messages(None, 3) == parked[:3]
        assert await tx.parked_size("p1") == (2, 12)
        assert await tx.parked_size("p9") == (0, 0)
        await tx.unpark_messages(["m1", "m0"])
        assert await tx.parked_messages(None, 10) == parked[2:]


async def test_received_batches_of_a_message_sent_by_this_member_change_nothing(
    store: Store,
) -> None:
    """After a restore from backup the network may bring back what this member has stored anew."""
    mine = write()
    batch = make_batch(mine.message)
    async with store.write(NS) as tx:
        await tx.insert_messages([mine])
        copy = msgspec.structs.replace(
            make_message(), header=mine.message.header, hash=mine.message.hash
        )
        assert await tx.insert_received(batch, [copy], [])
    async with store.read(NS) as reader:
        found = await reader.messages([mine.message.header.id])
        assert found[mine.message.header.id].state == MessageState.READY
        assert len(await reader.ready_messages(0, 10)) == 1
