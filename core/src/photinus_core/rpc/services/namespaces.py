"""NamespaceService and NodeService: what the node is made of, and how it is."""

from __future__ import annotations

from collections.abc import Sequence

from photinus.api.v1 import identity_pb2, namespace_pb2, namespace_service_pb2_grpc
from photinus.api.v1 import namespace_service_pb2 as pb

from photinus_core.model.ledger import NetworkContract
from photinus_core.namespaces.node import Node
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import PluginRef
from photinus_core.namespaces.status import MultipartyState, NamespaceState, Registration
from photinus_core.rpc import convert
from photinus_core.rpc.access import current
from photinus_core.rpc.errors import Context
from photinus_core.rpc.leader_calls import LeaderCalls, leader_knows
from photinus_core.rpc.services.base import Servicer

_SERVICE = pb.DESCRIPTOR.services_by_name["NamespaceService"]

TRANSPORTS = ("websockets", "webhooks", "system")
"""Event transports, in the order in which they are shown; `system` is the node's own."""


class NamespaceServicer(Servicer, namespace_service_pb2_grpc.NamespaceServiceServicer):
    """Serves namespaces and their status."""

    def __init__(self, node: Node, leader_calls: LeaderCalls) -> None:
        super().__init__(node)
        self.leader_calls = leader_calls

    async def ListNamespaces(
        self, request: pb.ListNamespacesRequest, context: Context
    ) -> pb.ListNamespacesResponse:
        items = [
            shown(runtime, await runtime.state())
            for runtime in self.node.namespaces()
            if (runtime.is_readable or request.include_initializing)
            and current().sees(runtime.settings.name)
        ]
        return pb.ListNamespacesResponse(items=items)

    async def GetNamespace(
        self, request: pb.GetNamespaceRequest, context: Context
    ) -> pb.GetNamespaceResponse:
        runtime = self.namespace(request)
        return pb.GetNamespaceResponse(namespace=shown(runtime, await runtime.state()))

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        runtime = self.namespace(request)
        state = await runtime.state()
        answer = pb.GetStatusResponse(
            namespace=shown(runtime, state),
            plugins=plugins(runtime),
            multiparty=namespace_pb2.StatusMultiparty(enabled=state.multiparty is not None),
            conditions=[
                namespace_pb2.StatusCondition(
                    type=c.type, message=c.message, since=convert.timestamp(c.since)
                )
                for c in (*state.conditions, *self.node.troubles(runtime))
            ],
        )
        multiparty, settings = state.multiparty, runtime.settings.multiparty
        if multiparty is None or settings is None:
            return answer
        answer.node.CopyFrom(
            namespace_pb2.StatusNode(
                name=settings.node_name,
                registered=multiparty.node is not None,
                id=multiparty.node.base.id if multiparty.node else "",
            )
        )
        org = multiparty.org
        answer.org.CopyFrom(
            namespace_pb2.StatusOrg(
                name=settings.org_name,
                registered=org is not None,
                did=org.base.did if org else "",
                id=org.base.id if org else "",
                verifiers=[
                    identity_pb2.VerifierRef(type=v.type, value=v.value)
                    for v in multiparty.org_verifiers
                ],
            )
        )
        answer.multiparty.contract.CopyFrom(contracts(multiparty))
        return answer

    @leader_knows(_SERVICE)
    async def GetMultipartyStatus(
        self, request: pb.GetMultipartyStatusRequest, context: Context
    ) -> pb.GetMultipartyStatusResponse:
        state = (await self.namespace(request).state()).multiparty
        if state is None:
            return pb.GetMultipartyStatusResponse(
                enabled=False,
                org=namespace_pb2.RegistrationStatus(),
                node=namespace_pb2.RegistrationStatus(),
            )
        shown_contracts = namespace_pb2.MultipartyContractsWithStatus(
            terminated=[contract(c) for c in state.terminated]
        )
        if state.active is not None:
            shown_contracts.active.CopyFrom(
                namespace_pb2.MultipartyContractWithStatus(
                    contract=contract(state.active), status=state.listener
                )
            )
        return pb.GetMultipartyStatusResponse(
            enabled=True,
            org=registration(state.org_registration),
            node=registration(state.node_registration),
            contracts=shown_contracts,
        )

    @leader_knows(_SERVICE)
    async def GetBatchManagerStatus(
        self, request: pb.GetBatchManagerStatusRequest, context: Context
    ) -> pb.GetBatchManagerStatusResponse:
        runtime = self.namespace(request)
        runtime.require_multiparty()
        leadership = runtime.leadership
        processors = [
            namespace_pb2.BatchProcessor(
                dispatcher=p.dispatcher,
                name=p.name,
                status=namespace_pb2.BatchProcessorStatus(
                    last_flush_start_time=convert.timestamp(p.last_flush_start),
                    flushing=p.flushing or "",
                    blocked=p.blocked,
                    last_flush_error=p.last_error,
                    last_flush_error_time=convert.timestamp(p.last_error_time),
                    average_batch_bytes=p.average_bytes,
                    average_batch_messages=p.average_messages,
                    average_batch_data=p.average_data,
                    average_flush_time_ms=p.average_flush_ms,
                    total_batches=p.batches,
                    total_errors=p.errors,
                ),
            )
            for p in (leadership.batches.status() if leadership else [])
        ]
        return pb.GetBatchManagerStatusResponse(processors=processors)


def shown(runtime: NamespaceRuntime, state: NamespaceState) -> namespace_pb2.Namespace:
    """A namespace as it is listed."""
    return namespace_pb2.Namespace(
        name=runtime.settings.name,
        network_name=runtime.settings.network_name,
        description=runtime.settings.description,
        created=convert.timestamp(state.created),
        initializing=not runtime.is_started,
        initialization_error=state.error,
    )


def plugins(runtime: NamespaceRuntime) -> namespace_pb2.StatusPlugins:
    """Plugins of a namespace, by category."""
    settings = runtime.settings

    def listed(*refs: PluginRef | None) -> Sequence[namespace_pb2.StatusPlugin]:
        return [
            namespace_pb2.StatusPlugin(name=r.name, plugin_type=r.type)
            for r in refs
            if r is not None
        ]

    return namespace_pb2.StatusPlugins(
        blockchain=listed(settings.blockchain),
        database=listed(settings.database),
        data_exchange=listed(settings.data_exchange),
        shared_storage=listed(settings.shared_storage),
        tokens=listed(*settings.tokens),
        events=[namespace_pb2.StatusPlugin(plugin_type=t) for t in TRANSPORTS],
    )


def registration(state: Registration) -> namespace_pb2.RegistrationStatus:
    """How far a registration is."""
    return namespace_pb2.RegistrationStatus(
        status=state.state, pending_registration_message_id=state.pending_message or ""
    )


def contract(record: NetworkContract) -> namespace_pb2.MultipartyContract:
    """A multiparty contract."""
    return namespace_pb2.MultipartyContract(
        index=record.index,
        location=record.location,
        first_event=record.first_event,
        info=namespace_pb2.MultipartyContractInfo(
            subscription=f"contract-{record.index}",
            final_event=record.final_event,
            version=record.version,
        ),
    )


def contracts(state: MultipartyState) -> namespace_pb2.MultipartyContracts:
    """Multiparty contracts of a namespace."""
    made = namespace_pb2.MultipartyContracts(terminated=[contract(c) for c in state.terminated])
    if state.active is not None:
        made.active.CopyFrom(contract(state.active))
    return made
