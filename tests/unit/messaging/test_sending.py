"""Batches on their way: cut, sent, resumed after a crash at any step, never sealed or pinned twice.

Method: the real SQLite store with connectors in memory (`office`). For the crash tests a run is
recorded first; then it is repeated with a crash before, or behind, each of its steps, and a second
process on the same store has to finish what the first began.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from photinus_core.data.inputs import DataInput
from photinus_core.host.fakes.exchange import Delivery
from photinus_core.messaging.inputs import MessageInput
from photinus_core.messaging.sealing import SealedBatch
from photinus_core.model.errors import Deposed, NotFound, Unavailable
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import OperationStatus, OperationType
from photinus_core.model.messages import Batch, MessageState, Pin
from photinus_core.model.wire import decode_batch, decode_wrapper
from photinus_core.ports.connectors import BatchPinned, ConnectorFailure, Disposition, PeerMessage
from photinus_core.ports.store import Fence, Reader, ReadyMessage, Store

from tests.support.waiting import until
from tests.unit.messaging.office import (
    CONTRACT,
    NS,
    Crash,
    Office,
    Place,
    Steps,
    open_place,
    running,
    text,
    to,
)

NEVER_NS = 10**18

NEXT = msgspec.structs.replace(CONTRACT, index=1, location='{"address":"0x2"}')


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def blob_message(office: Office, *contents: bytes) -> MessageInput:
    rows = [await office.data.upload(chunks(c)) for c in contents]
    return MessageInput(data=tuple(DataInput(id=r.id) for r in rows))


def on_chain(pinned: BatchPinned, index: int) -> Pin:
    return Pin(
        NS,
        pinned.contexts[index],  # type: ignore[arg-type]  # a hash as the connector gave it
        Uuid(pinned.batch),
        pinned.batch_hash,  # type: ignore[arg-type]  # likewise
        index,
        pinned.chain.signer,
        masked=False,
        created=Nanoseconds(1),
        block=1,
        protocol_id="1",
    )


# One batch


async def test_a_decided_batch_whose_data_were_deleted_is_told_as_such(place: Place) -> None:
    """An operation of it may be tried again: it fails, and with it nothing else."""
    office = await place.office()
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await place.wait_state(sent.header.id)
    (batch,) = await place.batches()
    async with place.store.write(NS) as tx:
        await tx.delete_data(sent.data[0].id)
    with pytest.raises(NotFound, match=f"FF19021: Data '{sent.data[0].id}' of batch '{batch.id}'"):
        await office.sealer.of_transaction(batch.tx.id)


async def test_a_broadcast_is_uploaded_and_pinned(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.broadcast(text({"a": 1}, topics=("t1", "t2"), tag="x"))
    async with running(office):
        await place.wait_state(sent.header.id)
    (pinned,) = place.pins()
    wire = decode_batch(place.world.bucket.objects[pinned.payload_ref], NS)
    assert [m.header for m in wire.messages] == [sent.header]
    assert (pinned.batch, pinned.batch_hash) == (wire.batch.id, wire.batch.hash)
    assert len(pinned.contexts) == 2
    (batch,) = await place.batches()
    assert batch.payload_ref == pinned.payload_ref
    statuses = {o.type: o.status for o in await place.operations(batch)}
    assert statuses == {
        OperationType.SHAREDSTORAGE_UPLOAD_BATCH: OperationStatus.SUCCEEDED,
        OperationType.BLOCKCHAIN_PIN_BATCH: OperationStatus.SUCCEEDED,
    }
    assert (await place.message(sent.header.id)).batch == batch.id


async def test_blobs_are_published_before_the_batch_that_names_them(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.broadcast(await blob_message(office, b"one", b"two"))
    async with running(office):
        await place.wait_state(sent.header.id)
    (pinned,) = place.pins()
    wire = decode_batch(place.world.bucket.objects[pinned.payload_ref], NS)
    contents = [place.world.bucket.objects[d.blob.public] for d in wire.data if d.blob]
    assert contents == [b"one", b"two"]


@pytest.mark.parametrize("failing", [1, 2, 3])
async def test_a_blob_published_before_a_failure_is_still_named(place: Place, failing: int) -> None:
    """The second upload, the note of where blobs are, or the batch's own upload fails once."""
    steps = Steps(failure=lambda: Unavailable("FF19100"))
    office = await place.office(steps)
    sent = await office.sender.broadcast(await blob_message(office, b"one", b"two"))
    steps.fail_at = 1 + failing  # behind the seal's commit and the first upload
    async with running(office):
        await place.wait_state(sent.header.id)
    (pinned,) = place.pins()
    wire = decode_batch(place.world.bucket.objects[pinned.payload_ref], NS)
    contents = [place.world.bucket.objects[d.blob.public] for d in wire.data if d.blob]
    assert contents == [b"one", b"two"]


