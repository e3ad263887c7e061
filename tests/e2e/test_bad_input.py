"""Goal: bad input gets a coded error and leaves nothing behind.

Method: tables of requests with the status and code each must get; after each one the numbers of
stored messages, data, events, groups, identities and transactions are those of before. The network
is shared, so nothing else may write meanwhile; registrations and confirmations of earlier tests are
waited for first.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

import grpc
import pytest
from photinus.api.v1 import message_pb2, message_service_pb2
from photinus_client import Client, PhotinusError

from tests.support.network import Member, RunningNetwork

JSON: Final = {"Content-Type": "application/json"}
UNKNOWN: Final = "3994a502-1d5a-45ac-935c-d0fd6e77c374"
UNKNOWN_HASH: Final = "ab" * 32
FOREIGN_KEY: Final = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
BROADCAST: Final = "/messages/broadcast"
PRIVATE: Final = "/messages/private"
COLLECTIONS: Final = (
    "messages",
    "data",
    "datatypes",
    "groups",
    "identities",
    "subscriptions",
    "transactions",
    "operations",
    "batches",
)


def counts(member: Member) -> dict[str, int]:
    """How much is stored of everything."""
    return {each: member.get(f"/{each}?count&limit=1")["total"] for each in COLLECTIONS}


def refused(
    member: Member, method: str, path: str, body: bytes | None, kind: str = ""
) -> tuple[int, str]:
    headers = {"Content-Type": kind or "application/json"} if body is not None else {}
    before = counts(member)
    answer = member.request(method, path, body, headers)
    assert set(answer.json) == {"error"}, answer.body
    assert counts(member) == before, "something was left behind"
    text: str = answer.json["error"]
    return answer.status, text


def encoded(**body: Any) -> bytes:
    return json.dumps(body).encode()


def message(data: Any = None, **header: Any) -> bytes:
    return encoded(header=header, data=[{"value": 1}] if data is None else data)


def to(members: Any, name: str = "", **header: Any) -> bytes:
    return encoded(header=header, data=[{"value": 1}], group={"name": name, "members": members})


def nested(levels: int) -> bytes:
    return b'{"data":[{"value":' + b"[" * levels + b"]" * levels + b"}]}"


BIG: Final = "x" * 900_000
ORG_1: Final = [{"identity": "org_1"}]

BODIES: Final = [
    # malformed JSON
    (BROADCAST, b'{"header":', 400, "FF19001"),
    (BROADCAST, b"", 400, "FF19001"),
    (BROADCAST, b"null", 400, "FF19002"),
    (BROADCAST, b"[]", 400, "FF19002"),
    (BROADCAST, b'{"data":[{"value":1}]} x', 400, "FF19001"),
    (BROADCAST, b'{"data":[{"value":1}]}{}', 400, "FF19001"),
    (BROADCAST, b'{"data":[{"value":1}],"header":5}', 400, "FF19002"),
    (BROADCAST, b'{"data":5}', 400, "FF19002"),
    (BROADCAST, nested(300_000), 400, "FF19001"),
    ("/data", b"nope", 400, "FF19001"),
    # names, topics, tags
    (BROADCAST, message(topics=["a b"]), 400, "FF00140"),
    (BROADCAST, message(topics=[""]), 400, "FF00140"),
    (BROADCAST, message(topics=["\0"]), 400, "FF00140"),
    (BROADCAST, message(topics=["x" * 65]), 400, "FF00140"),
    (BROADCAST, message(topics=["a", "a"]), 400, "FF00133"),
    (BROADCAST, message(topics=[f"t{n}" for n in range(11)]), 400, "FF00134"),
    (BROADCAST, message(topics="a"), 400, "FF19002"),
    (BROADCAST, message(topics=[5]), 400, "FF19002"),
    (BROADCAST, message(tag="a b"), 400, "FF00140"),
    (BROADCAST, message(tag=5), 400, "FF19002"),
    (PRIVATE, to(ORG_1, "b@d"), 400, "FF00140"),
    # ids and hashes
    (BROADCAST, message(cid="nope"), 400, "FF00138"),
    (PRIVATE, message(group="zz"), 400, "FF00107"),
    (BROADCAST, message([{"id": "x"}]), 400, "FF00138"),
    (BROADCAST, message([{"value": 1, "hash": "zz"}]), 400, "FF00107"),
    # authors and keys
    (BROADCAST, message(author="nope"), 400, "FF10206"),
    (BROADCAST, message(author="did:firefly:org/nope"), 400, "FF10206"),
    (BROADCAST, message(author="org_1"), 400, "FF10206"),
    (BROADCAST, message(key="0x1234"), 400, "FF10206"),
    (BROADCAST, message(key=FOREIGN_KEY), 400, "FF10206"),
    # kinds of messages
    (BROADCAST, message(type="private"), 400, "FF10287"),
    (BROADCAST, message(type="definition"), 400, "FF10287"),
    (BROADCAST, message(txtype="unpinned"), 400, "FF19002"),
    (BROADCAST, message(txtype="garbage"), 400, "FF19002"),
    (BROADCAST, message(group=UNKNOWN_HASH), 400, "FF19406"),
    (PRIVATE, to(ORG_1, txtype="contract_invoke"), 400, "FF19002"),
    # groups
    (PRIVATE, message(), 400, "FF00115"),
    (PRIVATE, to([]), 400, "FF00115"),
    (PRIVATE, message(group=UNKNOWN_HASH), 404, "FF10226"),
    (PRIVATE, to("x"), 400, "FF19002"),
    (PRIVATE, to([{"identity": "nope"}]), 404, "FF10277"),
    (PRIVATE, to([{}]), 404, "FF10277"),
    (PRIVATE, to([{"identity": f"did:firefly:org/{UNKNOWN}"}]), 404, "FF10277"),
    (PRIVATE, to([{"identity": "org_1", "node": "nope"}]), 400, "FF10224"),
    (PRIVATE, to([{"identity": "org_1", "node": "node_0"}]), 400, "FF10422"),
    # data
    (BROADCAST, message([{}]), 400, "FF10205"),
    (BROADCAST, message([{"value": None}]), 400, "FF10205"),
    (BROADCAST, message([{"value": 1}, {"id": UNKNOWN}]), 400, "FF10204"),
    (BROADCAST, message([{"value": 1, "validator": "xml"}]), 400, "FF00108"),
    (BROADCAST, message([{"value": 1, "blob": {"hash": UNKNOWN_HASH}}]), 400, "FF19002"),
    (
        BROADCAST,
        message([{"value": 1, "datatype": {"name": "nope", "version": "1"}}]),
        400,
        "FF10195",
    ),
    ("/data", b"{}", 400, "FF00109"),
    ("/data", b'{"value":1,"datatype":{"name":"q"}}', 400, "FF10195"),
    # sizes
    (BROADCAST, message([{"value": BIG}]), 400, "FF10327"),
    (PRIVATE, encoded(data=[{"value": BIG}], group={"members": ORG_1}), 400, "FF10328"),
    (BROADCAST, encoded(data=[{"value": 1}], idempotencyKey="x" * 257), 400, "FF00135"),
    # datatypes
    ("/datatypes", b"{}", 400, "FF00140"),
    ("/datatypes", encoded(name="a b", version="1", value={}), 400, "FF00140"),
    ("/datatypes", encoded(name="q", version="", value={}), 400, "FF00140"),
    ("/datatypes", encoded(name="q", version="1"), 400, "FF00112"),
    ("/datatypes", encoded(name="q", version="1", value={"type": "no"}), 400, "FF10196"),
    ("/datatypes", encoded(name="q", version="1", validator="no", value={}), 400, "FF00108"),
    # identities
    ("/identities", b"{}", 400, "FF00140"),
    ("/identities", encoded(name="x"), 400, "FF00124"),
    ("/identities", encoded(name="x", parent="nope", key=FOREIGN_KEY), 404, "FF10277"),
    ("/identities", encoded(name="x", parent=UNKNOWN, key=FOREIGN_KEY), 404, "FF10277"),
    ("/identities", encoded(name="x", parent="did:firefly:org/org_0"), 400, "FF10352"),
    (
        "/identities",
        encoded(name="x", parent="did:firefly:org/org_0", key=FOREIGN_KEY),
        400,
        "FF19015",
    ),
    ("/identities", encoded(name="x", parent="did:firefly:org/org_0", key="zz"), 400, "FF10141"),
    ("/identities", encoded(name="x", type="zz"), 400, "FF00126"),
    ("/verifiers/resolve", encoded(type="ethereum_address", value="zz"), 400, "FF10141"),
    ("/network/action", encoded(type="nope"), 400, "FF10397"),
    # subscriptions
    ("/subscriptions", b"{}", 400, "FF00140"),
    ("/subscriptions", encoded(name="s", transport="nope"), 400, "FF10172"),
    ("/subscriptions", encoded(name="s", transport="system"), 400, "FF10266"),
    ("/subscriptions", encoded(name="s", filter={"events": "["}), 400, "FF10171"),
    ("/subscriptions", encoded(name="s", options={"firstEvent": "x"}), 400, "FF10191"),
    ("/subscriptions", encoded(name="s", options={"readAhead": 70_000}), 400, "FF19010"),
    ("/subscriptions", encoded(name="s", options={"withData": True}), 400, "FF10244"),
    ("/subscriptions", encoded(name="s", options={"batchTimeout": "zz"}), 400, "FF00137"),
    # others
    ("/pins/rewind", b"{}", 400, "FF19002"),
    (f"/batches/{UNKNOWN}/cancel", b"{}", 404, "FF10109"),
    (f"/operations/{UNKNOWN}/retry", b"{}", 404, "FF10109"),
    ("/namespaces/absent/messages/broadcast", message(), 404, "FF10436"),
]

PATHS: Final = [
    ("GET", "/nosuch", 404, "FF10109"),
    ("DELETE", "/messages", 405, "FF19003"),
    ("PUT", BROADCAST, 405, "FF19003"),
    ("GET", "/namespaces/absent/messages", 404, "FF10436"),
    ("GET", "/namespaces/absent/status", 404, "FF10436"),
    ("GET", "/namespaces/b@d/data", 404, "FF10436"),
    *(
        ("GET", f"/{each}/zz", 400, "FF00138")
        for each in (
            "messages",
            "data",
            "batches",
            "operations",
            "events",
            "subscriptions",
            "transactions",
            "identities",
            "blockchainevents",
        )
    ),
    *(
        ("GET", f"/{each}/{UNKNOWN}", 404, "FF")
        for each in (
            "messages",
            "data",
            "batches",
            "operations",
            "events",
            "subscriptions",
            "transactions",
            "identities",
            "blockchainevents",
        )
    ),
    *(
        ("GET", f"/messages/{UNKNOWN}/{each}", 404, "FF10109")
        for each in ("data", "events", "transaction", "receipts", "explain")
    ),
    ("GET", "/groups/zz", 400, "FF00107"),
    ("GET", f"/groups/{UNKNOWN_HASH}", 404, "FF"),
    ("GET", "/verifiers/zz", 400, "FF00107"),
    ("GET", f"/verifiers/{UNKNOWN_HASH}", 404, "FF"),
    ("GET", "/network/organizations/nope", 404, "FF10109"),
    ("GET", "/network/nodes/nope", 404, "FF10109"),
    ("GET", "/network/diddocs/did:other:x", 404, "FF10109"),
    ("GET", "/identities/did:firefly:org/nope", 404, "FF10109"),
    ("GET", "/datatypes/nope/1", 404, "FF"),
    ("GET", f"/data/{UNKNOWN}/blob", 404, "FF10143"),
    ("DELETE", f"/data/{UNKNOWN}", 404, "FF10143"),
    ("DELETE", f"/subscriptions/{UNKNOWN}", 404, "FF"),
    ("GET", "/pins/999999999/explain", 404, "FF10109"),
    ("GET", "/pins/abc/explain", 400, "FF"),
    ("GET", "/messages?limit=abc", 400, "FF00143"),
    ("GET", "/messages?limit=100000", 400, "FF00192"),
    ("GET", "/messages?created=abc", 400, "FF00143"),
]


def name_of(case: object) -> str | None:
    return case.decode(errors="replace")[:50] if isinstance(case, bytes) else None


@pytest.mark.parametrize(("path", "body", "status", "code"), BODIES, ids=name_of)
def test_bad_body(network: RunningNetwork, path: str, body: bytes, status: int, code: str) -> None:
    found, text = refused(network.members[0], "POST", path, body)
    assert (found, text[: len(code) + 1]) == (status, f"{code}:"), text


@pytest.mark.parametrize(("method", "path", "status", "code"), PATHS)
def test_bad_path(network: RunningNetwork, method: str, path: str, status: int, code: str) -> None:
    found, text = refused(network.members[0], method, path, None)
    assert found == status, text
    assert text.startswith(code)


@pytest.mark.parametrize("kind", ["application/xml", "application/octet-stream", "image/png"])
def test_wrong_content_type(network: RunningNetwork, kind: str) -> None:
    found, text = refused(network.members[0], "POST", BROADCAST, message(), kind)
    assert (found, text) == (415, f"FF00162: Invalid content type '{kind}'")


def test_data_that_breaks_its_datatype(network: RunningNetwork) -> None:
    member, name = network.members[0], f"bad-{uuid.uuid4().hex[:8]}"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    member.post("/datatypes?confirm=true", {"name": name, "version": "1", "value": schema})
    item = {"value": {"n": "x"}, "datatype": {"name": name, "version": "1"}}
    for path, body in ((BROADCAST, message([{"value": 1}, item])), ("/data", encoded(**item))):
        found, text = refused(member, "POST", path, body)
        assert found == 400
        assert text.startswith(
            f"FF10198: Data does not conform to the JSON schema of datatype '{name}/1'"
        )


def test_reused_idempotency_key_names_the_message(network: RunningNetwork) -> None:
    member, key = network.members[0], uuid.uuid4().hex
    body = encoded(data=[{"value": 1}], idempotencyKey=key)
    first = member.request("POST", f"{BROADCAST}?confirm=true", body, JSON).json
    found, text = refused(member, "POST", BROADCAST, body)
    assert found == 409
    assert (
        text
        == f"FF10430: Idempotency key '{key}' already used for message '{first['header']['id']}'"
    )


async def test_grpc_gives_the_same_codes(network: RunningNetwork) -> None:
    cases = [
        (
            message_pb2.MessageHeaderInput(topics=["a b"]),
            "FF00140",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (message_pb2.MessageHeaderInput(cid="zz"), "FF00138", grpc.StatusCode.INVALID_ARGUMENT),
        (message_pb2.MessageHeaderInput(author="x"), "FF10206", grpc.StatusCode.INVALID_ARGUMENT),
    ]
    before = counts(network.members[0])
    async with Client(network.members[0].grpc_address) as client:
        for header, code, status in cases:
            given = message_pb2.MessageInput(header=header)
            given.data.add(value="{not json")
            with pytest.raises(PhotinusError) as failure:
                await client.messages.BroadcastMessage(
                    message_service_pb2.BroadcastMessageRequest(message=given)
                )
            assert (failure.value.code, failure.value.grpc_status) == (code, status)
        given = message_pb2.MessageInput()
        given.data.add(value="{not json")
        with pytest.raises(PhotinusError) as failure:
            await client.messages.BroadcastMessage(
                message_service_pb2.BroadcastMessageRequest(message=given)
            )
        assert failure.value.http_status == 400
    assert counts(network.members[0]) == before
