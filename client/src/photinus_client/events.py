"""Events of a subscription, as an asynchronous iterator that survives the loss of its connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import grpc
from photinus.api.v1 import event_pb2, event_service_pb2, subscription_pb2
from photinus.api.v1.event_service_pb2_grpc import EventServiceStub

from photinus_client.errors import PhotinusError, from_text, translate

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
RETRY_FACTOR: Final = 2.0
NOT_STARTED: Final = "FF10441"
"""The core has come up and its namespace has not yet; a subscription that was there will be again."""

Call = grpc.aio.StreamStreamCall[
    event_service_pb2.SubscribeRequest, event_service_pb2.SubscribeResponse
]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is acked at once: one event, or the events of a batch.

    Attributes:
        id: Id to ack.
        subscription: Subscription it is delivered for.
        events: The events, in order; exactly one unless the subscription has `options.batch`.
        connection: Number of the connection it came by; an ack after its loss means nothing.
    """

    id: str
    subscription: subscription_pb2.SubscriptionRef
    events: tuple[event_pb2.Event, ...]
    connection: int

    @property
    def event(self) -> event_pb2.Event:
        """The first event."""
        return self.events[0]


class EventStream:
    """One started subscription.

    Iterate to receive; each delivery is acked when the loop asks for the next one, so that what the body of the loop
    did not finish is delivered again (ack before a `break` what is done). With `manual_ack` nothing is acked but by
    `ack`, in any order. Lost connections are made anew, for ever, with growing pauses; an ephemeral subscription goes
    on with the first event that was not acked. Delivery is at least once.

    Use it as a context manager: leaving it ends the stream.
    """

    def __init__(self, stub: EventServiceStub, start: event_pb2.Start, *, manual_ack: bool) -> None:
        self._stub = stub
        self._start = start
        self._manual_ack = manual_ack
        self._call: Call | None = None
        self._connection = 0
        self._unacked: dict[str, Delivery] = {}
        self._ended = False
        self.subscription: subscription_pb2.SubscriptionRef | None = None
        """The subscription, once a start was accepted."""

    async def __aenter__(self) -> Self:
        """Starts the subscription; events from now on are seen. PhotinusError when the core refuses or is away."""
        await self._connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._drop()

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """The deliveries, until the stream is left. PhotinusError when the core refuses the subscription for good."""
        pause_s = RETRY_FIRST_S
        while not self._ended:
            try:
                if self._call is None:
                    await self._connect()
                delivery = await self._receive()
            except PhotinusError as failure:
                self._drop()
                if not (failure.is_unavailable or NOT_STARTED in str(failure)):
                    raise
                # tidy: a pause between attempts, not a wait for something
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * RETRY_FACTOR, RETRY_MAX_S)
                continue
            pause_s = RETRY_FIRST_S
            yield delivery
            if not self._manual_ack:
                await self.ack(delivery)

    async def ack(self, delivery: Delivery) -> None:
        """Says that a delivery is done with. Without effect when its connection was lost: it comes again."""
        await self._answer(
            delivery,
            event_service_pb2.SubscribeRequest(
                ack=event_pb2.Ack(id=delivery.id, subscription=delivery.subscription)
            ),
        )

    async def nack(self, delivery: Delivery) -> None:
        """Asks for a delivery again, with all that came after it. Without effect when its connection was lost."""
        await self._answer(
            delivery,
            event_service_pb2.SubscribeRequest(
                nack=event_pb2.Nack(id=delivery.id, subscription=delivery.subscription)
            ),
        )

    async def _answer(
        self, delivery: Delivery, request: event_service_pb2.SubscribeRequest
    ) -> None:
        if self._call is None or delivery.connection != self._connection:
            return
        if request.HasField("ack"):
            self._unacked.pop(delivery.id, None)
            self._move(delivery.events[-1].sequence)
        if self._start.autoack:
            return
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            self._drop()  # the next receive connects again

    def _move(self, position: int) -> None:
        """Moves the place from which an ephemeral subscription would go on, but not past what waits for its ack."""
        if self._start.ephemeral:
            waiting = (
                event.sequence - 1 for each in self._unacked.values() for event in each.events
            )
            self._start.options.first_event = str(min(waiting, default=position))

    async def _connect(self) -> None:
        self._drop()
        self._connection += 1
        self._call = self._stub.Subscribe()
        try:
            # A write that fails knows only that the call has ended; why is known to the read.
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await self._call.write(event_service_pb2.SubscribeRequest(start=self._start))
            response = await self._read()
        except PhotinusError:
            self._drop()
            raise
        self.subscription = response.started.subscription

    async def _receive(self) -> Delivery:
        while True:
            response = await self._read()
            match response.WhichOneof("frame"):
                case "event":
                    sent = response.event
                    delivery = Delivery(
                        sent.event.id, sent.subscription, (sent.event,), self._connection
                    )
                case "event_batch":
                    batch = response.event_batch
                    events = tuple(each.event for each in batch.events)
                    delivery = Delivery(batch.id, batch.subscription, events, self._connection)
                case _:
                    continue
            if not self._start.autoack:
                self._unacked[delivery.id] = delivery
            self._move(delivery.events[-1].sequence)
            return delivery

    async def _read(self) -> event_service_pb2.SubscribeResponse:
        """The next response. Raises PhotinusError for protocol errors and for the end of the stream."""
        if self._call is None:
            raise _lost()
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as failure:
            raise translate(failure) from failure
        if not isinstance(response, event_service_pb2.SubscribeResponse):
            raise _lost()
        if response.HasField("protocol_error"):
            raise from_text(response.protocol_error.error, grpc.StatusCode.FAILED_PRECONDITION)
        return response

    def _drop(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = None
        self._unacked.clear()


def _lost() -> PhotinusError:
    return PhotinusError("", "the event stream ended", 0, grpc.StatusCode.UNAVAILABLE)
