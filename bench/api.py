"""`make bench-api`: measures what applications ask of a member, through the gateway and over gRPC.

One member on the in-memory connectors, its database filled beforehand; the load comes from
`photinus-apiload`, a program in Go that costs little. Prints a table and writes a JSON result. It is
no timed test: nothing fails for being slow, only for an answer that is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.api_load import Generator, build_generator
from bench.api_node import KEY, Node, node_at, place_for
from bench.api_seed import TAGS, VALUE_BYTES, fill

DATABASES: Final = ("postgres", "sqlite")
KINDS: Final = ("requests", "replays", "memory")
CONNECTIONS: Final = 32
SUBSCRIPTIONS: Final = 500


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request.

    Attributes:
        name: As the table shows it.
        call: The call of the typed API.
        path: Below `/api/v1`; `{n}` is the number of the request.
        query: The query string of a list.
        value: What is posted; empty for a GET.
        numbers: How many numbers there are.
    """

    name: str
    call: str
    path: str
    query: str = ""
    value: str = ""
    numbers: int = 1 << 62

    def over(self, way: str, node: Node) -> dict[str, Any]:
        """What the load generator is to be told."""
        if way == "grpc":
            return {
                "mode": "grpc",
                "target": node.grpc_address,
                "call": self.call,
                "query": self.query,
                "body": self.value,
            }
        path = f"/api/v1{self.path}"
        return {
            "mode": "http",
            "target": node.host,
            "path": f"{path}?{self.query}" if self.query else path,
            "body": f'{{"value":{self.value}}}' if self.value else "",
        }


REQUESTS: Final = (
    Request("GET /status", "status", "/status"),
    Request("GET /status, each its own", "status", "/status", "n={n}"),
    Request("GET /messages?limit=25", "messages", "/messages", "limit=25"),
    Request(
        "GET /messages?limit=25, each its own", "messages", "/messages", "limit=25&created=>{n}"
    ),
    Request(
        "GET /messages?tag=tag…&limit=25",
        "messages",
        "/messages",
        "tag=tag{n}&limit=25",
        numbers=TAGS,
    ),
    Request("POST /data", "data", "/data", value=json.dumps({"text": "x" * VALUE_BYTES})),
)
WAYS: Final = ("gateway", "grpc")
REPLAYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "acks one by one": {"readAhead": 0},
    "readAhead 50": {"readAhead": 50},
    "batches of 50": {"readAhead": 50, "batch": True, "batchTimeout": "50ms"},
}


def main() -> int:
    """Runs the measurement as the arguments say."""
    parser = argparse.ArgumentParser(prog="bench.api", description=__doc__)
    parser.add_argument("--databases", nargs="*", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--requests", default="", help="requests with this in their name")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each run")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before each run")
    parser.add_argument("--messages", type=int, default=100_000, help="messages, and events")
    parser.add_argument("--out", type=Path, default=Path("bench/results/api.json"))
    arguments = parser.parse_args()
    generator = build_generator()
    runs: list[dict[str, Any]] = []
    for database in arguments.databases:
        runs += _measure(arguments, generator, database)
    report = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "connections": CONNECTIONS,
        "messages": arguments.messages,
        "seconds": arguments.seconds,
        "runs": runs,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    _say(f"result written to {arguments.out}")
    return 1 if any(run.get("errors") for run in runs) else 0


def _measure(
    arguments: argparse.Namespace, generator: Generator, database: str
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="photinus-bench-") as name:
        folder = Path(name)
        # A server of PostgreSQL that is not root's looks into no folder of root's.
        with place_for(database, folder) as place:
            _say(f"{database}: storing {arguments.messages} messages")
            with node_at(place) as node:
                author = _registered(node)
            asyncio.run(fill(place.database, arguments.messages, author, KEY))
            with node_at(place) as node:
                _registered(node)
                return _Bench(arguments, generator, database, node).run()


def _registered(node: Node) -> str:
    """Waits until the member is registered, and gives its DID."""
    node.wait_for("/status", lambda status: not status["namespace"].get("initializing"))
    for part, path in (("org", "organizations"), ("node", "nodes")):
        if not node.get("/status")[part]["registered"]:
            node.post(f"/network/{path}/self?confirm", {}, 200)
    status = node.wait_for("/status", lambda status: status["org"]["registered"])
    return str(status["org"]["did"])


