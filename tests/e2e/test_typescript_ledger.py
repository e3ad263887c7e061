"""Goal: a network runs on a connector in another language, in place of ethereum.

Method: two members, each a core and a gateway of its own, whose `blockchain` plugins attach to one
process of connectors/example-typescript, under an instance for each; the ledger is what they share.
The process ends and comes back in the middle.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.golden import REPOSITORY
from tests.support.rest import wait_until
from tests.support.solo import Solo, connector, node_up, program

PROGRAM: Final = "photinus-example-typescript"
README: Final = REPOSITORY / "connectors" / "example-typescript" / "README.md"
NAMES: Final = ("alice", "bob")


@dataclass(slots=True)
class Network:
    """Two members, and the ledger that can be ended and started again."""

    members: list[Solo]
    folder: Path
    socket: Path
    ledger: ExitStack

    def start_ledger(self) -> None:
        self.ledger.enter_context(connector(PROGRAM, self.folder, self.socket))

    def end_ledger(self) -> None:
        self.ledger.close()


def configuration(name: str, folder: Path, content: Path, socket: Path) -> dict[str, Any]:
    """A member's: what the connector's README says, under its own names, and what else a core needs."""
    found = re.search(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    config: dict[str, Any] = yaml.safe_load(found[1].replace("alice", name))
    plugins = config["plugins"]
    plugins["blockchain"][0]["connector"]["address"] = f"unix:{socket}"
    database = {"sqlite3": {"url": str(folder / "core.db")}}
    plugins["database"] = [{"name": "db", "type": "sqlite3", **database}]
    for category, kind, program_name, settings in (
        ("dataexchange", "ffdx", "photinus-dx", {"organization": name}),
        ("sharedstorage", "ipfs", "photinus-ipfs", {"directory": str(content)}),
    ):
        launched = {"connector": {"launch": [program(program_name)]}, kind: settings}
        plugins[category] = [{"name": category, "type": kind, **launched}]
    return config


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("typescript")
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = Network([], folder, sockets / "ledger", stack.enter_context(ExitStack()))
        made.start_ledger()
        for name in NAMES:
            own = folder / name
            own.mkdir()
            config = configuration(name, own, folder / "content", made.socket)
            made.members.append(stack.enter_context(node_up(own, config)))
        for member in made.members:
            member.wait_for("/status", lambda status: not status.get("conditions"))
            member.post("/network/organizations/self?confirm=true", {}, 200)
            member.post("/network/nodes/self?confirm=true", {}, 200)
        for member in made.members:
            member.wait_for("/network/nodes", lambda found: len(found) == len(NAMES))
        yield made


def broadcast(member: Solo, topic: str, value: Any) -> str:
    body = {"header": {"topics": [topic]}, "data": [{"value": value}]}
    sent: str = member.post("/messages/broadcast", body, 202)["header"]["id"]
    return sent


def confirmed(member: Solo, topic: str) -> list[str]:
    """What a member confirmed on a topic, in order."""
    path = f"/events?type=message_confirmed&topic={topic}&sort=sequence&limit=1000"
    return [event["reference"] for event in member.get(path)]


def agreed(network: Network, topic: str, sent: set[str]) -> None:
    """All members confirm what was sent, in one order."""
    wait_until(
        lambda: all(set(confirmed(each, topic)) == sent for each in network.members),
        explain=lambda: f"{sent} were sent: {[confirmed(m, topic) for m in network.members]}",
    )
    first, *others = (confirmed(member, topic) for member in network.members)
    assert len(first) == len(sent)
    assert all(other == first for other in others)


def test_members_exchange_broadcasts_over_the_ledger(network: Network) -> None:
    topic = f"ts-{uuid.uuid4().hex[:8]}"
    sent = {broadcast(each, topic, number) for number in range(3) for each in network.members}
    agreed(network, topic, sent)
    for member in network.members:
        (event, *_) = member.get("/blockchainevents?limit=1")
        assert event["source"] == "memory-ledger"
        keys = member.get("/verifiers?type=ethereum_address")
        assert len({key["value"] for key in keys}) == len(NAMES)


def test_members_go_on_when_the_ledger_comes_back(network: Network) -> None:
    topic = f"ts-{uuid.uuid4().hex[:8]}"
    sent = {broadcast(each, topic, "before") for each in network.members}
    agreed(network, topic, sent)
    network.end_ledger()
    sent |= {broadcast(each, topic, "without") for each in network.members}
    network.start_ledger()
    sent |= {broadcast(each, topic, "after") for each in network.members}
    agreed(network, topic, sent)
