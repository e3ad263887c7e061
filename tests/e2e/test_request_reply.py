"""Goal: an application asks another member a question and is given the answer by the same call.

Method: the shared network; the other member answers from its event stream, as an application would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from photinus.api.v1 import message_pb2
from photinus.api.v1 import message_service_pb2 as pb
from photinus_client import Client

from tests.e2e.test_events import connected, new
from tests.support.network import Member, RunningNetwork
from tests.support.rest import Answer

JSON = {"Content-Type": "application/json"}


def question(network: RunningNetwork, tag: str, **header: Any) -> dict[str, Any]:
    members = [{"identity": member.org} for member in network.members]
    return {
        "header": {"tag": tag, "txtype": "unpinned", **header},
        "data": [{"value": "question"}],
        "group": {"members": members},
    }


def ask(member: Member, body: object, timeout: str = "60s") -> Answer:
    return member.request(
        "POST",
        "/messages/requestreply",
        json.dumps(body).encode(),
        {**JSON, "Request-Timeout": timeout},
    )


@asynccontextmanager
async def answering(member: Member, tag: str, txtype: str) -> AsyncIterator[None]:
    """Answers every message with a tag, twice: the second answer is nobody's."""
    filters = {"message": {"tag": f"^{tag}$"}, "events": "message_confirmed"}

    async def answer() -> None:
        while True:
            header = (await socket.frame())["message"]["header"]
            reply = {
                "header": {
                    "cid": header["id"],
                    "group": header["group"],
                    "tag": f"{tag}-answer",
                    "txtype": txtype,
                },
                "data": [{"value": {"answer": 42}}, {"value": "more"}],
            }
            for _ in range(2):
                await asyncio.to_thread(member.post, "/messages/private", reply)

    async with connected(member, ephemeral=True, autoack=True, filter=filters) as socket:
        await socket.quiet()
        task = asyncio.create_task(answer())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("txtype", ["unpinned", "batch_pin"])
async def test_the_answer_of_another_member_is_the_answer(
    network: RunningNetwork, txtype: str
) -> None:
    asking, other = network.members
    tag = new("ask")
    async with answering(other, tag, txtype):
        body = question(network, tag, txtype=txtype)
        answers = await asyncio.gather(*(asyncio.to_thread(ask, asking, body) for _ in range(3)))
    requests = set()
    for answer in answers:
        assert answer.status == 200, answer.body
        reply = answer.json
        assert reply["header"]["tag"] == f"{tag}-answer"
        assert reply["state"] == "confirmed"
        assert [item["value"] for item in reply["data"]] == [{"answer": 42}, "more"]
        requests.add(reply["header"]["cid"])
    assert len(requests) == len(answers), "each has its own"


async def test_typed_clients_ask_too(network: RunningNetwork) -> None:
    asking, other = network.members
    tag = new("ask")
    given = message_pb2.MessageInput()
    given.header.tag, given.header.txtype = tag, "unpinned"
    for member in network.members:
        given.group.members.add(identity=member.org)
    given.data.add(value='"question"')
    async with answering(other, tag, "unpinned"), Client(asking.grpc_address) as client:
        answer = await client.messages.RequestReply(pb.RequestReplyRequest(message=given))
    assert answer.message.data[0].value == '{"answer":42}'


def test_a_question_without_an_answer_times_out_and_stays_sent(network: RunningNetwork) -> None:
    member = network.members[0]
    tag = new("nobody")
    answer = ask(member, question(network, tag), "1500ms")
    assert answer.status == 408, answer.body
    (sent,) = member.get(f"/messages?tag={tag}")
    assert answer.json["error"].startswith(
        f"FF10260: The request with id '{sent['header']['id']}' timed out after 1,"
    )
    member.wait_message(sent["header"]["id"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"header": {}}, "FF10261"),
        ({"header": {"tag": "t", "cid": "00000000-0000-4000-8000-000000000000"}}, "FF10262"),
        ({"group": None}, "FF10271"),
        ({"header": {"tag": "t", "type": "broadcast"}}, "FF10287"),
        ({"header": {"tag": "t", "txtype": "contract_invoke"}}, "FF19002"),
        ({"group": {"members": [{"identity": "nobody at all"}]}}, "FF10277"),
    ],
    ids=["no tag", "cid", "no group", "broadcast", "type of transaction", "stranger"],
)
def test_what_is_no_question(network: RunningNetwork, change: Any, error: str) -> None:
    member, topic = network.members[0], new("none")
    body = {**question(network, "t"), **change}
    body["header"] = {**body["header"], "topics": [topic]}
    answer = ask(member, body)
    assert 400 <= answer.status < 500, answer.body
    assert answer.json["error"].startswith(f"{error}:")
    assert member.get(f"/messages?topics={topic}") == [], "nothing was sent"
