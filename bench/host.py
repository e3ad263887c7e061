"""`make bench-host`: measures the plugin host with a connector made with the author kit.

Calls and events per second over a unix socket, on one processor for both processes and on one each;
time from the end or the standstill of a connector's process until it serves again. See README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop
from photinus_core.host import Category, ConnectorHost, CoreFacts, InstanceConfig
from photinus_core.model.errors import PhotinusError
from photinus_core.model.ids import Epoch, Hash32, Namespace, Uuid
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import (
    BatchPinInput,
    BlockchainConnector,
    CallKey,
    ConnectorFailure,
    ContractListener,
    EventBatch,
    StreamProgress,
)

NAME: Final = "endless"
NAMESPACE: Final = Namespace("bench")
WARM_UP_S: Final = 1.5
READY_S: Final = 60.0
GONE_S: Final = 60.0
POLL_S: Final = 0.002
AIM_EVENTS: Final = 50_000
AIM_BATCH: Final = 200
AIM_KILLED_S: Final = 1.0
AIM_HUNG_S: Final = 3.0
ZEROS: Final = "0" * 64


@dataclass
class KnownStores:
    """`StoreIds` in memory."""

    ids: dict[str, str] = field(default_factory=dict)

    async def known_store(self, name: str) -> str:
        """The id."""
        return self.ids.get(name, "")

    async def remember_store(self, name: str, store_id: str) -> None:
        """Keeps it."""
        self.ids[name] = store_id


@dataclass
class Counter:
    """`EventHandler` that counts what it is given; a core would store it."""

    events: int = 0
    batches: int = 0
    checkpoints: dict[str, bytes] = field(default_factory=dict)

    async def resume(self) -> Mapping[str, bytes]:
        """The last checkpoint."""
        return dict(self.checkpoints)

    async def handle(self, batch: EventBatch) -> Mapping[str, str]:
        """Counts."""
        self.events += len(batch.events)
        self.batches += 1
        self.checkpoints.update(batch.checkpoints)
        return {}

    async def progress(self, progress: StreamProgress) -> None:
        """Nothing to do."""

    async def trouble(self, listener: str, reason: str, *, fatal: bool) -> None:
        """There is none in a measurement."""
        raise AssertionError(f"{listener}: {reason} (fatal: {fatal})")


@dataclass(frozen=True, slots=True)
class Placement:
    """Which processors the core and the connector use; None leaves it to the system."""

    title: str
    core: int | None = None
    connector: int | None = None


def main() -> int:
    """Runs the measurements as the arguments say."""
    parser = argparse.ArgumentParser(prog="bench.host", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    parser.add_argument(
        "--rounds", type=int, default=1, help="of each run of events; the best counts"
    )
    parser.add_argument("--batches", type=int, nargs="*", default=[50, 200, 500])
    parser.add_argument("--callers", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--losses", type=int, default=4, help="how often the process is lost")
    parser.add_argument("--only", choices=("events", "calls", "losses"), default=None)
    parser.add_argument("--out", type=Path, default=Path("bench/results/host.json"))
    return uvloop.run(_run(parser.parse_args()))


async def _run(arguments: argparse.Namespace) -> int:
    report: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "socket": "unix",
        "load_average": os.getloadavg(),
    }
    everywhere = os.sched_getaffinity(0)
    places = _placements(sorted(everywhere))
    try:
        if arguments.only in (None, "events"):
            report["events"] = [
                await _events(place, size, arguments.seconds, arguments.rounds, fresh=fresh)
                for place in places
                for size, fresh in [*((n, False) for n in arguments.batches), (AIM_BATCH, True)]
            ]
        if arguments.only in (None, "calls"):
            report["calls"] = [run for place in places for run in await _calls(place, arguments)]
        if arguments.only in (None, "losses"):
            os.sched_setaffinity(0, everywhere)
            report["losses"] = [
                await _losses("kill -9", signal.SIGKILL, arguments.losses),
                await _losses("hang", signal.SIGSTOP, arguments.losses),
            ]
    finally:
        os.sched_setaffinity(0, everywhere)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    _say(f"result written to {arguments.out}")
    return 0


def _placements(processors: Sequence[int]) -> list[Placement]:
    shared = Placement("one processor", processors[0], processors[0])
    if len(processors) == 1:
        return [shared]
    return [shared, Placement("one each", processors[0], processors[1])]


@asynccontextmanager
async def _hosted(place: Placement, *options: str) -> AsyncIterator[tuple[ConnectorHost, Path]]:
    """A host with the connector, launched and ready, on its processors."""
    command = [sys.executable, "-m", "bench.host_connector", *options]
    if place.connector is not None:
        command += ["--cpu", str(place.connector)]
    if place.core is not None:
        os.sched_setaffinity(0, {place.core})
    with tempfile.TemporaryDirectory(prefix="photinus-bench-") as name:
        facts = CoreFacts(
            "4c6e0c0e-5c0e-4a0e-8c0e-4c6e0c0e5c0e",
            "0.1.0",
            Path(name),
            KnownStores(),
            SystemClock(),
        )
        async with ConnectorHost(facts) as host:
            host.add([InstanceConfig(NAME, Category.BLOCKCHAIN, launch=tuple(command))])
            await host.wait_ready(NAME, READY_S)
            yield host, Path(name)


def _child() -> psutil.Process:
    """The connector's process: the only child there is."""
    (child,) = psutil.Process().children()
    return child


