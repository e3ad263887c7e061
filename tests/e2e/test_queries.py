"""Goal: every list takes every kind of query, over REST and gRPC, and refuses wrong ones with FireFly's codes.

Method: the lists of the route table, each with its own fields, on a running network; what is refused is asked of all,
what is found is compared between the forms of a query.
"""

from __future__ import annotations

import http.client
import json
import re
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import grpc
import pytest
from photinus.api.v1 import common_pb2, message_service_pb2
from photinus_client import Client, PhotinusError
from photinus_core.model.fields import FieldType, fields_of
from photinus_core.model.json_query import JSON_OPERATORS

from tests.support import golden
from tests.support.network import Member, RunningNetwork
from tests.support.rest import WAIT_S, Answer, wait_until

JSON: Final = {"Content-Type": "application/json"}
COLLECTIONS: Final = {
    "Message": "messages",
    "Batch": "batches",
    "Transaction": "transactions",
    "Data": "data",
    "Datatype": "datatypes",
    "Operation": "operations",
    "Subscription": "subscriptions",
    "Event": "events",
    "Pin": "pins",
    "NextPin": "nextpins",
    "Identity": "identities",
    "Verifier": "verifiers",
    "Group": "groups",
    "BlockchainEvent": "blockchainevents",
    "DeadLetter": "deadletters",
}
LISTS: Final = [route for route in golden.routes() if route.filters]


@pytest.fixture(scope="module")
def ids(network: RunningNetwork) -> dict[str, str]:
    """Things whose lists have an id in their path."""
    member = network.members[0]
    name = f"queries-{uuid.uuid4().hex[:8]}"
    sent = member.post(
        "/messages/broadcast?confirm", {"header": {"tag": name}, "data": [{"value": {"x": name}}]}
    )
    subscription = member.post("/subscriptions", {"name": name, "transport": "websockets"})
    return {
        "tag": name,
        "msgid": sent["header"]["id"],
        "dataid": sent["data"][0]["id"],
        "iid": member.get("/identities?limit=1")[0]["id"],
        "subid": subscription["id"],
    }


def path_of(route: golden.Route, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: ids[found[1]], route.path)


def refusals(route: golden.Route) -> Iterator[tuple[str, str]]:
    """Wrong queries of a list, by its fields, and their codes."""
    for name, kind in fields_of(COLLECTIONS[route.filters]).items():
        field = f"{name}="
        yield f"{field}!>1", "FF00193"
        yield f"{field}:<1", "FF00193"
        yield f"{field}?>=1", "FF00193"
        yield f"{field}?@", "FF00144"
        if kind.is_text:
            yield f"{field}{'x' * 8193}", "FF00135"
            yield f"{field}%00", "FF19008"
            continue
        yield f"{field}^1", "FF00145"
        yield f"{field}:1", "FF00145"
        yield f"{field}zz", "FF00143"
        if kind in (FieldType.INTEGER, FieldType.TIME):
            yield f"{field}>9223372036854775808", "FF00143"
            yield f"{field}1.5", "FF00143"
    some = min(fields_of(COLLECTIONS[route.filters]))
    yield "limit=1001", "FF00192"
    yield "skip=1001", "FF00191"
    yield "limit=many", "FF00143"
    yield "skip=1.5", "FF00143"
    yield "&".join([f"{some}=1"] * 201), "FF19012"


def bodies(route: golden.Route) -> Iterator[tuple[bytes, str]]:
    """Wrong JSON queries of a list."""
    some = min(name for name, kind in fields_of(COLLECTIONS[route.filters]).items() if kind.is_text)

    def asked(operator: str, **condition: Any) -> bytes:
        return json.dumps({operator: [{"field": some, **condition}]}).encode()

    yield b"", "FF19001"
    yield b"{", "FF19001"
    yield b"[]", "FF19002"
    yield b"null", "FF19002"
    yield b'{"equals":[]}', "FF19002"
    yield b'{"limit":"5"}', "FF19002"
    yield b'{"limit":1001}', "FF00192"
    yield b'{"skip":1001}', "FF00191"
    yield b'{"sort":["nosuch"]}', "FF00142"
    yield b'{"eq":[{"field":"nosuch","value":1}]}', "FF00142"
    yield asked("eq"), "FF00241"
    yield asked("eq", value={"a": 1}), "FF00241"
    yield asked("gt", value="a", **{"not": True}), "FF00240"
    yield asked("in", values=["a"], caseInsensitive=True), "FF00240"
    yield asked("in", values=["a"] * 101), "FF19012"
    yield b'{"or":[' * 200 + b"{}" + b"]}" * 200, "FF19005"
    yield b'{"or":[' * 200_000, "FF19001"


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"][:7] if answer.status != 200 else ""


@pytest.mark.parametrize("route", LISTS, ids=lambda route: route.id)
def test_wrong_queries_of_every_list(
    network: RunningNetwork, ids: dict[str, str], route: golden.Route
) -> None:
    member, path = network.members[0], path_of(route, ids)
    for raw, code in refusals(route):
        assert code_of(member.request("GET", f"{path}?{raw}")) == (400, code), raw[:80]
    for body, code in bodies(route):
        answer = member.request("POST", f"{path}/query", body, JSON)
        assert code_of(answer) == (400, code), body[:80]


