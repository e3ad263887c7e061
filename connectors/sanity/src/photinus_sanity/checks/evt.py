"""EVT: the event stream. EVT-001 to EVT-008 are the rules of event.proto; the others follow from them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from google.protobuf.message import Message
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must
from photinus_sanity.probe import PRECONDITION, Probe
from photinus_sanity.sources import source_of
from photinus_sanity.streams import FRAME_BYTES_MAX, kind_of
from photinus_sanity.violations import require
from photinus_sanity.wire import Refusal

EVENTS = needs.capability(connector.CAPABILITY_EVENTS)
PROTO = "protocol.md §4, event.proto"
PROGRESS_S = 10.0
PROGRESS_TOLERANCE_S = 1.0
LARGE = 9_000


@must(
    "EVT-001",
    rule=f"{PROTO} EVT-001",
    fix="Send Opened before you start any listener or forward any update.",
    needs=(needs.submits,),
)
async def opened_first(probe: Probe) -> None:
    """Opened is the first answer, even when events wait; its limits are at most what was asked."""
    source = await source_of(probe)
    await source.emit(2)
    for n in range(3):
        async with source.open(
            window_batches=3, window_bytes=200_000, batch_size=2, epoch=1 + n
        ) as stream:
            opened = stream.opened
            require(0 < opened.window_batches <= 3, f"a window of {opened.window_batches} of 3")
            require(0 < opened.window_bytes <= 200_000, f"{opened.window_bytes} bytes of 200000")
            require(0 < opened.batch_size <= 2, f"a batch size of {opened.batch_size} of 2")


@must(
    "EVT-002",
    rule=f"{PROTO} EVT-002",
    fix="Count batches per stream from 1, whatever is in them.",
    needs=(needs.submits,),
)
async def numbered(probe: Probe) -> None:
    """Batches are numbered from 1 without gaps; events come in order."""
    source = await source_of(probe)
    async with source.open(batch_size=1) as stream:
        markers = await source.emit(4)
        found: list[events.Event] = []
        seq = 0
        while source.mine(found, markers[-1:]) != markers[-1:]:
            batch = await stream.batch()
            seq += 1
            require(batch.seq == seq, f"batch {batch.seq} instead of {seq}")
            found += batch.events
            await stream.ack(seq)
    seen = source.mine(found, markers)
    require(seen == markers, f"{len(markers)} events were sent in order, {seen} of {markers} came")


@must(
    "EVT-003",
    rule=f"{PROTO} EVT-003",
    fix="A batch's checkpoint is the position behind its own last event; keep none yourself.",
    profile=Profile.FULL,
    needs=(needs.ledger,),
)
async def checkpoints(probe: Probe) -> None:
    """Resumed from the checkpoint of any batch, a listener goes on with exactly the next event."""
    source = await source_of(probe)
    markers = await source.emit(4)
    positions: list[tuple[str, bytes]] = []
    async with source.open(batch_size=1) as stream:
        while len(positions) < len(markers):
            batch = await stream.batch()
            await stream.ack(batch.seq)
            found = source.mine(batch.events, markers)
            if found:
                require("a" in batch.checkpoints, "a batch with events has no checkpoint")
                positions.append((found[-1], batch.checkpoints["a"]))
    for n, (marker, checkpoint) in enumerate(positions[:-1]):
        listener = source.listener()
        listener.resume = checkpoint
        async with probe.stream(source.listening) as stream:
            await stream.open(probe.ref, listener)
            rest = await stream.collect(
                lambda seen: markers[-1] in source.mine(seen, markers),
                what=f"the events behind the checkpoint of event {n + 1}",
            )
        missing_or_more = source.mine(rest, markers)
        require(
            missing_or_more == markers[n + 1 :],
            f"behind the checkpoint of event {n + 1} ({marker}) came"
            f" {len(missing_or_more)} events, not {len(markers) - n - 1}",
        )


@must(
    "EVT-004",
    rule=f"{PROTO} EVT-004: an ack covers all batches up to its number",
    fix="On Ack forget everything up to its number, durably where you keep it yourself.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def cumulative(probe: Probe) -> None:
    """An ack of the last batch covers those before it: nothing of them comes again."""
    source = await source_of(probe)
    async with source.open(batch_size=1) as stream:
        markers = await source.emit(4)
        batch = events.Batch()
        found: list[events.Event] = []
        while not source.mine(found, markers[-1:]):
            batch = await stream.batch()
            found += batch.events
        await stream.ack(batch.seq)
        markers_after = await source.emit()
        await stream.collect(lambda seen: source.mine(seen, markers_after) == markers_after)
        checkpoint = batch.checkpoints.get("a", b"")
    listener = source.listener()
    listener.resume = checkpoint or listener.resume
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.ref, listener)
        last = await source.emit()
        again = await stream.collect(lambda seen: source.mine(seen, last) == last)
    require(not source.mine(again, markers), "events that were acked come again")


@must(
    "EVT-005",
    rule=f"{PROTO} EVT-005: batches",
    fix="Count unacked batches yourself; flow control of HTTP/2 does not replace it.",
    needs=(needs.submits,),
)
async def window_of_batches(probe: Probe) -> None:
    """Never more batches unacked than the window; an ack makes room."""
    source = await source_of(probe)
    async with source.open(window_batches=2, batch_size=1) as stream:
        markers = await source.emit(5)
        first = [await stream.batch() for _ in range(2)]
        more = await stream.quiet(probe.session.quiet_s)
        require(not more, f"{2 + len(more)} batches are unacked with a window of 2")
        await stream.ack(first[0].seq)
        await stream.batch()
        more = await stream.quiet(probe.session.quiet_s)
        require(not more, "an ack of one batch makes room for more than one")
        await stream.ack(first[0].seq + 2)
        # Two more, with no ack between them: the last one covered all before it.
        rest = [event for _ in range(2) for event in (await stream.batch()).events]
        require(source.mine(rest, markers), "the stream does not go on after an ack")


@must(
    "EVT-006",
    rule=f"{PROTO} EVT-006",
    fix="Keep the highest epoch per StreamRef; refuse a lower one with STALE_EPOCH.",
    needs=(EVENTS,),
)
async def lower_epoch(probe: Probe) -> None:
    """An Open with a lower epoch than seen is refused with STALE_EPOCH, also when no stream runs."""
    async with probe.stream() as stream:
        await stream.open(probe.ref, epoch=7)
        await _stale(probe, 6)
        # The running stream is not touched by the refused one.
        await stream.send(drain=events.DrainStream())
        await stream.expect("drained")
    await _stale(probe, 6)


async def _stale(probe: Probe, epoch: int) -> None:
    async with probe.stream() as old:
        await old.send(
            open=events.Open(
                stream=probe.ref,
                owner_epoch=epoch,
                window_batches=8,
                window_bytes=1 << 20,
                batch_size=10,
            )
        )
        refusal = await old.refused()
        right = refusal.code is PRECONDITION and refusal.reason == "STALE_EPOCH"
        require(right, f"an older epoch must be FAILED_PRECONDITION / STALE_EPOCH, but: {refusal}")


@must(
    "EVT-007",
    rule=f"{PROTO} EVT-007",
    fix="Give each listener a task of its own; answer ListenerError for the one that fails.",
    needs=(needs.submits,),
)
async def listeners_apart(probe: Probe) -> None:
    """A listener that cannot work is told by ListenerError; the others go on."""
    source = await source_of(probe)
    bad = events.Listener(id="bad")
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.ref, bad, source.listener())
        markers = await source.emit(2)
        found: list[events.Event] = []
        told = ""
        async for frame in stream.frames("ListenerError for the one, the events of the other"):
            kind = kind_of(frame)
            if kind == "listener_error":
                told = frame.listener_error.listener_id
                require(told == "bad", f"ListenerError names {told!r}")
                require(frame.listener_error.status.code, "ListenerError without a status")
            elif kind == "batch":
                found += frame.batch.events
                await stream.ack(frame.batch.seq)
            if told and source.mine(found, markers) == markers:
                return


@must(
    "EVT-008",
    rule=f"{PROTO} EVT-008",
    fix="Send Progress on a timer, also when nothing happens.",
    profile=Profile.FULL,
    phase=Phase.BACKGROUND,
    needs=(needs.submits,),
)
async def progress(probe: Probe) -> None:
    """Progress comes at least every 10 s, also on an idle stream."""
    source = await source_of(probe)
    begun = time.monotonic()
    async with source.open() as stream:
        until = begun + PROGRESS_S + PROGRESS_TOLERANCE_S
        while not stream.progress:
            left = until - time.monotonic()
            require(left > 0, "no Progress within 10 s")
            frame = await stream.frame(max(left, 0.01))
            if frame is not None and kind_of(frame) == "batch":
                await stream.ack(frame.batch.seq)


@must(
    "EVT-009",
    rule=f"{PROTO} EVT-005: bytes",
    fix="Count the bytes of unacked batches as well.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def window_of_bytes(probe: Probe) -> None:
    """Never more bytes unacked than the window; no frame over 4 MiB."""
    source = await source_of(probe)
    window = 70_000
    async with source.open(window_batches=64, window_bytes=window, batch_size=2) as stream:
        markers = await source.emit(8, padding=LARGE)
        unacked, first_seq, found = 0, 0, list[events.Event]()
        while True:
            more = await stream.quiet(probe.session.quiet_s)
            batches = [frame.batch for frame in more if kind_of(frame) == "batch"]
            unacked += sum(batch.ByteSize() for batch in batches)
            require(unacked <= window, f"{unacked} bytes are unacked with a window of {window}")
            for batch in batches:
                require(batch.ByteSize() < FRAME_BYTES_MAX, "a batch of more than 4 MiB")
                found += batch.events
            if source.mine(found, markers) == markers:
                return
            require(batches or unacked, "events do not come although the window is empty")
            first_seq = max([first_seq, *(batch.seq for batch in batches)])
            await stream.ack(first_seq)
            unacked = 0


@must(
    "EVT-010",
    rule=f"{PROTO} EVT-006: a higher one ends the running stream with Superseded",
    fix="Tell the running stream of the higher epoch; end it with Superseded.",
    needs=(EVENTS,),
)
async def superseded(probe: Probe) -> None:
    """A higher epoch ends the running stream with Superseded, which names it."""
    async with probe.stream() as old, probe.stream() as new:
        await old.open(probe.ref, epoch=3)
        await new.open(probe.ref, epoch=5)
        frame = await old.expect("superseded")
        epoch = frame.superseded.owner_epoch
        require(epoch == 5, f"Superseded names epoch {epoch}, not 5")
        await old.ended()
        more = await new.quiet(probe.session.quiet_s)
        disturbed = [kind_of(frame) for frame in more if kind_of(frame) != "batch"]
        require(not disturbed, f"the new stream is disturbed: {disturbed}")


@must(
    "EVT-011",
    rule=f"{PROTO} EVT-006: kept durably",
    fix="Write the highest epoch to disk before you answer.",
    profile=Profile.FULL,
    phase=Phase.KILLED,
    needs=(EVENTS, needs.restartable),
)
async def durable_epoch(probe: Probe) -> AsyncGenerator[None, None]:
    """The highest epoch is known after kill -9."""
    async with probe.stream() as stream:
        await stream.open(probe.ref, epoch=9)
    yield
    await _stale(probe, 8)


@must(
    "EVT-012",
    rule="protocol.md §3: calls that only a leader may make carry its epoch",
    fix="Check the epoch of each mutating call against the highest seen for its stream.",
    needs=(needs.submits,),
)
async def stale_calls(probe: Probe) -> None:
    """A call with a lower epoch than its stream has seen is refused with STALE_EPOCH and has no effect."""
    source = await source_of(probe)
    async with probe.stream() as stream:
        await stream.open(probe.submit_ref, epoch=5)
    key = probe.key()
    marker = source.new_marker(key)
    method, request = source.submission(probe.context(key, epoch=4), marker)
    async with source.open() as stream:
        refusal = await _attempt(probe, method, request)
        right = refusal is not None and refusal.reason == "STALE_EPOCH"
        require(right, f"{method} with an older epoch must be STALE_EPOCH, but: {refusal}")
        method, request = source.submission(probe.context(key, epoch=5), marker)
        await probe.wire.call(method, request)
        found = await stream.collect(lambda seen: bool(source.mine(seen, [marker])))
        effects = len(source.mine(found, [marker]))
        require(effects == 1, f"the refused call had its effect: {effects} effects of one key")


async def _attempt(probe: Probe, method: str, request: Message) -> Refusal | None:
    try:
        await probe.wire.call(method, request)
    except Refusal as refusal:
        return refusal
    return None
