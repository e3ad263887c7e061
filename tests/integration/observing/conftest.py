"""Two members on one `photinus-memory`, watched in every way there is: numbers, probes, spans, logs in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from photinus_core.app.devnet.layout import DEV_ADDRESSES
from photinus_core.app.devnet.processes import find_program

from tests.support.collector import Collector, collecting
from tests.support.rest import Answer, Rest, wait_until
from tests.support.solo import program, running

CONTRACT: Final = "0x000000000000000000000000000000000000f1f1"
NAMES: Final = ("acme", "globex")
PROBE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Watched(Rest):
    """One member.

    Attributes:
        address: Base URL of its gateway.
        core, gateway: Base URLs of their monitoring ports.
        process: Its core.
    """

    name: str
    address: str
    core: str
    gateway: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.address

    def lines(self, log: str) -> list[dict[str, Any]]:
        """What a process has logged: `core.log` or `gateway.log`."""
        return lines_of(self.folder / log)


@dataclass(frozen=True, slots=True)
class Site:
    """All that runs."""

    members: tuple[Watched, ...]
    collector: Collector
    connector_log: Path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Lines of a log in JSON; a line that is none fails the test."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def fetch(url: str) -> Answer:
    """Asks a monitoring port; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_S) as response:
            return Answer(response.status, response.read(), dict(response.headers))
    except urllib.error.HTTPError as failure:
        with failure:
            return Answer(failure.code, failure.read(), {})
    except OSError:
        return Answer(0, b"", {})


def series(url: str) -> dict[str, float]:
    """The numbers of a monitoring port, by name with labels."""
    text = fetch(f"{url}/metrics").body.decode()
    found = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, _, value in found}


def member_config(index: int, socket: Path) -> dict[str, Any]:
    """A member on the connector behind a socket."""
    name, key = NAMES[index], DEV_ADDRESSES[index]
    plugins: dict[str, Any] = {
        kind: [
            {
                "name": f"{kind}0",
                "type": "memory",
                "connector": {"address": f"unix:{socket}", "instance": f"{name}-{kind}"},
                "memory": {"member": name, "keys": [key], "contract": CONTRACT},
            }
        ]
        for kind in ("blockchain", "dataexchange", "sharedstorage")
    }
    database = {"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}
    multiparty = {
        "enabled": True,
        "networkNamespace": "default",
        "org": {"name": name, "key": key},
        "node": {"name": f"{name}-node"},
        "contract": [{"location": {"address": CONTRACT}, "firstEvent": "oldest"}],
    }
    predefined = [{"name": "default", "defaultKey": key, "multiparty": multiparty}]
    return {
        "log": {"level": "debug", "json": {"enabled": True}},
        "monitoring": {"enabled": True, "port": 0},
        "plugins": {"database": [database], **plugins},
        "namespaces": {
            "default": "default",
            "predefined": predefined,
            "retry": {"initDelay": "10ms", "maxDelay": "100ms"},
        },
    }


def start_member(stack: ExitStack, folder: Path, index: int, socket: Path) -> Watched:
    """Runs a member's core and gateway until the stack is left."""
    folder.mkdir()
    grpc = f"unix:{folder / 'core.sock'}"
    path = folder / "photinus.core.yaml"
    config = {"grpc": {"address": grpc}, **member_config(index, socket)}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    serve = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(path)]
    core = stack.enter_context(running(serve, folder / "core.log"))
    passing = [
        find_program("photinus-gateway", "PHOTINUS_GATEWAY"),
        *("-listen", "127.0.0.1:0", "-monitoring", "127.0.0.1:0", "-log-level", "debug"),
        *("-core", grpc),
    ]
    gateway = stack.enter_context(running(passing, folder / "gateway.log", subprocess.PIPE))
    assert gateway.stdout is not None
    address = gateway.stdout.readline().decode().strip()
    assert address, (folder / "gateway.log").read_text()
    return Watched(
        NAMES[index],
        address,
        _said(folder / "core.log", "monitoring on http", lambda line: line["message"].split()[-1]),
        _said(folder / "gateway.log", "monitoring", lambda line: f"http://{line['listen']}"),
        folder,
        core,
    )


def _said(path: Path, start: str, read: Any) -> str:
    """What the first line that begins so says."""
    found: list[str] = []

    def said() -> bool:
        found.extend(read(x) for x in lines_of(path) if x["message"].startswith(start))
        return bool(found)

    wait_until(said, explain=lambda: f"{path}: {path.read_text()}")
    return found[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two members that know each other."""
    folder = tmp_path_factory.mktemp("observing")
    folder.chmod(0o700)
    socket = folder / "memory.sock"
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        command = [program("photinus-memory"), "--address", f"unix:{socket}"]
        command += ["--data-dir", str(folder / "memory"), "--log-level", "debug"]
        stack.enter_context(running(command, folder / "memory.log", subprocess.DEVNULL))
        members = tuple(start_member(stack, folder / NAMES[i], i, socket) for i in (0, 1))
        for member in members:
            member.wait_for("/status", lambda status: bool(status.get("org")))
            for what in ("organizations", "nodes"):
                member.post(f"/network/{what}/self?confirm=true", {})
        for member in members:
            member.wait_for("/network/nodes", lambda nodes: len(nodes) == len(NAMES))
        yield Site(members, collector, folder / "memory.log")
