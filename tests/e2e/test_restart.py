"""Goal: whatever is killed, all that was acknowledged is confirmed once, in one order, everywhere.

Method: a network of its own. While a thread keeps sending broadcast and private messages, a core, a
connector or a gateway is killed with SIGKILL; `photinus up` then ends by itself or is killed too,
and a second `up` goes on. What was acknowledged (2xx) is then looked for on both members.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.support.network import Member, RunningNetwork, network_up
from tests.support.rest import wait_until

BEFORE: Final = 6
"""Messages acknowledged before the kill."""
GONE_S: Final = 30.0
PAUSE_S: Final = 0.02


class Traffic:
    """Sends from a thread until it is told to stop; an unanswered request is sent again."""

    def __init__(self, network: RunningNetwork) -> None:
        self.topic = f"stream-{uuid.uuid4().hex[:8]}"
        self.acknowledged: dict[str, str] = {}
        self._network = network
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(network.members[n], kind), daemon=True)
            for n, kind in ((0, "broadcast"), (1, "private"))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(GONE_S)

    def wait_acknowledged(self, count: int) -> None:
        wait_until(
            lambda: len(self.acknowledged) >= count,
            explain=lambda: f"{len(self.acknowledged)} acknowledged",
        )

    def _send(self, member: Member, kind: str) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            key = f"{self.topic}-{kind}-{number}"
            body: dict[str, Any] = {
                "header": {"topics": [self.topic]},
                "data": [{"value": number}],
                "idempotencyKey": key,
            }
            if kind == "private":
                body["group"] = {"members": [{"identity": m.org} for m in self._network.members]}
            try:
                answer = member.request(
                    "POST",
                    f"/messages/{kind}",
                    json.dumps(body).encode(),
                    {"Content-Type": "application/json"},
                )
            except (OSError, urllib.error.URLError):
                time.sleep(PAUSE_S)  # tidy: the pace of a client that tries again
                continue
            if answer.status == 202:
                self.acknowledged[key] = answer.json["header"]["id"]
            time.sleep(PAUSE_S)  # tidy: the pace of a client


def child_of(pid: int, *words: str) -> psutil.Process:
    """The descendant of `up` whose command line has all the words."""
    for process in psutil.Process(pid).children(recursive=True):
        command = " ".join(process.cmdline())
        if all(word in command for word in words):
            return process
    raise AssertionError(f"no process with {words}")


def check(network: RunningNetwork, traffic: Traffic) -> None:
    """Everything acknowledged is there once, confirmed, in one order."""
    acknowledged = dict(traffic.acknowledged)
    assert acknowledged
    for member in network.members:
        for identifier in acknowledged.values():
            member.wait_message(identifier)

    def orders() -> list[dict[str, list[str]]]:
        found = []
        for member in network.members:
            path = f"/events?topic={traffic.topic}&type=message_confirmed&limit=1000&sort=sequence"
            events = member.get(path)
            messages = member.get(f"/messages?topics={traffic.topic}&limit=1000")
            kinds = {m["header"]["id"]: m["header"]["type"] for m in messages}
            by_kind: dict[str, list[str]] = {"broadcast": [], "private": []}
            for event in events:
                by_kind[kinds[event["reference"]]].append(event["reference"])
            found.append(by_kind)
        return found

    wait_until(
        lambda: (both := orders())[0] == both[1], explain=lambda: "the orders stay different"
    )
    for by_kind in orders():
        confirmed = by_kind["broadcast"] + by_kind["private"]
        assert len(confirmed) == len(set(confirmed)), "something was confirmed twice"
        assert set(acknowledged.values()) <= set(confirmed)


def photinus(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "photinus_core.app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def kill_core(pid: int) -> None:
    child_of(pid, "photinus_core.app.cli", "serve", "member1").kill()


def kill_gateway(pid: int) -> None:
    child_of(pid, "photinus-gateway").kill()


def kill_up(pid: int) -> None:
    psutil.Process(pid).kill()


def everything_of(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


@pytest.mark.parametrize("kill", [kill_core, kill_gateway, kill_up], ids=lambda k: k.__name__)
def test_killed_process_loses_nothing(tmp_path: Path, kill: Callable[[int], None]) -> None:
    folder = tmp_path / "net"
    with network_up(folder) as network:
        traffic = Traffic(network)
        traffic.wait_acknowledged(BEFORE)
        processes = everything_of(network.pid)
        kill(network.pid)
        _, left = psutil.wait_procs(processes, GONE_S)
        traffic.stop()
        assert not left, f"stayed behind: {[' '.join(p.cmdline())[:200] for p in left]}"
    with network_up(folder) as network:
        check(network, traffic)
        after = Traffic(network)
        after.wait_acknowledged(BEFORE)
        after.stop()
        check(network, after)


@pytest.mark.parametrize("connector", ["photinus-ethereum", "photinus-dx", "photinus-ipfs"])
def test_killed_connector_comes_back_and_nothing_is_lost(
    own_network: RunningNetwork, connector: str
) -> None:
    network = own_network
    traffic = Traffic(network)
    traffic.wait_acknowledged(BEFORE)
    first = child_of(network.pid, connector)
    first.kill()
    count = len(traffic.acknowledged)
    traffic.wait_acknowledged(count + BEFORE)
    traffic.stop()
    check(network, traffic)
    wait_until(
        lambda: all(
            each["state"] == "ready" for m in network.members for each in m.get("/connectors")
        )
    )


@pytest.fixture(scope="module")
def own_network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with network_up(tmp_path_factory.mktemp("own") / "net") as network:
        yield network


def test_down_and_up_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    with network_up(folder) as network:
        traffic = Traffic(network)
        traffic.wait_acknowledged(BEFORE)
        traffic.stop()
        before = [member.get("/status")["node"]["id"] for member in network.members]
        processes = everything_of(network.pid)
        done = photinus("down", "--dir", str(folder))
        assert done.returncode == 0, done.stderr
        _, left = psutil.wait_procs(processes, GONE_S)
        assert not left
        assert photinus("status", "--dir", str(folder)).returncode == 1
    with network_up(folder) as network:
        check(network, traffic)
        assert [member.get("/status")["node"]["id"] for member in network.members] == before
        for member in network.members:
            assert len(member.get("/network/nodes")) == len(network.members)


def test_interrupt_ends_all(tmp_path: Path) -> None:
    with network_up(tmp_path / "net", 1) as network:
        processes = everything_of(network.pid)
        processes[0].send_signal(signal.SIGINT)
        _, left = psutil.wait_procs(processes, GONE_S)
        assert not left
        logs = list((network.folder / "logs").iterdir())
        assert any("core" in log.name for log in logs)
