"""LIM: limits, and input that is new, malformed or too much."""

from __future__ import annotations

import asyncio

from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sanity import needs
from photinus_sanity.catalogue import Profile, must
from photinus_sanity.probe import UNAVAILABLE, Probe
from photinus_sanity.sources import source_of
from photinus_sanity.streams import kind_of
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import Refusal

RULE = "CONTRIBUTING.md Compatibility: a released package only grows"
AT_ONCE = 200
LISTENERS = 50
# Field 2047, text: a field that a later minor version may have.
UNKNOWN_FIELD = b"\xfa\x7f\x05later"
GARBAGE = b"\xff\xff\xff\xff\xff\xff\xff"


async def _alive(probe: Probe) -> None:
    await probe.wire.call("ConnectorService.Describe", connector.DescribeRequest(), metadata=())


@must("LIM-001", rule=RULE, fix="Ignore fields you do not know.")
async def unknown_fields(probe: Probe) -> None:
    """Unknown fields in a request are ignored."""
    session = probe.session
    configure = connector.ConfigureRequest(
        instance=probe.wire.instance,
        config_json=session.settings_json,
        revision=session.revision,
        cluster_id=session.cluster_id,
    )
    validate = connector.ValidateRequest(config_json=session.settings_json)
    for method, request in (
        ("ConnectorService.Describe", b""),
        ("ConnectorService.Validate", validate.SerializeToString()),
        ("ConnectorService.Configure", configure.SerializeToString()),
    ):
        await probe.wire.call(method, request + UNKNOWN_FIELD, metadata=())


@must("LIM-002", rule=RULE, fix="Treat an enum value you do not know as unspecified, or refuse it.")
async def unknown_enums(probe: Probe) -> None:
    """Unknown enum values and frames are refused or ignored, and nothing else suffers."""
    listing = operations.ListOperationsRequest(stream=probe.ref)
    raw = listing.SerializeToString() + b"\x10\x63"
    await _answered(probe, "OperationService.ListOperations", raw)
    if probe.session.claimed(connector.CONTRACT_KIND_BLOCKCHAIN) is not None:
        resolve = blockchain.ResolveKeyRequest().SerializeToString() + b"\x10\x63"
        await _answered(probe, "BlockchainService.ResolveKey", resolve)
    if probe.session.claims(connector.CAPABILITY_EVENTS):
        async with probe.stream() as stream:
            await stream.open(probe.ref)
            await stream.send_raw(UNKNOWN_FIELD)
            try:
                await stream.quiet(probe.session.quiet_s)
            except Refusal as refusal:
                require(refusal.code is not UNAVAILABLE, "an unknown frame ended the connector")
    await _alive(probe)


async def _answered(probe: Probe, method: str, raw: bytes) -> None:
    try:
        await probe.wire.call(method, raw)
    except Refusal as refusal:
        require(refusal.code is not UNAVAILABLE, f"{method} ended the connector: {refusal}")


@must(
    "LIM-003", rule="protocol.md §3 Errors", fix="Answer an error; never end the process for input."
)
async def garbage(probe: Probe) -> None:
    """Requests that are no protobuf are refused, and nothing else suffers."""
    for name in ("Connector.Configure", "Connector.Validate", "Operation.GetOperation"):
        method = name.replace(".", "Service.")
        try:
            await probe.wire.call(method, GARBAGE)
        except Refusal as refusal:
            require(refusal.code is not UNAVAILABLE, f"{method} ended the connector: {refusal}")
        else:
            raise Violation(f"{method} answers bytes that are no request")
    await _alive(probe)


@must(
    "LIM-004",
    rule="protocol.md §4: listeners of one stream",
    fix="Do not tie a thread or a connection to each listener.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def many_listeners(probe: Probe) -> None:
    """Fifty listeners on one stream work."""
    source = await source_of(probe)
    names = [f"l{n}" for n in range(LISTENERS)]
    async with source.open(*names) as stream:
        for name in names if not source.checkpointed else names[:1]:
            await source.emit(to=name)
        found = await stream.collect(
            lambda seen: {e.listener_id for e in seen if source.marker(e)} >= set(names),
            what=f"an event of each of {LISTENERS} listeners",
        )
        require(found, "nothing came")


@must(
    "LIM-005",
    rule="connector.proto Limits",
    fix="Serve calls concurrently, or refuse them with RESOURCE_EXHAUSTED.",
    profile=Profile.FULL,
)
async def many_calls(probe: Probe) -> None:
    """Two hundred calls at once are all answered."""
    asked = operations.ListOperationsRequest(stream=probe.ref, page_size=1)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(probe.wire.call("OperationService.ListOperations", asked))
    except* Refusal as refusals:
        raise Violation(f"a call is refused: {refusals.exceptions[0]}") from None


@must(
    "LIM-006",
    rule="event.proto AddListener: unique in the stream",
    fix="Answer ListenerError for a listener without an id, or with one that is there already.",
    needs=(needs.submits,),
)
async def listener_twice(probe: Probe) -> None:
    """A listener whose id is there already is told by ListenerError; the first one goes on."""
    source = await source_of(probe)
    async with source.open() as stream:
        twice = events.AddListener(listener=source.listener())
        await stream.send(add_listener=twice)
        markers = await source.emit()
        told, found = False, list[events.Event]()
        async for frame in stream.frames("ListenerError, and the events of the first listener"):
            told = told or kind_of(frame) == "listener_error"
            if kind_of(frame) == "batch":
                found += frame.batch.events
                await stream.ack(frame.batch.seq)
            if told and source.mine(found, markers):
                break
        require(len(source.mine(found, markers)) == 1, "events come twice")
