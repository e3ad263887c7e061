"""Messages, data and blobs in the store: what is written is read back, squatters find no hold.

Method: the contract of `ports.Store` against a real database, one behaviour per test.
"""

import msgspec
import pytest
from photinus_core.model.errors import Conflict
from photinus_core.model.ids import Namespace, Nanoseconds, new_uuid
from photinus_core.model.ledger import ReceivedBatchKey
from photinus_core.model.messages import Data, MessageState
from photinus_core.model.query import Condition, Operator, Query
from photinus_core.ports.store import Decision, MessageWrite, Store, Table

from tests.support.store_records import (
    NS,
    full_message,
    make_batch,
    make_blob,
    make_data,
    make_message,
    new_hash,
    write,
)


async def test_messages_come_back_as_they_were_written(store: Store) -> None:
    message = full_message()
    referred = [msgspec.structs.replace(make_data(data_id=r.id), hash=r.hash) for r in message.data]
    async with store.write(NS) as tx:
        await tx.insert_data(referred)
        assert await tx.insert_messages([MessageWrite(message)]) == [None]
    async with store.read(NS) as reader:
        found = await reader.messages([message.header.id, new_uuid()])
    assert found == {message.header.id: msgspec.structs.replace(message, sequence=1)}


@pytest.mark.parametrize("value", [None, "null", '{"b":1.0,"a":[1,2],"a":"<ü>"}', '"x"'])
@pytest.mark.parametrize("blob", [True, False])
async def test_data_comes_back_as_it_was_written(
    store: Store, value: str | None, blob: bool
) -> None:
    data = make_data(value, blob=blob)
    async with store.write(NS) as tx:
        await tx.insert_messages([write(data)])
    async with store.read(NS) as reader:
        assert await reader.data([data.id, new_uuid()]) == {data.id: data}
        assert await reader.received_data([(data.id, data.hash), (data.id, new_hash())]) == {
            (data.id, data.hash): data
        }


async def test_a_taken_idempotency_key_stores_nothing_of_its_message(store: Store) -> None:
    first, again, other = write(make_data(), key="k"), write(make_data(), key="k"), write(key="l")
    async with store.write(NS) as tx:
        assert await tx.insert_messages([first, again, other]) == [
            None,
            first.message.header.id,
            None,
        ]
    late = write(make_data(), key="k")
    async with store.write(NS) as tx:
        assert await tx.insert_messages([late, write()]) == [first.message.header.id, None]
    async with store.read(NS) as reader:
        ids = [w.message.header.id for w in (first, again, other, late)]
        assert list(await reader.messages(ids)) == [
            first.message.header.id,
            other.message.header.id,
        ]
        assert await reader.data([again.new_data[0].id, late.new_data[0].id]) == {}


async def test_idempotency_keys_belong_to_their_namespace(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(key="k")])
    elsewhere = write(key="k")
    message = msgspec.structs.replace(elsewhere.message, namespace=Namespace("beta"))
    async with store.write(Namespace("beta")) as tx:
        assert await tx.insert_messages([MessageWrite(message)]) == [None]


async def test_ready_messages_come_in_order_with_their_sizes(store: Store) -> None:
    known, fresh = make_data('{"known":true}'), make_data("12345")
    waiting = write(fresh, state=MessageState.STAGED)
    async with store.write(NS) as tx:
        await tx.insert_data([known])
        ready = MessageWrite(make_message(known, fresh, topics=("a", "b"), group=new_hash()), ())
        await tx.insert_messages([waiting, ready, write()])
    async with store.read(NS) as reader:
        first, second = await reader.ready_messages(0, 10)
        assert (first.id, first.topics, first.data_sizes) == (ready.message.header.id, 2, (14, 5))
        assert first.group == ready.message.header.group
        assert second.data_sizes == ()
        assert await reader.ready_messages(first.sequence, 10) == [second]
        assert await reader.ready_messages(0, 1) == [first]


