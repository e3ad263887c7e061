"""Goal: members with several replicas work as one, and losing a replica costs a pause and nothing else.

Method: `photinus up --cluster`: two members, two replicas each, over a real PostgreSQL and ZooKeeper.
All tests share it, for it takes long to start; each leaves all replicas serving.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Final

import aiohttp
import grpc
import psutil
import pytest
from google.protobuf import timestamp_pb2
from photinus.api.v1 import data_pb2, message_pb2, node_service_pb2
from photinus.api.v1 import message_service_pb2 as messages

from tests.support.commands import photinus
from tests.support.hooks import accept, hook_server
from tests.support.network import Member, RunningNetwork, network_up
from tests.support.replicas import CALL_S, Replica, leader_of
from tests.support.rest import wait_until
from tests.support.waiting import until

SESSION_S: Final = 4.0
BUSY_S: Final = 10.0
"""What a machine that does other things may add to a time."""
FRAME_S: Final = 30.0
GONE_S: Final = 60.0
TRY_AGAIN: Final = 1013


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    with network_up(tmp_path_factory.mktemp("cluster") / "net", 2, "--cluster") as running:
        yield running


@pytest.fixture
def replicas(network: RunningNetwork) -> Iterator[list[Replica]]:
    """Those of the first member."""
    member = network.members[0]
    found = [Replica(network, member, n) for n in range(len(member.grpc_addresses))]
    yield found
    for replica in found:
        replica.close()


def follower_of(replicas: list[Replica]) -> Replica:
    leader = leader_of(replicas)
    return next(r for r in replicas if r is not leader)


def broadcast(replica: Replica, value: int, *, confirm: bool, key: str = "") -> message_pb2.Message:
    item = data_pb2.DataRefOrValue(value=json.dumps(value))
    sent = message_pb2.MessageInput(data=[item], idempotency_key=key)
    request = messages.BroadcastMessageRequest(message=sent, confirm=confirm)
    answer: messages.BroadcastMessageResponse = replica.messages.BroadcastMessage(
        request, timeout=CALL_S
    )
    return answer.message


def test_the_cluster_is_shown(network: RunningNetwork, replicas: list[Replica]) -> None:
    leader, follower = leader_of(replicas), follower_of(replicas)
    epochs = set()
    for replica in replicas:
        told = replica.cluster()
        assert {r.id for r in told.replicas} == {"node_0-0", "node_0-1"}
        assert {r.address for r in told.replicas} == set(network.members[0].grpc_addresses)
        assert [r.id for r in told.replicas if r.self] == [replica.name]
        assert all(
            r.state == "serving" and r.version and r.HasField("since") for r in told.replicas
        )
        (namespace,) = told.namespaces
        assert (namespace.namespace, namespace.leader) == ("default", leader.name)
        assert list(namespace.standby) == [follower.name]
        epochs.add(namespace.epoch)
        assert not told.problems
    (epoch,) = epochs
    assert epoch > 0
    over_rest = network.members[0].get("/cluster")
    assert over_rest["namespaces"][0]["leader"] == leader.name
    assert over_rest["namespaces"][0]["epoch"] == epoch
    done = photinus("cluster", "--api", follower.address)
    assert done.returncode == 0, done.stderr
    assert f"{follower.name} *" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("default"))
    assert row.split()[1:4] == [leader.name, str(epoch), follower.name]
    status = photinus("status", "--dir", str(network.folder))
    assert status.returncode == 0, status.stdout
    assert status.stdout.count("up, version") == 4


def test_messages_travel_through_any_replica(
    network: RunningNetwork, replicas: list[Replica]
) -> None:
    """A broadcast confirmed on a follower, a private message and its answer through others."""
    other = network.members[1]
    sent = broadcast(follower_of(replicas), 1, confirm=True)
    assert sent.state == "confirmed"
    other.wait_message(sent.header.id)
    group = {"members": [{"identity": m.org} for m in network.members]}
    for member in network.members * 2:  # the gateway takes the replicas in turn
        private = member.post(
            "/messages/private?confirm=true", {"group": group, "data": [{"value": 2}]}
        )
        assert private["state"] == "confirmed"
        for reader in network.members:
            for _ in reader.grpc_addresses:
                reader.wait_message(private["header"]["id"])


class Socket:
    """A client that acknowledges by hand."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    @classmethod
    async def start(cls, session: aiohttp.ClientSession, member: Member, name: str) -> Socket:
        socket = await session.ws_connect(member.ws_url)
        await socket.send_json({"type": "start", "namespace": "default", "name": name})
        return cls(socket)

    async def next(self, *, ack: bool) -> str:
        """The message that the next event is about."""
        event = await self._socket.receive_json(timeout=FRAME_S)
        if ack:
            await self._socket.send_json({"type": "ack", "id": event["id"]})
        return str(event["reference"])

    async def close_code(self) -> int | None:
        """Waits until the server closes it."""
        frame = await self._socket.receive(FRAME_S)
        assert frame.type is aiohttp.WSMsgType.CLOSE, frame
        return self._socket.close_code

    async def aclose(self) -> None:
        await self._socket.close()


