"""EVT, further: nack, listeners, drain, reconnects, checkpoints and the form of events."""

from __future__ import annotations

import asyncio
import time

from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must
from photinus_sanity.probe import INVALID, Probe, ends_in
from photinus_sanity.sources import source_of
from photinus_sanity.streams import Stream, kind_of
from photinus_sanity.violations import require

EVENTS = needs.capability(connector.CAPABILITY_EVENTS)
PROTO = "protocol.md §4, event.proto"
EVENT_ID_BYTES_MAX = 256
PROGRESS_S = 10.0
PROGRESS_TOLERANCE_S = 1.0


@must(
    "EVT-013",
    rule="event.proto Nack: it and those behind it are sent again",
    fix="On Nack send the unacked batches from that number again, unchanged, after the pause.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def nacked(probe: Probe) -> None:
    """After Nack the batch and those behind it come again, unchanged, in order, not before the pause."""
    source = await source_of(probe)
    pause_s = 0.4
    async with source.open(batch_size=1, window_batches=3) as stream:
        await source.emit(3)
        first = [await stream.batch() for _ in range(3)]
        begun = time.monotonic()
        await stream.nack(first[1].seq, int(pause_s * 1000))
        again = [await stream.batch() for _ in range(2)]
        took = time.monotonic() - begun
        require([b.seq for b in again] == [b.seq for b in first[1:]], "other batches come again")
        same = [list(b.events) for b in again] == [list(b.events) for b in first[1:]]
        require(same, "the batches changed")
        require(took >= pause_s * 0.9, f"they come again after {took:.2f} s, not {pause_s} s")
        await stream.ack(first[-1].seq)
        last = await source.emit()
        found = await stream.collect(lambda seen: source.mine(seen, last) == last)
        require(found, "the stream does not go on")


@must(
    "EVT-014",
    rule=f"{PROTO} AddListener, RemoveListener",
    fix="Take AddListener and RemoveListener while the stream runs.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def live_listeners(probe: Probe) -> None:
    """Listeners come and go while the stream runs."""
    source = await source_of(probe)
    async with source.open() as stream:
        await source.emit(to="b")
        added = source.listener("b")
        await stream.send(add_listener=events.AddListener(listener=added))
        marker = await source.emit(to="b")
        found = await stream.collect(
            lambda seen: any(e.listener_id == "b" and source.marker(e) == marker[0] for e in seen),
            what="an event of an added listener",
        )
        require(found, "nothing came")
        await stream.send(remove_listener=events.RemoveListener(listener_id="b"))
        # What was on its way may still come; then no more.
        for frame in await stream.quiet(probe.session.quiet_s):
            if kind_of(frame) == "batch":
                await stream.ack(frame.batch.seq)
        await source.emit(to="b")
        last = await source.emit()
        found = await stream.collect(lambda seen: bool(source.mine(seen, last)))
        late = [event for event in found if event.listener_id == "b"]
        require(not late, "events of a removed listener come")


@must(
    "EVT-015",
    rule=f"{PROTO} DrainStream: answer Drained once all that was sent is acked",
    fix="Stop sending on DrainStream; send Drained with the last number after the last ack.",
    needs=(needs.submits,),
)
async def drained(probe: Probe) -> None:
    """After DrainStream nothing new comes; Drained follows the last ack and names the last batch."""
    source = await source_of(probe)
    async with source.open(batch_size=1) as stream:
        await source.emit()
        batch = await stream.batch()
        await stream.send(drain=events.DrainStream())
        await source.emit()
        last = batch.seq
        for frame in await stream.quiet(probe.session.quiet_s):
            # What was under way when the drain arrived.
            require(kind_of(frame) == "batch", f"{kind_of(frame)} before everything is acked")
            last = frame.batch.seq
        await stream.ack(last)
        frame = await stream.expect("drained")
        named = frame.drained.last_seq
        require(named == last, f"Drained names batch {named}, the last one was {last}")
        await stream.ended()


@must(
    "EVT-016",
    rule=f"{PROTO} EVT-002: sent again, unchanged in order, after a reconnect until acked",
    fix="Keep what is not acked; send it first when the stream is opened again.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def again_after_reconnect(probe: Probe) -> None:
    """What was not acked comes again after a reconnect, with the same ids in the same order."""
    source = await source_of(probe)
    markers = await source.emit(3)
    seen: list[list[str]] = []
    for epoch in (1, 1, 2):
        async with source.open(batch_size=1, epoch=epoch) as stream:
            found = await stream.collect(
                lambda events_: source.mine(events_, markers) == markers,
                ack=False,
                what="events that were not acked",
            )
        seen.append([e.id for e in found if source.marker(e) in markers])
    require(seen[0] == seen[1] == seen[2], f"the ids or their order differ: {seen}")


@must(
    "EVT-017",
    rule="event.proto Event.id: unique and stable, at most 256 bytes",
    fix="Make ids of what identifies the event in its system: block, transaction, index.",
    needs=(needs.submits,),
)
async def ids(probe: Probe) -> None:
    """Event ids are there, unique and at most 256 bytes; events name their listener, updates none."""
    source = await source_of(probe)
    async with source.open() as stream:
        markers = await source.emit(4)
        found = await stream.collect(lambda seen: source.mine(seen, markers) == markers)
    for event in found:
        size = len(event.id.encode())
        require(0 < size <= EVENT_ID_BYTES_MAX, f"an id of {size} bytes")
        body = event.WhichOneof("body")
        require(body, "an event without a body")
        if source.marker(event) in markers:
            require(event.listener_id == "a", f"an event names the listener {event.listener_id!r}")
    require(len({event.id for event in found}) == len(found), "two events have one id")


@must(
    "EVT-018",
    rule="event.proto CheckpointInvalid",
    fix="Check a checkpoint before you use it; answer CheckpointInvalid and leave the listener idle.",
    needs=(needs.ledger,),
)
async def bad_checkpoint(probe: Probe) -> None:
    """A checkpoint that is none is told by CheckpointInvalid; the other listeners go on."""
    source = await source_of(probe)
    bad = source.listener("bad")
    bad.resume = b"\xffno checkpoint\x00"
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.ref, bad, source.listener())
        markers = await source.emit()
        told, found = False, list[events.Event]()
        async for frame in stream.frames("CheckpointInvalid for the one, events of the other"):
            match kind_of(frame):
                case "checkpoint_invalid":
                    told = True
                    named = frame.checkpoint_invalid.listener_id
                    require(named == "bad", f"CheckpointInvalid names {named!r}")
                    require(frame.checkpoint_invalid.reason, "CheckpointInvalid without a reason")
                case "listener_error":
                    require(False, "a bad checkpoint is told by ListenerError")
                case "batch":
                    found += frame.batch.events
                    await stream.ack(frame.batch.seq)
                    late = [event for event in found if event.listener_id == "bad"]
                    require(not late, "events of the listener whose checkpoint is none")
                case _:
                    pass
            if told and source.mine(found, markers):
                return


@must(
    "EVT-019",
    rule=f"{PROTO} Open: the first frame, and only the first; it needs stream and epoch",
    fix="Refuse with INVALID_ARGUMENT; the client is at fault.",
    needs=(EVENTS,),
)
async def wrong_frames(probe: Probe) -> None:
    """Wrong frames end the stream with INVALID_ARGUMENT: no Open, a second Open, no epoch, an ack of the unsent."""
    opening = events.Open(
        stream=probe.ref, owner_epoch=1, window_batches=4, window_bytes=1 << 20, batch_size=4
    )
    no_epoch, no_stream = events.Open(), events.Open()
    no_epoch.CopyFrom(opening)
    no_epoch.owner_epoch = 0
    no_stream.CopyFrom(opening)
    no_stream.ClearField("stream")
    for first, what in (
        ({"ack": events.Ack(through_seq=1)}, "a stream that begins with Ack"),
        ({"open": no_epoch}, "an Open without an epoch"),
        ({"open": no_stream}, "an Open without a stream"),
    ):
        async with probe.stream() as stream:
            await stream.send(**first)
            refusal = await stream.refused()
            require(refusal.code is INVALID, f"{what} must be INVALID_ARGUMENT, but: {refusal}")
    for then, what in (
        ({"open": opening}, "a second Open"),
        ({"ack": events.Ack(through_seq=99)}, "an Ack of what was never sent"),
    ):
        async with probe.stream() as stream:
            await stream.open(probe.ref)
            await stream.send(**then)
            refusal = await stream.refused()
            require(refusal.code is INVALID, f"{what} must be INVALID_ARGUMENT, but: {refusal}")


@must(
    "EVT-020",
    rule=f"{PROTO}: operation updates are acked like any event",
    fix="Keep each update until it is acked, and no longer.",
    profile=Profile.FULL,
    needs=(needs.ledger,),
)
async def updates(probe: Probe) -> None:
    """The end of a submission comes on its stream, again until it is acked, and not after that."""
    source = await source_of(probe)
    key = probe.key()
    method, request = source.submission(probe.context(key), source.new_marker(key))
    answer = await probe.wire.call(method, request)
    ends = []
    for acked in (False, True):
        async with probe.stream() as stream:
            await stream.open(probe.submit_ref)
            found = await stream.collect(
                lambda seen: key in ends_in(seen), ack=acked, what="the end of a submission"
            )
            ends.append(ends_in(found)[key])
            for event in found:
                require(
                    event.listener_id == "" or event.WhichOneof("body") != "operation_update",
                    "an update names a listener",
                )
            if acked:
                await _all_acked(stream)
    require(ends[0] == ends[1], "the update changed when it came again")
    wanted = answer.submission.external_id
    require(wanted in ("", ends[0].external_id), "the update has another external_id")
    async with probe.stream() as stream:
        await stream.open(probe.submit_ref)
        late = await stream.quiet(probe.session.quiet_s)
        again = [f for f in late if kind_of(f) == "batch" and key in ends_in(f.batch.events)]
        require(not again, "an update that was acked comes again")


async def _all_acked(stream: Stream) -> None:
    """Waits until the connector has taken all acks: a drained stream has."""
    await stream.send(drain=events.DrainStream())
    last = 0
    while True:
        frame = await stream.frame()
        if kind_of(frame) in ("drained", "the end"):
            return
        assert frame is not None
        if kind_of(frame) == "batch":
            last = frame.batch.seq
            await stream.ack(last)


@must(
    "EVT-021",
    rule=f"{PROTO}: one stream per StreamRef, each with its own window",
    fix="Keep window, queue and writer per stream.",
    profile=Profile.FULL,
    needs=(needs.ledger,),
)
async def streams_apart(probe: Probe) -> None:
    """A stream whose window is full does not hold up another."""
    source = await source_of(probe)
    async with source.open(window_batches=1, batch_size=1) as full:
        await source.emit(3)
        await full.batch()
        async with probe.stream(source.listening) as other:
            await other.open(probe.stream_ref("other"), source.listener())
            markers = await source.emit()
            await other.collect(lambda seen: source.mine(seen, markers) == markers)


@must(
    "EVT-022",
    rule=f"{PROTO} Open.batch_size",
    fix="Cut batches at the size that Opened named.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def batch_size(probe: Probe) -> None:
    """No batch has more events than the batch size."""
    source = await source_of(probe)
    markers = await source.emit(7)
    async with source.open(batch_size=3) as stream:
        found: list[events.Event] = []
        while source.mine(found, markers) != markers:
            batch = await stream.batch()
            count = len(batch.events)
            require(count <= 3, f"a batch of {count} events with a batch size of 3")
            found += batch.events
            await stream.ack(batch.seq)


@must(
    "EVT-023",
    rule="event.proto Progress.checkpoints: they never pass an unacked event",
    fix="Hold a listener's checkpoint back while events of it are unacked or unsent.",
    profile=Profile.FULL,
    phase=Phase.BACKGROUND,
    needs=(needs.ledger,),
)
async def progress_checkpoints(probe: Probe) -> None:
    """A checkpoint in Progress never passes an event that is not acked."""
    source = await source_of(probe)
    markers = await source.emit(3)
    kept = b""
    async with source.open(window_batches=1, batch_size=1) as stream:
        found = (await stream.batch()).events
        until = time.monotonic() + PROGRESS_S + PROGRESS_TOLERANCE_S
        while not stream.progress and time.monotonic() < until:
            await stream.quiet(1.0)
        for _, told in stream.progress:
            kept = told.checkpoints.get("a", kept)
    if not kept:
        return
    listener = source.listener()
    listener.resume = kept
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.ref, listener)
        last = await source.emit()
        rest = await stream.collect(lambda seen: source.mine(seen, last) == last)
    unacked = source.mine(found, markers) or markers
    missing = set(unacked) - set(source.mine(rest, markers))
    require(not missing, "events that were not acked are behind a checkpoint of Progress")


@must(
    "EVT-024",
    rule="event.proto Listener.first_event",
    fix="Begin `newest` at the head of the moment in which the listener is opened.",
    profile=Profile.FULL,
    needs=(needs.ledger,),
)
async def newest(probe: Probe) -> None:
    """A listener from `newest` gets nothing that was final before it was opened."""
    source = await source_of(probe)
    before = await source.emit(2)
    async with source.open() as stream:
        await stream.collect(lambda seen: source.mine(seen, before) == before)
    listener = source.listener()
    listener.resume, listener.first_event = b"", "newest"
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.ref, listener)
        # The head is read some time after Opened: events are made until one comes.
        found: list[events.Event] = []
        async with asyncio.timeout(20):
            while not found:
                await source.emit()
                for frame in await stream.quiet(probe.session.quiet_s):
                    if kind_of(frame) == "batch":
                        found += [e for e in frame.batch.events if source.marker(e)]
        require(not source.mine(found, before), "events from before the listener come")
