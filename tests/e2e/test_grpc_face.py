"""Goal: any gRPC client finds out what a member serves and whether it serves.

Method: gRPC's own reflection and health services on the shared network.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from photinus.api.v1 import namespace_service_pb2

from tests.support import golden
from tests.support.network import RunningNetwork

ANSWER_S: Final = 20.0
SERVING: Final = health_pb2.HealthCheckResponse.SERVING


def test_reflection_tells_every_service(network: RunningNetwork) -> None:
    with grpc.insecure_channel(network.members[0].grpc_address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        found = set(database.get_services())
        ours = {service.full_name for service in golden.services().values()}
        assert ours <= found
        assert "grpc.health.v1.Health" in found
        name = "photinus.api.v1.MessageService"
        assert "SendPrivateMessage" in str(database.FindFileContainingSymbol(name))


async def test_health_is_told_and_watched(network: RunningNetwork) -> None:
    async with grpc.aio.insecure_channel(network.members[0].grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its calls are made when it is
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        assert answer.status == SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        first = await asyncio.wait_for(watch.read(), ANSWER_S)
        assert first.status == SERVING
        watch.cancel()


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("/photinus.api.v1.NamespaceService/GetNothing", grpc.StatusCode.UNIMPLEMENTED),
        ("/photinus.api.v1.NamespaceService/GetStatus", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_not_there(
    network: RunningNetwork, method: str, code: grpc.StatusCode
) -> None:
    async with grpc.aio.insecure_channel(network.members[0].grpc_address) as channel:
        call: Any = channel.unary_unary(
            method, namespace_service_pb2.GetStatusRequest.SerializeToString
        )
        request = namespace_service_pb2.GetStatusRequest(namespace="absent")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(request, timeout=ANSWER_S)
        assert failure.value.code() is code