async def test_a_private_batch_goes_to_each_node_but_our_own(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.private(to("bob", "carol"))
    async with running(office):
        await place.wait_state(sent.header.id)
    waiting = [d.body for _, d in place.world.network.waiting]
    received = {
        body.recipient: decode_wrapper(body.message, NS)
        for member in ("bob", "carol")
        for body in [d.body for d in inbox(place, member)] + waiting
        if isinstance(body, PeerMessage)
    }
    assert set(received) == {place.members[n].peer for n in ("bob", "carol")}
    for wire, group in received.values():
        assert group is None
        assert [m.header.type for m in wire.messages] == ["groupinit", "private"]
        assert wire.batch.node == place.members["alice"].node
    (pinned,) = place.pins()
    assert pinned.payload_ref == ""
    stored = [await place.message(m.header.id) for m in wire.messages]
    assert [p.partition(":")[0] for m in stored for p in m.pins] == list(pinned.contexts)


def inbox(place: Place, member: str) -> list[Delivery]:
    party = place.world.network.members[f"{member}_dx"]
    return list(party._inbox)  # type: ignore[attr-defined]  # the fake's own


async def test_an_unpinned_message_is_confirmed_once_it_is_sent(place: Place) -> None:
    office = await place.office()
    first = await office.sender.private(to("bob"))
    async with running(office):
        await place.wait_state(first.header.id)
        sent = await office.sender.private(
            to("bob", txtype="unpinned", topics=("t1", "t2"), cid=first.header.id)
        )
        await place.wait_state(sent.header.id, state=MessageState.CONFIRMED)
    assert len(place.pins()) == 1
    pinned = await place.message(first.header.id)
    async with place.store.read(NS) as reader:
        events = await reader.events_after(0, 100)
        (batch,) = await reader.batches_of((await place.message(sent.header.id)).txid or Uuid(""))
    assert [(e.type, e.reference, e.topic, e.correlator) for e in events] == [
        ("transaction_submitted", pinned.txid, "batch_pin", None),
        ("transaction_submitted", batch.tx.id, "unpinned", None),
        ("message_confirmed", sent.header.id, "t1", first.header.id),
        ("message_confirmed", sent.header.id, "t2", first.header.id),
    ]
    assert batch.confirmed is not None
    wire, group = decode_wrapper(json.loads(json.dumps(last_message(place))), NS)
    assert wire.batch.tx.type == "unpinned"
    assert group is not None
    assert group.hash == sent.header.group


def last_message(place: Place) -> str:
    body = inbox(place, "bob")[-1].body
    assert isinstance(body, PeerMessage)
    return body.message


async def test_a_busy_pipe_collects_and_a_full_batch_is_cut(place: Place) -> None:
    office = await place.office(
        broadcast_messages_max=4, in_flight_max=1, broadcast_collect_max_ns=NEVER_NS
    )
    sent = [await office.sender.broadcast(text(n)) for n in range(5)]
    async with running(office):
        await place.wait_state(*(m.header.id for m in sent[:4]))
        assert len(place.pins()) == 1, "the last one waits for company"
        sent += [await office.sender.broadcast(text(n)) for n in range(5, 9)]
        await place.wait_state(*(m.header.id for m in sent[:8]))
        assert len(place.pins()) == 2, "four are a full batch"
        office.manager.decided([Uuid(p.batch) for p in place.pins()])
        sent += [await office.sender.broadcast(text(n)) for n in range(9, 11)]
        await place.wait_state(*(m.header.id for m in sent))
    sizes = [len(p.contexts) for p in place.pins()]
    assert sizes == [4, 4, 3]
    order = [
        m.header.id
        for p in place.pins()
        for m in decode_batch(place.world.bucket.objects[p.payload_ref], NS).messages
    ]
    assert order == [m.header.id for m in sent]


async def test_private_batches_have_a_size_of_their_own(place: Place) -> None:
    office = await place.office(broadcast_messages_max=1, private_messages_max=2, in_flight_max=1)
    sent = [await office.sender.private(to("bob", value=n)) for n in range(4)]
    async with running(office):
        await place.wait_state(*(m.header.id for m in sent))
    assert [len(p.contexts) for p in place.pins()] == [2, 2, 1]  # the group's own message is first


async def test_a_batch_never_grows_over_its_bytes(place: Place) -> None:
    office = await place.office(broadcast_bytes_max=5_000)
    sent = [await office.sender.broadcast(text("x" * 1_000)) for _ in range(5)]
    async with running(office):
        await place.wait_state(*(m.header.id for m in sent))
    assert [len(p.contexts) for p in place.pins()] == [1, 1, 1, 1, 1]


# Crashes


async def finish_elsewhere(place: Place, ids: list[Uuid], state: MessageState) -> None:
    second = await place.office()
    async with running(second):
        await place.wait_state(*ids, state=state)


SENDS = {
    "broadcast with blobs": ("broadcast", MessageState.SENT),
    "private": ("private", MessageState.SENT),
    "unpinned": ("unpinned", MessageState.CONFIRMED),
}


async def prepare(office: Office, kind: str) -> list[Uuid]:
    if kind == "broadcast":
        one = await office.sender.broadcast(await blob_message(office, b"one", b"two"))
        two = await office.sender.broadcast(text(2))
        return [one.header.id, two.header.id]
    fields = {"txtype": "unpinned"} if kind == "unpinned" else {}
    if kind == "unpinned":
        group = await office.groups.resolve(to("bob").group, Nanoseconds(1))  # type: ignore[arg-type]  # given
        async with office.quiet.store.write(NS) as tx:
            await tx.insert_groups([group.group])
    return [(await office.sender.private(to("bob", value=n, **fields))).header.id for n in range(2)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("case", SENDS)
async def test_a_crash_at_any_step_is_finished_by_the_next_process(
    case: str, tmp_path: Path, *, after: bool
) -> None:
    kind, state = SENDS[case]
    (tmp_path / "record").mkdir()
    async with open_place(tmp_path / "record") as place:
        steps = Steps()
        office = await place.office(steps)
        ids = await prepare(office, kind)
        async with running(office):
            await place.wait_state(*ids, state=state)
        recorded = list(steps.calls)
        expected = [len(p.contexts) for p in place.pins()]
    assert recorded[0] == recorded[-1] == "commit"
    for fail_at in range(len(recorded)):
        folder = tmp_path / str(fail_at)
        folder.mkdir()
        async with open_place(folder) as place:
            steps = Steps(fail_at=fail_at, after=after)
            office = await place.office(steps)
            ids = await prepare(office, kind)
            async with running(office) as task:
                await until(task.done)
            begun = await place.batches() if kind != "unpinned" else []
            keys = {o.key for b in begun for o in await place.operations(b)}
            await finish_elsewhere(place, ids, state)
            where = f"step {fail_at} {recorded[fail_at]}"
            assert [len(p.contexts) for p in place.pins()] == expected, where
            if kind == "unpinned":
                continue
            batches = await place.batches()
            assert [Uuid(p.batch) for p in place.pins()] == [b.id for b in batches], where
            if begun:
                assert [b.id for b in batches] == [b.id for b in begun], where
                assert keys == {o.key for b in batches for o in await place.operations(b)}, where
            messages = [await place.message(i) for i in ids]
            assert {m.batch for m in messages} == {batches[0].id}, where


async def test_a_batch_that_is_on_chain_is_not_pinned_again(place: Place) -> None:
    """The connector may have forgotten the key by then (hard case 9)."""
    steps = Steps(fail_at=3)  # the commit that notes the batch as dispatched
    office = await place.office(steps)
    sent = await office.sender.broadcast(text(1))
    async with running(office) as task:
        await until(task.done)
    (pinned,) = place.pins()
    async with place.store.write(NS) as tx:
        await tx.insert_pins([on_chain(pinned, 0)])
    place.own.blockchain.scope(NS).work.clear()
    await finish_elsewhere(place, [sent.header.id], MessageState.SENT)
    assert len(place.pins()) == 1


async def test_a_deposed_leader_stops_and_writes_nothing(place: Place) -> None:
    office = await place.office()
    await place.office()
    sent = await office.sender.broadcast(text(1))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(office.manager.run(), 10)
    assert caught.group_contains(Deposed)
    assert (await place.message(sent.header.id)).batch is None
    assert await place.batches() == []


async def test_a_connector_that_knows_a_later_leader_deposes(place: Place) -> None:
    stale = ConnectorFailure("STALE_EPOCH", "over", Disposition.NOT_SENT)
    office = await place.office(Steps(fail_at=1, failure=lambda: stale))
    await office.sender.broadcast(text(1))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(office.manager.run(), 10)
    assert caught.group_contains(Deposed)


async def test_a_failing_step_is_shown_and_tried_again(place: Place) -> None:
    steps = Steps()
    office = await place.office(steps)
    place.own.shared_storage.go_away("for a test")
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await until(lambda: any(s.errors for s in office.manager.status()))
        (shown,) = office.manager.status()
        assert (shown.dispatcher, shown.name) == ("pinned_broadcast", "did:firefly:org/alice|")
        assert shown.blocked
        assert "FF19200" in shown.last_error
        assert shown.flushing == (await place.message(sent.header.id)).batch
        (batch,) = await place.batches()
        upload, pin = await place.operations(batch)
        assert (upload.status, upload.error) == (OperationStatus.INITIALIZED, shown.last_error)
        assert (pin.status, pin.error) == (OperationStatus.INITIALIZED, "")
        place.own.shared_storage.come_back()
        await place.wait_state(sent.header.id)
        await until(lambda: office.manager.status()[0].batches == 1)
        (shown,) = office.manager.status()
        assert (shown.blocked, shown.flushing, shown.batches) == (False, None, 1)
        assert (shown.average_messages, shown.average_data, shown.average_bytes) == (1.0, 1.0, 1)
        assert shown.average_flush_ms >= 0
    assert [
        (o.status is OperationStatus.INITIALIZED, o.error) for o in await place.operations(batch)
    ] == [
        (False, ""),
        (False, ""),
    ]
    assert len(place.pins()) == 1


async def test_a_seal_that_fails_keeps_its_messages(place: Place) -> None:
    office = await place.office(Steps(fail_at=0, failure=lambda: Unavailable("FF19100")))
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await place.wait_state(sent.header.id)
    assert len(place.pins()) == 1
    (shown,) = office.manager.status()
    assert (shown.errors, shown.last_error.partition(":")[0]) == (1, "FF19100")


async def test_a_seal_whose_answer_is_lost_is_not_made_again(place: Place) -> None:
    """Found by the simulator: it was committed, and a second try sealed the messages once more."""
    steps = Steps(fail_at=0, failure=lambda: Unavailable("FF19100"), after=True)
    office = await place.office(steps)
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await place.wait_state(sent.header.id)
    (batch,) = await place.batches()
    (pinned,) = place.pins()
    assert pinned.batch == batch.id == (await place.message(sent.header.id)).batch
    assert steps.calls.count("commit") > 1


async def test_a_slow_read_brings_no_sealed_message_back(place: Place) -> None:
    """Found by the robustness tests: what was sealed while a page was read was sealed once more."""
    office = await place.office()
    pages = SlowPages(place.store)
    office.manager._store = pages
    seals: list[list[Uuid]] = []
    seal = office.sealer.seal

    async def sealing(message_ids: Sequence[Uuid], fence: Fence) -> SealedBatch:
        seals.append(list(message_ids))
        if len(seals) == 1:
            pages.hold()
            office.manager._after = 0  # as a look from time to time does
            await pages.has_read.wait()
        return await seal(message_ids, fence)

    office.sealer.seal = sealing  # type: ignore[method-assign]  # to see what is asked of it
    async with running(office):
        first = await office.sender.broadcast(text(1))
        await until(lambda: seals)
        second = await office.sender.broadcast(text(2))
        await until(lambda: office.manager._under)
        pages.go_on.set()
        await place.wait_state(first.header.id, second.header.id)
    assert seals == [[first.header.id], [second.header.id]]


class SlowPages:
    """A store whose pages of ready messages can come late, when they are old already."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.has_read, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def hold(self) -> None:
        """The next page that has something is read, and kept until `go_on`."""
        self.has_read.clear()
        self.go_on.clear()

    @asynccontextmanager
    async def read(self, namespace: Namespace) -> AsyncIterator[Any]:
        async with self._inner.read(namespace) as reader:
            yield LateReader(reader, self)


class LateReader:
    def __init__(self, reader: Reader, pages: SlowPages) -> None:
        self._reader, self._pages = reader, pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def ready_messages(self, after: int, limit: int) -> list[ReadyMessage]:
        found = await self._reader.ready_messages(after, limit)
        if found:
            self._pages.has_read.set()
            await self._pages.go_on.wait()
        return found


# A contract that ends


async def end_contract(office: Office) -> None:
    async with office.quiet.store.write(NS) as tx:
        await office.manager.renew_pins(tx)
    office.manager.contract_changed()


async def test_a_batch_the_old_contract_never_took_is_pinned_on_the_new(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await place.wait_state(sent.header.id)
        office.contract = NEXT
        await end_contract(office)
        await until(lambda: len(place.mined()) == 2)
        (batch,) = await place.batches()
        await until(lambda: not office.manager._under)
    first, second = place.mined()
    assert (first.location, second.location) == (CONTRACT.location, NEXT.location)
    assert place.pins()[0].batch == place.pins()[1].batch
    assert place.pins()[0].contexts == place.pins()[1].contexts
    pins = [
        o for o in await place.operations(batch) if o.type is OperationType.BLOCKCHAIN_PIN_BATCH
    ]
    assert [o.retry for o in pins] == [pins[1].id, None]
    assert pins[1].status is OperationStatus.SUCCEEDED


async def test_a_batch_on_chain_stays_where_it_is(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await place.wait_state(sent.header.id)
        async with place.store.write(NS) as tx:
            await tx.insert_pins([on_chain(place.pins()[0], 0)])
        office.contract = NEXT
        await end_contract(office)
    assert len(place.mined()) == 1
    assert await place.batches() == []


async def test_a_crash_between_the_new_operation_and_its_sending(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await place.wait_state(sent.header.id)
    office.contract = NEXT
    await end_contract(office)  # no manager runs: nothing is sent
    assert len(place.mined()) == 1
    second = await place.office()
    second.contract = NEXT
    async with running(second):
        await until(lambda: len(place.mined()) == 2)
    assert place.mined()[1].location == NEXT.location
    third = await place.office()
    third.contract = NEXT
    async with running(third):
        later = await third.sender.broadcast(text(2))
        await place.wait_state(later.header.id)
    assert [m.location for m in place.mined()] == [
        CONTRACT.location,
        NEXT.location,
        NEXT.location,
    ]


async def test_a_contract_that_ends_while_a_pin_is_under_way(place: Place) -> None:
    """The old operation ends on the old contract; its replacement is sent all the same."""
    office = await place.office()
    gate, reached = asyncio.Event(), asyncio.Event()
    true = office.dispatcher.send_pin

    async def slow(journey: object) -> None:
        await true(journey)  # type: ignore[arg-type]  # passed on
        if not reached.is_set():
            reached.set()
            await gate.wait()

    office.dispatcher.send_pin = slow  # type: ignore[method-assign]  # held for the test
    sent = await office.sender.broadcast(text(1))
    async with running(office):
        await asyncio.wait_for(reached.wait(), 10)
        office.contract = NEXT
        await end_contract(office)
        gate.set()
        await until(lambda: len(place.mined()) == 2)
        await place.wait_state(sent.header.id)
        await until(lambda: not office.manager._under)
    assert [m.location for m in place.mined()] == [CONTRACT.location, NEXT.location]
    batches: list[Batch] = await place.batches()
    assert len(batches) == 1


def test_a_crash_is_no_failure_that_is_tried_again() -> None:
    assert not issubclass(Crash, Exception)
