"""Goal: the event stream keeps EVT-001 to EVT-008 of event.proto, from the core's side of the wire.

Method: a test plays the core frame by frame against the ledger of tests/support.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import event_pb2_grpc
from photinus_sdk import ConnectorServer, Events, Passed, Unavailable, event_stream

from tests.support.ledger import CORE_STREAM, Ledger, chain_event, pin_request
from tests.support.waiting import until
from tests.support.wire import Wire, WireStream, dialled, reason_of


def listener(name: str = "a", resume: bytes = b"", first_event: str = "") -> events.Listener:
    return events.Listener(
        id=name, multiparty=events.MultipartyFilter(), resume=resume, first_event=first_event
    )


def feed(ledger: Ledger, name: str, first: int, last: int, size: int = 0) -> None:
    """Lets a listener find events `first` to `last`, each with its own checkpoint."""
    queue = ledger.feeds.setdefault(name, asyncio.Queue())
    for number in range(first, last + 1):
        event = chain_event(name, number, "x" * size)
        queue.put_nowait(Events([event], str(number).encode()))


def ids(batch: events.Batch) -> list[str]:
    return [event.id for event in batch.events]


async def arriving(stream: WireStream, for_s: float) -> AsyncIterator[events.Batch]:
    """Batches that come within `for_s`, none of them acked."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            while True:
                yield await stream.batch()


async def numbers(stream: WireStream, count: int) -> list[int]:
    """Event numbers of the next batches, acked as they come."""
    seen: list[int] = []
    while len(seen) < count:
        batch = await stream.batch()
        seen += [int(event.id.split("/")[1]) for event in batch.events]
        await stream.ack(batch.seq)
    return seen


async def test_opened_comes_first_with_what_is_in_force(wire: Wire, ledger: Ledger) -> None:
    feed(ledger, "a", 1, 5)
    opened = await wire.stream().open(
        CORE_STREAM, listener(), window_batches=100_000, window_bytes=1 << 40, batch_size=1_000_000
    )
    assert opened.window_batches == event_stream.WINDOW_BATCHES_MAX
    assert opened.window_bytes == event_stream.WINDOW_BYTES_MAX
    assert opened.batch_size == event_stream.BATCH_SIZE_MAX


async def test_events_come_in_order_with_checkpoints_and_numbers(
    wire: Wire, ledger: Ledger
) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), batch_size=3)
    feed(ledger, "a", 1, 7)
    seen: list[int] = []
    seqs: list[int] = []
    while len(seen) < 7:
        batch = await stream.batch()
        seqs.append(batch.seq)
        seen += [int(event.id.split("/")[1]) for event in batch.events]
        assert dict(batch.checkpoints) == {"a": str(seen[-1]).encode()}
        await stream.ack(batch.seq)
    assert seen == list(range(1, 8))
    assert seqs == list(range(1, len(seqs) + 1))


async def test_never_more_batches_than_the_window(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), window_batches=2, batch_size=1)
    feed(ledger, "a", 1, 10)
    assert [(await stream.batch()).seq for _ in range(2)] == [1, 2]
    assert [batch.seq async for batch in arriving(stream, 0.2)] == []


async def test_never_more_bytes_than_the_window_and_a_slow_core_stops_the_source(
    wire: Wire, ledger: Ledger
) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), window_bytes=100_000, batch_size=2)
    feed(ledger, "a", 1, 40, size=20_000)
    total = 0
    async for batch in arriving(stream, 0.3):
        total += batch.ByteSize()
    assert 0 < total <= 100_000
    assert ledger.feeds["a"].qsize() > 20, "the source was not asked for more"
    stream.call.cancel()


async def test_a_batch_waits_for_more_when_asked_to(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), batch_timeout_ms=60_000, batch_size=3)
    feed(ledger, "a", 1, 2)
    await until(ledger.feeds["a"].empty)
    feed(ledger, "a", 3, 3)
    assert len((await stream.batch()).events) == 3


async def test_after_a_break_everything_unacked_comes_again_in_order(
    wire: Wire, ledger: Ledger
) -> None:
    await wire.configure({"token": "hunter22", "events": 6}, revision=2)
    first = wire.stream()
    await first.open(CORE_STREAM, listener(), batch_size=2)
    batches = [await first.batch() for _ in range(3)]
    await first.ack(batches[0].seq)
    first.call.cancel()
    second = wire.stream()
    await second.open(CORE_STREAM, listener(resume=batches[0].checkpoints["a"]), batch_size=2)
    assert [ids(await second.batch()) for _ in range(2)] == [ids(b) for b in batches[1:]]


async def test_a_nack_brings_the_batch_and_those_behind_it_again(
    wire: Wire, ledger: Ledger
) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), batch_size=1)
    feed(ledger, "a", 1, 3)
    batches = [await stream.batch() for _ in range(3)]
    await stream.ack(1)
    await stream.send(nack=events.Nack(seq=2, retry_after_ms=50))
    assert [await stream.batch() for _ in range(2)] == batches[1:]
    feed(ledger, "a", 4, 4)
    assert ids(await stream.batch()) == ["a/000000000004"]