async def socket_on(
    replica: Replica, session: aiohttp.ClientSession, replicas: list[Replica], name: str
) -> Socket:
    """A socket whose stream the gateway has opened on a certain replica; it takes them in turn."""
    for _ in range(2 * len(replicas)):
        before = {each for one in replicas for each in ids_on(one)}
        socket = await Socket.start(session, replica.member, name)
        async with asyncio.timeout(GONE_S):
            while not (holders := [r for r in replicas if ids_on(r) - before]):
                await asyncio.sleep(0.05)
        if holders == [replica]:
            return socket
        await socket.aclose()
    raise AssertionError(f"no socket came to {replica.name}")


def ids_on(replica: Replica) -> set[str]:
    return {socket.id for socket in replica.sockets()}


async def test_draining_hands_over_and_moves_subscriptions(
    network: RunningNetwork, replicas: list[Replica]
) -> None:
    """The leader, which also serves a durable subscription, is drained, then restarted."""
    member, name = network.members[0], f"drain-{uuid.uuid4().hex[:8]}"
    filters = {"events": "message_confirmed", "message": {"tag": name}}
    member.post("/subscriptions", {"name": name, "filter": filters}, status=201)
    leader, other = leader_of(replicas), follower_of(replicas)

    def send() -> str:
        body = {"header": {"tag": name, "topics": [name]}, "data": [{"value": 1}]}
        return str(member.post("/messages/broadcast?confirm=true", body)["header"]["id"])

    def drain() -> tuple[node_service_pb2.DrainResponse, float]:
        began = time.monotonic()
        answer = leader.nodes.Drain(node_service_pb2.DrainRequest(), timeout=CALL_S)
        wait_until(lambda: other.leads)
        return answer, time.monotonic() - began

    async with aiohttp.ClientSession() as session:
        served = await socket_on(leader, session, replicas, name)
        sent = [await asyncio.to_thread(send) for _ in range(2)]
        assert await served.next(ack=True) == sent[0]
        assert await served.next(ack=False) == sent[1]
        standing_by = await socket_on(other, session, replicas, name)

        epoch = leader.cluster().namespaces[0].epoch
        answer, took_s = await asyncio.to_thread(drain)
        assert (list(answer.released), answer.streams_ended) == (["default"], 1)
        assert took_s < BUSY_S, f"handed over after {took_s:.2f} s"
        assert await served.close_code() == TRY_AGAIN
        sent.append(await asyncio.to_thread(send))
        assert await standing_by.next(ack=True) == sent[1], "what was not acknowledged comes again"
        assert await standing_by.next(ack=True) == sent[2]
        back = await Socket.start(session, member, name)  # as client libraries do
        wait_until(lambda: len(other.sockets()) == 2, explain=lambda: "it came to another replica")
        await back.aclose()

    told = other.cluster()
    assert {r.id: r.state for r in told.replicas} == {
        leader.name: "draining",
        other.name: "serving",
    }
    assert told.namespaces[0].epoch > epoch
    again = leader.nodes.Drain(node_service_pb2.DrainRequest(), timeout=CALL_S)
    assert (list(again.released), again.streams_ended) == ([], 0)
    assert broadcast(leader, 5, confirm=True).state == "confirmed", "calls are served to the end"
    leader.restarted(lambda: leader.signal(signal.SIGTERM))


def test_a_killed_leader_is_replaced(network: RunningNetwork, replicas: list[Replica]) -> None:
    """Requests go on through the gateway meanwhile; what was acknowledged is confirmed once."""
    member = network.members[0]
    leader, other = leader_of(replicas), follower_of(replicas)
    began = time.monotonic()
    former = leader.signal(signal.SIGKILL)
    sent = broadcast(other, 3, confirm=False, key=f"kill-{uuid.uuid4()}")
    assert member.get("/status")["node"]["registered"], "reads go elsewhere"
    wait_until(lambda: other.leads)
    took_s = time.monotonic() - began
    assert took_s < SESSION_S + 1 + BUSY_S, f"another leads after {took_s:.2f} s"
    for reader in network.members:
        reader.wait_message(sent.header.id)
    leader.restarted(lambda: former)
    events = member.get(f"/messages/{sent.header.id}/events")
    assert [e["type"] for e in events if e["type"] == "message_confirmed"] == ["message_confirmed"]


