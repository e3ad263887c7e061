"""Goal: events go to webhooks as from FireFly, answers come back as messages on both members, and what a
webhook does not take is seen, tried again and dropped over REST and gRPC.

Method: the shared network and a small HTTP server; first the recorded calls of a real FireFly are replayed.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from photinus.api.v1 import common_pb2
from photinus.api.v1 import subscription_service_pb2 as pb
from photinus_client import Client, PhotinusError

from tests.support import golden
from tests.support.hooks import Hook, HookServer, accept, answering, hook_server
from tests.support.network import Member, RunningNetwork
from tests.support.waiting import until

LIMIT_S = 60.0


@pytest.fixture
async def hooks() -> AsyncIterator[HookServer]:
    async with hook_server() as made:
        yield made


@pytest.fixture
async def subscriptions() -> AsyncIterator[list[tuple[Member, str]]]:
    """Deleted after the test, so that they do not call a server that is gone."""
    made: list[tuple[Member, str]] = []
    yield made
    for member, subscription in made:
        await asyncio.to_thread(member.request, "DELETE", f"/subscriptions/{subscription}")


def new(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def subscribe(
    made: list[tuple[Member, str]], member: Member, tag: str, **options: object
) -> dict[str, Any]:
    body = {
        "name": tag,
        "transport": "webhooks",
        "filter": {"events": "message_confirmed", "message": {"tag": f"^{tag}$"}},
        "options": options,
    }
    found = await asyncio.to_thread(member.post, "/subscriptions", body, status=201)
    made.append((member, found["id"]))
    return dict(found)


async def send(member: Member, tag: str, *values: object) -> str:
    body = {"header": {"tag": tag}, "data": [{"value": value} for value in values]}
    sent = await asyncio.to_thread(member.post, "/messages/broadcast", body)
    return str(sent["header"]["id"])


async def get(member: Member, path: str) -> Any:
    return await asyncio.to_thread(member.get, path)


async def until_found(member: Member, path: str, count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(LIMIT_S):
        while len(found := await get(member, path)) < count:
            await asyncio.sleep(0.05)
    return list(found)


class Line(msgspec.Struct):
    """One line of the recording."""

    id: str
    case: str
    member: int = 0
    method: str = ""
    path: str = ""
    status: int = 0
    hook: dict[str, Any] = {}
    request_body: Any = None
    response_body: Any = None


def recorded() -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    for text in (golden.GOLDEN / "webhooks.jsonl").read_bytes().splitlines():
        yield decoder.decode(text)


def members_of(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {f"{path}.{name}" for name in value}.union(
            *(members_of(each, f"{path}.{name}") for name, each in value.items())
        )
    return members_of(value[0], f"{path}[]") if isinstance(value, list) and value else set()


async def replayed(
    network: RunningNetwork, hooks: HookServer, case: str
) -> tuple[list[Line], dict[str, Any]]:
    """Sends the requests of a case in their order; gives the calls recorded, and what was answered."""
    calls, answers = [line for line in recorded() if line.case == case and line.hook], {}
    subscription = ""
    for line in recorded():
        if line.case != case or line.hook:
            continue
        member = network.members[line.member]
        if line.method == "DELETE":
            await until(lambda: len(hooks.got) >= len(calls), LIMIT_S)
            path = f"/subscriptions/{subscription}"
        else:
            path = line.path.removeprefix("/api/v1")
        if path == "/messages/requestreply":
            answers[line.id] = await asked(network, line)
            continue
        body = json.dumps(line.request_body).replace("{webhook}", hooks.url).encode()
        answer = await asyncio.to_thread(
            member.request,
            line.method,
            path,
            None if line.request_body is None else body,
            {"content-type": "application/json"} if line.request_body is not None else {},
        )
        assert answer.status == line.status, answer.body
        if line.response_body is not None:
            assert members_of(line.response_body) == members_of(answer.json), line.id
            answers[line.id] = answer.json
        if path == "/subscriptions":
            subscription = answer.json["id"]
        elif path == "/messages/broadcast":
            for each in network.members:
                await asyncio.to_thread(each.wait_message, answer.json["header"]["id"])
    return calls, answers


async def asked(network: RunningNetwork, line: Line) -> dict[str, Any]:
    """Sends a recorded question and waits for its reply on both members, as who asks would."""
    member = network.members[line.member]
    question = await asyncio.to_thread(member.post, "/messages/private", line.request_body)
    path = f"/messages?cid={question['header']['id']}&state=confirmed&fetchdata=true"
    found = [(await until_found(each, path))[0] for each in network.members]
    assert found[0]["header"] == found[1]["header"]
    return found[line.member]


async def test_recorded_calls_are_made_as_recorded(
    network: RunningNetwork, hooks: HookServer
) -> None:
    calls, answers = await replayed(network, hooks, "delivery")
    assert [hook.json for hook in hooks.got] == [call.request_body for call in calls]
    for hook, call in zip(hooks.got, calls, strict=True):
        same_request(hook, call)
    shown, wanted = answers["a00514"]["options"], next(recorded()).response_body["options"]
    assert {**shown, "firstEvent": "", "url": ""} == {**wanted, "firstEvent": "", "url": ""}


async def test_a_recorded_question_is_answered_through_a_webhook(
    network: RunningNetwork, hooks: HookServer
) -> None:
    calls, answers = await replayed(network, hooks, "reply")
    (hook,), (call,) = hooks.got, calls
    same_request(hook, call)
    assert hook.json == call.request_body
    reply = answers["a00522"]
    recording = next(line for line in recorded() if line.id == "a00522").response_body
    for name in ("type", "txtype", "author", "tag", "topics", "namespace"):
        assert reply["header"][name] == recording["header"][name], name
    value = reply["data"][0]["value"]
    assert value["headers"].pop("Date")
    assert value["headers"].pop("Server")
    value["headers"]["Content-Type"] = value["headers"]["Content-Type"].partition(";")[0]
    assert value == recording["data"][0]["value"]
    assert list(value) == ["status", "headers", "body"]


def same_request(hook: Hook, call: Line) -> None:
    wanted = call.hook
    assert (hook.method, hook.path) == (wanted["method"], wanted["path"])
    theirs = dict(wanted["headers"]) | {"user-agent": hook.headers["user-agent"]}
    ours = {n: v for n, v in hook.headers.items() if n not in {"host", "content-length"}}
    assert ours == theirs
    assert hook.body == msgspec.json.encode(call.request_body)


async def test_batches_have_the_recorded_form(
    network: RunningNetwork, hooks: HookServer, subscriptions: list[tuple[Member, str]]
) -> None:
    member, tag = network.members[0], new("batch")
    made = await subscribe(
        subscriptions,
        member,
        tag,
        url=f"{hooks.url}/batch",
        batch=True,
        readAhead=3,
        withData=False,
    )
    ids = [await send(network.members[1], tag, number) for number in range(4)]
    await until(lambda: sum(len(hook.json) for hook in hooks.got) == 4, LIMIT_S)
    events = [event for hook in hooks.got for event in hook.json]
    assert [event["reference"] for event in events] == ids
    recording = next(line for line in recorded() if line.id == "a00528").request_body[0]
    assert members_of(events[0]) == members_of(recording)
    assert list(events[0]) == list(recording)
    reference = {"id": made["id"], "namespace": "default", "name": tag}
    assert events[0]["subscription"] == reference


async def test_replies_arrive_on_both_members(
    network: RunningNetwork, hooks: HookServer, subscriptions: list[tuple[Member, str]]
) -> None:
    """As FireFly's own suite does it: what is no JSON comes in base64."""
    asked, answered = network.members
    tag = new("ask")
    await subscribe(
        subscriptions, answered, tag, url=hooks.url, reply=True, replytag=f"{tag}-reply"
    )
    question = await send(asked, tag, {"question": 1})
    for member in network.members:
        (reply,) = await until_found(
            member, f"/messages?tag={tag}-reply&state=confirmed&fetchdata=true"
        )
        assert reply["header"]["cid"] == question
        assert reply["header"]["type"] == "broadcast"
        assert reply["header"]["author"] == "did:firefly:org/org_1"
        assert reply["data"][0]["value"]["body"] == {"ok": True}
    assert len(hooks.got) == 1