class _Bench:
    """The measurements of one member."""

    def __init__(
        self, arguments: argparse.Namespace, generator: Generator, database: str, node: Node
    ) -> None:
        self._arguments = arguments
        self._generator = generator
        self._database = database
        self._node = node

    def run(self) -> list[dict[str, Any]]:
        """Everything that was asked for."""
        asked = self._arguments
        found: list[dict[str, Any]] = []
        if "requests" in asked.only:
            wanted = [request for request in REQUESTS if asked.requests in request.name]
            found += [self._load(request, way) for request in wanted for way in asked.ways]
        if "replays" in asked.only:
            found += [self._replay(name, options) for name, options in REPLAYS.items()]
        if "memory" in asked.only:
            found.append(self._memory())
        return found

    def _load(self, request: Request, way: str) -> dict[str, Any]:
        asked = self._arguments
        before = self._node.cpu_s()
        seen = self._generator.run(
            {
                "connections": CONNECTIONS,
                "duration": f"{asked.seconds}s",
                "warm-up": f"{asked.warm_up}s",
                "numbers": request.numbers,
                **request.over(way, self._node),
            }
        )
        # The warm-up costs as well, and is taken to answer as fast.
        count = seen["requests"] * (asked.seconds + asked.warm_up) / asked.seconds
        cpu = self._cpu_ms(before, count)
        _say(
            f"{self._database:9} {request.name:38} {way:9} {seen['per_second']:7.0f} /s   "
            f"p50 {seen['p50_ms']:5.1f} ms   p99 {seen['p99_ms']:6.1f} ms   "
            f"errors {seen['errors']}   CPU {_shown(cpu)}{seen.get('failure', '')}"
        )
        report = {"database": self._database, "kind": request.name, "way": way, **seen}
        return report | {"cpu_ms_per_request": cpu}

    def _replay(self, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
        name = kind.replace(" ", "-")
        subscription = {
            "name": name,
            "transport": "websockets",
            "options": {"firstEvent": "oldest", **options},
            "filter": {"events": "message_confirmed"},
        }
        self._node.post("/subscriptions", subscription, 201)
        before = self._node.cpu_s()
        seen = self._generator.run(
            {
                "mode": "replay",
                "target": self._node.host,
                "path": "/ws",
                "start": json.dumps({"type": "start", "namespace": "default", "name": name}),
                "events": self._arguments.messages,
                "batch": "batch" in options,
            }
        )
        cpu = self._cpu_ms(before, seen["events"])
        _say(
            f"{self._database:9} {f'replay, {kind}':38} websocket {seen['per_second']:7.0f} /s   "
            f"{seen['events']} events in {seen['seconds']:.1f} s   CPU {_shown(cpu)}"
        )
        report = {"database": self._database, "kind": f"replay, {kind}", "way": "websocket", **seen}
        return report | {"cpu_ms_per_event": cpu}

    def _memory(self) -> dict[str, Any]:
        before = self._node.memory_mib()
        start = {
            "type": "start",
            "namespace": "default",
            "ephemeral": True,
            "options": {"firstEvent": "newest", "readAhead": 50},
        }
        options = {
            "mode": "hold",
            "target": self._node.host,
            "path": "/ws",
            "connections": SUBSCRIPTIONS,
            "start": json.dumps(start),
        }
        with self._generator.hold(options):
            self._node.wait_for("/websockets", lambda shown: _open(shown) >= SUBSCRIPTIONS)
            after = self._node.memory_mib()
        kind = f"{SUBSCRIPTIONS} subscriptions open"
        growth = "   ".join(f"{role} {before[role]:.0f} -> {after[role]:.0f} MiB" for role in after)
        _say(f"{self._database:9} {kind:38} websocket {growth}")
        report = {"database": self._database, "kind": kind, "way": "websocket"}
        return report | {"memory_mib_before": before, "memory_mib": after}

    def _cpu_ms(self, before: Mapping[str, float], count: float) -> dict[str, float]:
        after = self._node.cpu_s()
        return {
            role: round(1000 * (used - before[role]) / max(1, count), 4)
            for role, used in after.items()
        }


def _open(shown: Mapping[str, Any]) -> int:
    return sum(len(connection["subscriptions"]) for connection in shown["connections"])


def _shown(cpu: Mapping[str, float]) -> str:
    parts = ", ".join(f"{role} {ms:.3f}" for role, ms in cpu.items())
    return f"{sum(cpu.values()):.3f} ms ({parts}) "


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
