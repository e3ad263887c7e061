"""One run: faults over a loaded network, then quiet, then the checkers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.robustness.checkers import check_all
from tests.robustness.faults import Faults
from tests.robustness.findings import Finding
from tests.robustness.load import GrpcSender, Load, RestSender, Sender
from tests.robustness.records import Call, History, Mark, Pending, Record
from tests.robustness.report import summary, time_line, verdict
from tests.robustness.schedule import plan
from tests.robustness.site import Site
from tests.robustness.snapshot import take_snapshot
from tests.robustness.subscribers import (
    GrpcSubscriber,
    Subscriber,
    WebSocketSubscriber,
    create_subscription,
)
from tests.robustness.topology import Topology

QUIET_LIMIT_S: Final = 150.0
"""If it is not quiet so long after healing, it never will be; the checkers say what is missing."""
SAMPLE_S: Final = 1.0
GRPC_SUBSCRIPTION: Final = "chaos-grpc"
SOCKET_SUBSCRIPTION: Final = "chaos-socket"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What is run.

    Attributes:
        seed: Decides faults and load.
        seconds: How long faults are made; healing and waiting for quiet come on top.
        rate: Messages in a second.
    """

    topology: Topology
    seed: int
    seconds: float
    rate: float = 6.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave; `history` is its file."""

    seed: int
    findings: Sequence[Finding]
    records: Sequence[Record]
    history: Path

    def text(self) -> str:
        """All that a person needs to see."""
        parts = [f"seed {self.seed}", summary(self.records)]
        if self.findings:
            parts += [time_line(self.records), verdict(self.findings, self.records)]
            parts.append(f"history kept in {self.history}")
        return "\n\n".join(parts)


async def run(folder: Path, options: Options, say: Say) -> Result:
    """Runs one seed for a time, heals, waits for quiet and checks.

    Args:
        folder: Where the network and the history are kept; absolute, empty.
        options: What is run.
        say: Hears of progress.
    """
    path = folder / "history.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    with History(path) as history:
        async with Site(folder, options.topology, history) as site:
            say(f"up: {options.topology}")
            databases = [site.wiring.database(member) for member in range(options.topology.members)]
            for database in databases:
                await database.install_audit()
            await _storm(site, history, options, say)
            await take_snapshot(site, databases, history)
    return Result(options.seed, check_all(history.records), history.records, path)


async def _storm(site: Site, history: History, options: Options, say: Say) -> None:
    """Load and faults, until it is quiet again or the patience is at its end."""
    chance = random.Random(options.seed)
    for member in range(options.topology.members):
        for name in (GRPC_SUBSCRIPTION, SOCKET_SUBSCRIPTION):
            await create_subscription(site.wiring.direct_url(member), name)
    subscribers = _subscribers(site, history)
    async with _senders(site) as senders, asyncio.TaskGroup() as group:
        listening = [group.create_task(each.run(), name=each.name) for each in subscribers]
        load = Load(senders, history, options.rate, random.Random(chance.random()))
        sampler = Sampler(history, load, subscribers, options.topology.members)
        sending = group.create_task(load.run(), name="load")
        sampling = group.create_task(sampler.run(), name="sampler")
        history.add(Mark(time.monotonic(), "start"))
        faults = Faults(site, history, random.Random(chance.random()), say)
        await faults.run(plan(options.seed, options.seconds, options.topology))
        load.stop()
        history.add(Mark(time.monotonic(), "heal"))
        say("healed; waiting for quiet")
        if await sampler.wait_quiet(QUIET_LIMIT_S):
            history.add(Mark(time.monotonic(), "quiet"))
            say("quiet")
        else:
            say(f"not quiet after {QUIET_LIMIT_S:.0f} s")
        for task in (*listening, sending, sampling):
            task.cancel()


class Sampler:
    """Looks every second at what is pending, as the clients can know it.

    Args:
        history: What it reads calls from and writes samples to.
        load: Knows the calls without an answer.
        subscribers: Know what was delivered.
        members: How many members there are.
    """

    def __init__(
        self, history: History, load: Load, subscribers: Sequence[Subscriber], members: int
    ) -> None:
        self._history = history
        self._load = load
        self._subscribers = subscribers
        self._members = members
        self._read = 0
        self._waiting: dict[str, dict[tuple[str, str], float]] = {s.name: {} for s in subscribers}

    async def run(self) -> None:
        """Samples until it is cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def wait_quiet(self, limit_s: float) -> bool:
        """Waits until nothing is pending; False when it does not come to that in time."""
        try:
            async with asyncio.timeout(limit_s):
                while self.sample():
                    await asyncio.sleep(SAMPLE_S)
        except TimeoutError:
            return False
        return True

    def sample(self) -> int:
        """Records what is pending; gives how much."""
        self._update()
        total = 0
        for member in range(self._members):
            pending = {
                f"{op} on topic {topic} at {subscriber.name}": since
                for subscriber in self._subscribers
                if subscriber.member == member
                for (op, topic), since in self._waiting[subscriber.name].items()
            }
            pending |= {
                f"call of {op}": since
                for op, since in self._load.open.items()
                if f"-m{member}-" in op
            }
            head = min(pending, key=lambda each: pending[each], default="")
            self._history.add(Pending(time.monotonic(), member, len(pending), head))
            total += len(pending)
        return total

    def _update(self) -> None:
        records = self._history.records
        for record in records[self._read :]:
            if isinstance(record, Call) and record.outcome == "acked":
                for waiting in self._waiting.values():
                    waiting |= {(record.op, topic): record.called for topic in record.topics}
        self._read = len(records)
        for subscriber in self._subscribers:
            waiting = self._waiting[subscriber.name]
            for key in [key for key in waiting if key in subscriber.delivered]:
                del waiting[key]


def _subscribers(site: Site, history: History) -> list[Subscriber]:
    found: list[Subscriber] = []
    for member in range(site.topology.members):
        cores, urls = site.wiring.core_addresses(member), site.wiring.gateway_urls(member)
        found.append(GrpcSubscriber(GRPC_SUBSCRIPTION, member, cores, history))
        found.append(WebSocketSubscriber(SOCKET_SUBSCRIPTION, member, urls, history))
    return found


@asynccontextmanager
async def _senders(site: Site) -> AsyncIterator[list[Sender]]:
    senders: list[Sender] = []
    for member in range(site.topology.members):
        senders.append(
            GrpcSender(
                f"m{member}-grpc", member, site.wiring.core_addresses(member), site.wiring.orgs
            )
        )
        senders.append(
            RestSender(
                f"m{member}-rest", member, site.wiring.gateway_urls(member), site.wiring.orgs
            )
        )
    try:
        yield senders
    finally:
        for sender in senders:
            await sender.aclose()
