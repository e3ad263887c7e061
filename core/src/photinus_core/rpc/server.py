"""The gRPC server of the core: servicers, health, reflection, limits, graceful end."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from photinus.api.v1 import (
    batch_service_pb2,
    batch_service_pb2_grpc,
    blockchain_event_service_pb2,
    blockchain_event_service_pb2_grpc,
    chart_service_pb2,
    chart_service_pb2_grpc,
    data_service_pb2,
    data_service_pb2_grpc,
    datatype_service_pb2,
    datatype_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    explain_service_pb2,
    explain_service_pb2_grpc,
    group_service_pb2,
    group_service_pb2_grpc,
    identity_service_pb2,
    identity_service_pb2_grpc,
    message_service_pb2,
    message_service_pb2_grpc,
    namespace_service_pb2,
    namespace_service_pb2_grpc,
    network_service_pb2,
    network_service_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
    operation_service_pb2,
    operation_service_pb2_grpc,
    pin_service_pb2,
    pin_service_pb2_grpc,
    spi_service_pb2,
    spi_service_pb2_grpc,
    subscription_service_pb2,
    subscription_service_pb2_grpc,
    transaction_service_pb2,
    transaction_service_pb2_grpc,
)

from photinus_core.access.gate import Gate
from photinus_core.model.errors import Unavailable
from photinus_core.namespaces.node import Node
from photinus_core.rpc.access import AccessInterceptor
from photinus_core.rpc.errors import ErrorInterceptor
from photinus_core.rpc.leader_calls import LeaderCalls
from photinus_core.rpc.observing import Counted, ObservingInterceptor
from photinus_core.rpc.services.charts import ChartServicer
from photinus_core.rpc.services.data import DataServicer, DatatypeServicer
from photinus_core.rpc.services.events import EventServicer
from photinus_core.rpc.services.explain import ExplainServicer
from photinus_core.rpc.services.ledger import (
    BatchServicer,
    BlockchainEventServicer,
    GroupServicer,
    OperationServicer,
    PinServicer,
    TransactionServicer,
)
from photinus_core.rpc.services.messages import MessageServicer
from photinus_core.rpc.services.namespaces import NamespaceServicer
from photinus_core.rpc.services.network import IdentityServicer, NetworkServicer
from photinus_core.rpc.services.nodes import NodeServicer
from photinus_core.rpc.services.spi import SpiServicer
from photinus_core.rpc.services.subscriptions import SubscriptionServicer
from photinus_core.rpc.tls import ServerTls

log: Final = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Largest request or answer; blobs travel in chunks."""
GRACE_S: Final = 5.0
"""How long calls may finish when the server ends."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", 8 * MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),
    # Bearer tokens are longer than gRPC's 8 KiB for all metadata; beyond the hard limit calls fail.
    ("grpc.max_metadata_size", 24 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Go's client also pings to measure bandwidth; ending its connection for that fails its calls.
    ("grpc.http2.max_ping_strikes", 0),
)


class ApiServer:
    """Serves `photinus.api.v1` of one node.

    Args:
        node: The node.
        addresses: Where to listen.
        gate: Decides who may call; None lets everybody.
        tls: Certificates to serve with; None for plain text.
        counted: Told of answered calls; None where nobody counts.
    """

    def __init__(
        self,
        node: Node,
        addresses: Sequence[str],
        gate: Gate | None = None,
        tls: ServerTls | None = None,
        counted: Counted | None = None,
    ) -> None:
        interceptors: list[grpc.aio.ServerInterceptor] = [
            ObservingInterceptor(counted),
            ErrorInterceptor(),
        ]
        if gate is not None:
            interceptors.append(AccessInterceptor(gate))
        self._server = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        self._tls = tls
        self._node = node
        self._health = health.aio.HealthServicer()
        self._events = EventServicer(node)
        self._leader_calls = LeaderCalls(tls)
        self.spi = SpiServicer(node, self._leader_calls)
        self._add_services(node)
        self._bound = [self._bind(address) for address in addresses]

    @property
    def addresses(self) -> list[str]:
        """Where it listens, ports filled in."""
        return list(self._bound)

    async def start(self) -> None:
        """Begins to serve."""
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> int:
        """Takes the replica out: it leads nothing, has no event streams and says NOT_SERVING.

        Calls are still served. Returns how many streams were ended. Idempotent.
        """
        await self._health.enter_graceful_shutdown()
        ended = self._events.close_streams()
        self.spi.close_streams()
        await self._node.drain()
        return ended

    def restart_streams_of(self, namespaces: Collection[str]) -> None:
        """Some namespaces stop: event streams go on in them when they run again."""
        self._events.restart_streams_of(namespaces)

    async def aclose(self) -> None:
        """Refuses new calls, ends streams with "try another", lets calls finish for a while."""
        await self._health.enter_graceful_shutdown()
        self._events.close_streams()
        self.spi.close_streams()
        await self._server.stop(GRACE_S)
        await self._leader_calls.aclose()

    def _bind(self, address: str) -> str:
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._tls.server_credentials())
        except RuntimeError as failure:
            raise Unavailable(
                "FF19212",
                address,
                "it cannot be listened on: is it in use, or is its folder missing?",
            ) from failure
        if address.startswith("unix:"):
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    def _add_services(self, node: Node) -> None:
        server = self._server
        batch_service_pb2_grpc.add_BatchServiceServicer_to_server(
            BatchServicer(node, self._leader_calls), server
        )
        blockchain_event_service_pb2_grpc.add_BlockchainEventServiceServicer_to_server(
            BlockchainEventServicer(node), server
        )
        chart_service_pb2_grpc.add_ChartServiceServicer_to_server(ChartServicer(node), server)
        data_service_pb2_grpc.add_DataServiceServicer_to_server(DataServicer(node), server)
        datatype_service_pb2_grpc.add_DatatypeServiceServicer_to_server(
            DatatypeServicer(node), server
        )
        event_service_pb2_grpc.add_EventServiceServicer_to_server(self._events, server)
        explain_service_pb2_grpc.add_ExplainServiceServicer_to_server(
            ExplainServicer(node, self._leader_calls), server
        )
        group_service_pb2_grpc.add_GroupServiceServicer_to_server(GroupServicer(node), server)
        identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(
            IdentityServicer(node), server
        )
        message_service_pb2_grpc.add_MessageServiceServicer_to_server(MessageServicer(node), server)
        namespace_service_pb2_grpc.add_NamespaceServiceServicer_to_server(
            NamespaceServicer(node, self._leader_calls), server
        )
        network_service_pb2_grpc.add_NetworkServiceServicer_to_server(NetworkServicer(node), server)
        node_service_pb2_grpc.add_NodeServiceServicer_to_server(
            NodeServicer(node, self._events, self.drain), server
        )
        operation_service_pb2_grpc.add_OperationServiceServicer_to_server(
            OperationServicer(node), server
        )
        pin_service_pb2_grpc.add_PinServiceServicer_to_server(PinServicer(node), server)
        spi_service_pb2_grpc.add_SpiServiceServicer_to_server(self.spi, server)
        subscription_service_pb2_grpc.add_SubscriptionServiceServicer_to_server(
            SubscriptionServicer(node), server
        )
        transaction_service_pb2_grpc.add_TransactionServiceServicer_to_server(
            TransactionServicer(node), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*_service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )


def _service_names() -> list[str]:
    modules = (
        batch_service_pb2,
        blockchain_event_service_pb2,
        chart_service_pb2,
        data_service_pb2,
        datatype_service_pb2,
        event_service_pb2,
        explain_service_pb2,
        group_service_pb2,
        identity_service_pb2,
        message_service_pb2,
        namespace_service_pb2,
        network_service_pb2,
        node_service_pb2,
        operation_service_pb2,
        pin_service_pb2,
        spi_service_pb2,
        subscription_service_pb2,
        transaction_service_pb2,
    )
    return [s.full_name for m in modules for s in m.DESCRIPTOR.services_by_name.values()]
