"""Goal: when a network cannot go on, `up` says why and how to start over, and `up --fresh` does so.

Method: one network of one member is made and ended; then what it keeps is damaged, piece by piece, or its
ports are taken, and `photinus up` is run on it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.network import network_up

COMMAND_S: Final = 60.0
FRESH: Final = "`photinus up --fresh`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was up and is down."""
    made = tmp_path_factory.mktemp("over") / "net"
    with network_up(made, 1):
        pass
    (made / "notes.txt").write_text("not the network's")
    return made


def state(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "network.json").read_text())
    return read


@contextmanager
def listening(ports: Sequence[int]) -> Iterator[None]:
    """Another program on some ports."""
    with ExitStack() as stack:
        for port in ports:
            other = stack.enter_context(socket.socket())
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
        yield


def refused(*arguments: str) -> str:
    """What `photinus up` complains of."""
    done = subprocess.run(
        [sys.executable, "-m", "photinus_core.app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def damage_state(folder: Path) -> Path:
    return folder / "network.json"


def damage_chain(folder: Path) -> Path:
    return folder / "chain" / "state.json"


def damage_database(folder: Path) -> Path:
    return folder / "member0" / "core.db"


@pytest.mark.parametrize(
    "damaged", [damage_state, damage_chain, damage_database], ids=lambda d: d.__name__
)
def test_damage_is_named_with_the_way_out(folder: Path, damaged: Callable[[Path], Path]) -> None:
    path = damaged(folder)
    whole = path.read_bytes()
    try:
        path.write_bytes(os.urandom(16) + whole[16 : len(whole) // 2])
        said = refused("up", "--members", "1", "--dir", str(folder))
        assert str(path) in said
        assert FRESH in said
    finally:
        path.write_bytes(whole)


def test_status_of_a_damaged_network(tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text("{")
    said = refused("status", "--dir", str(tmp_path))
    assert "network.json is damaged" in said


def test_a_port_that_another_program_took_is_named(folder: Path) -> None:
    port = state(folder)["members"][0]["grpc_port"]
    with listening([port]):
        said = refused("up", "--members", "1", "--dir", str(folder))
        assert f"port {port} of this network is in use by another program" in said
        assert FRESH in said


def test_fresh_throws_only_the_network_away_and_takes_other_ports(folder: Path) -> None:
    before = state(folder)
    taken = [before["chain_port"], before["members"][0]["http_port"]]
    (folder / "network.json").write_text("{")
    with listening(taken), network_up(folder, 1, "--fresh") as network:
        member = network.members[0]
        assert member.http_port not in taken
        assert int(network.chain_url.rpartition(":")[2]) not in taken
        assert member.get("/status")["node"]["registered"]
        assert member.get("/messages?count")["total"] == 2, "claims of one org and one node"
        assert (folder / "notes.txt").exists(), "what is not the network's own stays"
