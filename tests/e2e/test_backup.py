"""Goal: a member that is put back to a copy of its database catches up with the network and goes on.

Method: a network of its own. While it runs, one member's database is copied; then both members send
more; then the network ends, the copy takes the database's place, and the network goes on.
"""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from tests.support.network import Member, RunningNetwork, network_up


def broadcast(member: Member, topic: str, value: int) -> str:
    body = {"header": {"topics": [topic]}, "data": [{"value": value}]}
    return str(member.post("/messages/broadcast?confirm=true", body)["header"]["id"])


def order(member: Member, topic: str) -> list[str]:
    path = f"/events?topic={topic}&type=message_confirmed&limit=1000&sort=sequence"
    return [event["reference"] for event in member.get(path)]


def private(network: RunningNetwork, sender: Member) -> str:
    group = {"members": [{"identity": member.org} for member in network.members]}
    body = {"group": group, "data": [{"value": 1}]}
    return str(sender.post("/messages/private?confirm=true", body)["header"]["id"])


def copy_database(source: Path, target: Path) -> None:
    """What `sqlite3 core.db ".backup …"` does, on a database in use."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def test_a_restored_member_catches_up_and_goes_on(tmp_path: Path) -> None:
    folder, topic = tmp_path / "net", f"backup-{uuid.uuid4().hex[:8]}"
    copied = tmp_path / "core.backup.db"
    with network_up(folder) as network:
        restored, other = network.members
        before = [broadcast(restored, topic, 1), broadcast(other, topic, 2)]
        other.wait_message(private(network, restored))
        copy_database(restored.folder / "core.db", copied)
        after = [broadcast(other, topic, 3), broadcast(restored, topic, 4)]
        for message in after:
            for member in network.members:
                member.wait_message(message)
    for path in restored.folder.glob("core.db*"):
        path.unlink()
    copied.rename(restored.folder / "core.db")
    with network_up(folder) as network:
        restored, other = network.members
        for message in (*before, *after):
            restored.wait_message(message)
        assert order(restored, topic) == order(other, topic) == [*before, *after]
        later = broadcast(restored, topic, 5)
        answer = private(network, other)
        other.wait_message(later)
        restored.wait_message(answer)
        other.wait_message(private(network, restored))
        assert order(restored, topic) == order(other, topic) == [*before, *after, later]
