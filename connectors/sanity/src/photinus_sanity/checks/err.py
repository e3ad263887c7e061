"""ERR: what an error looks like."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import grpc
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sanity import needs
from photinus_sanity.catalogue import Profile, must, should
from photinus_sanity.probe import NOT_SENT, Attempt, Probe
from photinus_sanity.sources import mutations_of
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import DOMAIN, Refusal

RULE = "protocol.md §3 Errors"
REASON = re.compile(r"[A-Z][A-Z0-9_]{1,62}")
MESSAGE_BYTES_MAX = 2048
DETAILS_BYTES_MAX = 4096
OURS_TO_FIX = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


async def _refusals(probe: Probe) -> AsyncIterator[Refusal]:
    """Errors that any connector gives: unknown keys, missing keys, nonsense as settings."""
    asked = operations.GetOperationRequest(stream=probe.submit_ref, idempotency_key=probe.key())
    attempts: list[Attempt] = [
        lambda: probe.wire.call("OperationService.GetOperation", asked),
        lambda: probe.wire.call("OperationService.Cancel", operations.CancelRequest()),
        lambda: probe.session.configure(probe.wire, "[]"),
        lambda: probe.wire.call("OperationService.GetOperation", asked, metadata=()),
    ]
    for attempt in attempts:
        try:
            await attempt()
        except Refusal as refusal:
            yield refusal


async def _refused_mutations(probe: Probe) -> AsyncIterator[Refusal]:
    """Errors of mutating calls: without a key, and with a key used for something else."""
    for mutation in await mutations_of(probe):
        key = probe.key()
        await probe.wire.call(mutation.method, mutation.request(probe.context(key), 0))
        for context, variant in ((probe.context(""), 0), (probe.context(key), 1)):
            try:
                await probe.wire.call(mutation.method, mutation.request(context, variant))
            except Refusal as refusal:
                yield refusal


@must("ERR-001", rule=RULE, fix="Attach ErrorInfo with the protocol's domain and a stable reason.")
async def error_info(probe: Probe) -> None:
    """Every error carries ErrorInfo: the protocol's domain and a reason in UPPER_SNAKE_CASE."""
    seen = 0
    async for refusal in _refusals(probe):
        seen += 1
        require(refusal.info is not None, f"no ErrorInfo: {refusal}")
        assert refusal.info is not None
        require(refusal.info.domain == DOMAIN, f"the domain is {refusal.info.domain!r}: {refusal}")
        require(REASON.fullmatch(refusal.reason), f"the reason is {refusal.reason!r}")
    require(seen >= 3, "calls that must be refused are answered")


@must(
    "ERR-002", rule=RULE, fix="Cut messages at 2 KiB and details at 4 KiB: gRPC loses larger ones."
)
async def error_size(probe: Probe) -> None:
    """Errors stay small, however large the input was that they quote."""
    key = "x" * 200_000
    requests = (
        operations.GetOperationRequest(stream=probe.submit_ref, idempotency_key=key),
        operations.GetOperationRequest(idempotency_key=key),
        operations.CancelRequest(context=probe.context(key)),
    )
    for request in requests:
        method = "Cancel" if isinstance(request, operations.CancelRequest) else "GetOperation"
        try:
            await probe.wire.call(f"OperationService.{method}", request)
        except Refusal as refusal:
            size = len(refusal.message.encode())
            require(size <= MESSAGE_BYTES_MAX, f"a message of {size} bytes")
            size = refusal.details_bytes
            require(size <= DETAILS_BYTES_MAX, f"a status of {size} bytes")
            require(refusal.info is not None, f"the error was lost on its way: {refusal}")
    try:
        await probe.session.configure(probe.wire, '{"' + key + '": 1}')
    except Refusal as refusal:
        require(refusal.details_bytes <= DETAILS_BYTES_MAX, "a status that is too large")
        require(refusal.info is not None, f"the error was lost on its way: {refusal}")


@must(
    "ERR-003",
    rule=f"{RULE}: SubmissionDetail alone decides what the core does",
    fix="Attach SubmissionDetail; NOT_SENT only when nothing left the connector and nothing will.",
    profile=Profile.FULL,
    needs=(needs.mutates,),
)
async def disposition(probe: Probe) -> None:
    """A mutating call refused for its arguments says NOT_SENT."""
    seen = 0
    async for refusal in _refused_mutations(probe):
        seen += 1
        require(refusal.disposition is not None, f"no SubmissionDetail: {refusal}")
        require(refusal.disposition == NOT_SENT, f"the disposition is not NOT_SENT: {refusal}")
    require(seen or not await mutations_of(probe), "calls that must be refused are answered")


@should(
    "ERR-004",
    rule=f"{RULE}: INTERNAL is a defect of the connector",
    fix="Parse input before you use it; refuse what does not parse with INVALID_ARGUMENT.",
)
async def not_internal(probe: Probe) -> None:
    """Wrong input is never answered with INTERNAL or UNKNOWN."""
    async for refusal in _refusals(probe):
        if refusal.code in OURS_TO_FIX:
            raise Violation(str(refusal))
