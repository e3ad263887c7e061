"""Goal: organisations, nodes and custom identities are known alike on both members.

Method: the shared network; each member has a second key, which each test uses for one identity at
most, since a key belongs to its first claimant for ever.
"""

from __future__ import annotations

import uuid
from typing import Any

from photinus_core.app.devnet.layout import DEV_ADDRESSES, SPARE_ADDRESSES

from tests.support.network import Member, RunningNetwork


def new(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def org_of(member: Member, org: str) -> dict[str, Any]:
    found: dict[str, Any] = member.get(f"/network/organizations/{org}")
    return found


def seen_by(member: Member, did: str) -> dict[str, Any]:
    found: dict[str, Any] = member.wait_for(f"/identities/{did}", lambda each: "id" in each)
    return found


def test_child_organisation_sends_for_itself(network: RunningNetwork) -> None:
    first, second = network.members
    parent = org_of(first, first.org)
    name = new("child")
    key = SPARE_ADDRESSES[0]
    body = {"name": name, "parent": parent["did"], "key": key, "description": "a department"}
    answer = first.post("/network/organizations?confirm=true", body, status=200)
    assert answer == body | {"type": "org"}, "FireFly answers with the request"
    did = f"did:firefly:org/{name}"
    child = first.get(f"/identities/{did}")
    assert (child["did"], child["parent"], child["type"]) == (did, parent["id"], "org")
    there = seen_by(second, did)
    assert there["id"] == child["id"]
    assert there["messages"] == child["messages"]
    assert there["messages"]["claim"]
    assert there["messages"]["verification"]
    assert there["description"] == "a department"
    sent = first.post(
        "/messages/broadcast?confirm=true", {"header": {"author": did}, "data": [{"value": 1}]}
    )
    assert (sent["header"]["author"], sent["header"]["key"]) == (did, key)
    assert second.wait_message(sent["header"]["id"])["hash"] == sent["hash"]
    # A private message to the child goes to its parent's node.
    answered = second.post(
        "/messages/private?confirm=true",
        {"group": {"members": [{"identity": did}]}, "data": [{"value": 2}]},
    )
    assert first.wait_message(answered["header"]["id"])["hash"] == answered["hash"]
    again = first.request(
        "POST",
        "/network/organizations?confirm=true",
        b'{"name":"%s","parent":"%s","key":"%s"}'
        % (name.encode(), parent["did"].encode(), key.encode()),
        {"Content-Type": "application/json"},
    )
    assert again.status >= 400, "a name is claimed once"
    assert "rejected" in again.json["error"]


def test_custom_identity_has_verifiers_document_and_updates(network: RunningNetwork) -> None:
    first, second = network.members
    parent = org_of(second, second.org)
    name, key = new("alice"), SPARE_ADDRESSES[1]
    body = {"name": name, "parent": parent["id"], "key": key, "profile": {"role": "buyer"}}
    made = second.post("/identities?confirm=true", body, status=200)
    did = f"did:firefly:{name}"
    assert (made["did"], made["type"]) == (did, "custom")
    there = seen_by(first, did)
    assert (there["id"], there["profile"]) == (made["id"], {"role": "buyer"})
    for member in network.members:
        verifiers = member.get(f"/identities/{made['id']}/verifiers")
        assert [(v["type"], v["value"]) for v in verifiers] == [("ethereum_address", key)]
        assert member.get(f"/verifiers/{verifiers[0]['hash']}") == verifiers[0]
        assert member.get(f"/verifiers?value={key}")[0]["identity"] == made["id"]
        document = member.get(f"/identities/{made['id']}/did")
        assert document == member.get(f"/network/diddocs/{did}")
        assert document["id"] == did
        assert document["authentication"] == [f"#{verifiers[0]['hash']}"]
        assert document["verificationMethod"][0]["blockchainAcountId"] == key
        fetched = member.get(f"/identities/{made['id']}?fetchverifiers")
        assert fetched["verifiers"] == [{"type": "ethereum_address", "value": key}]
    sent = second.post(
        "/messages/broadcast?confirm=true", {"header": {"key": key}, "data": [{"value": 1}]}
    )
    assert sent["header"]["author"] == did
    assert first.wait_message(sent["header"]["id"])["state"] == "confirmed"

    changed = second.request(
        "PATCH",
        f"/identities/{made['id']}?confirm=true",
        b'{"description":"moved","profile":{"role":"seller","n":1.0}}',
        {"Content-Type": "application/json"},
    )
    assert changed.status == 200, changed.body
    update = changed.json["messages"]["update"]
    updated = first.wait_for(
        f"/identities/{made['id']}", lambda each: each["messages"]["update"] == update
    )
    assert updated["description"] == "moved"
    assert updated["profile"]["role"] == "seller"
    assert updated["messages"]["claim"] == made["messages"]["claim"]


def test_nodes_and_status(network: RunningNetwork) -> None:
    for member in network.members:
        for other in network.members:
            org = org_of(member, other.org)
            node = member.get(f"/network/nodes/{other.node}")
            assert node["parent"] == org["id"]
            assert node["profile"]["cert"].startswith("-----BEGIN CERTIFICATE-----")
            assert member.get(f"/network/nodes/{node['id']}") == node
            verifiers = member.get(f"/identities/{node['id']}/verifiers")
            assert [each["type"] for each in verifiers] == ["dx_peer_id"]
        status = member.get("/status")
        assert status["org"]["id"] == org_of(member, member.org)["id"]
        assert status["org"]["verifiers"] == [
            {"type": "ethereum_address", "value": DEV_ADDRESSES[member.index]}
        ]
        assert status["multiparty"]["enabled"]
        multiparty = member.get("/status/multiparty")
        assert multiparty["org"]["status"] == multiparty["node"]["status"] == "registered"


def test_registering_oneself_again_changes_nothing(network: RunningNetwork) -> None:
    member = network.members[0]
    before = org_of(member, member.org)
    answer = member.request(
        "POST",
        "/network/organizations/self?confirm=true",
        b"{}",
        {"Content-Type": "application/json"},
    )
    assert answer.status >= 400
    assert answer.json["error"].startswith("FF")
    for each in network.members:
        assert org_of(each, member.org)["id"] == before["id"]


def test_verifier_resolves_to_its_canonical_form(network: RunningNetwork) -> None:
    mixed = "0xF39FD6E51AAD88F6F4CE6AB8827279CFFFB92266"
    found = network.members[1].post(
        "/verifiers/resolve", {"type": "ethereum_address", "value": mixed}
    )
    assert found["value"] == mixed.lower()
