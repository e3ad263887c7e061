"""DLN: deadlines and calls that are given up."""

from __future__ import annotations

import asyncio
import contextlib
import time

import grpc
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sanity import needs
from photinus_sanity.catalogue import Profile, must
from photinus_sanity.probe import INVALID, NOT_FOUND, Probe, refused
from photinus_sanity.sources import mutations_of, source_of
from photinus_sanity.violations import require
from photinus_sanity.wire import Refusal

RULE = "protocol.md §3: every call has a deadline; mutating calls without one are refused"
SUBMIT_S = 5.0
ANSWER_S = 5.0
GIVEN_UP = 50
GAVE_UP = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@must("DLN-001", rule=RULE, fix="Refuse mutating calls whose context has no deadline.")
async def cancel_needs_a_deadline(probe: Probe) -> None:
    """Cancel, which every connector serves, is refused without a deadline."""
    request = operations.CancelRequest(context=probe.context(probe.key()))
    await refused(
        probe.wire.call("OperationService.Cancel", request, timeout_s=None),
        INVALID,
        what="Cancel without a deadline",
    )


@must(
    "DLN-002",
    rule=RULE,
    fix="Refuse mutating calls whose context has no deadline.",
    needs=(needs.mutates,),
)
async def mutations_need_a_deadline(probe: Probe) -> None:
    """Every mutating call is refused without a deadline, and has no effect then."""
    for mutation in await mutations_of(probe):
        key = probe.key()
        request = mutation.request(probe.context(key), 0)
        await refused(
            probe.wire.call(mutation.method, request, timeout_s=None),
            INVALID,
            what=f"{mutation.method} without a deadline",
        )
        await refused(probe.operation(key), NOT_FOUND, what="GetOperation of the refused call")


@must(
    "DLN-003",
    rule="protocol.md §3: nothing waits for a block",
    fix="Journal the work and answer; tell its end with an OperationUpdate.",
    needs=(needs.submits,),
)
async def answers_at_once(probe: Probe) -> None:
    """A submission is answered within 5 s, however long the work takes."""
    source = await source_of(probe)
    begun = time.monotonic()
    await source.emit()
    took = time.monotonic() - begun
    require(took < SUBMIT_S, f"it took {took:.1f} s")


@must(
    "DLN-004",
    rule="protocol.md §3: after a timeout the core asks GetOperation before it sends again",
    fix="Take the key durably before the work begins; finish or undo it when the caller is gone.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def timed_out_is_known(probe: Probe) -> None:
    """After deadlines too short to meet, GetOperation answers, and the same key has one effect."""
    source = await source_of(probe)
    async with source.open() as stream:
        markers = []
        for timeout_s in (0.0005, 0.002, 0.005, 0.02):
            key = probe.key("short")
            marker = source.new_marker(key)
            markers.append(marker)
            method, request = source.submission(probe.context(key), marker)
            try:
                await probe.wire.call(method, request, timeout_s=timeout_s)
            except Refusal as refusal:
                require(refusal.code in GAVE_UP, f"the call ended with {refusal}")
            try:
                async with asyncio.timeout(ANSWER_S):
                    await probe.operation(key)
            except Refusal as refusal:
                require(refusal.code is NOT_FOUND, f"GetOperation ended with {refusal}")
            await probe.wire.call(method, request)
        last = await source.emit()
        found = await stream.collect(
            lambda seen: set(source.mine(seen, [*markers, *last])) >= {*markers, *last}
        )
        seen = source.mine(found, markers)
        require(len(seen) == len(markers), f"{len(markers)} keys had {len(seen)} effects")


@must(
    "DLN-005",
    rule="protocol.md §3, gRPC: a caller that gives up costs nothing",
    fix="End handlers when their call is cancelled; leave no lock behind.",
)
async def given_up_calls(probe: Probe) -> None:
    """After many calls given up half-way, the connector answers as before."""
    for _ in range(GIVEN_UP):
        watch = probe.wire.answers("ConnectorService.WatchStatus", connector.WatchStatusRequest())
        watch.cancel()
    if probe.session.claims(connector.CAPABILITY_EVENTS):
        for _ in range(GIVEN_UP // 5):
            async with probe.stream() as stream:
                await stream.open(probe.ref)
    begun = time.monotonic()
    with contextlib.suppress(Refusal):
        await probe.wire.call(
            "ConnectorService.Describe",
            connector.DescribeRequest(),
            metadata=(),
            timeout_s=2 * ANSWER_S,
        )
    took = time.monotonic() - begun
    require(took < ANSWER_S, f"Describe took {took:.1f} s")
