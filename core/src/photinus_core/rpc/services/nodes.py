"""NodeService: the replica that answers, its connectors, its event connections."""

from __future__ import annotations

from photinus.api.v1 import node_pb2, node_service_pb2_grpc
from photinus.api.v1 import node_service_pb2 as pb

from photinus_core.namespaces.node import Node
from photinus_core.rpc import convert
from photinus_core.rpc.errors import Context
from photinus_core.rpc.services.base import Servicer
from photinus_core.rpc.services.events import EventServicer


class NodeServicer(Servicer, node_service_pb2_grpc.NodeServiceServicer):
    """Serves what the node is made of."""

    def __init__(self, node: Node, events: EventServicer) -> None:
        super().__init__(node)
        self._events = events

    async def GetNodeInfo(
        self, request: pb.GetNodeInfoRequest, context: Context
    ) -> pb.GetNodeInfoResponse:
        info = self.node.info
        leading = [r.settings.name for r in self.node.namespaces() if r.leadership is not None]
        return pb.GetNodeInfoResponse(
            version=info.version,
            cluster_id=info.cluster_id,
            replica=info.replica,
            started=convert.timestamp(info.started),
            leading=leading,
        )

    async def ListConnectors(
        self, request: pb.ListConnectorsRequest, context: Context
    ) -> pb.ListConnectorsResponse:
        items = [
            node_pb2.Connector(
                name=c.instance,
                category=c.kind,
                type=c.plugin_type,
                address=c.address,
                state=c.state,
                since=convert.timestamp(c.since),
                error=c.last_error,
                version=c.version,
                capabilities=sorted(c.capabilities),
                namespaces=self.node.users_of(c.instance),
            )
            for c in self.node.connectors()
        ]
        return pb.ListConnectorsResponse(items=items)

    async def GetWebSockets(
        self, request: pb.GetWebSocketsRequest, context: Context
    ) -> pb.GetWebSocketsResponse:
        connections = [
            node_pb2.WebSocketConnection(
                id=c.id,
                remote_address=c.remote_address,
                user_agent=c.user_agent,
                subscriptions=[
                    node_pb2.WebSocketSubscription(
                        start_time=convert.timestamp(s.since),
                        ephemeral=s.ephemeral,
                        namespace=s.namespace,
                        name=s.name,
                    )
                    for s in c.subscriptions()
                ],
            )
            for c in self._events.streams()
        ]
        return pb.GetWebSocketsResponse(enabled=True, connections=connections)
