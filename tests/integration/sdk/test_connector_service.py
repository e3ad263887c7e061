"""Goal: the services every connector has behave as connector-protocol §2 says.

Method: the ledger of tests/support over a real socket, called with raw stubs.
"""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus_sdk import ConnectorServer

from tests.support.ledger import Ledger, pin_request
from tests.support.wire import WAIT_S, Wire, dialled, reason_of


async def test_describe_is_the_same_every_time_and_needs_nothing(wire: Wire) -> None:
    first = await wire.connector.Describe(connector.DescribeRequest(), timeout=5)
    await wire.configure()
    second = await wire.connector.Describe(connector.DescribeRequest(), timeout=5)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    assert (first.name, first.version, list(first.protocols)) == ("ledger", "1.2.3", ["v1"])


@pytest.mark.parametrize(
    ("config", "pointer"), [('{"events":-1}', "/events"), ('{"evnets":1}', "/evnets")]
)
async def test_validate_finds_and_configure_refuses(wire: Wire, config: str, pointer: str) -> None:
    answer = await wire.connector.Validate(connector.ValidateRequest(config_json=config), timeout=5)
    assert [d.pointer for d in answer.diagnostics] == [pointer]
    request = connector.ConfigureRequest(instance="i1", config_json=config)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.connector.Configure(request, timeout=5)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value)[0] == "INVALID_CONFIG"
    assert pointer in (caught.value.details() or "")
    assert not Ledger.live


async def test_configure_again_changes_nothing_and_keeps_the_store(wire: Wire) -> None:
    first = await wire.configure({"events": 1})
    author = Ledger.live[-1]
    assert await wire.configure({"events": 1}) == first
    assert Ledger.live == [author]


async def test_configure_takes_changes_live_or_says_restart(wire: Wire, ledger: Ledger) -> None:
    await wire.configure({"events": 3}, revision=2)
    assert ledger.settings.events == 3
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.configure({"version": 1}, revision=3)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value)[0] == "RESTART_REQUIRED"
    assert ledger.settings.version == 2, "the former configuration stays in force"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.configure({"events": 4}, revision=1)
    assert reason_of(caught.value)[0] == "STALE_REVISION"
    assert ledger.settings.events == 3


async def test_the_store_keeps_its_id_through_a_restart(run_dir: Path) -> None:
    ids = set()
    for _ in range(2):
        async with (
            ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data") as server,
            dialled(server.address) as wire,
        ):
            ids.add((await wire.configure()).store_id)
    assert len(ids) == 1


async def test_instances_are_told_apart_by_metadata(
    server: ConnectorServer, wire: Wire, ledger: Ledger
) -> None:
    async with dialled(server.address, "i2") as second:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await second.call(second.blockchain.SubmitBatchPin, pin_request("k"))
        assert reason_of(caught.value)[0] == "NOT_CONFIGURED"
        await second.configure({"version": 1})
        request = blockchain.GetNetworkVersionRequest()
        assert (await second.call(second.blockchain.GetNetworkVersion, request)).version == 1
        assert (await wire.call(wire.blockchain.GetNetworkVersion, request)).version == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.blockchain.GetNetworkVersion(request, timeout=5)
    assert reason_of(caught.value)[0] == "INSTANCE_REQUIRED"


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a" * 64])
async def test_an_instance_name_is_a_name(wire: Wire, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.connector.Configure(connector.ConfigureRequest(instance=name), timeout=5)
    assert reason_of(caught.value)[0] == "INVALID_INSTANCE"


async def test_status_is_told_at_once_and_at_every_change(wire: Wire, ledger: Ledger) -> None:
    watch = wire.watch_status()
    first = await watch.read()
    assert first.state == connector.RUNTIME_STATE_OK
    assert first.since.seconds
    ledger.instance.report(connector.RUNTIME_STATE_DEGRADED, "the node is away")
    second = await watch.read()
    assert (second.state, second.reason) == (connector.RUNTIME_STATE_DEGRADED, "the node is away")
    watch.call.cancel()


async def test_health_follows_the_status(wire: Wire, ledger: Ledger) -> None:
    health: Any = health_pb2_grpc.HealthStub(wire.channel)
    service = "photinus.connector.v1.BlockchainService"
    watch = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    ledger.instance.report(connector.RUNTIME_STATE_FAILED, "disk full")
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    process = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert process.status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(wire: Wire, version: str) -> None:
    call: Any = wire.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {entry.name for entry in (await call.read()).list_services_response.service}
    await call.done_writing()
    assert {
        "photinus.connector.v1.ConnectorService",
        "photinus.connector.v1.OperationService",
        "photinus.connector.v1.EventService",
        "photinus.connector.v1.BlockchainService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    } <= listed


async def test_drain_refuses_new_work_and_configure_ends_it(wire: Wire, ledger: Ledger) -> None:
    await wire.call(wire.connector.Drain, connector.DrainRequest(grace_s=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k"))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == ("DRAINING", common.DISPOSITION_NOT_SENT)
    assert ledger.instance.status.state == connector.RUNTIME_STATE_STOPPING
    await wire.configure({"token": "hunter22"})
    await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k"))


async def test_background_work_that_fails_is_visible(run_dir: Path) -> None:
    class Failing(Ledger, name="failing", version="1.0.0"):
        async def run(self) -> None:
            raise RuntimeError("the disk is gone")

    async with (
        ConnectorServer(Failing, f"unix:{run_dir}/x.sock", run_dir / "data") as server,
        dialled(server.address) as wire,
    ):
        await wire.configure()
        watch = wire.watch_status()
        while (status := await watch.read()).state != connector.RUNTIME_STATE_FAILED:
            pass
        assert "background work ended" in status.reason
        watch.call.cancel()


async def test_one_instance_only_unless_said_otherwise(run_dir: Path) -> None:
    class Single(Ledger, name="single", version="1.0.0"):
        pass

    async with ConnectorServer(Single, f"unix:{run_dir}/x.sock", run_dir / "data") as server:
        async with dialled(server.address) as wire:
            await wire.configure()
        async with dialled(server.address, "i2") as second:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await second.configure()
            assert reason_of(caught.value)[0] == "SINGLE_INSTANCE"


async def test_plain_tcp_on_loopback(run_dir: Path) -> None:
    data = run_dir / "data"
    async with ConnectorServer(Ledger, "127.0.0.1:0", data, insecure=True) as server:
        assert not server.address.endswith(":0")
        async with dialled(server.address) as wire:
            await wire.configure()


async def test_a_core_is_told_apart_from_garbage(wire: Wire) -> None:
    raw: Any = wire.channel.unary_unary("/photinus.connector.v1.ConnectorService/Configure")
    with pytest.raises(grpc.aio.AioRpcError):
        await raw(b"\xff\xff\xff", timeout=5)
    unknown: Any = wire.channel.unary_unary("/photinus.connector.v1.TokensService/Mint")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unknown(empty_pb2.Empty().SerializeToString(), timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await wire.configure()


async def test_the_last_status_told_is_the_end(ledger: Ledger) -> None:
    """A change while the watcher is busy with the status before it."""
    told = []
    async for status in ledger.instance.watch_status():
        told.append(status.state)
        if len(told) == 1:
            await ledger.instance.drain(0.1)
    assert told == [connector.RUNTIME_STATE_OK, connector.RUNTIME_STATE_STOPPING]
