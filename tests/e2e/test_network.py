"""Goal: a network of two members does its main job through REST: both confirm the same messages.

Method: the network all end-to-end tests share, started with `photinus up`.
"""

from __future__ import annotations

from typing import Any

from tests.support.network import RunningNetwork


def confirmed_on_both(network: RunningNetwork, message_id: str) -> list[dict[str, Any]]:
    return [member.wait_message(message_id) for member in network.members]


def test_members_know_each_other(network: RunningNetwork) -> None:
    for member in network.members:
        status = member.get("/status")
        assert status["org"]["registered"]
        assert status["node"]["registered"]
        assert {each["name"] for each in member.get("/network/organizations")} >= {"org_0", "org_1"}
        assert {each["name"] for each in member.get("/network/nodes")} == {"node_0", "node_1"}


def test_broadcast(network: RunningNetwork) -> None:
    sent = network.members[0].post(
        "/messages/broadcast", {"header": {"topics": ["e2e-b"]}, "data": [{"value": {"a": 1.0}}]}
    )
    here, there = confirmed_on_both(network, sent["header"]["id"])
    assert here["hash"] == there["hash"] == sent["hash"]
    data = network.members[1].get(f"/messages/{sent['header']['id']}/data")
    assert [each["value"] for each in data] == [{"a": 1.0}]


def test_private(network: RunningNetwork) -> None:
    sent = network.members[1].post(
        "/messages/private?confirm=true",
        {
            "header": {"topics": ["e2e-p"]},
            "group": {"members": [{"identity": "org_0"}]},
            "data": [{"value": "between us"}],
        },
    )
    here, there = confirmed_on_both(network, sent["header"]["id"])
    assert here["hash"] == there["hash"]
    assert there["header"]["group"] == sent["header"]["group"]
