"""NodeService: the replica that answers, its connectors and clients, the cluster, its upkeep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from photinus.api.v1 import node_pb2, node_service_pb2_grpc
from photinus.api.v1 import node_service_pb2 as pb

from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import Nanoseconds
from photinus_core.namespaces.node import Node
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.upkeep import prune
from photinus_core.ports.connectors import ConnectorInfo, StreamInfo
from photinus_core.ports.elector import Replica, RoleStanding
from photinus_core.rpc import convert
from photinus_core.rpc.errors import Context
from photinus_core.rpc.services.base import Servicer
from photinus_core.rpc.services.events import EventServicer


class NodeServicer(Servicer, node_service_pb2_grpc.NodeServiceServicer):
    """Serves what the node is made of.

    Args:
        node: The node.
        events: Knows the event connections.
        drain: Takes the replica out; gives how many event streams were ended.
    """

    def __init__(
        self, node: Node, events: EventServicer, drain: Callable[[], Awaitable[int]]
    ) -> None:
        super().__init__(node)
        self._events = events
        self._drain = drain

    async def GetNodeInfo(
        self, request: pb.GetNodeInfoRequest, context: Context
    ) -> pb.GetNodeInfoResponse:
        info = self.node.info
        return pb.GetNodeInfoResponse(
            version=info.version,
            cluster_id=info.cluster_id,
            replica=info.replica,
            started=convert.timestamp(info.started),
            leading=self._leading(),
        )

    async def ListConnectors(
        self, request: pb.ListConnectorsRequest, context: Context
    ) -> pb.ListConnectorsResponse:
        found = [_connector(c, self.node.users_of(c.instance)) for c in self.node.connectors()]
        return pb.ListConnectorsResponse(items=found)

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

    async def GetCluster(
        self, request: pb.GetClusterRequest, context: Context
    ) -> pb.GetClusterResponse:
        problems: list[str] = []
        try:
            clusters = await self.node.cluster()
        except PhotinusError as failure:  # what is known here is still worth showing
            clusters, problems = [], [str(failure)]
        replicas: dict[tuple[str, str], Replica] = {}
        roles: dict[str, RoleStanding] = {}
        for cluster in clusters:
            replicas |= {(r.name, r.address): r for r in cluster.replicas}
            roles |= {role.role: role for role in cluster.roles}
            problems += [p for p in cluster.problems if p not in problems]
        if self.node.configuration is not None:
            problems.append(self.node.configuration.message)
        return pb.GetClusterResponse(
            cluster_id=self.node.info.cluster_id,
            replicas=map(_replica, sorted(replicas.values(), key=lambda r: (r.since, r.name))),
            namespaces=[await self._leadership(n, roles) for n in self.node.namespaces()],
            problems=problems,
        )

    async def _leadership(
        self, namespace: NamespaceRuntime, roles: Mapping[str, RoleStanding]
    ) -> node_pb2.NamespaceLeadership:
        name = namespace.settings.name
        async with namespace.reader() as reader:
            backlog = await reader.backlog()
        shown = node_pb2.NamespaceLeadership(
            namespace=name,
            undecided_pins=backlog.undecided_pins,
            unsent_messages=backlog.unsent_messages,
            events_behind=backlog.events_behind,
        )
        standing = roles.get(f"namespace/{name}")
        if standing is not None:
            shown.leader, shown.epoch = standing.leader, standing.epoch or 0
            shown.standby.extend(c for c in standing.candidates if c != standing.leader)
        return shown

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        released = self._leading()
        ended = await self._drain()
        return pb.DrainResponse(released=released, streams_ended=ended)

    async def PruneCollection(
        self, request: pb.PruneCollectionRequest, context: Context
    ) -> pb.PruneCollectionResponse:
        if not request.HasField("before"):
            raise Rejected("FF19002", "before", "is missing")
        window = await prune(
            self.namespace(request).scope,
            request.collection,
            Nanoseconds(request.before.ToNanoseconds()),
            request.after,
            dry_run=request.dry_run,
        )
        return pb.PruneCollectionResponse(
            pruned=len(window.free), kept=window.kept, next=window.last, more=window.more
        )

    def _leading(self) -> list[str]:
        return [r.settings.name for r in self.node.namespaces() if r.leadership is not None]


def _connector(found: ConnectorInfo, users: list[str]) -> node_pb2.Connector:
    limits = None
    if found.limits:
        limits = node_pb2.ConnectorLimits(
            max_message_bytes=_bounded(found.limits["maxMessageBytes"]),
            max_in_flight=_bounded(found.limits["maxInFlight"]),
            idempotency_retention_s=_bounded(found.limits["idempotencyRetentionS"]),
        )
    return node_pb2.Connector(
        name=found.instance,
        category=found.kind,
        type=found.plugin_type,
        address=found.address,
        state=found.state,
        since=convert.timestamp(found.since),
        error=found.last_error,
        version=found.version,
        capabilities=sorted(found.capabilities),
        namespaces=users,
        restarts=found.restarts,
        limits=limits,
        streams=map(_stream, sorted(found.streams, key=lambda s: s.namespace)),
        store_id=found.store_id,
    )


def _stream(found: StreamInfo) -> node_pb2.ConnectorStream:
    return node_pb2.ConnectorStream(
        namespace=found.namespace,
        state=found.state,
        position=found.position,
        listeners=[
            node_pb2.ListenerPosition(listener=name, final_block=_bounded(block))
            for name, block in sorted(found.final_blocks.items())
        ],
        batches=found.batches,
        events=found.events,
        waiting=found.waiting,
        lag_s=round(found.lag_s, 3),
        catching_up=found.catching_up,
        trouble=found.trouble,
    )


def _bounded(number: int) -> int:
    """A connector's number, which may be any; the API's go up to 2⁶³ - 1."""
    return min(number, (1 << 63) - 1)


def _replica(found: Replica) -> node_pb2.Replica:
    return node_pb2.Replica(
        id=found.name,
        address=found.address,
        version=found.version,
        since=convert.timestamp(found.since) if found.since else None,
        state="draining" if found.draining else "serving",
        self=found.is_self,
    )