@dataclass(frozen=True, slots=True)
class _Cpu:
    """CPU seconds used so far."""

    core: float
    connector: float

    @classmethod
    def now(cls) -> _Cpu:
        """As of now."""
        times = [p.cpu_times() for p in (psutil.Process(), _child())]
        core, connector = (t.user + t.system for t in times)
        return cls(core, connector)

    def per(self, before: _Cpu, count: int) -> dict[str, float]:
        """Microseconds for each of so many."""
        used = {"core": self.core - before.core, "connector": self.connector - before.connector}
        return {role: round(1e6 * s / max(1, count), 1) for role, s in used.items()}


async def _events(
    place: Placement, size: int, seconds: float, rounds: int, *, fresh: bool
) -> dict[str, Any]:
    """The best of some rounds: what others do on the machine only ever slows."""
    every = [await _round(place, size, seconds, fresh=fresh) for _ in range(rounds)]
    run = max(every, key=lambda each: int(each["per_second"]))
    run["rounds_per_second"] = [each["per_second"] for each in every]
    verdict, used = "", run["cpu_us_per_event"]
    if size == AIM_BATCH and not fresh:
        run["aim"] = AIM_EVENTS
        verdict = "   aim reached" if run["per_second"] >= AIM_EVENTS else "   AIM MISSED"
    _say(
        f"events  {place.title:14} batches of {size:4}, made {run['made']:10} "
        f"{run['per_second']:8,} /s   CPU core {used['core']:5} µs, "
        f"connector {used['connector']:5} µs, {run['per_cpu_second']:,} /s of CPU{verdict}"
    )
    return run


async def _round(place: Placement, size: int, seconds: float, *, fresh: bool) -> dict[str, Any]:
    """Events per second from the connector to the core's stream client, acked as they are taken."""
    options = ["--batch", str(size), *(["--fresh"] if fresh else [])]
    async with _hosted(place, *options) as (host, _):
        counter = Counter()
        stream = await _stream(host, counter)
        await _until(lambda: counter.events > 0, READY_S)
        await asyncio.sleep(WARM_UP_S)
        gc.collect()
        cpu, first, began = _Cpu.now(), counter.events, time.perf_counter()
        await asyncio.sleep(seconds)
        took, count = time.perf_counter() - began, counter.events - first
        used = _Cpu.now().per(cpu, count)
        await stream.aclose()
    return {
        "placement": place.title,
        "batch": size,
        "made": "when found" if fresh else "beforehand",
        "per_second": round(count / took),
        "per_cpu_second": round(1e6 / max(0.1, sum(used.values()))),
        "cpu_us_per_event": used,
    }


async def _stream(host: ConnectorHost, counter: Counter) -> Any:
    listener = ContractListener("bench", (('{"name":"Changed","params":[]}', ""),), "oldest")
    return await host.blockchain(NAME).open_stream(
        NAMESPACE, "bench", Epoch(1), [listener], counter
    )


