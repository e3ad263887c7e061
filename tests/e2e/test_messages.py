"""Goal: messages do what an application developer is promised, on both members alike.

Method: the shared network, through REST; each test uses topics and tags of its own. Orders and
hashes are compared between the members.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from photinus.api.v1 import message_pb2, message_service_pb2
from photinus_client import Client

from tests.support.network import Member, RunningNetwork
from tests.support.rest import wait_until

MESSAGES = 24


def new(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def broadcast(member: Member, topic: str, value: Any = 1, **header: Any) -> dict[str, Any]:
    body = {"header": {"topics": [topic], **header}, "data": [{"value": value}]}
    sent: dict[str, Any] = member.post("/messages/broadcast", body)
    return sent


def private(
    sender: Member, receiver: Member, topic: str, query: str = "", **header: Any
) -> dict[str, Any]:
    body = {
        "header": {"topics": [topic], **header},
        "group": {"members": [{"identity": receiver.org}]},
        "data": [{"value": topic}],
    }
    sent: dict[str, Any] = sender.post(f"/messages/private{query}", body)
    return sent


def order_on(member: Member, topic: str) -> list[str]:
    """Ids of the confirmed messages of a topic as the event log has them, oldest first."""
    events = member.get(f"/events?topic={topic}&type=message_confirmed&limit=1000&sort=sequence")
    return [event["reference"] for event in events]


def wait_all(network: RunningNetwork, ids: list[str]) -> None:
    for member in network.members:
        for each in ids:
            member.wait_message(each)


def test_same_order_and_hashes_when_both_members_write(network: RunningNetwork) -> None:
    topic = new("order")
    sent = [
        broadcast(network.members[number % 2], topic, {"number": number})
        for number in range(MESSAGES)
    ]
    wait_all(network, [each["header"]["id"] for each in sent])
    here, there = (order_on(member, topic) for member in network.members)
    assert here == there
    assert sorted(here) == sorted(each["header"]["id"] for each in sent)
    for each in sent:
        both = [member.get(f"/messages/{each['header']['id']}") for member in network.members]
        assert both[0]["hash"] == both[1]["hash"] == each["hash"]
        assert both[0]["header"] == both[1]["header"]
    of_one = [each["header"]["id"] for each in sent[::2]]
    assert [each for each in here if each in of_one] == of_one, (
        "one author's messages changed order"
    )


def test_private_order_within_topic_and_group(network: RunningNetwork) -> None:
    topic = new("private")
    first, second = network.members
    sent = [private(first, second, topic), private(second, first, topic)]
    sent += [private(*pair, topic) for pair in [(first, second), (second, first)] * 5]
    assert len({each["header"]["group"] for each in sent}) == 1
    wait_all(network, [each["header"]["id"] for each in sent])
    here, there = (order_on(member, topic) for member in network.members)
    assert here == there
    assert len(here) == len(set(here)) == len(sent)


def test_header_reaches_the_other_member_unchanged(network: RunningNetwork) -> None:
    cid, topics = str(uuid.uuid4()), [new("b"), new("a")]
    body = {
        "header": {"topics": topics, "tag": "my.Tag_1", "cid": cid},
        "data": [{"value": {"n": 1}}, {"value": "two"}, {"value": [3, None]}],
    }
    sent = network.members[0].post("/messages/broadcast?confirm=true", body, status=200)
    assert sent["state"] == "confirmed"
    seen = network.members[1].wait_message(sent["header"]["id"])
    assert seen["header"]["topics"] == topics
    assert (seen["header"]["tag"], seen["header"]["cid"]) == ("my.Tag_1", cid)
    assert seen["header"]["author"] == f"did:firefly:org/{network.members[0].org}"
    data = network.members[1].get(f"/messages/{sent['header']['id']}/data")
    assert [each["value"] for each in data] == [{"n": 1}, "two", [3, None]]
    listed = network.members[1].get(f"/messages?cid={cid}&tag=my.Tag_1&fetchdata")
    assert [each["header"]["id"] for each in listed] == [sent["header"]["id"]]
    assert [each["value"] for each in listed[0]["data"]] == [{"n": 1}, "two", [3, None]]
    events = network.members[1].get(f"/messages/{sent['header']['id']}/events")
    assert sorted(event["topic"] for event in events) == sorted(topics)
    assert {event["correlator"] for event in events} == {cid}


def test_message_refers_to_stored_data(network: RunningNetwork) -> None:
    stored = network.members[0].post("/data", {"value": {"kept": True}}, status=201)
    sent = network.members[0].post(
        "/messages/broadcast?confirm=true",
        {"header": {"topics": [new("ref")]}, "data": [{"id": stored["id"]}, {"value": 2}]},
    )
    assert sent["data"][0] == {"id": stored["id"], "hash": stored["hash"]}
    network.members[1].wait_message(sent["header"]["id"])
    there = network.members[1].get(f"/data/{stored['id']}")
    assert (there["hash"], there["value"]) == (stored["hash"], {"kept": True})
    users = network.members[1].get(f"/data/{stored['id']}/messages")
    assert [each["header"]["id"] for each in users] == [sent["header"]["id"]]


def test_idempotency_key_is_taken_once(network: RunningNetwork) -> None:
    key, topic = new("key"), new("once")
    body = {"idempotencyKey": key, "header": {"topics": [topic]}, "data": [{"value": 1}]}
    first = network.members[0].post("/messages/broadcast", body, status=202)
    for path in ("broadcast", "broadcast?confirm=true"):
        refused = network.members[0].post(f"/messages/{path}", body, status=409)
        assert refused["error"].startswith("FF10430:")
        assert first["header"]["id"] in refused["error"]
    grouped = body | {"group": {"members": [{"identity": network.members[1].org}]}}
    refused = network.members[0].post("/messages/private", grouped, status=409)
    assert first["header"]["id"] in refused["error"]
    found = network.members[0].get(f"/messages?idempotencykey={key}")
    assert [each["header"]["id"] for each in found] == [first["header"]["id"]]
    # Another member's keys are its own.
    network.members[1].post("/messages/broadcast?confirm=true", body, status=200)
    wait_all(network, [first["header"]["id"]])


def test_unpinned_message_never_touches_the_chain(network: RunningNetwork) -> None:
    topic = new("unpinned")
    sent = private(
        network.members[0], network.members[1], topic, "?confirm=true", txtype="unpinned"
    )
    identifier = sent["header"]["id"]
    seen = network.members[1].wait_message(identifier)
    assert seen["hash"] == sent["hash"]
    assert seen["header"]["txtype"] == "unpinned"
    assert not seen.get("pins")
    assert network.members[0].get(f"/pins?batch={seen['batch']}") == []
    tx = network.members[0].get(f"/transactions/{sent['txid']}")
    assert tx["type"] == "unpinned"
    assert not tx.get("blockchainIds")
    assert network.members[1].get(f"/messages/{identifier}/data")[0]["value"] == topic


def test_receipts_say_who_has_a_private_message(network: RunningNetwork) -> None:
    sent = private(network.members[0], network.members[1], new("receipt"), "?confirm=true")
    path = f"/messages/{sent['header']['id']}/receipts"
    receipts = network.members[0].wait_for(
        path, lambda found: [each["state"] for each in found] == ["delivered"]
    )
    batch = network.members[0].get(f"/batches/{sent['batch']}")
    assert receipts[0]["identity"] == f"did:firefly:org/{network.members[1].org}"
    assert receipts[0]["batch"] == sent["batch"]
    assert receipts[0]["manifestHash"] == batch["hash"]
    operation = network.members[0].get(f"/operations/{receipts[0]['operation']}")
    assert (operation["type"], operation["status"]) == ("dataexchange_send_batch", "Succeeded")


def test_groups_are_the_same_on_both_members(network: RunningNetwork) -> None:
    body: dict[str, Any] = {
        "header": {"topics": [new("group")]},
        "group": {"name": new("g"), "members": [{"identity": m.org} for m in network.members]},
        "data": [{"value": 1}],
    }
    sent = network.members[0].post("/messages/private?confirm=true", body)
    network.members[1].wait_message(sent["header"]["id"])
    here, there = (m.get(f"/groups/{sent['header']['group']}") for m in network.members)
    assert here["members"] == there["members"]
    assert here["name"] == body["group"]["name"]
    assert {each["identity"] for each in here["members"]} == {
        f"did:firefly:org/{member.org}" for member in network.members
    }
    # The group can be answered by its hash, and by naming a node.
    answer = {
        "header": {"group": here["hash"], "cid": sent["header"]["id"]},
        "data": [{"value": 2}],
    }
    replied = network.members[1].post("/messages/private?confirm=true", answer)
    assert (
        network.members[0].wait_message(replied["header"]["id"])["header"]["cid"]
        == (sent["header"]["id"])
    )
    nodes = [{"identity": m.org, "node": m.node} for m in network.members]
    again = body | {"group": {"name": body["group"]["name"], "members": nodes}}
    same = network.members[0].post("/messages/private", again)
    assert same["header"]["group"] == here["hash"]


def test_batch_pins_transaction_and_operations_of_a_message(network: RunningNetwork) -> None:
    topics = sorted([new("x"), new("y")])
    sent = network.members[0].post(
        "/messages/broadcast?confirm=true", {"header": {"topics": topics}, "data": [{"value": 1}]}
    )
    identifier = sent["header"]["id"]
    there = network.members[1].wait_message(identifier)
    assert (there["batch"], there["txid"]) == (sent["batch"], sent["txid"])
    batches = [member.get(f"/batches/{sent['batch']}") for member in network.members]
    assert batches[0]["hash"] == batches[1]["hash"]
    assert batches[0]["manifest"] == batches[1]["manifest"]
    listed = {each["id"]: each for each in batches[0]["manifest"]["messages"]}
    assert listed[identifier] == {"id": identifier, "hash": sent["hash"], "topics": 2}
    contexts = {hashlib.sha256(topic.encode()).hexdigest() for topic in topics}
    for member in network.members:
        pins = member.get(f"/pins?batch={sent['batch']}&limit=1000")
        assert contexts <= {pin["hash"] for pin in pins}
        assert all(pin["dispatched"] and pin["batchHash"] == batches[0]["hash"] for pin in pins)
        status = member.get(f"/transactions/{sent['txid']}/status")
        assert status["status"] == "Succeeded", status
        events = member.get(f"/transactions/{sent['txid']}/blockchainevents")
        assert [event["name"] for event in events] == ["BatchPin"]
        assert events[0]["output"]["batchHash"] == f"0x{batches[0]['hash']}"
    transactions = [member.get(f"/messages/{identifier}/transaction") for member in network.members]
    assert transactions[0]["blockchainIds"] == transactions[1]["blockchainIds"] != []
    operations = network.members[0].get(f"/transactions/{sent['txid']}/operations")
    assert {each["type"]: each["status"] for each in operations} == {
        "blockchain_pin_batch": "Succeeded",
        "sharedstorage_upload_batch": "Succeeded",
    }
    explained = network.members[1].get(f"/messages/{identifier}/explain")
    assert explained["state"] == "confirmed"
    assert [pin["state"] for pin in explained["pins"]] == ["confirmed"] * 2


def test_operations_show_what_their_connector_knows_only_when_asked(
    network: RunningNetwork,
) -> None:
    member = network.members[0]
    sent = member.post("/messages/broadcast?confirm=true", {"data": [{"value": 1}]}, 200)
    pin, upload = member.get(f"/transactions/{sent['txid']}/operations")
    assert (pin["type"], upload["type"]) == ("blockchain_pin_batch", "sharedstorage_upload_batch")
    for flag in ("fetchstatus", "fetchstatus=true"):
        assert member.get(f"/operations/{pin['id']}?{flag}").keys() == {*pin, "detail"}
        assert member.get(f"/operations/{upload['id']}?{flag}").keys() == upload.keys()
    assert member.get(f"/operations/{pin['id']}?fetchstatus=false") == pin
    for part in ("operations", "blockchainevents"):
        assert member.get(f"/transactions/{uuid.uuid4()}/{part}") == [], "as there are none yet"
        refused = member.get(f"/transactions/junk/{part}", 400)
        assert refused["error"].startswith("FF00138")


def test_unpinned_transactions_have_a_status(network: RunningNetwork) -> None:
    first, second = network.members
    body = {
        "header": {"txtype": "unpinned"},
        "group": {"members": [{"identity": second.org}]},
        "data": [{"value": 1}],
    }
    sent = first.post("/messages/private", body, 202)
    seen = second.wait_message(sent["header"]["id"])
    path = f"/transactions/{seen['txid']}/status"
    done = first.wait_for(path, lambda found: found["status"] == "Succeeded")
    kinds = {(detail["type"], detail.get("subtype", "")) for detail in done["details"]}
    assert kinds == {("Operation", "dataexchange_send_batch"), ("Batch", "private")}
    there = second.get(path)
    assert [detail["type"] for detail in there["details"]] == ["Batch"]


def test_private_pins_hide_topic_and_count_nonces(network: RunningNetwork) -> None:
    topic = new("masked")
    sent = [
        private(network.members[0], network.members[1], topic, "?confirm=true") for _ in range(2)
    ]
    wait_all(network, [each["header"]["id"] for each in sent])
    group = sent[0]["header"]["group"]
    context = hashlib.sha256(topic.encode() + bytes.fromhex(group)).hexdigest()
    for member in network.members:
        pins = [pin for each in sent for pin in member.get(f"/pins?batch={each['batch']}")]
        assert all(pin["masked"] for pin in pins)
        assert context not in {pin["hash"] for pin in pins}
        nexts = member.get(f"/nextpins?context={context}")
        assert [(each["identity"], each["nonce"]) for each in nexts] == [
            (sent[0]["header"]["author"], 2)
        ]
    stated = [
        pin
        for each in sent
        for pin in network.members[0].get(f"/messages/{each['header']['id']}")["pins"]
    ]
    assert [pin.partition(":")[2] for pin in stated] == ["0000000000000000", "0000000000000001"]


def race(members: Sequence[Member]) -> list[str]:
    """Messages that define one datatype on all members at once; fewer where one knew it already."""
    definition = {"name": new("race"), "version": "1", "value": {"type": "object"}}
    body, headers = json.dumps(definition).encode(), {"Content-Type": "application/json"}
    with ThreadPoolExecutor(len(members)) as pool:
        answers = list(pool.map(lambda m: m.request("POST", "/datatypes", body, headers), members))
    assert {answer.status for answer in answers} <= {202, 409}, [a.body for a in answers]
    return [answer.json["message"] for answer in answers if answer.status == 202]


def test_rejected_message_says_why(network: RunningNetwork) -> None:
    """Two definitions of one datatype race from both members: the chain's first wins on both."""
    while len(ids := race(network.members)) < len(network.members):
        pass  # one member was told before it defined its own

    def states(member: Member) -> dict[str, str]:
        found = [member.request("GET", f"/messages/{each}") for each in ids]
        return {a.json["header"]["id"]: a.json["state"] for a in found if a.status == 200}

    wait_until(
        lambda: all(
            sorted(states(m).values()) == ["confirmed", "rejected"] for m in network.members
        ),
        explain=lambda: str([states(m) for m in network.members]),
    )
    assert states(network.members[0]) == states(network.members[1])
    loser = next(each for each, state in states(network.members[0]).items() if state == "rejected")
    reasons = {member.get(f"/messages/{loser}")["rejectReason"] for member in network.members}
    assert len(reasons) == 1
    assert reasons.pop().startswith("FF10407")
    events = network.members[0].get(f"/messages/{loser}/events")
    assert {event["type"] for event in events} == {"message_rejected"}