async def test_what_a_webhook_does_not_take_is_parked(
    network: RunningNetwork, hooks: HookServer, subscriptions: list[tuple[Member, str]]
) -> None:
    member, tag = network.members[0], new("dead")
    hooks.handler = answering(503)
    made = await subscribe(
        subscriptions,
        member,
        tag,
        url=hooks.url,
        deadLetter=True,
        retry={"enabled": True, "count": 1, "initialDelay": "1ms"},
    )
    assert made["options"]["deadLetter"] is True
    ids = [await send(member, tag, number) for number in range(3)]
    path = f"/subscriptions/{made['id']}/deadletters"
    letters = await until_found(member, f"{path}?sort=created&ascending", 3)
    assert len(hooks.got) == 6
    first, second, third = letters
    assert {k: first[k] for k in ("state", "attempts", "status", "error", "subscription")} == {
        "state": "parked",
        "attempts": 2,
        "status": 503,
        "error": "answered 503",
        "subscription": made["id"],
    }
    event = await get(member, f"/events/{first['event']}")
    assert event["reference"] == ids[0]
    assert (event["sequence"], event["type"]) == (first["eventSequence"], first["eventType"])
    counted = await get(member, f"{path}?count&status=503&limit=1")
    assert (counted["count"], counted["total"]) == (1, 3)

    async with Client(member.grpc_address) as client:
        request = pb.ListDeadLettersRequest(
            subscription=made["id"], query=common_pb2.Query(raw="state=parked")
        )
        listed = await client.subscriptions.ListDeadLetters(request)
        assert {letter.id for letter in listed.items} == {letter["id"] for letter in letters}
        with pytest.raises(PhotinusError, match="FF00164"):
            await client.subscriptions.RetryDeadLetter(
                pb.RetryDeadLetterRequest(subscription=made["id"], id=str(uuid.uuid4()))
            )

    for status in (204, 404):
        gone = await asyncio.to_thread(member.request, "DELETE", f"{path}/{first['id']}")
        assert gone.status == status
    hooks.handler = accept
    one = await asyncio.to_thread(member.post, f"{path}/{second['id']}/retry", {}, status=202)
    assert (one["id"], one["event"]) == (second["id"], second["event"])
    await until(lambda: len(hooks.got) == 7, LIMIT_S)
    await asyncio.to_thread(member.post, f"{path}/retry", {}, status=202)
    async with asyncio.timeout(LIMIT_S):
        while await get(member, path):
            await asyncio.sleep(0.05)
    assert [hook.json for hook in hooks.got[6:]] == [{"value": 1}, {"value": 2}]
    assert third["eventSequence"] > second["eventSequence"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "FF10242"),
        ({"url": "http://h/", "headers": {"a": 1}}, "FF10243"),
        ({"url": "http://h/", "query": {"a": 1}}, "FF10243"),
        ({"url": "http://h/", "tlsConfigName": "none"}, "FF10455"),
        ({"url": "http://h/", "batch": True, "withData": True}, "FF10460"),
        ({"url": "http://h/", "retry": {"initialDelay": "soon"}}, "FF00137"),
        ({"url": "file:///etc/passwd"}, "FF19002"),
        ({"url": "http://h/", "method": "FLY"}, "FF19002"),
        ({"url": "http://h/", "input": []}, "FF19002"),
    ],
)
async def test_options_that_make_no_webhook(
    network: RunningNetwork, options: dict[str, object], code: str
) -> None:
    body = {"name": new("bad"), "transport": "webhooks", "options": options}
    found = await asyncio.to_thread(network.members[0].post, "/subscriptions", body, status=400)
    assert code in found["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/subscriptions/x/deadletters", 400, "FF00138"),
        ("POST", "/subscriptions/x/deadletters/retry", 400, "FF00138"),
        ("POST", f"/subscriptions/{uuid.UUID(int=1)}/deadletters/retry", 404, "FF00164"),
        ("POST", f"/subscriptions/{uuid.UUID(int=1)}/deadletters/x/retry", 400, "FF00138"),
        (
            "DELETE",
            f"/subscriptions/{uuid.UUID(int=1)}/deadletters/{uuid.UUID(int=1)}",
            404,
            "FF00164",
        ),
    ],
)
async def test_dead_letters_that_are_none(
    network: RunningNetwork, method: str, path: str, status: int, code: str
) -> None:
    member = network.members[0]
    json_type = {"content-type": "application/json"}
    answer = await asyncio.to_thread(
        member.request, method, path, b"{}" if method == "POST" else None, json_type
    )
    assert answer.status == status
    assert code in answer.json["error"]
