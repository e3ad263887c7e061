"""What each call of the API needs: derived from its name, with the exceptions listed here.

A call added later is found by its verb, and needs an operator when the verb is not known: forgetting
to list it here can lock people out, and let nobody in. Services that are not `photinus.api.v1`
(health, reflection) are open; those whose name begins with `Spi` belong to the SPI and its operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from photinus.api.v1 import identity_pb2, message_pb2

from photinus_core.access.refusals import forbidden
from photinus_core.access.roles import Binding, Need, Role, Scope, as_did

PACKAGE: Final = "photinus.api.v1."
SPI: Final = "Spi"

READS: Final = ("Download", "Explain", "Get", "List", "Resolve", "Subscribe")
WRITES: Final = (
    *("Broadcast", "Create", "Delete", "Publish", "Put", "Request", "Retry"),
    *("Send", "Update", "Upload"),
)

OPERATED: Final = frozenset(
    {
        "BatchService.CancelBatch",
        "NetworkService.RegisterOrganization",
        "NetworkService.RegisterSelfNode",
        "NetworkService.RegisterSelfOrganization",
        "NetworkService.SubmitNetworkAction",
        "NodeService.Drain",
        "NodeService.GetCluster",
        "NodeService.GetWebSockets",
        "NodeService.ListConnectors",
        "NodeService.PruneCollection",
        "OperationService.RetryOperation",
        "PinService.RewindPins",
    }
)
"""What concerns the member as a whole, or the node."""

UNSIGNED: Final = frozenset(
    {
        "DataService.CreateData",
        "DataService.DeleteData",
        "DataService.PublishDataBlob",
        "DataService.PublishDataValue",
        "DataService.UploadData",
        "SubscriptionService.CreateSubscription",
        "SubscriptionService.DeleteDeadLetter",
        "SubscriptionService.DeleteSubscription",
        "SubscriptionService.PutSubscription",
        "SubscriptionService.RetryDeadLetter",
        "SubscriptionService.RetryDeadLetters",
    }
)
"""Writes that sign nothing: also for callers who send as one identity only."""
SIGNED: Final = frozenset(
    {
        "DatatypeService.CreateDatatype",
        "IdentityService.CreateIdentity",
        "IdentityService.UpdateIdentity",
    }
)
"""Writes that are signed as the identity that the caller is bound to; their servicers see to it.

Every other write is refused to such callers, unless its request holds a MessageInput: there author
and key are filled in.
"""


@dataclass(frozen=True, slots=True)
class CallNeed:
    """What a call needs, before its namespace is known.

    Attributes:
        is_bound: Whether callers bound to an identity may make it.
        inputs: Fields of the request that hold a message to be sent.
    """

    scope: Scope
    role: Role
    is_bound: bool
    inputs: tuple[str, ...] = ()

    def of(self, namespace: str) -> Need:
        """The need of a call about a namespace."""
        return Need(self.scope, self.role, namespace if self.scope is Scope.NAMESPACE else "")


@lru_cache(maxsize=1024)
def need_of(path: str) -> CallNeed | None:
    """What the call of a path needs; None for one that is open to all.

    Args:
        path: `/photinus.api.v1.NodeService/Drain`, as gRPC has it.
    """
    service, _, call = path.removeprefix("/").partition("/")
    if not service.startswith(PACKAGE):
        return None
    found = Default().FindServiceByName(service).methods_by_name[call]
    return _need(found)


def _need(method: MethodDescriptor) -> CallNeed:
    name = f"{method.containing_service.name}.{method.name}"
    inputs = tuple(
        field.name
        for field in method.input_type.fields
        if field.message_type is not None
        and field.message_type.full_name == message_pb2.MessageInput.DESCRIPTOR.full_name
    )
    role = _role(method, name)
    signs = role is not Role.READER and name not in UNSIGNED
    return CallNeed(_scope(method, role), role, not signs or bool(inputs) or name in SIGNED, inputs)


def _role(method: MethodDescriptor, name: str) -> Role:
    if name in OPERATED or method.containing_service.name.startswith(SPI):
        return Role.OPERATOR
    if _begins(method.name, READS):
        return Role.READER
    return Role.WRITER if _begins(method.name, WRITES) else Role.OPERATOR


def _scope(method: MethodDescriptor, role: Role) -> Scope:
    if method.containing_service.name.startswith(SPI):
        return Scope.SPI
    if _names_namespace(method):
        return Scope.NAMESPACE
    return Scope.ANY if role is Role.READER else Scope.NODE


def _names_namespace(method: MethodDescriptor) -> bool:
    fields = method.input_type.fields_by_name
    header = fields.get("header")
    if header is not None and header.message_type is not None:
        return "namespace" in header.message_type.fields_by_name
    return "namespace" in fields


def _begins(name: str, verbs: Sequence[str]) -> bool:
    return name.startswith(tuple(verbs))


def namespace_of(request: Any) -> str:
    """The namespace that a request, or the first frame of an upload, names; empty for the default one."""
    fields = request.DESCRIPTOR.fields_by_name
    named: str = request.namespace if "namespace" in fields else request.header.namespace
    return named


def bind(need: CallNeed, binding: Binding, request: Any) -> None:
    """Has a request send as the identity its caller is bound to.

    Raises:
        Forbidden: FF00170, it would send as another, or what it does is signed by another.
    """
    if not need.is_bound:
        raise forbidden(f"this is not for those who send as {binding.author} only")
    for name in need.inputs:
        header = getattr(request, name).header
        header.author, header.key = binding.signer(header.author, header.key)
    identity = getattr(request, "identity", None)
    if isinstance(identity, identity_pb2.IdentityInput):
        if identity.parent and as_did(identity.parent) != binding.author:
            raise forbidden(f"identities you create are children of {binding.author}")
        identity.parent = binding.author