async def test_a_lower_epoch_is_refused_even_after_the_stream_is_gone(
    wire: Wire, ledger: Ledger
) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, epoch=5)
    stream.call.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.stream().open(CORE_STREAM, epoch=4)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value)[0] == "STALE_EPOCH"


async def test_a_higher_epoch_supersedes_by_stream_or_by_call(wire: Wire, ledger: Ledger) -> None:
    first = wire.stream()
    await first.open(CORE_STREAM, epoch=1)
    second = wire.stream()
    await second.open(CORE_STREAM, epoch=2)
    assert (await first.receive("superseded")).superseded.owner_epoch == 2
    assert await first.read() is None
    await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k", epoch=3))
    # The ledger's answer is an update on this stream, but the stream is another leader's now.
    frames = []
    while (frame := await second.read()) is not None:
        frames.append(frame)
    assert frames[-1].superseded.owner_epoch == 3


async def test_the_same_leader_may_open_again_over_a_stream_that_hangs(
    server: ConnectorServer, wire: Wire, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "SUPERSEDE_GRACE_S", 0.1)
    feed(ledger, "a", 1, 60, size=500_000)
    opening = events.Open(
        stream=CORE_STREAM.to_ref(),
        owner_epoch=1,
        listeners=[listener()],
        window_batches=1000,
        window_bytes=64 << 20,
        batch_size=5,
    )
    stuck: Any = event_pb2_grpc.EventServiceStub(wire.channel).Stream(metadata=wire.metadata)
    await stuck.write(events.StreamRequest(open=opening))
    await until(lambda: ledger.feeds["a"].qsize() < 55)
    # Nobody reads what was sent: the connector's next write does not come back.
    async with dialled(server.address) as other:
        await other.stream().open(CORE_STREAM)
    stuck.cancel()


async def test_listeners_fail_apart_and_what_may_pass_is_tried_again(
    wire: Wire, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "RESTART_FIRST_S", 0.01)
    stream = wire.stream()
    await stream.open(
        CORE_STREAM,
        listener("a"),
        listener("lost", resume=b"gone"),
        listener("never", first_event="never"),
        listener("a"),
    )
    kinds: dict[str, str] = {}
    for _ in range(3):
        frame = await stream.read()
        assert frame is not None
        if frame.HasField("checkpoint_invalid"):
            kinds[frame.checkpoint_invalid.listener_id] = frame.checkpoint_invalid.reason
        else:
            kinds[frame.listener_error.listener_id] = frame.listener_error.status.message
    assert kinds == {
        "lost": "that block is no longer part of the chain",
        "never": "no such block",
        "a": "The listener has no id, or is there already",
    }
    feed(ledger, "a", 1, 2)
    ledger.feeds["a"].put_nowait(Unavailable("the node is away"))
    feed(ledger, "a", 3, 3)
    # Errors overtake events, so that a full window does not hide them.
    error = (await stream.receive("listener_error")).listener_error
    assert (error.listener_id, error.status.message) == ("a", "the node is away")
    assert await numbers(stream, 3) == [1, 2, 3]
    resumed = [s.resume for s in ledger.listening if s.listener.id == "a"]
    assert resumed == [b"", b"2"], "restarted behind the last checkpoint it yielded"


async def test_a_bug_in_a_source_shows_only_where_to_look(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener("a"), listener("b"))
    await until(lambda: "a" in ledger.feeds)
    ledger.feeds["a"].put_nowait(ZeroDivisionError("a secret detail"))
    error = (await stream.receive("listener_error")).listener_error
    info = error_details_pb2.ErrorInfo()
    error.status.details[0].Unpack(info)
    assert info.reason == "INTERNAL"
    assert "secret detail" not in error.status.message
    feed(ledger, "b", 1, 1)
    assert await numbers(stream, 1) == [1]


async def test_listeners_come_and_go(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM)
    await stream.send(add_listener=events.AddListener(listener=listener("late")))
    feed(ledger, "late", 1, 1)
    assert ids(await stream.batch()) == ["late/000000000001"]
    await stream.send(remove_listener=events.RemoveListener(listener_id="late"))
    await stream.send(add_listener=events.AddListener(listener=listener("late", resume=b"1")))
    await until(lambda: len(ledger.listening) == 2)
    feed(ledger, "late", 2, 2)
    assert ids(await stream.batch()) == ["late/000000000002"]


async def test_progress_comes_by_itself_and_never_passes_unacked_events(
    wire: Wire, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "PROGRESS_INTERVAL_S", 0.05)
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener())
    feed(ledger, "a", 1, 1)
    batch = await stream.batch()
    ledger.feeds["a"].put_nowait(Passed(b"9", final_block=9, catching_up=True))
    progress = (await stream.receive("progress")).progress
    while not progress.catching_up:
        progress = (await stream.receive("progress")).progress
    assert not progress.checkpoints
    assert not progress.final_blocks
    await stream.ack(batch.seq)
    while not progress.checkpoints:
        progress = (await stream.receive("progress")).progress
    assert dict(progress.checkpoints) == {"a": b"9"}
    assert dict(progress.final_blocks) == {"a": 9}


