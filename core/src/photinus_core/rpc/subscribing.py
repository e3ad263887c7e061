"""One Subscribe stream: what a client starts, acks and gets. FireFly's WebSocket rules.

Frames are read by one task and written by another, with a bounded queue in between: a client that
does not read holds up its own deliveries and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from typing import Final

from photinus.api.v1 import event_pb2, subscription_pb2
from photinus.api.v1 import event_service_pb2 as pb

from photinus_core.access.roles import Need, Role, Scope
from photinus_core.events.delivery import Connection, Delivered, DeliveryService
from photinus_core.events.enrichment import EnrichedEvent
from photinus_core.model.errors import (
    Forbidden,
    NotFound,
    NotReady,
    PhotinusError,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from photinus_core.model.events import Subscription
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid, parse_uuid
from photinus_core.namespaces.node import Node
from photinus_core.ports.tasks import Background
from photinus_core.rpc import convert, fireflyjson
from photinus_core.rpc.access import EVERYBODY, Calling

log: Final = logging.getLogger(__name__)

QUEUE_MAX: Final = 16
"""Answers that may wait for the client to read."""
RECHECK_S: Final = 30.0
"""How often a client proves itself again, by what it came with."""
RUN_EVENTS_MAX: Final = 64
"""Most events of a run; so many may wait for a client that takes runs to read."""
RUN_BYTES_MAX: Final = 1024 * 1024
"""A run ends with the event that makes it as long."""
STARTS_MAX: Final = 500
"""Most subscriptions of one stream."""
AGAIN_S: Final = 0.1
"""How often a namespace that restarts is looked for."""


_NEXT_RUN: Final = pb.SubscribeResponse()
"""Stands in the queue for whatever events are ready when it is taken."""


@dataclass(slots=True)
class Started:
    """One subscription of a stream."""

    namespace: str
    delivery: DeliveryService
    connection: Connection
    task: asyncio.Task[None]
    """Delivers."""
    restarting: bool = False
    """Its namespace has stopped and is waited for."""

    @property
    def since(self) -> Nanoseconds:
        """When it was started."""
        return self.connection.started

    @property
    def ephemeral(self) -> bool:
        """Whether it ends with the stream."""
        return self.connection.is_ephemeral

    @property
    def name(self) -> str:
        """Its name; empty for an ephemeral one."""
        return "" if self.ephemeral else self.connection.name


class EventStream:
    """A client's stream."""

    def __init__(self, node: Node, peer: str, calling: Calling = EVERYBODY) -> None:
        self.id: Final = new_uuid()
        self.remote_address = peer
        self.user_agent = ""
        self._node = node
        self._calling = calling
        self._pinned = ""
        self._autoack: bool | None = None
        self._started: list[Started] = []
        self._out: asyncio.Queue[pb.SubscribeResponse | None] = asyncio.Queue(QUEUE_MAX)
        self._takes_runs = False
        self._run = pb.SubscribeResponse()
        self._run_bytes = 0
        self._run_taken = asyncio.Event()
        self._last_ref: tuple[Subscription, subscription_pb2.SubscriptionRef] | None = None
        self._closing = asyncio.Event()
        self._why_closing: PhotinusError | None = None
        self._failure: Exception | None = None
        self._work = Background(f"stream {self.id}")
        self._runs = count(1)

    def subscriptions(self) -> list[Started]:
        """What was started, oldest first."""
        return list(self._started)

    def close(self, why: PhotinusError | None = None) -> None:
        """Ends the stream: the client is told to try another replica, or why it must come again."""
        self._why_closing = why or Unavailable("FF19011")
        self._closing.set()

    def restart(self, namespaces: Collection[str]) -> None:
        """Ends what was started in some namespaces, and begins it again when they run anew.

        What was delivered and not acked comes again. The stream ends with FF19016 when a namespace
        does not come back.
        """
        for started in self._started:
            if started.namespace in namespaces and not started.restarting:
                started.restarting = True
                started.task.cancel()
                self._work.start(f"restart {next(self._runs)}", self._start_again(started))

    async def run(
        self, requests: AsyncIterator[pb.SubscribeRequest]
    ) -> AsyncIterator[pb.SubscribeResponse]:
        """Answers a client's frames until it leaves, errs, or the replica ends.

        Raises:
            Unavailable: FF19011, this replica shuts down; FF19016, a namespace of it was changed.
            Unauthenticated: FF00169, what the client proved itself with is worth nothing any more.
            Forbidden: FF00170, it may not read any more what it reads.
        """
        async with self._work as work:
            work.start("reader", self._read(requests))
            work.start("closing", self._watch_closing())
            work.start("access", self._watch_access())
            while (response := await self._out.get()) is not None:
                yield self._take_run() if response is _NEXT_RUN else response
        if self._failure is not None:
            raise self._failure

    async def _watch_closing(self) -> None:
        await self._closing.wait()
        self._failure = self._why_closing
        await self._out.put(None)

    async def _watch_access(self) -> None:
        """Ends the stream of a client that may not have it any more.

        Its token expired, its password was changed, it was granted less.
        """
        while self._calling.gate is not None:
            left_s = self._calling.expires_in_s()
            await asyncio.sleep(RECHECK_S if left_s is None else min(RECHECK_S, max(left_s, 1.0)))
            try:
                self._calling = await self._calling.renewed()
                for started in self._started:
                    self._check(started.namespace, ephemeral=started.ephemeral)
            except (Unauthenticated, Forbidden) as failure:
                self.close(failure)
                return
            except PhotinusError as failure:
                log.info("stream %s: its client cannot be looked at again: %s", self.id, failure)

    def _check(self, namespace: str, *, ephemeral: bool) -> None:
        # Acks move the offset of a durable subscription, which is more than reading.
        role = Role.READER if ephemeral else Role.WRITER
        self._calling.check(Need(Scope.NAMESPACE, role, namespace))

    async def _read(self, requests: AsyncIterator[pb.SubscribeRequest]) -> None:
        async for request in requests:
            try:
                await self._take(request)
            except PhotinusError as failure:
                soft = request.HasField("start") and request.start.from_url
                soft = soft and not isinstance(failure, Unauthenticated | Forbidden)
                text = str(failure) if soft else str(Rejected("FF10176", str(failure)))
                error = event_pb2.ProtocolError(error=text, closes=not soft)
                await self._out.put(pb.SubscribeResponse(protocol_error=error))
                if not soft:
                    break
        await self._out.put(None)

    async def _take(self, request: pb.SubscribeRequest) -> None:
        match request.WhichOneof("frame"):
            case "connect":
                connect = request.connect
                self.remote_address = connect.remote_address or self.remote_address
                self.user_agent = connect.user_agent
                self._pinned = connect.namespace
                self._takes_runs = connect.takes_runs
            case "start":
                await self._start(request.start)
            case "ack":
                self._find(request.ack.subscription, request.ack).ack(_item(request.ack.id))
            case "acks":
                for ack in request.acks.acks:
                    self._find(ack.subscription, ack).ack(_item(ack.id))
            case "nack":
                self._find(request.nack.subscription, request.nack).nack(_item(request.nack.id))
            case _:
                raise Rejected("FF10177", "")

    async def _start(self, start: event_pb2.Start) -> None:
        namespace = start.namespace or self._pinned
        if self._pinned and namespace != self._pinned:
            raise Rejected("FF10462")
        if start.from_url and not (namespace and (start.name or start.ephemeral)):
            raise Rejected("FF10178")
        if namespace:
            self._check(namespace, ephemeral=start.ephemeral)
        delivery = self._namespace(namespace, from_url=start.from_url)
        if not start.name and not start.ephemeral:
            raise Rejected("FF10178")
        self._set_autoack(start)
        if len(self._started) >= STARTS_MAX:
            raise Rejected("FF19009", STARTS_MAX, "subscriptions of one connection")
        autoack = bool(self._autoack)
        if start.ephemeral:
            connection = delivery.start_ephemeral(
                fireflyjson.encode(start.filter),
                fireflyjson.encode(start.options),
                self._deliver,
                autoack=autoack,
            )
        else:
            if any(s.namespace == namespace and s.name == start.name for s in self._started):
                raise Rejected("FF19002", "name", f"'{start.name}' is started already")
            connection = delivery.start_durable(start.name, self._deliver, autoack=autoack)
        task = self._work.start(f"delivery {next(self._runs)}", connection.run())
        started = Started(namespace, delivery, connection, task)
        self._started.append(started)
        await connection.wait_started()
        await self._out.put(
            pb.SubscribeResponse(started=event_pb2.Started(subscription=_ref(started)))
        )

    async def _start_again(self, started: Started) -> None:
        await asyncio.wait([started.task])
        delivery = started.delivery
        while delivery is started.delivery:
            try:
                delivery = self._node.readable_namespace(started.namespace).delivery
            except NotReady:
                pass
            except NotFound:
                self.close(Unavailable("FF19016"))
                return
            await asyncio.sleep(AGAIN_S)
        started.delivery = delivery
        started.connection = delivery.start_again(started.connection)
        started.task = self._work.start(f"delivery {next(self._runs)}", started.connection.run())
        started.restarting = False

    def _namespace(self, name: str, *, from_url: bool) -> DeliveryService:
        try:
            if not name:
                raise NotFound("FF10436", name)
            return self._node.readable_namespace(name).delivery
        except NotFound:
            if from_url:
                raise NotFound("FF10187") from None
            raise

    def _set_autoack(self, start: event_pb2.Start) -> None:
        if not start.HasField("autoack"):
            return
        if self._autoack is not None and self._autoack != start.autoack:
            raise Rejected("FF10179")
        self._autoack = start.autoack

    def _find(
        self, ref: subscription_pb2.SubscriptionRef, frame: event_pb2.Ack | event_pb2.Nack
    ) -> Connection:
        """The subscription an ack is about.

        It may be left out while there is only one, and by an ack without an id: that is about what
        was sent first of all that is out.
        """
        if self._autoack:
            raise Rejected("FF10180")
        if not frame.HasField("subscription") or not (ref.id or ref.name):
            connections = [started.connection for started in self._started]
            if len(connections) == 1:
                return connections[0]
            out = [(c.oldest_out, c) for c in connections if c.oldest_out is not None]
            if frame.id or not out:
                raise Rejected("FF10175")
            return min(out, key=itemgetter(0))[1]
        for started in self._started:
            known = started.connection.subscription
            if known is None:
                continue
            by_name = ref.name == known.name and ref.namespace in ("", started.namespace)
            if ref.id == known.id or (not ref.id and by_name):
                return started.connection
        raise Rejected("FF10175")

    async def _deliver(self, delivered: Delivered) -> None:
        ref = self._ref_of(delivered.subscription)
        if delivered.batch is None and self._takes_runs:
            await self._add_to_run(delivered.events[0], ref)
            return
        response = pb.SubscribeResponse()
        if delivered.batch is None:
            _fill_delivery(response.event, delivered.events[0], ref)
        else:
            batch = response.event_batch
            batch.id = delivered.batch
            batch.subscription.CopyFrom(ref)
            for record in delivered.events:
                _fill_delivery(batch.events.add(), record, ref)
        await self._out.put(response)

    async def _add_to_run(
        self, record: EnrichedEvent, ref: subscription_pb2.SubscriptionRef
    ) -> None:
        """Adds an event to the next run. The queue holds a place for it from the first one on."""
        while len(self._run.events.events) >= RUN_EVENTS_MAX or self._run_bytes >= RUN_BYTES_MAX:
            self._run_taken.clear()
            await self._run_taken.wait()
        delivery = self._run.events.events.add()
        _fill_delivery(delivery, record, ref)
        self._run_bytes += delivery.ByteSize()
        if len(self._run.events.events) == 1:
            await self._out.put(_NEXT_RUN)

    def _take_run(self) -> pb.SubscribeResponse:
        run, self._run, self._run_bytes = self._run, pb.SubscribeResponse(), 0
        self._run_taken.set()
        return run

    def _ref_of(self, subscription: Subscription) -> subscription_pb2.SubscriptionRef:
        if self._last_ref is None or self._last_ref[0] is not subscription:
            self._last_ref = (subscription, _ref_of(subscription))
        return self._last_ref[1]


