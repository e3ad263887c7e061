"""Goal: requests, messages and network actions that cannot be meant are refused, and leave nothing behind.

Method: servicers over a running namespace with connectors in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from photinus.api.v1 import message_service_pb2 as pb
from photinus.api.v1.data_pb2 import DataRefOrValue
from photinus.api.v1.message_pb2 import GroupInput, MemberInput, MessageHeaderInput, MessageInput
from photinus.api.v1.network_pb2 import NetworkAction
from photinus.api.v1.network_service_pb2 import SubmitNetworkActionRequest
from photinus_core.host.fakes import FakeWorld
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import new_uuid
from photinus_core.model.query import Query
from photinus_core.namespaces.node import Node
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.ports.store import Table
from photinus_core.rpc.services.messages import MessageServicer
from photinus_core.rpc.services.network import NetworkServicer
from photinus_core.store import SqliteStore

from tests.support.waiting import until
from tests.unit.namespaces.runtimes import node_of, running

CONTEXT: Final[Any] = None
"""No refusal needs it."""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[NamespaceRuntime]:
    store = await SqliteStore.open(tmp_path / "core.db")
    async with FakeWorld() as world, running(store, world.member("alice")) as made:
        await until(lambda: made.is_started)
        yield made
    await store.aclose()


def message(*, group: bool = True, **header: str) -> MessageInput:
    members = [MemberInput(identity="org")] if group else []
    return MessageInput(
        header=MessageHeaderInput(**header),
        data=[DataRefOrValue(value="1")],
        group=GroupInput(members=members) if group else None,
    )


async def refused(
    runtime: NamespaceRuntime, call: Callable[[Node], Awaitable[object]], code: str
) -> None:
    with pytest.raises(Rejected, match=code):
        await call(node_of(runtime))
    async with runtime.reader() as reader:
        assert (await reader.query(Table.MESSAGES, Query("messages"))).items == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (message(), "FF10261"),
        (message(tag="ask", cid=new_uuid()), "FF10262"),
        (message(tag="ask", group=False), "FF10271"),
        (message(tag="ask", type="broadcast"), "FF10287: .*private"),
    ],
)
async def test_requests_that_nobody_could_answer(
    runtime: NamespaceRuntime, asked: MessageInput, code: str
) -> None:
    request = pb.RequestReplyRequest(message=asked)
    await refused(runtime, lambda node: MessageServicer(node).RequestReply(request, CONTEXT), code)


async def test_a_message_is_not_sent_as_what_it_does_not_say_it_is(
    runtime: NamespaceRuntime,
) -> None:
    broadcast = pb.BroadcastMessageRequest(message=message(type="private"))
    await refused(
        runtime,
        lambda node: MessageServicer(node).BroadcastMessage(broadcast, CONTEXT),
        "FF10287: .*broadcast",
    )
    private = pb.SendPrivateMessageRequest(message=message(type="broadcast"))
    await refused(
        runtime,
        lambda node: MessageServicer(node).SendPrivateMessage(private, CONTEXT),
        "FF10287: .*private",
    )


@pytest.mark.parametrize("action", ["", "Terminate", "migrate"])
async def test_actions_that_the_network_does_not_know(
    runtime: NamespaceRuntime, action: str
) -> None:
    request = SubmitNetworkActionRequest(action=NetworkAction(type=action))
    await refused(
        runtime,
        lambda node: NetworkServicer(node).SubmitNetworkAction(request, CONTEXT),
        f"FF10397: .*{action}",
    )
