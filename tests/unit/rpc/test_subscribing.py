"""One Subscribe stream: FireFly's rules for starts and acks, each protocol error, a client that is slow.

Method: a node whose namespaces deliver what the test says; frames go in through a queue, answers
are read as a client reads them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from photinus.api.v1 import event_pb2, subscription_pb2
from photinus.api.v1 import event_service_pb2 as pb
from photinus_core.events.delivery import Delivered
from photinus_core.events.enrichment import EnrichedEvent
from photinus_core.model.errors import NotFound, NotReady, Rejected, Unavailable
from photinus_core.model.events import Event, EventType
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.rpc import subscribing
from photinus_core.rpc.subscribing import QUEUE_MAX, RUN_EVENTS_MAX, EventStream

from tests.support.store_records import NS, full_message, make_subscription
from tests.support.waiting import until

ID = str(new_uuid())


class FakeConnection:
    """A started subscription that hears its acks."""

    def __init__(self, deliver: Callable[[Delivered], Any], own: Any, name: str) -> None:
        self.deliver, self.subscription, self.name = deliver, own, name
        self.is_ephemeral = not name
        self.started = Nanoseconds(7)
        self.ended = False
        self.heard: list[tuple[str, Uuid | None]] = []
        self.oldest_out: int | None = None

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

    async def wait_started(self) -> None:
        await asyncio.sleep(0)

    def ack(self, item: Uuid | None) -> None:
        self.heard.append(("ack", item))

    def nack(self, item: Uuid | None) -> None:
        self.heard.append(("nack", item))


class FakeDelivery:
    """Starts what it is asked to start."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.asked: list[tuple[str, str, bool]] = []

    def start_ephemeral(
        self, filter_json: str, options_json: str, deliver: Any, *, autoack: bool
    ) -> FakeConnection:
        if "[" in filter_json:
            raise Rejected("FF10171", "events", "[", "bad")
        self.asked.append((filter_json, options_json, autoack))
        own = make_subscription("ephemeral")
        return self._add(FakeConnection(deliver, own, ""))

    def start_durable(self, name: str, deliver: Any, *, autoack: bool) -> FakeConnection:
        self.asked.append((name, "", autoack))
        own = None if name == "absent" else make_subscription(name)
        return self._add(FakeConnection(deliver, own, name))

    def start_again(self, ended: FakeConnection) -> FakeConnection:
        assert ended.ended
        name = "" if ended.is_ephemeral else ended.name
        return self._add(FakeConnection(ended.deliver, ended.subscription, name))

    def _add(self, made: FakeConnection) -> FakeConnection:
        self.connections.append(made)
        return made


class Node:
    def __init__(self) -> None:
        self.delivery = FakeDelivery()
        self.away: dict[str, Exception] = {}

    def readable_namespace(self, name: str) -> Any:
        if name in self.away:
            raise self.away[name]
        if name not in (NS, "other"):
            raise NotFound("FF10436", name)
        return SimpleNamespace(delivery=self.delivery)


class Client:
    """A client of one stream."""

    def __init__(self) -> None:
        self.node = Node()
        self.stream = EventStream(self.node, "peer")  # type: ignore[arg-type]  # as much as it uses
        self.frames: asyncio.Queue[pb.SubscribeRequest | None] = asyncio.Queue()
        self.answers = self.stream.run(self._requests())

    async def _requests(self) -> AsyncIterator[pb.SubscribeRequest]:
        while (frame := await self.frames.get()) is not None:
            yield frame

    async def send(self, **frame: Any) -> None:
        await self.frames.put(pb.SubscribeRequest(**frame))

    async def start(self, **fields: Any) -> pb.SubscribeResponse:
        await self.send(start=event_pb2.Start(**({"namespace": NS} | fields)))
        return await self.next()

    async def next(self) -> pb.SubscribeResponse:
        return await asyncio.wait_for(anext(self.answers), 5)

    async def error(self) -> tuple[str, bool]:
        response = await self.next()
        assert response.WhichOneof("frame") == "protocol_error"
        return response.protocol_error.error, response.protocol_error.closes

    async def ended(self) -> None:
        with pytest.raises(StopAsyncIteration):
            await self.next()

    @property
    def connections(self) -> list[FakeConnection]:
        return self.node.delivery.connections


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    client = Client()
    try:
        yield client
    finally:
        await client.frames.put(None)
        async with asyncio.timeout(5):
            async for _ in client.answers:
                pass