async def test_a_sealed_batch_takes_its_messages_and_moves_nonces(store: Store) -> None:
    one, two = write(), write()
    batch = make_batch(one.message, two.message)
    nonce = new_hash()
    async with store.write(NS) as tx:
        await tx.insert_messages([one, two])
        pins = [(one.message.header.id, ("a:0",)), (two.message.header.id, ("b:1", "c:2"))]
        await tx.seal_batch(batch, pins, {nonce: 4})
        assert await tx.ready_messages(0, 10) == []
        assert await tx.nonces([nonce, new_hash()]) == {nonce: 4}
        sealed = await tx.batch_messages(batch.id)
    assert [(m.header.id, m.batch, m.txid, m.pins) for m in sealed] == [
        (one.message.header.id, batch.id, batch.tx.id, ("a:0",)),
        (two.message.header.id, batch.id, batch.tx.id, ("b:1", "c:2")),
    ]
    async with store.read(NS) as reader:
        assert [b.id for b in await reader.open_batches()] == [batch.id]


async def test_finishing_a_batch_moves_only_undecided_messages(store: Store) -> None:
    one, two = write(), write()
    batch = make_batch(one.message, two.message)
    async with store.write(NS) as tx:
        await tx.insert_messages([one, two])
        await tx.seal_batch(batch, [(w.message.header.id, ()) for w in (one, two)], {})
        decision = Decision(
            two.message.header.id, two.message.hash, MessageState.CONFIRMED, Nanoseconds(7)
        )
        await tx.decide([decision])
    async with store.write(NS) as tx:
        moved = await tx.finish_batch(batch.id, MessageState.SENT, Nanoseconds(9))
        assert moved == [one.message.header.id]
        assert await tx.finish_batch(batch.id, MessageState.SENT, Nanoseconds(9)) == []
    async with store.read(NS) as reader:
        assert await reader.open_batches() == []
        found = await reader.messages([one.message.header.id, two.message.header.id])
    states = [found[w.message.header.id].state for w in (one, two)]
    assert states == [MessageState.SENT, MessageState.CONFIRMED]
    assert found[two.message.header.id].confirmed == 7


def of_data(data: Data) -> Query:
    """Messages that hold a data item."""
    return Query("messages", Condition("data", Operator.EQUAL, data.id))


async def test_received_messages_answer_by_id_only_once_decided(store: Store) -> None:
    data = make_data()
    message = make_message(data, state=MessageState.PENDING)
    batch = make_batch(message)
    key = ReceivedBatchKey(batch.id, batch.hash)
    async with store.write(NS) as tx:
        assert await tx.insert_received(batch, [message], [data])
        assert not await tx.insert_received(batch, [message], [data])
    async with store.read(NS) as reader:
        assert await reader.messages([message.header.id]) == {}
        assert await reader.data([data.id]) == {}
        assert (await reader.query(Table.MESSAGES, of_data(data))).items == []
        assert [m.header for m in (await reader.received_messages([key]))[key]] == [message.header]
        assert await reader.received_data([(data.id, data.hash)]) == {(data.id, data.hash): data}
    async with store.write(NS) as tx:
        await tx.decide(
            [Decision(message.header.id, message.hash, MessageState.CONFIRMED, Nanoseconds(5))]
        )
    async with store.read(NS) as reader:
        assert (await reader.messages([message.header.id]))[message.header.id].state == "confirmed"
        assert await reader.data([data.id]) == {data.id: data}
        holding = (await reader.query(Table.MESSAGES, of_data(data))).items
        assert [m.header.id for m in holding] == [message.header.id]


async def test_a_squatted_id_does_not_block_the_true_message(store: Store) -> None:
    """Hard case 16: a stranger sends other content under the ids of a message, its data and batch first."""
    data, message_id = make_data(), new_uuid()
    true = make_message(data, state=MessageState.PENDING, message_id=message_id)
    false_data = make_data('"forged"', data_id=data.id)
    forged = make_message(false_data, state=MessageState.PENDING, message_id=message_id)
    batch = make_batch(true)
    forged_batch = make_batch(forged, batch_id=batch.id)
    async with store.write(NS) as tx:
        assert await tx.insert_received(forged_batch, [forged], [false_data])
        assert await tx.insert_received(batch, [true], [data])
        await tx.decide([Decision(message_id, true.hash, MessageState.CONFIRMED, Nanoseconds(5))])
        await tx.confirm_batches([ReceivedBatchKey(batch.id, batch.hash)], Nanoseconds(5))
    async with store.read(NS) as reader:
        assert (await reader.messages([message_id]))[message_id].hash == true.hash
        assert (await reader.data([data.id]))[data.id].value == data.value
        assert (await reader.batches([batch.id]))[batch.id].hash == batch.hash
        keys = [ReceivedBatchKey(b.id, b.hash) for b in (batch, forged_batch)]
        assert set(await reader.received_batches(keys)) == set(keys)
        found = await reader.received_messages(keys)
        assert [[m.hash for m in found[key]] for key in keys] == [[true.hash], [forged.hash]]


