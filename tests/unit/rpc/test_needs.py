"""What calls need: every call of the API, so that a new one cannot be forgotten, and those who send as one identity."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from google.protobuf.descriptor import MethodDescriptor
from photinus.api.v1 import (
    datatype_service_pb2,
    identity_pb2,
    identity_service_pb2,
    message_pb2,
    message_service_pb2,
)
from photinus_core.access.roles import Binding, Need, Role, Scope
from photinus_core.model.errors import Forbidden
from photinus_core.rpc.needs import OPERATED, READS, SIGNED, UNSIGNED, WRITES, bind, need_of

ROOT = Path(__file__).resolve().parents[3]


def calls() -> Iterator[MethodDescriptor]:
    for proto in sorted((ROOT / "proto/photinus/api/v1").glob("*_service.proto")):
        module = importlib.import_module(f"photinus.api.v1.{proto.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


CALLS = {f"{m.containing_service.name}.{m.name}": m for m in calls()}


def path(name: str) -> str:
    return "/photinus.api.v1." + name.replace(".", "/")


@pytest.mark.parametrize("name", CALLS)
def test_every_call_needs_something(name: str) -> None:
    """A call whose verb is not known needs an operator; one that ought to is to be listed as such."""
    need = need_of(path(name))
    assert need is not None
    verb_is_known = name.partition(".")[2].startswith((*READS, *WRITES))
    is_spi = need.scope is Scope.SPI
    assert verb_is_known or name in OPERATED or is_spi, f"list {name} in rpc/needs.py"
    if need.role is Role.READER:
        assert need.is_bound
    if name in OPERATED or is_spi:
        assert need.role is Role.OPERATOR


def test_what_is_listed_exists() -> None:
    assert set(CALLS) >= OPERATED
    assert set(CALLS) >= SIGNED
    assert set(CALLS) >= UNSIGNED


def test_every_route_is_a_call_that_needs_something() -> None:
    routes = yaml.safe_load((ROOT / "proto/rest/routes.yaml").read_text())["routes"]
    assert len(routes) > 70
    for route in routes:
        assert need_of(path(route["rpc"])) is not None, route["id"]


@pytest.mark.parametrize(
    ("name", "scope", "role"),
    [
        ("NodeService.Drain", Scope.NODE, Role.OPERATOR),
        ("NodeService.GetCluster", Scope.NODE, Role.OPERATOR),
        ("NodeService.ListConnectors", Scope.NODE, Role.OPERATOR),
        ("NodeService.GetNodeInfo", Scope.ANY, Role.READER),
        ("NodeService.PruneCollection", Scope.NAMESPACE, Role.OPERATOR),
        ("NamespaceService.ListNamespaces", Scope.ANY, Role.READER),
        ("NamespaceService.GetNamespace", Scope.NAMESPACE, Role.READER),
        ("EventService.Subscribe", Scope.ANY, Role.READER),
        ("DataService.UploadData", Scope.NAMESPACE, Role.WRITER),
        ("DataService.DownloadBlob", Scope.NAMESPACE, Role.READER),
        ("MessageService.BroadcastMessage", Scope.NAMESPACE, Role.WRITER),
        ("IdentityService.ResolveVerifier", Scope.NAMESPACE, Role.READER),
        ("ExplainService.ExplainPin", Scope.NAMESPACE, Role.READER),
        ("BatchService.CancelBatch", Scope.NAMESPACE, Role.OPERATOR),
    ],
)
def test_some_needs(name: str, scope: Scope, role: Role) -> None:
    need = need_of(path(name))
    assert need is not None
    assert (need.scope, need.role) == (scope, role)
    assert need.of("red") == Need(scope, role, "red" if scope is Scope.NAMESPACE else "")


def test_health_and_reflection_are_open() -> None:
    assert need_of("/grpc.health.v1.Health/Watch") is None
    assert need_of("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") is None


BINDING = Binding("did:firefly:org/acme", "0x1")


@pytest.mark.parametrize("name", [n for n in CALLS if n.startswith("MessageService.")])
def test_messages_are_sent_as_the_callers_identity(name: str) -> None:
    need = need_of(path(name))
    assert need is not None
    if need.role is Role.READER:
        return
    assert need.inputs
    request = message_service_pb2.BroadcastMessageRequest()
    bind(need, BINDING, request)
    assert request.message.header.author == "did:firefly:org/acme"
    assert request.message.header.key == "0x1"
    other = message_pb2.MessageHeaderInput(author="other")
    with pytest.raises(Forbidden, match="you send as did:firefly:org/acme, not as other"):
        bind(
            need,
            BINDING,
            message_service_pb2.BroadcastMessageRequest(
                message=message_pb2.MessageInput(header=other)
            ),
        )


def test_identities_are_made_below_the_callers_own() -> None:
    need = need_of(path("IdentityService.CreateIdentity"))
    assert need is not None
    for parent in ("", "acme", "did:firefly:org/acme"):
        wanted = identity_pb2.IdentityInput(name="x", parent=parent, key="0x2")
        request = identity_service_pb2.CreateIdentityRequest(identity=wanted)
        bind(need, BINDING, request)
        assert request.identity.parent == "did:firefly:org/acme"
        assert request.identity.key == "0x2"
    wanted = identity_pb2.IdentityInput(name="x", parent="other")
    with pytest.raises(Forbidden, match="are children of"):
        bind(need, BINDING, identity_service_pb2.CreateIdentityRequest(identity=wanted))


@pytest.mark.parametrize("name", CALLS)
def test_whatever_else_signs_is_not_for_them(name: str) -> None:
    """A write that is neither known to sign nothing, nor to sign as the caller, is refused."""
    need = need_of(path(name))
    assert need is not None
    known = name in UNSIGNED or name in SIGNED or bool(need.inputs) or need.role is Role.READER
    assert need.is_bound == known
    if not known:
        request = datatype_service_pb2.CreateDatatypeRequest()
        with pytest.raises(Forbidden, match="not for those who send as"):
            bind(need, BINDING, request)