def delivered(connection: FakeConnection, count: int = 1, batch: Uuid | None = None) -> Delivered:
    events = tuple(
        EnrichedEvent(
            event=Event(
                id=new_uuid(),
                type=EventType.MESSAGE_CONFIRMED,
                namespace=NS,
                reference=new_uuid(),
                created=Nanoseconds(1),
                sequence=n + 1,
                topic="t",
            ),
            message=full_message(),
        )
        for n in range(count)
    )
    return Delivered(connection.subscription, batch, events)


async def test_starts_are_answered_and_events_come_with_their_objects() -> None:
    async with connected() as client:
        first = await client.start(name="app")
        assert (first.started.subscription.name, first.started.subscription.namespace) == (
            "app",
            NS,
        )
        second = await client.start(ephemeral=True)
        own = client.connections[1].subscription
        assert second.started.subscription.id == own.id
        sent = delivered(client.connections[0])
        await client.connections[0].deliver(sent)
        got = (await client.next()).event
        assert (got.event.id, got.event.message.hash) == (
            sent.events[0].event.id,
            sent.events[0].message.hash,  # type: ignore[union-attr]  # it has one
        )
        assert got.subscription.name == "app"
        batch = new_uuid()
        await client.connections[1].deliver(delivered(client.connections[1], 3, batch))
        many = (await client.next()).event_batch
        assert (many.id, len(many.events)) == (batch, 3)
        assert [(s.name, s.ephemeral, s.namespace) for s in client.stream.subscriptions()] == [
            ("app", False, NS),
            ("", True, NS),
        ]
        assert client.stream.subscriptions()[0].since == 7


async def test_a_client_names_itself_and_may_be_pinned() -> None:
    async with connected() as client:
        await client.send(
            connect=event_pb2.Connect(namespace=NS, remote_address="1.2.3.4", user_agent="ua")
        )
        assert (await client.start(namespace="", name="app")).started.subscription.namespace == NS
        assert (client.stream.remote_address, client.stream.user_agent) == ("1.2.3.4", "ua")
        await client.send(start=event_pb2.Start(namespace="other", name="x"))
        text, closes = await client.error()
        assert closes
        assert text.startswith("FF10176: Invalid data: FF10462: ")
        await client.ended()


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ({}, "FF10178"),
        ({"namespace": "nowhere", "name": "x"}, "FF10436"),
        ({"namespace": "", "name": "x"}, "FF10436"),
        ({"name": "app"}, "FF19002"),
        ({"name": "x", "autoack": False}, "FF10179"),
        ({"ephemeral": True, "filter": {"events": "["}}, "FF10171"),
    ],
)
async def test_a_start_that_breaks_a_rule_closes_the_stream(
    start: dict[str, Any], code: str
) -> None:
    async with connected() as client:
        await client.start(name="app", autoack=True)
        await client.send(start=event_pb2.Start(**({"namespace": NS} | start)))
        text, closes = await client.error()
        assert closes
        assert text.startswith(f"FF10176: Invalid data: {code}: ")
        await client.ended()


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ({"namespace": "nowhere", "name": "x"}, "FF10187"),
        ({"namespace": "", "name": "x"}, "FF10178"),
        ({"namespace": NS}, "FF10178"),
        ({"namespace": NS, "ephemeral": True, "filter": {"events": "["}}, "FF10171"),
    ],
)
async def test_a_bad_start_in_the_url_leaves_the_stream_open(
    start: dict[str, Any], code: str
) -> None:
    async with connected() as client:
        await client.send(start=event_pb2.Start(from_url=True, **start))
        text, closes = await client.error()
        assert not closes
        assert text.startswith(f"{code}: ")
        assert (await client.start(name="app")).HasField("started")


async def test_a_frame_without_content_closes_the_stream() -> None:
    async with connected() as client:
        await client.send()
        assert (await client.error())[0].startswith("FF10176: Invalid data: FF10177: ")
        await client.ended()


async def test_autoack_holds_for_the_whole_stream() -> None:
    async with connected() as client:
        await client.start(name="a", autoack=True)
        await client.start(name="b")
        assert [asked[2] for asked in client.node.delivery.asked] == [True, True]
        await client.send(ack=event_pb2.Ack(id=ID))
        assert "FF10180" in (await client.error())[0]


