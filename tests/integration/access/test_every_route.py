"""Goal: nothing of a guarded node can be used by who may not, over REST and over gRPC alike.

Method: every operation of the OpenAPI document (which must hold every route of the table) and every
call of the typed API, tried without credentials, with wrong ones, with ones that are not enough, and
with ones that are. What is enough is derived from the call; a route that is added is tried by itself.
"""

from __future__ import annotations

import http.client
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import pytest
import yaml
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from photinus_core.access.roles import Role, Scope
from photinus_core.rpc.needs import CallNeed, need_of

from tests.integration.access.conftest import Guarded
from tests.support.rest import ANSWER_S

ROOT: Final = Path(__file__).resolve().parents[3]
CALL_S: Final = 60.0
LASTING: Final = frozenset({"NodeService.Drain", "SpiService.ResetNode"})
"""What changes the node for good is not tried by who may."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    need: CallNeed


def needed(rpc: str) -> CallNeed:
    found = need_of("/photinus.api.v1." + rpc.replace(".", "/"))
    assert found is not None
    return found


def operations(document: Mapping[str, Any], routes: Mapping[str, str]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = operation["operationId"]
            plain = name.removesuffix("Namespace") if name not in routes else name
            rpc = routes.get(plain) or routes["get" + plain.removeprefix("query")]
            filled = re.sub(r"\{ns\}", "red", path)
            filled = re.sub(r"\{[^}]*\}", "1", filled)
            yield Operation(name, method.upper(), filled, needed(rpc))


class Line:
    """A connection that is kept: there are some thousand requests."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S)

    def ask(self, operation: Operation, headers: Mapping[str, str]) -> tuple[int, str, str]:
        body = "{}" if operation.method in ("POST", "PUT", "PATCH") else None
        self._connection.request(
            operation.method,
            "/api/v1" + operation.path,
            body,
            {"Content-Type": "application/json", **headers},
        )
        answer = self._connection.getresponse()
        text = answer.read().decode()
        return answer.status, text, answer.getheader("WWW-Authenticate", "")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def table() -> Mapping[str, str]:
    assert list(calls()), "loads the services whose calls are asked about"
    routes = yaml.safe_load((ROOT / "proto/rest/routes.yaml").read_text())["routes"]
    return {route["id"]: route["rpc"] for route in routes}


@pytest.fixture(scope="module")
def tried(guarded: Guarded, table: Mapping[str, str]) -> list[Operation]:
    url = f"{guarded.node.url}/api/openapi.json"
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S)
    connection.request("GET", "/api/openapi.json", headers=guarded.user("root"))
    document = json.loads(connection.getresponse().read())
    connection.close()
    found = list(operations(document, table))
    # The SPI has a listener and a document of its own; its calls are tried below.
    served = {route for route, rpc in table.items() if not rpc.startswith("SpiService.")}
    assert served <= {operation.id for operation in found}
    assert len(found) > 200
    return found


def too_little(guarded: Guarded, need: CallNeed) -> dict[str, str]:
    """Somebody who is known, and may a little less than this."""
    name = {Role.READER: "nobody", Role.WRITER: "reader", Role.OPERATOR: "writer"}
    return guarded.user(name[need.role])


def enough(guarded: Guarded, need: CallNeed) -> dict[str, str]:
    name = {Role.READER: "reader", Role.WRITER: "writer", Role.OPERATOR: "root"}
    return guarded.user(name[need.role])


def test_every_route_wants_credentials(guarded: Guarded, tried: list[Operation]) -> None:
    line = Line(guarded.node.url)
    wrong = {
        "a wrong password": guarded.user("root", "a guess"),
        "an expired token": guarded.token("operators", lasts_s=-10),
        "a token for others": guarded.token("operators", aud="elsewhere"),
    }
    bad = []
    for operation in tried:
        if (
            operation.need.scope is not Scope.ANY
        ):  # who is nobody sees of the node what is open to all
            status, text, challenge = line.ask(operation, {})
            expected = '{"error":"FF00169: Unauthorized"}\n'
            if (status, text) != (401, expected) or "Basic" not in challenge:
                bad.append(f"{operation}: without: {status} {text}")
        for name, headers in wrong.items():
            status, text, challenge = line.ask(operation, headers)
            if status != 401 or "FF00169: Unauthorized" not in text or "Bearer" not in challenge:
                bad.append(f"{operation}: {name}: {status} {text}")
    line.close()
    assert bad == []


def test_every_route_wants_its_role(guarded: Guarded, tried: list[Operation]) -> None:
    line = Line(guarded.node.url)
    bad = []
    for operation in tried:
        if operation.need.scope is not Scope.ANY:
            status, text, _ = line.ask(operation, too_little(guarded, operation.need))
            if status != 403 or not text.startswith('{"error":"FF00170: Forbidden: '):
                bad.append(f"{operation}: too little: {status} {text}")
        status, text, _ = line.ask(operation, enough(guarded, operation.need))
        if status in (401, 403) or status >= 500:
            bad.append(f"{operation}: enough: {status} {text}")
    line.close()
    assert bad == []


# The same over gRPC.


def calls() -> Iterator[MethodDescriptor]:
    for proto in sorted((ROOT / "proto/photinus/api/v1").glob("*_service.proto")):
        module = importlib.import_module(f"photinus.api.v1.{proto.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


async def outcome(
    channel: grpc.aio.Channel, method: MethodDescriptor, headers: Mapping[str, str]
) -> grpc.StatusCode:
    """How a call ends that says nothing; OK when it begins to answer."""
    request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    kind = (
        f"{'stream' if method.client_streaming else 'unary'}_"
        f"{'stream' if method.server_streaming else 'unary'}"
    )
    make = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    metadata = [("authorization", value) for value in headers.values()]
    given: Any = iter(()) if method.client_streaming else request()
    call = make(given, timeout=CALL_S, metadata=metadata)
    try:
        if method.server_streaming:
            await call.read()
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as failure:
        return failure.code()
    return grpc.StatusCode.OK


async def test_every_call_wants_its_role(guarded: Guarded) -> None:
    unknown, refused = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
    bad, tried = [], 0
    async with grpc.aio.insecure_channel(guarded.node.grpc_address) as channel:
        for method in calls():
            name = f"{method.containing_service.name}.{method.name}"
            need = needed(name)
            attempts = [("wrong", guarded.user("root", "a guess"), {unknown})]
            if need.scope is not Scope.ANY:
                attempts.append(("without", {}, {unknown}))
                attempts.append(("too little", too_little(guarded, need), {refused}))
            if name not in LASTING:
                attempts.append(("enough", enough(guarded, need), set()))
            for what, headers, want in attempts:
                code = await outcome(channel, method, headers)
                tried += 1
                if (want and code not in want) or (not want and code in {unknown, refused}):
                    bad.append(f"{name}: {what}: {code}")
    assert bad == []
    assert tried > 250


async def test_health_and_reflection_want_nothing(guarded: Guarded) -> None:
    async with grpc.aio.insecure_channel(guarded.node.grpc_address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        listed: Any = await ask(iter([asked]), timeout=CALL_S).read()
        assert len(listed.list_services_response.service) > 10