@pytest.mark.parametrize("route", LISTS, ids=lambda route: route.id)
def test_every_field_of_every_list(
    network: RunningNetwork, ids: dict[str, str], route: golden.Route
) -> None:
    """Each is found under its name in any case, with both forms of a query and of the path."""
    member, path = network.members[0], path_of(route, ids)
    for name, kind in fields_of(COLLECTIONS[route.filters]).items():
        value = {FieldType.BOOLEAN: "true"}.get(kind, "1")
        body = {"eq": [{"field": name, "value": value}], "sort": [f"-{name}"], "count": True}
        asked = [
            member_query(path, f"{name.upper()}={value}"),
            ("POST", f"/namespaces/default{path}/query", json.dumps(body).encode()),
            member_query(path, f"{name}=!{value}"),
            member_query(path, f"sort={name}"),
            member_query(path, f"sort=-{name}"),
        ]

        def agree(asked: list[tuple[str, str, bytes | None]] = asked) -> bool:
            # What earlier tests began may still be going on: all numbers are of one moment, or it is asked again.
            same, twin, others, upwards, downwards = (total(member, *each) for each in asked)
            return same == twin and same + others == upwards == downwards

        wait_until(agree, WAIT_S, partial("{} by {}".format, path, name))


def member_query(path: str, raw: str) -> tuple[str, str, bytes | None]:
    return "GET", f"{path}?{raw}&count&limit=2", None


def total(member: Member, method: str, path: str, body: bytes | None) -> int:
    """How many match. The items are not parsed: other tests store values deeper than Python's parser goes."""
    answer = member.request(method, path, body, JSON if body else {})
    found = re.match(rb'{"count":(\d+),"total":(\d+),"items":\[', answer.body)
    assert answer.status == 200, answer.body
    assert found is not None, answer.body
    assert int(found[1]) <= int(found[2])
    return int(found[2])


def test_parameters_that_are_no_fields_are_ignored(network: RunningNetwork) -> None:
    """FireFly's own tests send some, and its UI."""
    member = network.members[0]
    plain = member.get("/messages?sequence=<4")
    assert plain
    for raw in ("nosuch=1", "fields=tag", "sort=nosuch", "descending", "%zz=1", "ascending=x"):
        assert member.get(f"/messages?sequence=<4&{raw}") == plain, raw


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        ("tag=TAG", {"eq": [{"field": "tag", "value": "TAG"}]}),
        (
            "tag=:^QUERIES-",
            {"startsWith": [{"field": "tag", "value": "QUERIES-", "caseInsensitive": True}]},
        ),
        (
            "tag=@eries&tag=none",
            {
                "or": [
                    {"contains": [{"field": "tag", "value": "eries"}]},
                    {"eq": [{"field": "tag", "value": "none"}]},
                ]
            },
        ),
        ("tag=?", {"null": [{"field": "tag"}]}),
        (
            "tag=!?&sort=created&limit=2",
            {"null": [{"field": "tag", "not": True}], "sort": ["created"], "limit": 2},
        ),
        (
            "sequence=[>2&sequence=[<=6",
            {"gt": [{"field": "sequence", "value": 2}], "lte": [{"field": "sequence", "value": 6}]},
        ),
        ("state=!confirmed", {"nin": [{"field": "state", "values": ["confirmed"]}]}),
        (
            "created=>2020-01-01T00:00:00Z&limit=4&skip=1",
            {"gt": [{"field": "created", "value": 1577836800}], "limit": 4, "skip": 1},
        ),
        (
            "created=>=1577836800000&created=<1577836800000000000&sort=-tag,sequence",
            {
                "or": [
                    {"gte": [{"field": "created", "value": 1577836800000}]},
                    {"lt": [{"field": "created", "value": 1577836800000000000}]},
                ],
                "sort": ["-tag", "sequence"],
            },
        ),
    ],
)  # fmt: skip - a query and its twin, side by side
def test_both_forms_find_the_same(
    network: RunningNetwork, ids: dict[str, str], raw: str, body: dict[str, Any]
) -> None:
    member = network.members[0]
    text = json.dumps(body).replace("TAG", ids["tag"])
    sent = "&".join(quote(part, safe="=") for part in raw.replace("TAG", ids["tag"]).split("&"))
    found: list[Any] = []

    def agree() -> bool:
        # A message that an earlier test sent may come in between.
        found[:] = [
            member.get(f"/messages?{sent}&count"),
            member.post("/messages/query", {**json.loads(text), "count": True}),
        ]
        return bool(found[0] == found[1])

    wait_until(agree, WAIT_S, lambda: f"{raw}: {found}")
    assert found[0]["count"] == len(found[0]["items"])