async def test_acks_reach_the_subscription_they_are_about() -> None:
    async with connected() as client:
        await client.start(name="a")
        await client.send(ack=event_pb2.Ack(id=ID.upper()))
        await client.send(nack=event_pb2.Nack())
        await client.start(name="b")
        one, two = client.connections
        assert one.heard == [("ack", ID), ("nack", None)]
        refs: tuple[Any, ...] = (
            {"id": two.subscription.id},
            {"name": "b"},
            {"namespace": NS, "name": "b"},
        )
        for ref in refs:
            await client.send(ack=event_pb2.Ack(id=ID, subscription=ref))
        await client.start(name="absent")
        assert two.heard == [("ack", ID)] * 3
        assert len(one.heard) == 2


async def test_an_ack_of_nothing_in_particular_is_about_the_oldest() -> None:
    async with connected() as client:
        for name in ("a", "b", "c"):
            await client.start(name=name)
        one, two, three = client.connections
        one.oldest_out, three.oldest_out = 8, 5
        await client.send(ack=event_pb2.Ack())
        await client.send(nack=event_pb2.Nack())
        await client.start(name="d")
        assert three.heard == [("ack", None), ("nack", None)]
        assert one.heard == two.heard == []
        one.oldest_out = three.oldest_out = None
        await client.send(ack=event_pb2.Ack())
        assert "FF10175" in (await client.error())[0]


async def test_subscriptions_begin_again_with_their_namespace() -> None:
    async with connected() as client:
        await client.start(name="a")
        await client.start(ephemeral=True)
        await client.start(namespace="other", name="b")
        first, node = client.connections, client.node
        node.away[NS] = NotReady("FF10441", NS)
        client.stream.restart([NS])
        client.stream.restart([NS])
        await until(lambda: first[0].ended and first[1].ended)
        assert not first[2].ended
        node.delivery = FakeDelivery()
        del node.away[NS]
        await until(lambda: len(client.connections) == 2)
        assert [(c.name, c.subscription) for c in client.connections] == [
            (c.name, c.subscription) for c in first[:2]
        ]
        await client.connections[0].deliver(delivered(client.connections[0]))
        assert (await client.next()).HasField("event"), "on the same stream"
        ref: Any = {"namespace": NS, "name": "a"}
        await client.send(ack=event_pb2.Ack(id=ID, subscription=ref))
        await until(lambda: client.connections[0].heard == [("ack", ID)])
        assert [s.name for s in client.stream.subscriptions()] == ["a", "", "b"]


async def test_a_namespace_that_does_not_come_back_ends_its_streams() -> None:
    client = Client()
    await client.start(name="a")
    client.node.away[NS] = NotFound("FF10436", NS)
    client.stream.restart(["other"])
    assert not client.connections[0].ended
    client.stream.restart([NS])
    with pytest.raises(Unavailable, match="FF19016"):
        await client.next()


@pytest.mark.parametrize(
    "ack",
    [
        {"id": ID},
        {"id": ID, "subscription": {}},
        {"id": ID, "subscription": {"name": "c"}},
        {"id": ID, "subscription": {"name": "absent"}},
        {"id": ID, "subscription": {"namespace": "other", "name": "a"}},
        {"id": ID, "subscription": {"id": str(new_uuid()), "name": "a"}},
        {"id": "x", "subscription": {"name": "a"}},
    ],
)
async def test_an_ack_about_nothing_closes_the_stream(ack: dict[str, Any]) -> None:
    async with connected() as client:
        for name in ("a", "b", "absent"):
            await client.start(name=name)
        await client.send(ack=event_pb2.Ack(**ack))
        text, closes = await client.error()
        assert closes
        assert "FF10175" in text
        assert all(c.heard == [] for c in client.connections)


async def test_starts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribing, "STARTS_MAX", 2)
    async with connected() as client:
        await client.start(name="a")
        await client.start(ephemeral=True)
        await client.send(start=event_pb2.Start(namespace=NS, name="c"))
        assert "FF19009" in (await client.error())[0]


