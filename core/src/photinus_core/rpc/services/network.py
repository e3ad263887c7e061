"""NetworkService and IdentityService: organisations, nodes, identities, verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from photinus.api.v1 import (
    identity_pb2,
    identity_service_pb2_grpc,
    network_service_pb2_grpc,
)
from photinus.api.v1 import identity_service_pb2 as pb
from photinus.api.v1 import network_service_pb2 as network_pb

from photinus_core.identity.diddocs import did_document
from photinus_core.identity.registration import IdentityInput, Registering
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import Uuid, is_uuid, parse_hash, parse_uuid
from photinus_core.model.network import Identity, IdentityType, Verifier
from photinus_core.model.query import Condition, Operator
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.ports.connectors import KeyIntent
from photinus_core.ports.store import Table
from photinus_core.rpc import convert, fireflyjson
from photinus_core.rpc.access import current
from photinus_core.rpc.errors import Context, set_http_status
from photinus_core.rpc.services.base import NamespacedRequest, Servicer, total_of

ACTIONS: Final = frozenset({"terminate"})


async def find_identity(namespace: NamespaceRuntime, id_or_did: str) -> Identity:
    """Finds an identity by id or DID.

    Raises:
        Rejected: FF00138, it is neither.
        NotFound: FF10109.
    """
    async with namespace.reader() as reader:
        if id_or_did.startswith("did:"):
            found = await reader.identity_by_did(id_or_did)
        else:
            found = await reader.identity(parse_uuid(id_or_did))
    if found is None:
        raise NotFound("FF10109")
    return found


async def finish(
    namespace: NamespaceRuntime, started: Registering, context: Context, *, confirm: bool
) -> Identity:
    """Answers a registration.

    At once with 202, or with the identity once the network has confirmed it.
    """
    if not confirm:
        set_http_status(context, 202 if started.messages else 200)
        return started.identity
    return await namespace.registered(started, context.time_remaining())


def identity_input(given: identity_pb2.IdentityInput, kind: str) -> IdentityInput:
    """Reads a registration."""
    return IdentityInput(
        name=given.name,
        type=kind,
        parent=given.parent,
        key=given.key,
        description=given.description,
        profile=given.profile,
    )


class NetworkServicer(Servicer, network_service_pb2_grpc.NetworkServiceServicer):
    """Serves organisations and nodes."""

    async def ListOrganizations(
        self, request: network_pb.ListOrganizationsRequest, context: Context
    ) -> network_pb.ListOrganizationsResponse:
        kind = Condition("type", Operator.EQUAL, IdentityType.ORG)
        page = await self.page(request, request.query, Table.IDENTITIES, kind)
        items = [convert.identity(i) for i in page.items]
        return network_pb.ListOrganizationsResponse(items=items, **total_of(page))

    async def GetOrganization(
        self, request: network_pb.GetOrganizationRequest, context: Context
    ) -> network_pb.GetOrganizationResponse:
        found = await self._named(request, IdentityType.ORG, request.name_or_id)
        return network_pb.GetOrganizationResponse(identity=convert.identity(found))

    async def RegisterOrganization(
        self, request: network_pb.RegisterOrganizationRequest, context: Context
    ) -> network_pb.RegisterOrganizationResponse:
        namespace = self.namespace(request)
        namespace.require_multiparty()
        started = await namespace.registration.register(
            identity_input(request.organization, IdentityType.ORG)
        )
        identity = await finish(namespace, started, context, confirm=request.confirm)
        answer = network_pb.RegisterOrganizationResponse(identity=convert.identity(identity))
        answer.request.CopyFrom(request.organization)
        answer.request.type = IdentityType.ORG
        return answer

    async def RegisterSelfOrganization(
        self, request: network_pb.RegisterSelfOrganizationRequest, context: Context
    ) -> network_pb.RegisterSelfOrganizationResponse:
        namespace = self.namespace(request)
        started = await namespace.registration.register_own_org()
        identity = await finish(namespace, started, context, confirm=request.confirm)
        return network_pb.RegisterSelfOrganizationResponse(identity=convert.identity(identity))

    async def ListNodes(
        self, request: network_pb.ListNodesRequest, context: Context
    ) -> network_pb.ListNodesResponse:
        kind = Condition("type", Operator.EQUAL, IdentityType.NODE)
        page = await self.page(request, request.query, Table.IDENTITIES, kind)
        items = [convert.identity(i) for i in page.items]
        return network_pb.ListNodesResponse(items=items, **total_of(page))

    async def GetNode(
        self, request: network_pb.GetNodeRequest, context: Context
    ) -> network_pb.GetNodeResponse:
        found = await self._named(request, IdentityType.NODE, request.name_or_id)
        return network_pb.GetNodeResponse(identity=convert.identity(found))

    async def RegisterSelfNode(
        self, request: network_pb.RegisterSelfNodeRequest, context: Context
    ) -> network_pb.RegisterSelfNodeResponse:
        namespace = self.namespace(request)
        started = await namespace.registration.register_own_node()
        identity = await finish(namespace, started, context, confirm=request.confirm)
        return network_pb.RegisterSelfNodeResponse(identity=convert.identity(identity))

    async def SubmitNetworkAction(
        self, request: network_pb.SubmitNetworkActionRequest, context: Context
    ) -> network_pb.SubmitNetworkActionResponse:
        services = self.namespace(request).multiparty
        if request.action.type not in ACTIONS:
            raise Rejected("FF10397", request.action.type)
        await services.governance.submit(request.action.type)
        set_http_status(context, 202)
        return network_pb.SubmitNetworkActionResponse(action=request.action)

    async def _named(self, request: NamespacedRequest, kind: IdentityType, text: str) -> Identity:
        async with self.namespace(request).reader() as reader:
            if text.startswith("did:"):
                found = await reader.identity_by_did(text)
            elif is_uuid(text):
                found = await reader.identity(Uuid(text.lower()))
            else:
                found = await reader.identity_by_name(kind, text)
        if found is None:
            raise NotFound("FF10109")
        if found.base.type is not kind:
            raise NotFound("FF00164")
        return found


class IdentityServicer(Servicer, identity_service_pb2_grpc.IdentityServiceServicer):
    """Serves identities and verifiers."""

    async def ListIdentities(
        self, request: pb.ListIdentitiesRequest, context: Context
    ) -> pb.ListIdentitiesResponse:
        page = await self.page(request, request.query, Table.IDENTITIES)
        owners: Sequence[Identity] = page.items
        verifiers: dict[Uuid, list[Verifier]] = {}
        if request.fetch_verifiers:
            async with self.namespace(request).reader() as reader:
                verifiers = await reader.verifiers_of([i.base.id for i in owners])
        items = [convert.identity(i, verifiers.get(i.base.id, ())) for i in owners]
        return pb.ListIdentitiesResponse(items=items, **total_of(page))

    async def GetIdentity(
        self, request: pb.GetIdentityRequest, context: Context
    ) -> pb.GetIdentityResponse:
        namespace = self.namespace(request)
        found = await find_identity(namespace, request.id)
        verifiers = await self._verifiers(namespace, found) if request.fetch_verifiers else []
        return pb.GetIdentityResponse(identity=convert.identity(found, verifiers))

    async def CreateIdentity(
        self, request: pb.CreateIdentityRequest, context: Context
    ) -> pb.CreateIdentityResponse:
        namespace = self.namespace(request)
        started = await namespace.registration.register(
            identity_input(request.identity, request.identity.type)
        )
        identity = await finish(namespace, started, context, confirm=request.confirm)
        return pb.CreateIdentityResponse(identity=convert.identity(identity))

    async def UpdateIdentity(
        self, request: pb.UpdateIdentityRequest, context: Context
    ) -> pb.UpdateIdentityResponse:
        namespace = self.namespace(request)
        given, binding = request.update, current().binding
        if binding is not None:
            found = await find_identity(namespace, request.id)
            binding.signer(found.base.did, "")
        started = await namespace.registration.update(
            parse_uuid(request.id), given.description, given.profile or None
        )
        identity = await finish(namespace, started, context, confirm=request.confirm)
        return pb.UpdateIdentityResponse(identity=convert.identity(identity))

    async def GetDidDocument(
        self, request: pb.GetDidDocumentRequest, context: Context
    ) -> pb.GetDidDocumentResponse:
        namespace = self.namespace(request)
        found = await find_identity(namespace, request.id)
        document = identity_pb2.DidDocument()
        fireflyjson.decode(
            did_document(found.base, await self._verifiers(namespace, found)), document
        )
        return pb.GetDidDocumentResponse(document=document)

    async def ListIdentityVerifiers(
        self, request: pb.ListIdentityVerifiersRequest, context: Context
    ) -> pb.ListIdentityVerifiersResponse:
        found = await find_identity(self.namespace(request), request.id)
        owner = Condition("identity", Operator.EQUAL, found.base.id)
        page = await self.page(request, request.query, Table.VERIFIERS, owner)
        items = [convert.verifier(v) for v in page.items]
        return pb.ListIdentityVerifiersResponse(items=items, **total_of(page))

    async def ListVerifiers(
        self, request: pb.ListVerifiersRequest, context: Context
    ) -> pb.ListVerifiersResponse:
        page = await self.page(request, request.query, Table.VERIFIERS)
        items = [convert.verifier(v) for v in page.items]
        return pb.ListVerifiersResponse(items=items, **total_of(page))

    async def GetVerifier(
        self, request: pb.GetVerifierRequest, context: Context
    ) -> pb.GetVerifierResponse:
        wanted = Condition("hash", Operator.EQUAL, parse_hash(request.hash))
        page = await self.page(request, pb.ListVerifiersRequest().query, Table.VERIFIERS, wanted)
        if not page.items:
            raise NotFound("FF10109")
        return pb.GetVerifierResponse(verifier=convert.verifier(page.items[0]))

    async def ResolveVerifier(
        self, request: pb.ResolveVerifierRequest, context: Context
    ) -> pb.ResolveVerifierResponse:
        identities = self.namespace(request).identities
        resolved = await identities.resolve_key(request.verifier.value, KeyIntent.LOOKUP)
        verifier = identity_pb2.VerifierRef(type=resolved.verifier_type, value=resolved.key)
        return pb.ResolveVerifierResponse(verifier=verifier)

    @staticmethod
    async def _verifiers(namespace: NamespaceRuntime, identity: Identity) -> list[Verifier]:
        async with namespace.reader() as reader:
            return (await reader.verifiers_of([identity.base.id])).get(identity.base.id, [])
