"""Everything outside the members: virtual time, the chain, shared storage, and chance.

One seed decides all of it.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from photinus_core.sequencing.facts import BatchKey, ChainEvent, NetworkAction, PinEvent
from photinus_core.sequencing.position import Position

from tests.simulation.content import SimBatch

MILLISECOND: Final = 1_000_000


@dataclass(frozen=True)
class Weather:
    """How bad it is in one run."""

    latency_ms: float
    """Mean of a step's latency."""
    crash_rate: float
    """Chance of a crash at each point before or after a write."""
    loss_rate: float
    """Chance that something sent is lost, and sent again later."""
    trouble_rate: float
    """Chance that the answer of the database is lost: nobody knows whether it wrote."""
    freeze_rate: float
    """Chance that a replica freezes at a write, for less or more than its session."""
    ordered_chain: bool
    """Whether pins reach the chain in the order in which they were submitted."""

    @classmethod
    def of(cls, rng: random.Random, *, replicas: bool) -> Weather:
        return cls(
            latency_ms=rng.choice([1.0, 20.0, 200.0]),
            crash_rate=rng.choice([0.0, 0.005, 0.03]),
            loss_rate=rng.choice([0.0, 0.2, 0.5]),
            trouble_rate=rng.choice([0.0, 0.0, 0.02]),
            freeze_rate=rng.choice([0.0, 0.01, 0.03]) if replicas else 0.0,
            ordered_chain=rng.random() < 0.5,
        )


class Clock:
    """Virtual time: runs what is scheduled, in order of time."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self.rng = rng
        self.weather = weather
        self.now = 0
        self.steps = 0
        self._ticket = count()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, time: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(time, self.now), next(self._ticket), action))

    def soon(self, action: Callable[[], None], times: float = 1.0) -> None:
        """Schedules something after a random latency."""
        mean = self.weather.latency_ms * times * MILLISECOND
        self.at(self.now + int(self.rng.expovariate(1 / mean)), action)

    def after(self, action: Callable[[], None], times: float) -> None:
        """Schedules something after so many latencies."""
        self.at(self.now + int(self.weather.latency_ms * times * MILLISECOND), action)

    def lost(self) -> bool:
        return self.rng.random() < self.weather.loss_rate

    def run(self, steps_max: int) -> None:
        while self._queue:
            self.now, _, action = heapq.heappop(self._queue)
            self.steps += 1
            assert self.steps < steps_max, "the simulation does not come to rest"
            action()


class Told(NamedTuple):
    """What a ledger's stream says: an event, or that it was taken back."""

    event: ChainEvent
    removed: bool = False


@dataclass
class Ledger:
    """The chain of one namespace: a list of events per contract."""

    clock: Clock
    events: dict[int, list[ChainEvent]] = field(default_factory=lambda: {0: []})
    stream: dict[int, list[Told]] = field(default_factory=lambda: {0: []})
    """All that was ever told of each contract, in order."""
    reorganised: int = 0
    """How many events were taken back."""
    transactions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many transactions each operation key came to."""
    listeners: list[Callable[[], None]] = field(default_factory=list)
    _block: int = 0
    _log: int = 0
    _queue: list[Callable[[], None]] = field(default_factory=list)

    def submit_pin(
        self, key: str, contract: int, signer: str, batch: BatchKey, contexts: tuple[str, ...]
    ) -> None:
        """Takes a pin."""
        self.transactions[key] += 1
        self._later(
            lambda: self._append(
                contract, lambda position: PinEvent(position, signer, batch, contexts)
            )
        )

    def submit_action(self, contract: int, signer: str, kind: str) -> None:
        """Takes a network action."""
        self._later(
            lambda: self._append(contract, lambda position: NetworkAction(position, signer, kind))
        )

    def take_back(self, contract: int, count: int) -> None:
        """Reorganises the end of a contract's chain: its transactions get other places, in any order."""
        events = self.events[contract]
        removed = events[len(events) - count :]
        del events[len(events) - count :]
        self.reorganised += count
        for event in reversed(removed):
            self.stream[contract].append(Told(event, removed=True))
        for event in removed:
            self.clock.soon(partial(self._append, contract, partial(_moved, event)))

    def _later(self, append: Callable[[], None]) -> None:
        if self.clock.weather.ordered_chain:
            self._queue.append(append)
            self.clock.soon(self._append_next)
        else:
            self.clock.soon(append)

    def _append_next(self) -> None:
        append = self._queue.pop(0)
        append()

    def _append(self, contract: int, make: Callable[[Position], ChainEvent]) -> None:
        if self.clock.rng.random() < 0.5:
            self._block += self.clock.rng.randint(1, 3)
            self._log = 0
        self._log += 1
        event = make(Position(contract, self._block, self._log // 3, self._log))
        self.events.setdefault(contract, []).append(event)
        self.stream.setdefault(contract, []).append(Told(event))
        for listener in self.listeners:
            listener()


def _moved(event: ChainEvent, position: Position) -> ChainEvent:
    return replace(event, position=position)


class Storage:
    """Shared storage: what was uploaded, by reference."""

    def __init__(self) -> None:
        self.batches: dict[str, SimBatch] = {}
        self._awaited: dict[str, list[Callable[[], None]]] = defaultdict(list)

    def put(self, batch: SimBatch) -> None:
        """Stores a batch."""
        self.batches[batch.payload_ref] = batch
        for then in self._awaited.pop(batch.payload_ref, ()):
            then()

    def when_there(self, reference: str, then: Callable[[], None]) -> None:
        """Instead of asking again and again; what never comes is never asked for."""
        if reference in self.batches:
            then()
        else:
            self._awaited[reference].append(then)