def _ref_of(subscription: Subscription) -> subscription_pb2.SubscriptionRef:
    return subscription_pb2.SubscriptionRef(
        id=subscription.id, namespace=subscription.namespace, name=subscription.name
    )


def shown(subscription: Subscription, record: EnrichedEvent) -> str:
    """FireFly's JSON of an event as one subscription gets it; what webhooks are sent."""
    return fireflyjson.encode(
        event_pb2.EventDelivery(event=enriched(record), subscription=_ref_of(subscription))
    )


def _fill_delivery(
    target: event_pb2.EventDelivery, record: EnrichedEvent, ref: subscription_pb2.SubscriptionRef
) -> None:
    fill_enriched(target.event, record)
    target.subscription.CopyFrom(ref)


def enriched(record: EnrichedEvent) -> event_pb2.Event:
    """An event with the object it refers to."""
    made = event_pb2.Event()
    fill_enriched(made, record)
    return made


def fill_enriched(target: event_pb2.Event, record: EnrichedEvent) -> None:
    """`enriched` into an empty one that is part of a larger answer, which saves a copy."""
    convert.fill_event(target, record.event)
    if record.message is not None:
        convert.fill_message(target.message, record.message)
    if record.transaction is not None:
        target.transaction.CopyFrom(convert.transaction(record.transaction))
    if record.blockchain_event is not None:
        target.blockchain_event.CopyFrom(convert.blockchain_event(record.blockchain_event))
    if record.identity is not None:
        target.identity.CopyFrom(convert.identity(record.identity))
    if record.datatype is not None:
        target.datatype.CopyFrom(convert.datatype(record.datatype))
    if record.operation is not None:
        target.operation.CopyFrom(convert.operation(record.operation))


def _ref(started: Started) -> subscription_pb2.SubscriptionRef:
    known = started.connection.subscription
    return subscription_pb2.SubscriptionRef(
        id=known.id if known else "",
        namespace=started.namespace,
        name=started.connection.name,
    )


def _item(text: str) -> Uuid | None:
    if not text:
        return None
    with contextlib.suppress(PhotinusError):
        return parse_uuid(text)
    raise Rejected("FF10175")
