"""Goal: what is sent arrives with whom it is for, once they know each other, and its sender hears how it ended.

Method: two members' instances without a wire; listeners are read step by step.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import cast

import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import data_exchange_pb2 as pb
from photinus.connector.v1 import event_pb2 as events
from photinus_memory import MemoryConnector, World
from photinus_sdk import Acked, CallContext, Events, NotFound, Rejected, StreamKey, Subscription

from tests.support.waiting import until
from tests.unit.memory.conftest import Made

STREAM = StreamKey("cluster", "ns", "core")
WAIT_S = 20.0


def call(own: MemoryConnector, key: str) -> CallContext:
    return CallContext(own.instance.name, "Method", STREAM, key)


async def know(own: MemoryConnector, peer: MemoryConnector) -> None:
    """Makes a peer's node known."""
    asked = pb.GetEndpointRequest(node_name="node")
    found = await peer.get_endpoint(asked, call(peer, ""))
    request = pb.AddPeerRequest(network_namespace="net", peer_json=found.peer_json)
    await own.add_peer(request, call(own, f"know {found.peer_id}"))


async def send(own: MemoryConnector, key: str, sender: str = "alice/node") -> None:
    message = json.dumps({"batch": {"namespace": "net", "id": key}})
    request = pb.SendMessageRequest(recipient="bob/node", sender=sender, message=message)
    await own.send_message(request, call(own, key))


def mailbox(own: MemoryConnector) -> AsyncGenerator[Events, None]:
    place = events.DestinationFilter(network_namespace="net", node_name="node")
    listener = events.Listener(id="l", destination=place)
    subscription = Subscription(STREAM, "net", listener, b"", 10)
    return cast("AsyncGenerator[Events, None]", own.listen(subscription))


async def next_of(own: MemoryConnector) -> events.Event:
    """The next event for the member's node."""
    async with asyncio.timeout(WAIT_S), contextlib.aclosing(mailbox(own)) as found:
        (event,) = (await anext(found)).events
    return event


async def end_of(own: MemoryConnector, key: str) -> events.OperationUpdate:
    """How a send ended, as its stream is told."""
    changed = own.journal.changed(STREAM)
    async with asyncio.timeout(WAIT_S):
        while True:
            changed.clear()
            for each in await own.journal.updates(STREAM, 0, 100):
                if each.update.idempotency_key == key:
                    return each.update
            await changed.wait()


@pytest.fixture
async def alice(member: Made) -> MemoryConnector:
    return await member("alice")


@pytest.fixture
async def bob(member: Made) -> MemoryConnector:
    return await member("bob")


async def test_mail_waits_until_its_sender_is_known(
    alice: MemoryConnector, bob: MemoryConnector
) -> None:
    await know(alice, bob)
    await send(alice, "k")
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(next_of(bob))
        await asyncio.sleep(0)
        assert not reading.done()
        await know(bob, alice)
    event = reading.result()
    assert event.message_received.sender == "alice/node"
    await bob.acked(Acked(STREAM, (event.id,), {event.id: "manifest"}))
    end = await end_of(alice, "k")
    assert (end.state, end.manifest) == (common.OPERATION_STATE_SUCCEEDED, "manifest")


async def test_a_sender_is_who_it_is(alice: MemoryConnector, bob: MemoryConnector) -> None:
    """Whatever it claims: the member is that of the instance."""
    await know(alice, bob)
    await know(bob, alice)
    await send(alice, "k", sender="bob/other")
    assert (await next_of(bob)).message_received.sender == "alice/other"


async def test_a_removed_peer_ends_what_is_on_its_way(
    world: World, alice: MemoryConnector, bob: MemoryConnector
) -> None:
    await know(alice, bob)
    await send(alice, "k")
    request = pb.RemovePeerRequest(network_namespace="net", peer_id="bob/node")
    await alice.remove_peer(request, call(alice, "r"))
    end = await end_of(alice, "k")
    assert end.state == common.OPERATION_STATE_FAILED
    assert "bob/node was removed" in end.error
    await until(lambda: not world.ended)
    assert not world.mail
    with pytest.raises(NotFound):
        await send(alice, "k2")


async def test_others_cannot_take_ones_mail(
    world: World, alice: MemoryConnector, bob: MemoryConnector
) -> None:
    await know(alice, bob)
    await send(alice, "k")
    (name,) = world.mail
    await alice.acked(Acked(STREAM, (name, "received/unknown"), {}))
    assert list(world.mail) == [name]


async def test_a_repeated_send_is_one(
    world: World, alice: MemoryConnector, bob: MemoryConnector
) -> None:
    await know(alice, bob)
    await send(alice, "k")
    await send(alice, "k")
    assert len(world.mail) == 1


async def test_what_is_no_message_or_peer_is_refused(alice: MemoryConnector) -> None:
    for text in ("{}", '{"batch":1}', '{"batch":{"namespace":7}}', "no json"):
        request = pb.SendMessageRequest(recipient="bob/node", message=text)
        with pytest.raises(Rejected):
            await alice.send_message(request, call(alice, text))
    for text in ("{}", '{"id":""}', '{"id":"/node"}', '{"id":1}', "[]"):
        with pytest.raises(Rejected):
            await alice.add_peer(pb.AddPeerRequest(peer_json=text), call(alice, text))
