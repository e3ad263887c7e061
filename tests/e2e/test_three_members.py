"""Goal: with three members, all confirm what is for all, and what is for two is for two.

Method: `photinus up --members 3`, shared by the tests of this file.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import Any, Final

import pytest

from tests.support.network import Member, RunningNetwork
from tests.support.rest import wait_until

COMMAND_S: Final = 120.0


def confirmed(member: Member, topic: str) -> list[str]:
    """What a member confirmed on a topic, in order."""
    path = f"/events?type=message_confirmed&topic={topic}&sort=sequence&limit=1000"
    return [event["reference"] for event in member.get(path)]


def body(topic: str, value: Any, *orgs: str) -> dict[str, Any]:
    made: dict[str, Any] = {"header": {"topics": [topic]}, "data": [{"value": value}]}
    if orgs:
        made["group"] = {"members": [{"identity": org} for org in orgs]}
    return made


@pytest.fixture
def topic() -> str:
    return f"three-{uuid.uuid4().hex[:8]}"


def test_all_know_each_other(three: RunningNetwork) -> None:
    for member in three.members:
        for kind, name in (("organizations", "org"), ("nodes", "node")):
            names = {each["name"] for each in member.get(f"/network/{kind}")}
            assert names == {f"{name}_{index}" for index in range(3)}
    command = [sys.executable, "-m", "photinus_core.app.cli", "status", "--dir", str(three.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"{member.org}  {member.url}  up" in done.stdout for member in three.members)


def test_all_confirm_a_broadcast_of_each_in_one_order(three: RunningNetwork, topic: str) -> None:
    sent = [
        member.post("/messages/broadcast", body(topic, number), 202)["header"]["id"]
        for number in range(3)
        for member in three.members
    ]
    wait_until(lambda: all(set(confirmed(each, topic)) == set(sent) for each in three.members))
    orders = [confirmed(member, topic) for member in three.members]
    assert orders[0] == orders[1] == orders[2]
    for identifier in sent:
        seen = [member.get(f"/messages/{identifier}") for member in three.members]
        assert len({each["hash"] for each in seen}) == 1


def test_a_private_message_is_for_two_and_holds_up_nobody(
    three: RunningNetwork, topic: str
) -> None:
    first, second, third = three.members
    secret = f"secret-{topic}"
    sent = first.post("/messages/private?confirm=true", body(topic, secret, second.org), 200)
    identifier, group = sent["header"]["id"], sent["header"]["group"]
    data = sent["data"][0]["id"]
    assert second.wait_message(identifier)["hash"] == sent["hash"]
    assert second.get(f"/data/{data}/value") == secret
    for member in (first, second):
        members = member.get(f"/groups/{group}")["members"]
        assert {each["identity"] for each in members} == {
            f"did:firefly:org/{each.org}" for each in (first, second)
        }
    # What comes behind it in the topic is decided by all three; until then nothing reached the third.
    after = second.post("/messages/broadcast?confirm=true", body(topic, "for all"), 200)
    third.wait_message(after["header"]["id"])
    assert confirmed(third, topic) == [after["header"]["id"]]
    for path in (
        *(f"/messages/{identifier}", f"/messages/{identifier}/data", f"/data/{data}"),
        *(f"/data/{data}/value", f"/groups/{group}", f"/batches/{sent['batch']}"),
        f"/messages/{identifier}/explain",
    ):
        assert third.request("GET", path).status == 404, path
    assert secret not in third.request("GET", "/data?limit=1000").body.decode()
    # Its pin is on the chain for all to see, and tells nothing.
    pins = third.get(f"/pins?batch={sent['batch']}")
    assert [(each["masked"], each.get("dispatched", False)) for each in pins] == [(True, False)]
    assert pins[0]["hash"] in sent["pins"][0]


def test_each_group_has_one_order(three: RunningNetwork, topic: str) -> None:
    names = [member.org for member in three.members]
    groups = [names[:2], names[1:], [names[0], names[2]], names]
    sent: dict[str, list[str]] = {name: [] for name in names}
    group_of: dict[str, tuple[str, ...]] = {}
    for number in range(2):
        for group in groups:
            author = three.members[names.index(group[number % len(group)])]
            message = author.post("/messages/private", body(topic, number, *group), 202)
            identifier = message["header"]["id"]
            group_of[identifier] = tuple(group)
            for name in group:
                sent[name].append(identifier)

    def orders() -> list[list[str]]:
        return [confirmed(member, topic) for member in three.members]

    wanted = [sorted(sent[name]) for name in names]
    wait_until(lambda: [sorted(order) for order in orders()] == wanted)
    for group in groups:
        in_group = [
            [each for each in order if group_of[each] == tuple(group)]
            for member, order in zip(three.members, orders(), strict=True)
            if member.org in group
        ]
        assert all(order == in_group[0] for order in in_group)
