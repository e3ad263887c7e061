"""Durable subscribers: they record what comes, acknowledge it, and connect again for ever."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from photinus.api.v1 import event_pb2
from photinus_client import Client, PhotinusError

from tests.robustness.load import TAG_PREFIX
from tests.robustness.records import Delivery, EventAck, History, Subscribed, Trouble

IDLE_S: Final = 15.0
"""A connection on which nothing came for so long is made anew: it may lead to a process that hangs."""
PAUSE_S: Final = 0.3
READ_AHEAD: Final = 20
ANSWER_S: Final = 30.0


async def create_subscription(url: str, name: str) -> None:
    """Makes a durable subscription for all messages of the load, from the first one on."""
    body = {
        "name": name,
        "filter": {
            "events": "^message_(confirmed|rejected)$",
            "message": {"tag": f"^{TAG_PREFIX}"},
        },
        "options": {"firstEvent": "oldest", "readAhead": READ_AHEAD},
    }
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as http,
        http.post(f"{url}/api/v1/subscriptions", json=body) as answer,
    ):
        assert answer.status == 201, await answer.text()


class Subscriber(ABC):
    """What both kinds share: numbers of connections, and records.

    Args:
        name: Name of the subscription.
        member: Whose events.
        addresses: Where it can be had; the next one is tried when a connection ends.
        history: Where deliveries are recorded.
    """

    via = ""

    def __init__(self, name: str, member: int, addresses: Sequence[str], history: History) -> None:
        self.name = f"{name}@{member}"
        self.subscription = name
        self.member = member
        self._addresses = addresses
        self._history = history
        self._connection = 0
        self.delivered: set[tuple[str, str]] = set()
        """Operations and topics of which an event came."""
        history.add(Subscribed(self.name, member, self.via))

    async def run(self) -> None:
        """Receives until it is cancelled."""
        while True:
            address = self._addresses[self._connection % len(self._addresses)]
            self._connection += 1
            try:
                await self.receive(address)
            except (PhotinusError, aiohttp.ClientError, OSError, ValueError) as failure:
                # ValueError: a frame cut short is no JSON.
                self._trouble(f"{type(failure).__name__} {failure}")
            except TimeoutError:
                self._trouble(f"nothing came for {IDLE_S:.0f} s")
            await asyncio.sleep(PAUSE_S)

    @abstractmethod
    async def receive(self, address: str) -> None:
        """Receives on one connection until it ends. TimeoutError when nothing comes."""

    def record(self, event: Delivery) -> None:
        """Writes down a delivery."""
        self.delivered.add((event.op, event.topic))
        self._history.add(event)

    def acked(self, sequence: int) -> None:
        """Writes down that a delivery was acknowledged."""
        self._history.add(EventAck(time.monotonic(), self.name, self._connection, sequence))

    def _trouble(self, text: str) -> None:
        self._history.add(Trouble(time.monotonic(), self.name, text))


class GrpcSubscriber(Subscriber):
    """Subscribes by gRPC, with our own client."""

    via = "grpc"

    async def receive(self, address: str) -> None:
        start = event_pb2.Start(namespace="default", name=self.subscription)
        async with Client(address) as client, client.subscribe(start) as stream:
            deliveries = aiter(stream)
            made = 0
            while True:
                async with asyncio.timeout(IDLE_S):
                    delivery = await anext(deliveries)
                if made and delivery.connection != made:
                    self._connection += 1  # the client connected again by itself
                made = delivery.connection
                event = delivery.event
                message = event.message
                self.record(
                    Delivery(
                        time=time.monotonic(),
                        subscription=self.name,
                        member=self.member,
                        connection=self._connection,
                        sequence=event.sequence,
                        event=event.id,
                        type=event.type,
                        message=event.reference,
                        op=message.header.tag,
                        kind=message.header.type,
                        topic=event.topic,
                        group=message.header.group,
                        value=message.data[0].hash if message.data else "",
                    )
                )
                self.acked(event.sequence)  # the client acks when it is asked for the next one


class WebSocketSubscriber(Subscriber):
    """Subscribes as a FireFly application does."""

    via = "websocket"

    async def receive(self, address: str) -> None:
        url = f"{address}/ws?namespace=default&name={self.subscription}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=IDLE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.ws_connect(url, max_msg_size=0) as socket,
        ):
            while True:
                frame = await socket.receive(timeout=IDLE_S)
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    self._trouble(f"the socket ended: {frame.type.name} {frame.data} {frame.extra}")
                    return
                event = frame.json()
                if event.get("type") == "protocol_error":
                    self._trouble(f"told: {event['error']}")
                    return
                self.record(self._delivery(event))
                ack = {"type": "ack", "id": event["id"], "subscription": event["subscription"]}
                await socket.send_json(ack)
                self.acked(event["sequence"])

    def _delivery(self, event: dict[str, Any]) -> Delivery:
        header = event["message"]["header"]
        data = event["message"].get("data") or [{}]
        return Delivery(
            time=time.monotonic(),
            subscription=self.name,
            member=self.member,
            connection=self._connection,
            sequence=event["sequence"],
            event=event["id"],
            type=event["type"],
            message=event["reference"],
            op=header.get("tag", ""),
            kind=header["type"],
            topic=event["topic"],
            group=header.get("group", ""),
            value=data[0].get("hash", ""),
        )
