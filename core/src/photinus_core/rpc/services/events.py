"""EventService: the event log and its delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from photinus.api.v1 import event_service_pb2 as pb
from photinus.api.v1 import event_service_pb2_grpc

from photinus_core.events.enrichment import enrich
from photinus_core.model.errors import Unavailable
from photinus_core.namespaces.node import Node
from photinus_core.ports.store import Table
from photinus_core.rpc import convert
from photinus_core.rpc.access import current
from photinus_core.rpc.errors import Context
from photinus_core.rpc.services.base import Servicer, one_by_id, total_of
from photinus_core.rpc.subscribing import EventStream, enriched


class EventServicer(Servicer, event_service_pb2_grpc.EventServiceServicer):
    """Serves events and delivers them."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._streams: dict[str, EventStream] = {}
        self._closing = False

    def streams(self) -> list[EventStream]:
        """Event connections of this replica, oldest first."""
        return list(self._streams.values())

    def close_streams(self) -> int:
        """Ends all streams, and those that come: clients are told to try another replica.

        Gives how many there were. Idempotent.
        """
        self._closing = True
        for stream in self.streams():
            stream.close()
        return len(self._streams)

    def restart_streams_of(self, namespaces: Collection[str]) -> None:
        """Some namespaces stop: subscriptions in them end, and begin again with their namespaces.

        Streams with a subscription in one that does not come back end. Idempotent.
        """
        for stream in self.streams():
            stream.restart(namespaces)

    async def ListEvents(
        self, request: pb.ListEventsRequest, context: Context
    ) -> pb.ListEventsResponse:
        page = await self.page(request, request.query, Table.EVENTS)
        if not request.fetch_references:
            items = [convert.event(e) for e in page.items]
        else:
            async with self.namespace(request).reader() as reader:
                items = [enriched(e) for e in await enrich(reader, page.items)]
        return pb.ListEventsResponse(items=items, **total_of(page))

    async def GetEvent(self, request: pb.GetEventRequest, context: Context) -> pb.GetEventResponse:
        namespace = self.namespace(request)
        found = await one_by_id(namespace, request.id, lambda r, ids: r.events(ids), "FF00164")
        if not request.fetch_references:
            return pb.GetEventResponse(event=convert.event(found))
        async with namespace.reader() as reader:
            (full,) = await enrich(reader, [found])
        return pb.GetEventResponse(event=enriched(full))

    async def Subscribe(
        self, requests: AsyncIterator[pb.SubscribeRequest], context: Context
    ) -> AsyncIterator[pb.SubscribeResponse]:
        if self._closing:
            raise Unavailable("FF19011")
        stream = EventStream(self.node, context.peer(), current())
        self._streams[stream.id] = stream
        try:
            async for response in stream.run(requests):
                yield response
        finally:
            del self._streams[stream.id]
