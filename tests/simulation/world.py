"""Everything outside the members: virtual time, the chain, the ways batches travel, and chance.

One seed decides all of it. Things that a connector keeps durably (submitted pins, its outbox)
survive the crash of a member; everything else is resent until it arrives.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from photinus_core.sequencing.facts import BatchKey, ChainEvent, NetworkAction, PinEvent
from photinus_core.sequencing.position import Position

from tests.simulation.content import SimBatch

MILLISECOND: Final = 1_000_000


class CrashError(Exception):
    """The process of a member ends here."""


@dataclass(frozen=True)
class Weather:
    """How bad it is in one run."""

    latency_ms: float
    """Mean of a step's latency."""
    crash_rate: float
    """Chance of a crash at each point before or after a write."""
    loss_rate: float
    """Chance that something sent is lost, and sent again later."""
    ordered_chain: bool
    """Whether pins reach the chain in the order in which they were submitted."""

    @classmethod
    def of(cls, rng: random.Random) -> Weather:
        return cls(
            latency_ms=rng.choice([1.0, 20.0, 200.0]),
            crash_rate=rng.choice([0.0, 0.005, 0.03]),
            loss_rate=rng.choice([0.0, 0.2, 0.5]),
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

    def lost(self) -> bool:
        return self.rng.random() < self.weather.loss_rate

    def run(self, steps_max: int) -> None:
        while self._queue:
            self.now, _, action = heapq.heappop(self._queue)
            self.steps += 1
            assert self.steps < steps_max, "the simulation does not come to rest"
            action()


@dataclass
class Ledger:
    """The chain of one namespace: a list of events per contract, and a connector that remembers
    keys.
    """

    clock: Clock
    events: dict[int, list[ChainEvent]] = field(default_factory=lambda: {0: []})
    keys: set[str] = field(default_factory=set)
    listeners: list[Callable[[], None]] = field(default_factory=list)
    _block: int = 0
    _log: int = 0
    _queue: list[Callable[[], None]] = field(default_factory=list)

    def submit_pin(
        self, key: str, contract: int, signer: str, batch: BatchKey, contexts: tuple[str, ...]
    ) -> None:
        """Takes a pin; a known key changes nothing."""
        if key in self.keys:
            return
        self.keys.add(key)
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
        position = Position(contract, self._block, self._log // 3, self._log)
        self.events.setdefault(contract, []).append(make(position))
        for listener in self.listeners:
            listener()


@dataclass
class Storage:
    """Shared storage: what was uploaded, by reference."""

    batches: dict[str, SimBatch] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