def test_odd_values_confirm_on_both_members(network: RunningNetwork) -> None:
    """What its sender takes, the others must be able to read."""
    topic = new("odd")
    for value in (r'"\ud83d cut"', "[" * 3000 + "]" * 3000, '"\\u0000 \\u2028 <&>"'):
        body = f'{{"header":{{"topics":["{topic}"]}},"data":[{{"value":{value}}}]}}'.encode()
        answer = network.members[0].request(
            "POST", "/messages/broadcast", body, {"Content-Type": "application/json"}
        )
        assert answer.status == 202, answer.body
        sent = json.loads(answer.body)
        seen = network.members[1].wait_message(sent["header"]["id"])
        assert seen["hash"] == sent["hash"]
        here, there = (
            member.request("GET", f"/data/{sent['data'][0]['id']}/value").body
            for member in network.members
        )
        assert here == there


def test_broadcast_without_data_and_with_default_topic(network: RunningNetwork) -> None:
    sent = network.members[0].post("/messages/broadcast?confirm=true", {"header": {"tag": "empty"}})
    assert sent["header"]["topics"] == ["default"]
    seen = network.members[1].wait_message(sent["header"]["id"])
    assert seen["data"] == []


async def test_grpc_sends_what_rest_shows(network: RunningNetwork) -> None:
    topic = new("grpc")
    async with Client(network.members[0].grpc_address) as client:
        message = message_pb2.MessageInput(
            header=message_pb2.MessageHeaderInput(topics=[topic], tag="grpc")
        )
        message.data.add(value='{"b":1,"a":1.0}')
        answer = await client.messages.BroadcastMessage(
            message_service_pb2.BroadcastMessageRequest(message=message, confirm=True)
        )
    assert answer.message.state == "confirmed"
    seen = network.members[1].wait_message(answer.message.header.id)
    assert seen["hash"] == answer.message.hash
    value = network.members[1].request("GET", f"/data/{answer.message.data[0].id}/value")
    assert value.body.strip() == b'{"b":1,"a":1.0}'


def test_both_forms_of_a_path_are_one(network: RunningNetwork) -> None:
    sent = network.members[0].post(
        "/namespaces/default/messages/broadcast?confirm=true", {"data": [{"value": 1}]}
    )
    path = f"/messages/{sent['header']['id']}"
    assert network.members[0].get(f"/namespaces/default{path}") == network.members[0].get(path)


def test_list_pages_and_counts(network: RunningNetwork) -> None:
    topic = new("list")
    ids = [broadcast(network.members[0], topic, n, tag=topic)["header"]["id"] for n in range(5)]
    wait_all(network, ids)
    member = network.members[0]
    page = member.get(f"/messages?tag={topic}&limit=2&skip=1&count")
    assert (page["count"], page["total"]) == (2, 5)
    assert [each["header"]["id"] for each in page["items"]] == ids[3:1:-1]
    upwards = member.get(f"/messages?tag={topic}&sort=sequence")
    assert [each["header"]["id"] for each in upwards] == ids
