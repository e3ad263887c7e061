"""EVT, under bad conditions: a killed or frozen connector, a core that does not read, broken connections."""

from __future__ import annotations

import asyncio
import contextlib
import time

from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must
from photinus_sanity.probe import Probe
from photinus_sanity.relay import relayed
from photinus_sanity.sources import source_of
from photinus_sanity.streams import Stream
from photinus_sanity.targets import Launched
from photinus_sanity.violations import require
from photinus_sanity.wire import Refusal

PROTO = "protocol.md §4, event.proto"
LARGE = 12_000
FROZEN_S = 2.0
ANSWER_S = 5.0
TAKEN_OVER_S = 15.0


@must(
    "EVT-030",
    rule=f"{PROTO} EVT-002, EVT-003: nothing that was not acked is lost",
    fix="Keep what is unacked on disk, or read it again from its system.",
    profile=Profile.CHAOS,
    phase=Phase.DISTURBED,
    needs=(needs.restartable, needs.submits),
)
async def killed(probe: Probe) -> None:
    """After kill -9 between batch and ack, what was not acked comes again, and what was stored goes on."""
    source = await source_of(probe)
    markers = await source.emit(4)
    async with source.open(batch_size=1) as stream:
        stored: list[events.Event] = []
        checkpoint = b""
        while len(source.mine(stored, markers)) < 2:
            batch = await stream.batch()
            stored += batch.events
            checkpoint = batch.checkpoints.get("a", b"")
            await stream.ack(batch.seq)
        await stream.batch()
        await probe.session.target.kill()
    await probe.session.start_again()
    listener = source.listener()
    listener.resume = checkpoint or listener.resume
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.ref, listener, epoch=2)
        found = await stream.collect(
            lambda seen: set(source.mine(seen, markers)) >= set(markers[2:]),
            what="the events that were not acked",
        )
    seen = source.mine(found, markers)
    # An ack that was on its way when the process died may be lost; what follows it may not.
    require(seen[-2:] == markers[2:], f"{markers[2:]} were not acked, {seen} came again")


@must(
    "EVT-031",
    rule=f"{PROTO}: a stream outlives a pause of the process",
    fix="Measure silence with a clock of your own progress; do not drop streams after a pause.",
    profile=Profile.CHAOS,
    phase=Phase.DISTURBED,
    needs=(needs.process, needs.submits),
)
async def frozen(probe: Probe) -> None:
    """Frozen for two seconds and thawed, the stream goes on where it was."""
    source, process = await source_of(probe), probe.session.target
    assert isinstance(process, Launched), "needs.process says so"
    async with source.open(batch_size=1) as stream:
        before = await source.emit(2)
        await stream.collect(lambda seen: source.mine(seen, before) == before)
        process.freeze()
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            process.thaw()
        after = await source.emit(2)
        found = await stream.collect(lambda seen: source.mine(seen, after) == after)
        require(source.mine(found, before) == [], "acked events come again after a pause")


@must(
    "EVT-032",
    rule=f"{PROTO}: reading never waits on processing; a slow core slows its own stream only",
    fix="Stop asking sources while the window is full; write each stream from a task of its own.",
    profile=Profile.CHAOS,
    phase=Phase.DISTURBED,
    needs=(needs.submits,),
)
async def slow_reader(probe: Probe) -> None:
    """A core that does not read holds up nobody else, and gets everything in order later."""
    source = await source_of(probe)
    async with (
        probe.session.dialled(probe.session.address_of(source.listening), buffering=False) as wire,
        Stream(wire.of(source.listening.instance)) as slow,
    ):
        await slow.open(
            probe.ref, source.listener(), window_batches=256, window_bytes=8 << 20, batch_size=4
        )
        slow.pause()
        markers = await source.emit(24, padding=LARGE)
        begun = time.monotonic()
        await probe.wire.call("ConnectorService.Describe", connector.DescribeRequest(), metadata=())
        require(time.monotonic() - begun < ANSWER_S, "calls wait for a stream nobody reads")
        async with probe.stream(source.listening) as other:
            await other.open(probe.stream_ref("other"))
        slow.resume()
        found = await slow.collect(lambda seen: len(source.mine(seen, markers)) >= len(markers))
    seen = source.mine(found, markers)
    require(seen == markers, "events are missing or out of order after a pause of the core")


@must(
    "EVT-033",
    rule=f"{PROTO} EVT-002: sent again after a reconnect until acked",
    fix="Treat a broken connection as a core that has left; keep what it did not ack.",
    profile=Profile.CHAOS,
    phase=Phase.DISTURBED,
    needs=(needs.submits,),
)
async def cut(probe: Probe) -> None:
    """After the connection is cut, the same leader opens the stream again and gets what it did not ack."""
    source = await source_of(probe)
    markers = await source.emit(3)
    async with (
        relayed(probe.session.address_of(source.listening)) as relay,
        probe.session.dialled(relay.address) as wire,
        Stream(wire.of(source.listening.instance)) as stream,
    ):
        await stream.open(probe.ref, source.listener(), batch_size=1)
        await stream.batch()
        relay.cut()
        with contextlib.suppress(Refusal):
            await stream.ended()
    async with source.open(batch_size=1) as stream:
        found = await stream.collect(lambda seen: source.mine(seen, markers) == markers)
        require(found, "nothing came")


@must(
    "EVT-034",
    rule=f"{PROTO} EVT-006: a leader opens its stream again while its old connection hangs",
    fix="Bound the time a superseded stream may take to end; then open the new one without it.",
    profile=Profile.CHAOS,
    phase=Phase.DISTURBED,
    needs=(needs.submits,),
)
async def hanging(probe: Probe) -> None:
    """A stream whose connection hangs without being closed is taken over within 15 s."""
    source = await source_of(probe)
    async with (
        relayed(probe.session.address_of(source.listening)) as relay,
        probe.session.dialled(relay.address) as wire,
        Stream(wire.of(source.listening.instance)) as hangs,
    ):
        await hangs.open(probe.ref, source.listener(), batch_size=1, epoch=1)
        relay.silence()
        markers = await source.emit(3)
        begun = time.monotonic()
        async with source.open(batch_size=1, epoch=1) as stream:
            took = time.monotonic() - begun
            require(took < TAKEN_OVER_S, f"the stream was opened after {took:.0f} s")
            await stream.collect(lambda seen: source.mine(seen, markers) == markers)