async def test_a_client_that_does_not_read_holds_up_only_its_own_deliveries() -> None:
    async with connected() as client:
        await client.start(name="a")
        connection, done = client.connections[0], 0

        async def deliver() -> None:
            nonlocal done
            for _ in range(QUEUE_MAX + 10):
                await connection.deliver(delivered(connection))
                done += 1

        task = asyncio.get_running_loop().create_task(deliver())
        for _ in range(100):
            await asyncio.sleep(0)
        assert done == QUEUE_MAX
        assert client.stream._out.qsize() == QUEUE_MAX
        for _ in range(QUEUE_MAX + 10):
            assert (await client.next()).HasField("event")
        await task


async def test_events_come_in_runs_to_who_takes_them() -> None:
    """All that became ready before a client reads, in order; batches come alone."""
    async with connected() as client:
        await client.send(connect=event_pb2.Connect(takes_runs=True))
        await client.start(name="a")
        await client.start(name="b")
        one, two = client.connections
        sent = [delivered(one), delivered(two), delivered(one)]
        for each, connection in zip(sent, (one, two, one), strict=True):
            await connection.deliver(each)
        run = (await client.next()).events.events
        assert [(d.event.id, d.subscription.name) for d in run] == [
            (each.events[0].event.id, name)
            for each, name in zip(sent, ("a", "b", "a"), strict=True)
        ]
        assert run[0].event.message.hash == sent[0].events[0].message.hash  # type: ignore[union-attr]  # it has one
        batch = new_uuid()
        await one.deliver(delivered(one, 2, batch))
        assert (await client.next()).event_batch.id == batch
        again = delivered(one)
        await one.deliver(again)
        assert [d.event.id for d in (await client.next()).events.events] == [
            again.events[0].event.id
        ]


async def test_runs_are_bounded() -> None:
    """By events, and by bytes: what is more waits until the client reads."""
    async with connected() as client:
        await client.send(connect=event_pb2.Connect(takes_runs=True))
        await client.start(name="a")
        connection, done = client.connections[0], 0

        async def deliver(count: int) -> None:
            nonlocal done
            for _ in range(count):
                await connection.deliver(delivered(connection))
                done += 1

        task = asyncio.get_running_loop().create_task(deliver(RUN_EVENTS_MAX + 3))
        await until(lambda: done == RUN_EVENTS_MAX)
        for _ in range(20):
            await asyncio.sleep(0)
        assert done == RUN_EVENTS_MAX
        assert len((await client.next()).events.events) == RUN_EVENTS_MAX
        await task
        assert len((await client.next()).events.events) == 3


async def test_runs_end_with_an_event_that_makes_them_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribing, "RUN_BYTES_MAX", 1)
    async with connected() as client:
        await client.send(connect=event_pb2.Connect(takes_runs=True))
        await client.start(name="a")
        connection = client.connections[0]
        task = asyncio.get_running_loop().create_task(connection.deliver(delivered(connection)))
        second = asyncio.get_running_loop().create_task(connection.deliver(delivered(connection)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert task.done()
        assert not second.done()
        assert len((await client.next()).events.events) == 1
        assert len((await client.next()).events.events) == 1
        await second


async def test_acks_may_come_together() -> None:
    """In order; the first that is wrong ends the stream, those before it count."""
    async with connected() as client:
        await client.start(name="a")
        await client.start(name="b")
        one, two = client.connections
        acks = [
            event_pb2.Ack(id=ID, subscription=subscription_pb2.SubscriptionRef(name="a")),
            event_pb2.Ack(id=ID, subscription=subscription_pb2.SubscriptionRef(name="b")),
            event_pb2.Ack(id=ID, subscription=subscription_pb2.SubscriptionRef(name="absent")),
            event_pb2.Ack(id=ID, subscription=subscription_pb2.SubscriptionRef(name="a")),
        ]
        await client.send(acks=event_pb2.AckRun(acks=acks))
        text, closes = await client.error()
        assert ("FF10175" in text, closes) == (True, True)
        assert one.heard == two.heard == [("ack", ID)]


async def test_a_replica_that_ends_tells_its_clients() -> None:
    async with connected() as client:
        await client.start(name="a")
        client.stream.close()
        with pytest.raises(Unavailable, match="FF19011"):
            await client.next()


async def test_leaving_ends_the_deliveries() -> None:
    client = Client()
    await client.start(name="a")
    assert not client.connections[0].ended
    await client.frames.put(None)
    await client.ended()
    assert client.connections[0].ended