def test_what_belongs_to_things_comes_with_them(
    network: RunningNetwork, ids: dict[str, str]
) -> None:
    """Of each list and each single thing that can fetch more, without asking and with each spelling."""
    member, tag = network.members[0], ids["tag"]
    by_tag = {"eq": [{"field": "tag", "value": tag}]}
    (plain,) = member.get(f"/messages?tag={tag}&fetchdata=false")
    assert "value" not in plain["data"][0]
    for full in (
        member.get(f"/messages?tag={tag}&fetchdata")[0],
        member.get(f"/messages?FetchData=TRUE&tag={tag}")[0],
        member.get(f"/messages/{ids['msgid']}?fetchdata=true"),
        member.post("/messages/query?fetchdata", by_tag)[0],
    ):
        assert full["data"][0]["value"] == {"x": tag}
    about = f"reference={ids['msgid']}"
    of_message = {"eq": [{"field": "reference", "value": ids["msgid"]}]}
    (event,) = member.get(f"/events?{about}")
    assert "message" not in event
    for full in (
        member.get(f"/events?{about}&fetchreferences")[0],
        member.get(f"/events?{about}&fetchreference=true")[0],
        member.get(f"/events/{event['id']}?fetchreference"),
        member.post("/events/query?fetchreferences", of_message)[0],
    ):
        assert full["message"]["header"]["tag"] == tag
    assert "verifiers" not in member.get("/identities?type=org")[0]
    for full in (
        member.get("/identities?type=org&fetchverifiers")[0],
        member.get(f"/identities/{ids['iid']}?fetchverifiers=true"),
        member.post("/network/identities/query?fetchverifiers", {})[0],
    ):
        assert full["verifiers"]
    assert "status" not in member.get(f"/subscriptions/{ids['subid']}")
    assert "status" in member.get(f"/subscriptions/{ids['subid']}?fetchstatus")
    (operation,) = member.get("/operations?type=sharedstorage_upload_batch&limit=1")
    assert "detail" not in member.get(f"/operations/{operation['id']}")
    assert member.request("GET", f"/operations/{operation['id']}?fetchstatus").status == 200


def test_a_url_that_is_too_long(network: RunningNetwork) -> None:
    """Whatever its length, it is an answer or the end of the connection; the next request is served."""
    for size in (60_000, 5_000_000):
        connection = http.client.HTTPConnection(
            "127.0.0.1", network.members[0].http_port, timeout=60
        )
        try:
            connection.request("GET", f"/api/v1/messages?tag={'x' * size}")
            assert 400 <= connection.getresponse().status < 500
        except (ConnectionError, http.client.HTTPException):
            assert size > 1_000_000
        finally:
            connection.close()
    assert network.members[0].get("/messages?limit=1")


async def test_grpc_takes_all_three_forms(network: RunningNetwork, ids: dict[str, str]) -> None:
    tag = ids["tag"]
    queries = (
        common_pb2.Query(raw=f"tag={tag}&count"),
        common_pb2.Query(json=json.dumps({"eq": [{"field": "tag", "value": tag}], "count": True})),
        common_pb2.Query(filters=[common_pb2.Filter(field="tag", values=[tag])], count=True),
    )
    async with Client(network.members[0].grpc_address) as client:
        for query in queries:
            request = message_service_pb2.ListMessagesRequest(query=query)
            answer = await client.messages.ListMessages(request)
            assert answer.total == 1
            assert answer.items[0].header.id == ids["msgid"]


EMOJI: Final = "\U0001f600"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (common_pb2.Query(raw="created=" + EMOJI * 3000), "FF00143"),
        (common_pb2.Query(raw="limit=" + EMOJI * 3000), "FF00143"),
        (common_pb2.Query(raw="tag=" + "x" * 1_000_000), "FF00135"),
        (common_pb2.Query(sort=[EMOJI * 3000]), "FF00142"),
        (common_pb2.Query(filters=[common_pb2.Filter(field="x" * 1_000_000)]), "FF00142"),
        (common_pb2.Query(json='{"eq":[{"field":"' + EMOJI * 9000 + '"}]}'), "FF00142"),
        (common_pb2.Query(json=" " * 2_000_000), "FF00135"),
    ],
    ids=lambda each: str(each)[:40],
)
async def test_what_is_wrong_at_length_is_told_over_grpc(
    network: RunningNetwork, query: common_pb2.Query, code: str
) -> None:
    async with Client(network.members[0].grpc_address) as client:
        with pytest.raises(PhotinusError) as failure:
            await client.messages.ListMessages(message_service_pb2.ListMessagesRequest(query=query))
    found = failure.value
    assert (found.code, found.grpc_status) == (code, grpc.StatusCode.INVALID_ARGUMENT)


def test_the_lists_of_the_table_are_those_of_the_core(network: RunningNetwork) -> None:
    """So that the tests above leave none out; and each operator of a JSON query is taken."""
    assert {route.filters for route in LISTS} <= COLLECTIONS.keys()
    member: Member = network.members[0]
    for operator in JSON_OPERATORS:
        value = {"values": ["a"]} if operator in ("in", "nin") else {"value": "a"}
        condition = {"field": "tag", **({} if operator == "null" else value)}
        assert isinstance(member.post("/messages/query", {operator: [condition]}), list)