def calls(replica: Replica, url: str) -> bool:
    """Whether a replica has a connection to a server of this test."""
    port = int(url.rpartition(":")[2])
    connections = replica.process.net_connections(kind="tcp")
    return any(tuple(connection.raddr)[1:] == (port,) for connection in connections)


async def test_a_webhook_is_called_by_one_replica_and_by_another_when_that_is_killed(
    network: RunningNetwork, replicas: list[Replica]
) -> None:
    """In the middle of a call: that event comes again, the others came once."""
    member, name = network.members[0], f"hook-{uuid.uuid4().hex[:8]}"

    def send() -> str:
        body = {"header": {"tag": name, "topics": [name]}, "data": [{"value": 1}]}
        return str(member.post("/messages/broadcast?confirm=true", body)["header"]["id"])

    async with hook_server() as hooks:
        wanted = {
            "name": name,
            "transport": "webhooks",
            "filter": {"events": "message_confirmed", "message": {"tag": name}},
            "options": {"url": hooks.url, "withData": False},
        }
        made = await asyncio.to_thread(member.post, "/subscriptions", wanted, 201)
        sent = [await asyncio.to_thread(send) for _ in range(3)]
        await until(lambda: len(hooks.got) >= len(sent), FRAME_S)
        hooks.handler = hooks.never
        sent.append(await asyncio.to_thread(send))
        await until(lambda: hooks.silent == 1, FRAME_S)
        (caller,) = [r for r in replicas if await asyncio.to_thread(calls, r, hooks.url)]
        hooks.handler = accept
        former = caller.signal(signal.SIGKILL)
        await until(lambda: len(hooks.got) >= len(sent) + 1, GONE_S)
        await asyncio.to_thread(caller.restarted, lambda: former)
        sent.append(await asyncio.to_thread(send))
        await until(lambda: len(hooks.got) >= len(sent) + 1, FRAME_S)
        called_for = [hook.json["reference"] for hook in hooks.got]
        assert called_for == [*sent[:4], *sent[3:]]
        path = f"/subscriptions/{made['id']}"
        assert (await asyncio.to_thread(member.request, "DELETE", path)).status == 204


def test_old_rows_are_pruned(network: RunningNetwork, replicas: list[Replica]) -> None:
    """Here nothing is old yet; what goes and what stays is the store's tests' business."""
    done = photinus("prune", "--older-than", "1h", "--api", replicas[0].address)
    assert done.returncode == 0, done.stderr
    names = [line.split()[:3] for line in done.stdout.splitlines()]
    collections = ("events", "blockchainevents", "operations", "transactions")
    assert names == [[name, "deleted", "0,"] for name in collections]
    assert network.members[0].get("/events?limit=1000")
    now = timestamp_pb2.Timestamp()
    now.GetCurrentTime()
    for collection, before, text in (("events", now, "10 minutes ago"), ("pins", now, "can be")):
        request = node_service_pb2.PruneCollectionRequest(collection=collection, before=before)
        with pytest.raises(grpc.RpcError) as refused:
            replicas[1].nodes.PruneCollection(request, timeout=CALL_S)
        assert text in str(refused.value)


def test_a_request_is_not_done_twice_on_two_replicas(replicas: list[Replica]) -> None:
    key = f"twice-{uuid.uuid4()}"
    sent = broadcast(replicas[0], 4, confirm=False, key=key)
    with pytest.raises(grpc.RpcError) as refused:
        broadcast(replicas[1], 4, confirm=False, key=key)
    assert "FF10430" in str(refused.value)
    assert sent.header.id in str(refused.value)


def test_up_goes_on_after_it_was_killed(network: RunningNetwork) -> None:
    """Last, for it ends the shared network. Nothing stays behind, nothing is lost."""
    before = network.members[0].post(
        "/messages/broadcast?confirm=true", {"data": [{"value": "before"}]}
    )
    processes = psutil.Process(network.pid).children(recursive=True)
    psutil.Process(network.pid).kill()
    _, left = psutil.wait_procs(processes, GONE_S)
    assert not left, f"stayed behind: {[' '.join(p.cmdline())[:200] for p in left]}"
    with network_up(network.folder) as again:
        for member in again.members:
            member.wait_message(before["header"]["id"])
            sent = member.post("/messages/broadcast?confirm=true", {"data": [{"value": "after"}]})
            assert sent["state"] == "confirmed"
            assert len(member.get("/cluster")["replicas"]) == 2