def test_progress_is_often_enough() -> None:
    assert event_stream.PROGRESS_INTERVAL_S <= 10


async def test_acks_reach_the_author_with_receipts(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), batch_size=1)
    feed(ledger, "a", 1, 2)
    batches = [await stream.batch() for _ in range(2)]
    name = batches[0].events[0].id
    await stream.ack(2, **{name: "manifest"})
    await stream.ack(2)
    await until(lambda: ledger.acks)
    (acked,) = ledger.acks
    assert acked.stream == CORE_STREAM
    assert acked.event_ids == ("a/000000000001", "a/000000000002")
    assert dict(acked.receipts) == {name: "manifest"}


async def test_updates_come_until_acked_on_their_stream_only(wire: Wire, ledger: Ledger) -> None:
    await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k1"))
    first = wire.stream()
    await first.open(CORE_STREAM)
    update = (await first.batch()).events[0]
    assert update.operation_update.idempotency_key == "k1"
    assert not update.listener_id
    first.call.cancel()

    other = wire.stream()
    await other.open(CORE_STREAM._replace(namespace="ns2"))
    second = wire.stream()
    await second.open(CORE_STREAM)
    again = await second.batch()
    assert list(again.events) == [update]
    await second.ack(again.seq)
    await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k2"))
    batch = await second.batch()
    assert [e.operation_update.idempotency_key for e in batch.events] == ["k2"]
    second.call.cancel()
    third = wire.stream()
    await third.open(CORE_STREAM)
    assert list((await third.batch()).events) == list(batch.events), "k1 was acked, k2 was not"
    assert [batch.seq async for batch in arriving(other, 0.1)] == []


async def test_an_update_that_does_not_fit_the_window_arrives_without_details(
    wire: Wire, ledger: Ledger
) -> None:
    update = events.OperationUpdate(
        idempotency_key="k",
        state=common.OPERATION_STATE_SUCCEEDED,
        manifest="m" * 200_000,
        external_id="x",
    )
    await ledger.instance.publish(CORE_STREAM, update)
    stream = wire.stream()
    await stream.open(CORE_STREAM, window_bytes=100_000)
    arrived = (await stream.batch()).events[0].operation_update
    assert (arrived.state, arrived.external_id, arrived.manifest) == (2, "x", "")


async def test_announcements_reach_every_stream_now_and_later(wire: Wire, ledger: Ledger) -> None:
    early = wire.stream()
    await early.open(CORE_STREAM)
    for number in (1, 2):
        changed = events.PeerChanged(peer_id="p", reachable=number == 2)
        ledger.instance.announce("p", events.Event(id=f"peer/p/{number}", peer_changed=changed))
    seen: list[str] = []
    while len(seen) < 2:
        seen += ids(await early.batch())
    late = wire.stream()
    await late.open(CORE_STREAM._replace(namespace="ns2"))
    assert ids(await late.batch()) == ["peer/p/2"]


async def test_drain_stops_and_ends_when_all_is_acked(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener(), batch_size=1)
    feed(ledger, "a", 1, 1)
    batch = await stream.batch()
    session = ledger.instance.streams[CORE_STREAM]
    assert isinstance(session, event_stream.StreamSession)
    await stream.send(drain=events.DrainStream())
    await until(lambda: session._draining)
    feed(ledger, "a", 2, 5)
    assert [later.seq async for later in arriving(stream, 0.1)] == []
    await stream.ack(batch.seq)
    assert (await stream.receive("drained")).drained.last_seq == 1
    assert await stream.read() is None


@pytest.mark.parametrize(
    "frame",
    [
        {"ack": events.Ack(through_seq=5)},
        {"nack": events.Nack(seq=5)},
        {"open": events.Open()},
        {},
    ],
    ids=["ack beyond", "nack beyond", "second open", "empty"],
)
async def test_a_core_that_breaks_the_rules_loses_only_its_stream(
    wire: Wire, ledger: Ledger, frame: dict[str, object]
) -> None:
    stream = wire.stream()
    await stream.open(CORE_STREAM)
    await stream.send(**frame)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await wire.stream().open(CORE_STREAM)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"window_batches": 0}, "WINDOW_TOO_SMALL"),
        ({"window_bytes": 10}, "WINDOW_TOO_SMALL"),
        ({"epoch": 0}, "EPOCH_REQUIRED"),
    ],
)
async def test_an_open_that_cannot_work_is_refused(
    wire: Wire, ledger: Ledger, fields: dict[str, int], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.stream().open(CORE_STREAM, **fields)
    assert reason_of(caught.value)[0] == reason


async def test_the_first_frame_is_open(wire: Wire, ledger: Ledger) -> None:
    stream = wire.stream()
    await stream.send(ack=events.Ack(through_seq=0))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert reason_of(caught.value)[0] == "OPEN_MISSING"


async def test_an_ack_the_author_cannot_keep_ends_the_stream(
    wire: Wire, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(ledger, "acked", broken)
    stream = wire.stream()
    await stream.open(CORE_STREAM, listener())
    feed(ledger, "a", 1, 1)
    batch = await stream.batch()
    await stream.ack(batch.seq)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() == grpc.StatusCode.INTERNAL