async def _calls(place: Placement, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Calls per second: questions, and submissions with their durable journal."""
    runs = []
    async with _hosted(place) as (host, _):
        ledger = host.blockchain(NAME)
        kinds: dict[str, Callable[[int], Awaitable[object]]] = {
            "question": lambda _: ledger.normalize_location("{}"),
            "submission": lambda number: _submit(ledger, number),
        }
        number = 0
        for kind, call in kinds.items():
            for callers in arguments.callers:
                number, run = await _loop(kind, call, callers, arguments.seconds, number)
                run["placement"] = place.title
                runs.append(run)
                used = run["cpu_us_per_call"]
                _say(
                    f"calls   {place.title:14} {kind:10} {callers:4} at once   "
                    f"{run['per_second']:8,} /s   CPU core {used['core']:5} µs, "
                    f"connector {used['connector']:5} µs"
                )
    return runs


async def _submit(ledger: BlockchainConnector, number: int) -> None:
    pin = BatchPinInput(Uuid("t"), Uuid(f"b{number}"), Hash32(ZEROS), "", (Hash32(ZEROS),))
    call = CallKey(f"bench:{number}", NAMESPACE, Epoch(1))
    await ledger.submit_batch_pin(call, "bench", "0xabc", pin, "{}")


async def _loop(
    kind: str, call: Callable[[int], Awaitable[object]], callers: int, seconds: float, number: int
) -> tuple[int, dict[str, Any]]:
    done, until = 0, 0.0

    async def caller() -> None:
        nonlocal done, number
        while time.perf_counter() < until:
            number += 1
            await call(number)
            done += 1

    async def all_callers(for_s: float) -> float:
        nonlocal until
        began = time.perf_counter()
        until = began + for_s
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        return time.perf_counter() - began

    await all_callers(min(1.0, seconds))
    gc.collect()
    cpu, done = _Cpu.now(), 0
    took = await all_callers(seconds)
    return number, {
        "kind": kind,
        "at_once": callers,
        "per_second": round(done / took),
        "cpu_us_per_call": _Cpu.now().per(cpu, done),
    }


async def _losses(title: str, how: signal.Signals, times: int) -> dict[str, Any]:
    """Loses the process and waits until calls are answered, and events stored, by the next one."""
    noticed, answered, flowing = list[float](), list[float](), list[float]()
    async with _hosted(Placement("anywhere")) as (host, _):
        counter = Counter()
        stream = await _stream(host, counter)
        ledger = host.blockchain(NAME)
        for _ in range(times):
            await _until(lambda: _state(host) == "ready", READY_S)
            before = counter.events
            await _until(lambda seen=before: counter.events > seen, READY_S)  # type: ignore[misc]  # bound now
            child = _child()
            began = time.perf_counter()
            os.kill(child.pid, how)
            await _until(lambda: _state(host) != "ready", GONE_S)
            noticed.append(time.perf_counter() - began)
            before = counter.events
            await _answered(ledger)
            answered.append(time.perf_counter() - began)
            await _until(lambda seen=before: counter.events > seen, GONE_S)  # type: ignore[misc]  # bound now
            flowing.append(time.perf_counter() - began)
        await stream.aclose()
    aim = AIM_KILLED_S if how is signal.SIGKILL else AIM_HUNG_S
    run = {
        "loss": title,
        "aim_s": aim,
        "noticed_s": _spread(noticed),
        "answered_s": _spread(answered),
        "events_s": _spread(flowing),
    }
    verdict = "aim reached" if max(answered) < aim else "AIM MISSED"
    _say(
        f"losses  {title:8} noticed after {_told(noticed)}, answers again after {_told(answered)}, "
        f"events again after {_told(flowing)}   {verdict}"
    )
    return run


async def _answered(ledger: BlockchainConnector) -> None:
    async with asyncio.timeout(GONE_S):
        while True:
            try:
                await ledger.normalize_location("{}")
            except (PhotinusError, ConnectorFailure):
                await asyncio.sleep(POLL_S)
            else:
                return


def _state(host: ConnectorHost) -> str:
    return host.list_connectors()[0].state


async def _until(condition: Callable[[], bool], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what another process does can only be looked at
            await asyncio.sleep(POLL_S)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


def _told(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} s (max {max(values):.2f})"


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
