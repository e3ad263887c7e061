"""Goal: events reach applications once each and in order, by WebSocket with FireFly's frames and by
gRPC, whatever happens to the connection.

Method: the shared network; aiohttp as WebSocket client, our own client for gRPC. Each test has a tag
of its own that its subscriptions filter by.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest
from photinus.api.v1 import event_pb2, subscription_pb2
from photinus_client import Client, PhotinusError

from tests.support.network import Member, RunningNetwork

FRAME_S: Final = 20.0
QUIET_S: Final = 0.4
"""How long nothing may come where nothing should."""


def new(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def send(member: Member, tag: str, count: int = 1, **header: Any) -> list[str]:
    """Broadcasts messages and waits until they are confirmed; gives their ids in order."""
    ids = [
        member.post(
            "/messages/broadcast",
            {"header": {"tag": tag, "topics": ["events"], **header}, "data": [{"value": number}]},
        )["header"]["id"]
        for number in range(count)
    ]
    for each in ids:
        member.wait_message(each)
    return ids


def subscribe(member: Member, tag: str, **options: Any) -> dict[str, Any]:
    filters = {"events": "message_confirmed", "message": {"tag": f"^{tag}$"}}
    made: dict[str, Any] = member.post(
        "/subscriptions",
        {"name": tag, "filter": filters, "options": {"firstEvent": "newest", **options}},
        status=201,
    )
    return made


class Socket:
    """One WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def frame(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.socket.receive_json(timeout=FRAME_S)
        return found

    async def quiet(self) -> None:
        try:
            message = await self.socket.receive(timeout=QUIET_S)
        except TimeoutError:
            return
        pytest.fail(f"something came: {message}")

    async def send(self, **frame: Any) -> None:
        await self.socket.send_json(frame)

    async def ack(self, frame: dict[str, Any]) -> None:
        await self.send(type="ack", id=frame["id"], subscription=frame["subscription"])

    async def error(self) -> str:
        """The protocol error that comes next; the server closes behind it."""
        frame = await self.frame()
        assert frame["type"] == "protocol_error", frame
        closing = await self.socket.receive(timeout=FRAME_S)
        assert closing.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
        text: str = frame["error"]
        return text


@asynccontextmanager
async def connected(member: Member, path: str = "/ws", **start: Any) -> AsyncIterator[Socket]:
    async with aiohttp.ClientSession() as session, session.ws_connect(member.url + path) as ws:
        socket = Socket(ws)
        if start:
            await socket.send(type="start", namespace="default", **start)
        yield socket


async def sent(member: Member, tag: str, count: int = 1, **header: Any) -> list[str]:
    return await asyncio.to_thread(lambda: send(member, tag, count, **header))


async def test_durable_subscription_resumes_where_it_was_acked(network: RunningNetwork) -> None:
    member, tag = network.members[1], new("durable")
    made = subscribe(member, tag)
    ids = await sent(network.members[0], tag, 3)
    member.wait_message(ids[-1])
    async with connected(member, name=tag) as socket:
        first = await socket.frame()
        assert first["type"] == "message_confirmed"
        assert first["reference"] == ids[0] == first["message"]["header"]["id"]
        assert first["subscription"] == {"id": made["id"], "namespace": "default", "name": tag}
        await socket.quiet()
        await socket.ack(first)
        second = await socket.frame()
        assert second["reference"] == ids[1]
    async with connected(member, f"/ws?namespace=default&name={tag}") as socket:
        again = await socket.frame()
        assert again["id"] == second["id"], "what was not acked comes again"
        await socket.send(type="ack")
        third = await socket.frame()
        assert third["reference"] == ids[2]
        await socket.ack(third)
        await socket.quiet()
    offset = member.wait_for(
        f"/subscriptions/{made['id']}?fetchstatus",
        lambda found: found["status"]["currentOffset"] >= third["sequence"],
    )
    assert offset["name"] == tag


async def test_read_ahead_window_and_acks_out_of_order(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("ahead")
    subscribe(member, tag, readAhead=2)
    ids = await sent(member, tag, 5)
    async with connected(member, name=tag) as socket:
        window = [await socket.frame() for _ in range(3)]
        assert [each["reference"] for each in window] == ids[:3]
        await socket.quiet()
        await socket.ack(window[1])
        await socket.ack(window[2])
        rest = [await socket.frame() for _ in range(2)]
        assert [each["reference"] for each in rest] == ids[3:]
    async with connected(member, name=tag) as socket:
        again = await socket.frame()
        assert again["reference"] == ids[0], "the oldest one is still owed"


async def test_batches_are_acked_as_one(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("batch")
    subscribe(member, tag, batch=True, readAhead=3, batchTimeout="200ms")
    ids = await sent(member, tag, 5)
    async with connected(member, name=tag) as socket:
        batch = await socket.frame()
        assert batch["type"] == "event_batch"
        assert [each["reference"] for each in batch["events"]] == ids[:3]
        await socket.ack(batch)
        batch = await socket.frame()
        assert [each["reference"] for each in batch["events"]] == ids[3:]
        await socket.ack(batch)
        await socket.quiet()


async def test_nack_brings_an_event_again(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("nack")
    subscribe(member, tag)
    ids = await sent(member, tag, 2)
    async with connected(member, name=tag) as socket:
        first = await socket.frame()
        await socket.send(type="nack", id=first["id"], subscription=first["subscription"])
        again = await socket.frame()
        assert again["id"] == first["id"]
        await socket.ack(again)
        assert (await socket.frame())["reference"] == ids[1]


async def test_second_connection_stands_by(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("standby")
    subscribe(member, tag)
    async with connected(member, name=tag) as active:
        ids = await sent(member, tag)
        first = await active.frame()
        async with connected(member, name=tag) as waiting:
            await waiting.quiet()
            await active.ack(first)
            ids += await sent(member, tag)
            assert (await active.frame())["reference"] == ids[1]
            await active.socket.close()
            assert (await waiting.frame())["reference"] == ids[1], "it takes over what is owed"


async def test_ephemeral_subscription_begins_now_and_filters(network: RunningNetwork) -> None:
    member, tag = network.members[1], new("eph")
    await sent(member, tag)
    query = f"namespace=default&ephemeral&autoack&filter.message.tag=^{tag}$"
    async with connected(member, f"/ws?{query}&filter.events=message_.*") as socket:
        await socket.quiet()
        await sent(member, new("other"))
        ids = await sent(member, tag, 2)
        assert [(await socket.frame())["reference"] for _ in ids] == ids
    listed = member.get(f"/subscriptions?name={tag}")
    assert listed == []


async def test_ephemeral_from_the_oldest_sees_the_whole_log(network: RunningNetwork) -> None:
    member = network.members[1]
    events = member.get("/events?limit=20&sort=sequence")
    options = {"firstEvent": "oldest", "readAhead": 50}
    async with connected(member, ephemeral=True, autoack=True, options=options) as socket:
        seen = [await socket.frame() for _ in events]
    assert [each["id"] for each in seen] == [each["id"] for each in events]
    sequences = [each["sequence"] for each in events]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences))), "no gaps"


async def test_filters_by_author_topic_and_group(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("filter")
    topic = new("t")
    filters = {"message": {"author": network.members[1].org, "tag": tag}, "topic": f"^{topic}$"}
    async with connected(member, ephemeral=True, autoack=True, filter=filters) as socket:
        await socket.quiet()
        await sent(member, tag, topics=[topic])
        await sent(network.members[1], tag, topics=[new("elsewhere")])
        wanted = await sent(network.members[1], tag, topics=[topic])
        assert (await socket.frame())["reference"] == wanted[0]
        await socket.quiet()


async def test_several_subscriptions_share_a_socket(network: RunningNetwork) -> None:
    member, tags = network.members[0], [new("one"), new("two")]
    for tag in tags:
        subscribe(member, tag)
    async with connected(member, "/api/v1/namespaces/default/ws") as socket:
        for tag in tags:
            await socket.send(type="start", name=tag)
        ids = [(await sent(member, tag))[0] for tag in tags]
        frames = [await socket.frame() for _ in tags]
        assert {f["subscription"]["name"]: f["reference"] for f in frames} == dict(
            zip(tags, ids, strict=True)
        )
        sockets = member.get("/websockets")["connections"]
        mine = [c for c in sockets if {s.get("name") for s in c["subscriptions"]} == set(tags)]
        assert len(mine) == 1
        for frame in reversed(frames):
            await socket.ack(frame)


async def test_put_changes_and_delete_ends(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("put")
    made = subscribe(member, tag)
    taken = member.post("/subscriptions", {"name": tag}, status=409)
    assert taken["error"].startswith("FF10193:")
    answer = member.request(
        "PUT",
        "/subscriptions",
        b'{"name":"%s","filter":{"events":"message_rejected"}}' % tag.encode(),
        {"Content-Type": "application/json"},
    )
    assert answer.status == 200, answer.body
    assert answer.json["id"] == made["id"]
    assert answer.json["filter"]["events"] == "message_rejected"
    assert member.request("DELETE", f"/subscriptions/{made['id']}").status == 204
    member.get(f"/subscriptions/{made['id']}", status=404)


BAD_FRAMES = [
    ("not json", "FF10176: Invalid data: invalid character 'o' in literal null (expecting 'u')"),
    ('{"type":"absent"}', "FF10176: Invalid data: FF10177: Unknown action 'absent'"),
    ('{"type":"start"}', "FF10176: Invalid data: FF10436: Unknown namespace ''"),
    ('{"type":"start","namespace":"default"}', "FF10178"),
    ('{"type":"start","namespace":"absent","name":"x"}', "FF10436: Unknown namespace 'absent'"),
    ('{"type":"ack"}', "FF10175"),
    ('{"type":"nack","id":"00000000-0000-4000-8000-000000000000"}', "FF10175"),
    ('{"type":"ack","id":"zz"}', "FF10176"),
    (
        '{"type":"start","namespace":"default","ephemeral":true,"filter":{"events":"("}}',
        "FF10171",
    ),
    (
        '{"type":"start","namespace":"default","ephemeral":true,"options":{"withData":true}}',
        "FF10244",
    ),
]


@pytest.mark.parametrize(("frame", "error"), BAD_FRAMES, ids=[each[0][:40] for each in BAD_FRAMES])
async def test_frame_out_of_turn_ends_the_socket(
    network: RunningNetwork, frame: str, error: str
) -> None:
    async with connected(network.members[0]) as socket:
        await socket.socket.send_str(frame)
        assert error in await socket.error()


async def test_ack_under_autoack_and_changed_autoack_are_refused(network: RunningNetwork) -> None:
    member = network.members[0]
    async with connected(member, ephemeral=True, autoack=True) as socket:
        await socket.send(type="ack", id=str(uuid.uuid4()))
        assert "FF10180" in await socket.error()
    async with connected(member, ephemeral=True, autoack=True) as socket:
        await socket.send(type="start", namespace="default", ephemeral=True, autoack=False)
        assert "FF10179" in await socket.error()
    async with connected(member, "/api/v1/namespaces/default/ws") as socket:
        await socket.send(type="start", namespace="other", ephemeral=True)
        assert "FF10462" in await socket.error()


async def test_socket_of_an_unknown_namespace_is_not_opened(network: RunningNetwork) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(network.members[0], "/api/v1/namespaces/absent/ws"):
            pass
    assert refused.value.status == 404


async def test_grpc_stream_acks_resumes_and_redelivers(network: RunningNetwork) -> None:
    member, tag = network.members[1], new("grpc")
    subscribe(member, tag, readAhead=5)
    ids = await sent(network.members[0], tag, 3)
    member.wait_message(ids[-1])
    start = event_pb2.Start(namespace="default", name=tag)
    async with Client(member.grpc_address) as client:
        async with client.subscribe(start, manual_ack=True) as stream:
            deliveries = aiter(stream)
            got = [await asyncio.wait_for(anext(deliveries), FRAME_S) for _ in ids]
            assert [each.event.reference for each in got] == ids
            await stream.ack(got[2])
            await stream.nack(got[0])
            again = [await asyncio.wait_for(anext(deliveries), FRAME_S) for _ in range(2)]
            assert [each.event.reference for each in again[:1]] == ids[:1]
            await stream.ack(again[0])
        async with client.subscribe(start) as stream:
            async with asyncio.timeout(FRAME_S):
                async for delivery in stream:
                    assert delivery.event.reference in ids[1:]
                    await stream.ack(delivery)
                    break


async def test_grpc_ephemeral_batches(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("gbatch")
    start = event_pb2.Start(
        namespace="default",
        ephemeral=True,
        filter=subscription_pb2.SubscriptionFilter(
            message=subscription_pb2.MessageFilter(tag=f"^{tag}$")
        ),
        options=subscription_pb2.SubscriptionOptions(
            batch=True, read_ahead=10, batch_timeout="300ms"
        ),
    )
    async with Client(member.grpc_address) as client, client.subscribe(start) as stream:
        assert stream.subscription is not None
        ids = await sent(network.members[1], tag, 4)
        seen: list[str] = []
        async with asyncio.timeout(FRAME_S):
            async for delivery in stream:
                seen += [event.reference for event in delivery.events]
                if len(seen) >= len(ids):
                    break
    assert seen == ids


async def test_grpc_refuses_a_bad_start(network: RunningNetwork) -> None:
    async with Client(network.members[0].grpc_address) as client:
        with pytest.raises(PhotinusError) as refused:
            async with client.subscribe(event_pb2.Start(namespace="absent", name="x")):
                pass
        assert "FF10436" in str(refused.value)


async def test_history_is_replayed_through_the_filter(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("history")
    ids = await sent(member, tag, 3)
    await sent(member, new("other"))
    made = subscribe(member, tag)
    path = f"/subscriptions/{made['id']}/events"
    found = member.get(path)
    assert found.keys() == {"count", "total", "items"}, "counted without being asked to"
    assert [e["reference"] for e in found["items"]] == ids[::-1]
    assert all(e["message"]["header"]["tag"] == tag for e in found["items"])
    assert (found["count"], found["total"]) == (3, 3)
    first = found["items"][-1]["sequence"]
    some = member.get(f"{path}?startsequence={first + 1}&endsequence={first + 500}&limit=1")
    assert (some["count"], some["total"]) == (1, 2)
    assert member.get(f"{path}?endsequence=0") == {"count": 0, "total": 0, "items": []}
    for query, status, error in (
        ("?startsequence=x", 400, "FF10464"),
        ("?startsequence=0&endsequence=1001", 400, "FF10463"),
        ("?startsequence=0&limit=5000", 400, "FF00192"),
    ):
        assert member.get(path + query, status=status)["error"].startswith(f"{error}:")
    absent = member.get("/subscriptions/00000000-0000-4000-8000-000000000000/events", status=404)
    assert absent["error"].startswith("FF00164:")
    asked = {"eq": [{"field": "reference", "value": ids[1]}]}
    assert member.post(f"{path}/query?startsequence={first}", asked)["total"] == 1


async def test_a_subscription_deleted_under_its_connection_may_come_again(
    network: RunningNetwork,
) -> None:
    member, tag = network.members[0], new("deleted")
    made = subscribe(member, tag)
    async with connected(member, name=tag) as socket:
        await sent(member, tag)
        first = await socket.frame()
        assert member.request("DELETE", f"/subscriptions/{made['id']}").status == 204
        await sent(member, tag)
        await socket.quiet()
        again = subscribe(member, tag)
        ids = await sent(member, tag)
        frame = await socket.frame()
        assert frame["reference"] == ids[0]
        assert frame["subscription"]["id"] == again["id"] != made["id"]
        await socket.ack(frame)
        await socket.ack(first)
        assert "FF10175" in await socket.error(), "what was delivered before is nobody's"


async def test_acks_name_nothing_while_several_subscriptions_are_started(
    network: RunningNetwork,
) -> None:
    member, tags = network.members[0], [new("one"), new("two")]
    async with connected(member) as socket:
        for tag in tags:
            subscribe(member, tag)
            await socket.send(type="start", namespace="default", name=tag)
        ids = {tag: await sent(member, tag, 2) for tag in reversed(tags)}
        got = [await socket.frame() for _ in tags]
        assert [f["reference"] for f in got] == [ids[tag][0] for tag in reversed(tags)]
        await socket.send(type="ack")
        assert (await socket.frame())["reference"] == ids[tags[1]][1], "the oldest was acked"
        await socket.send(type="ack")
        assert (await socket.frame())["reference"] == ids[tags[0]][1]
        await socket.send(type="ack", id=got[0]["id"])
        assert "FF10175" in await socket.error(), "an id needs its subscription"


URL_STARTS = [
    ("?ephemeral", "FF10178: A start action must set namespace"),
    ("?namespace=default&name=", "FF10178"),
    ("?namespace=absent&ephemeral", "FF10187: Namespace does not exist"),
    ("?namespace=default&ephemeral&filter.events=(", "FF10171"),
    ("?namespace=default&ephemeral&batchtimeout=soon", "FF00137"),
]


async def test_starts_in_urls_that_fail_leave_their_sockets_open(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("url")
    async with AsyncExitStack() as stack:
        sockets = []
        for query, error in URL_STARTS:
            socket = await stack.enter_async_context(connected(member, f"/ws{query}"))
            frame = await socket.frame()
            assert frame["type"] == "protocol_error"
            assert frame["error"].startswith(error), query
            filters = {"message": {"tag": f"^{tag}$"}}
            await socket.send(type="start", namespace="default", ephemeral=True, filter=filters)
            sockets.append(socket)
        await sockets[-1].quiet()
        ids = await sent(member, tag)
        for socket in sockets:
            assert (await socket.frame())["reference"] == ids[0]


URL_FILTERS = [
    "filter.message.tag=^{tag}$",
    "filter.tag=^{tag}$",
    "filter.topic=^{tag}$&filter.events=^message_confirmed$",
    "filter.topics=^{tag}$&filter.message.author=org_0$&filter.author=nobody",
    "filter.message.group=^$&filter.group=ignored&filter.tag={tag}",
    "filter.blockchain.name=^$&filter.blockchain.listener=^$&filter.message.tag={tag}",
    "filter.transaction.type=^$&filter.message.tag={tag}&batch&batchtimeout=10ms",
]


async def test_every_filter_has_a_parameter_of_the_url(network: RunningNetwork) -> None:
    member, tag = network.members[0], new("url")
    async with AsyncExitStack() as stack:
        sockets = []
        for filters in URL_FILTERS:
            query = f"namespace=default&ephemeral=&autoack&readahead=5&{filters.format(tag=tag)}"
            sockets.append(await stack.enter_async_context(connected(member, f"/ws?{query}")))
        await sockets[-1].quiet()
        await sent(member, new("other"))
        ids = await sent(member, tag, topics=[tag])
        for socket in sockets:
            frame = await socket.frame()
            events = frame["events"] if frame["type"] == "event_batch" else [frame]
            assert [event["reference"] for event in events] == ids
        await sockets[0].quiet()
