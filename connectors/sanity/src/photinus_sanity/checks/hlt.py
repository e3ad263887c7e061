"""HLT: health, runtime status, drain, and how a launched process begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc
from grpc_health.v1 import health_pb2
from photinus.connector.v1 import connector_pb2 as connector

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must, should
from photinus_sanity.checks.dsc import SERVICES
from photinus_sanity.probe import UNAVAILABLE, Probe
from photinus_sanity.sources import mutations_of
from photinus_sanity.targets import END_S, Launched
from photinus_sanity.violations import require
from photinus_sanity.wire import PACKAGE, Refusal, Wire

STATUS_S = 5.0
DRAIN_RULE = "connector.proto Drain, RuntimeState"
LAUNCH_RULE = "protocol.md §1.2 launch"


async def _health(wire: Wire, service: str) -> int:
    stub = wire.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await stub(health_pb2.HealthCheckRequest(service=service), timeout=STATUS_S)
    except grpc.aio.AioRpcError as error:
        require(False, f"health of {service or 'the whole'} answers {error.code().name}")
        raise
    status: int = answer.status
    return status


async def _status(wire: Wire) -> connector.WatchStatusResponse:
    call = wire.answers(
        "ConnectorService.WatchStatus", connector.WatchStatusRequest(), timeout_s=STATUS_S
    )
    try:
        found = await call.read()
        require(isinstance(found, connector.WatchStatusResponse), "WatchStatus answers nothing")
        status: connector.WatchStatusResponse = found
        return status
    except grpc.aio.AioRpcError as error:
        raise wire.taken_apart("ConnectorService.WatchStatus", error) from None
    finally:
        call.cancel()


@must(
    "HLT-001",
    rule="protocol.md §2: grpc.health.v1 beside the services",
    fix="Serve grpc.health.v1 for the empty name and for each contract's service.",
)
async def health(probe: Probe) -> None:
    """Health is SERVING, for the whole and for each contract's service."""
    names = [f"{PACKAGE}.{SERVICES[entry.kind]}" for entry in probe.described.contracts]
    for name in ("", *names):
        found = await _health(probe.wire, name)
        serving = found == health_pb2.HealthCheckResponse.SERVING
        require(serving, f"health of {name or 'the whole'} is {found}")


@must(
    "HLT-002",
    rule="connector.proto WatchStatus: the first answer comes at once",
    fix="Answer the present state first, then each change.",
)
async def status(probe: Probe) -> None:
    """WatchStatus tells the state at once, with since; a reason exactly when it is not OK."""
    found = await _status(probe.wire)
    require(found.state in connector.RuntimeState.values(), f"state {found.state} is not known")
    require(found.state, "the state is not given")
    require(found.HasField("since"), "since is not given")
    if found.state == connector.RUNTIME_STATE_DEGRADED:
        require(found.reason, "DEGRADED without a reason")


@must(
    "HLT-003",
    rule=DRAIN_RULE,
    fix="Answer Drain once streams have ended; refuse new work with UNAVAILABLE; say STOPPING.",
    profile=Profile.FULL,
    phase=Phase.LAST,
    needs=(needs.restartable,),
)
async def drain(probe: Probe) -> None:
    """After Drain streams have ended with Drained, new work is UNAVAILABLE, the status is STOPPING; twice is once."""
    events_claimed = probe.session.claims(connector.CAPABILITY_EVENTS)
    mutations = await mutations_of(probe) if not needs.mutates(probe.session) else []
    if events_claimed:
        async with probe.stream() as stream:
            await stream.open(probe.ref)
            await _drain(probe)
            await stream.expect("drained")
            await stream.ended()
    else:
        await _drain(probe)
    await _drain(probe)
    found = await _status(probe.wire)
    stopping = found.state == connector.RUNTIME_STATE_STOPPING
    require(stopping, f"the status is {connector.RuntimeState.Name(found.state)}")
    for mutation in mutations:
        request = mutation.request(probe.context(probe.key()), 0)
        try:
            await probe.wire.call(mutation.method, request)
        except Refusal as refusal:
            require(refusal.code is UNAVAILABLE, f"new work is not UNAVAILABLE: {refusal}")
        else:
            require(False, f"{mutation.method} is taken after Drain")


async def _drain(probe: Probe) -> None:
    async with asyncio.timeout(END_S):
        await probe.wire.call("ConnectorService.Drain", connector.DrainRequest(grace_s=2))


@must(
    "HLT-004",
    rule=LAUNCH_RULE,
    fix="Print exactly one line of JSON on standard output once you can be dialled.",
    needs=(needs.process,),
)
async def handshake(probe: Probe) -> None:
    """The handshake line names protocol, address and process."""
    target = probe.session.target
    assert isinstance(target, Launched)
    found = target.handshake
    require(found.get("handshake") == 1, f"handshake is {found.get('handshake')!r}, not 1")
    require("v1" in found.get("protocol", []), "protocol does not hold v1")
    assert target.process is not None
    require(isinstance(found.get("pid"), int), "pid is missing")


@must(
    "HLT-005",
    rule=LAUNCH_RULE,
    fix="On SIGTERM take nothing new, drain, close, and exit with 0.",
    profile=Profile.FULL,
    phase=Phase.TERMINATED,
    needs=(needs.restartable,),
)
async def terminated(probe: Probe) -> AsyncGenerator[None, None]:
    """On SIGTERM it ends by itself within 20 s, with status 0."""
    yield
    found = probe.session.exit_status
    require(found == 0, f"it ended with status {found}")


@must(
    "HLT-006",
    rule=f"{LAUNCH_RULE}: its standard input closes when the core is gone",
    fix="With PHOTINUS_LAUNCHED set, end when standard input ends.",
    profile=Profile.FULL,
    phase=Phase.LAST,
    needs=(needs.process,),
)
async def orphaned(probe: Probe) -> None:
    """A launched connector ends when its standard input closes."""
    target = probe.session.target
    assert isinstance(target, Launched)
    require(await target.close_input() is not None, "it lives on without its core")


@should(
    "HLT-007",
    rule="protocol.md §1.3",
    fix="Remove the socket when you end.",
    profile=Profile.FULL,
    phase=Phase.TERMINATED,
    needs=(needs.restartable,),
)
async def no_socket_left(probe: Probe) -> AsyncGenerator[None, None]:
    """A connector that ended on SIGTERM leaves no socket behind."""
    yield
    require(not probe.session.socket_left, "the socket is still there")