async def test_a_rejected_forgery_does_not_hide_the_confirmed_message(store: Store) -> None:
    message_id = new_uuid()
    forged = make_message(state=MessageState.PENDING, message_id=message_id)
    true = make_message(state=MessageState.PENDING, message_id=message_id)
    async with store.write(NS) as tx:
        await tx.insert_received(make_batch(forged), [forged], [])
        await tx.insert_received(make_batch(true), [true], [])
        at = Nanoseconds(1)
        await tx.decide([Decision(message_id, forged.hash, MessageState.REJECTED, at, "no")])
        await tx.decide([Decision(message_id, true.hash, MessageState.CONFIRMED, at)])
    async with store.read(NS) as reader:
        assert (await reader.messages([message_id]))[message_id].hash == true.hash


async def test_one_message_can_be_in_two_batches(store: Store) -> None:
    message, other = (make_message(state=MessageState.PENDING) for _ in range(2))
    first, second = make_batch(message), make_batch(other, message)
    keys = [ReceivedBatchKey(b.id, b.hash) for b in (first, second)]
    async with store.write(NS) as tx:
        await tx.insert_received(first, [message], [])
        await tx.insert_received(second, [other, message], [])
    async with store.read(NS) as reader:
        found = await reader.received_messages(keys)
    assert [[m.header.id for m in found[key]] for key in keys] == [
        [message.header.id],
        [other.header.id, message.header.id],
    ]


async def test_a_decided_message_keeps_its_state(store: Store) -> None:
    one = write()
    async with store.write(NS) as tx:
        await tx.insert_messages([one])
        for state in (MessageState.REJECTED, MessageState.CONFIRMED):
            decision = Decision(
                one.message.header.id, one.message.hash, state, Nanoseconds(3), "first"
            )
            await tx.decide([decision])
    async with store.read(NS) as reader:
        found = (await reader.messages([one.message.header.id]))[one.message.header.id]
    assert (found.state, found.reject_reason, found.confirmed) == ("rejected", "first", 3)


async def test_blobs_are_those_the_data_names(store: Store) -> None:
    data = make_data(blob=True)
    right, wrong = make_blob(data), make_blob(data, new_hash())
    async with store.write(NS) as tx:
        await tx.insert_blobs([wrong, right])
        await tx.insert_blobs([msgspec.structs.replace(right, payload_ref="again")])
    async with store.read(NS) as reader:
        assert await reader.blobs([data.id]) == {}
        refs = [(data.id, right.hash), (data.id, wrong.hash), (data.id, new_hash())]
        assert set(await reader.received_blobs(refs)) == set(refs[:2])
    async with store.write(NS) as tx:
        await tx.insert_data([data])
        await tx.set_data_public({data.id: "QmNew"})
    async with store.read(NS) as reader:
        assert await reader.blobs([data.id]) == {data.id: right}
        blob = (await reader.data([data.id]))[data.id].blob
        assert blob is not None
        assert blob.public == "QmNew"


async def test_deleted_data_gives_its_blob_back(store: Store) -> None:
    data, plain = make_data(blob=True), make_data()
    async with store.write(NS) as tx:
        await tx.insert_data([data, plain], [make_blob(data)])
    async with store.write(NS) as tx:
        assert await tx.delete_data(data.id) == make_blob(data)
        assert await tx.delete_data(data.id) is None
        assert await tx.delete_data(plain.id) is None
    async with store.read(NS) as reader:
        assert await reader.data([data.id, plain.id]) == {}
        assert await reader.blobs([data.id]) == {}


async def test_an_id_that_is_stored_with_this_hash_is_a_conflict(store: Store) -> None:
    one = write()
    async with store.write(NS) as tx:
        await tx.insert_messages([one])
    with pytest.raises(Conflict, match="FF19108"):
        async with store.write(NS) as tx:
            await tx.insert_messages([write(), one])
    async with store.read(NS) as reader:
        assert len(await reader.ready_messages(0, 10)) == 1
