"""Change events for who listens: a bounded queue for each, fed by the stores while anybody does.

A listener that does not read in time loses changes, never holds anything up, and is told once how
many it lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from photinus_core.model.changes import Change, ChangeFilter, Dropped
from photinus_core.model.errors import Exhausted
from photinus_core.ports.clock import Clock
from photinus_core.ports.store import Store

log: Final = logging.getLogger(__name__)

LISTENERS_MAX: Final = 100
"""Most listeners of one replica: each looks at every change."""


@dataclass(frozen=True, slots=True)
class ChangeLimits:
    """What one listener may cost (FireFly's `spi.ws`).

    Attributes:
        queue_length: Changes that may wait for it.
        warn_every_s: How often the log says that one does not read.
    """

    queue_length: int = 250
    warn_every_s: float = 60.0


class ChangeQueue:
    """What waits for one listener. Not thread-safe: use it from the loop.

    Once it is full everything is dropped and counted, until what was queued is taken: then comes
    one `Dropped`, and changes are queued again.

    Args:
        name: Who listens, for the log.
        limits: How much may wait.
        clock: Says when changes were dropped.
    """

    def __init__(self, name: str, limits: ChangeLimits, clock: Clock) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._filter: ChangeFilter | None = None
        self._waiting: deque[Change] = deque()
        self._dropped: Dropped | None = None
        self._warn_at_s = 0.0
        self._news = asyncio.Event()

    def want(self, wanted: ChangeFilter) -> None:
        """Takes these changes from now on, in place of others; what waits already stays."""
        self._filter = wanted

    def changed(self, changes: Sequence[Change]) -> None:
        """Queues those that are wanted."""
        wanted = self._filter
        if wanted is None:
            return
        for change in changes:
            if not wanted.matches(change):
                continue
            if self._dropped is None and len(self._waiting) < self._limits.queue_length:
                self._waiting.append(change)
            else:
                self._drop(1)
        if self._waiting:
            self._news.set()

    def lost(self, count: int) -> None:
        """Changes of any kind were lost before they came here; 0 when nobody knows how many."""
        if self._filter is not None and self._filter.collections:
            self._drop(count)
            self._news.set()

    async def take(self) -> Change | Dropped:
        """Gives what is next, as soon as there is something."""
        while True:
            if self._waiting:
                return self._waiting.popleft()
            if self._dropped is not None:
                dropped, self._dropped = self._dropped, None
                return dropped
            self._news.clear()
            await self._news.wait()

    def _drop(self, count: int) -> None:
        now_s = self._clock.monotonic_s()
        if self._dropped is None:
            self._dropped = Dropped(self._clock.now(), count)
        else:
            self._dropped = Dropped(self._dropped.since, self._dropped.count + count)
        if now_s >= self._warn_at_s:
            self._warn_at_s = now_s + self._limits.warn_every_s
            log.warning(
                "%s reads change events too slowly, or could not be told of all: %d dropped",
                self._name,
                self._dropped.count,
            )


class ChangeFeed:
    """All changes of a node's databases, for any number of listeners.

    The databases are watched only while there is one.
    """

    def __init__(self, clock: Clock, limits: ChangeLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or ChangeLimits()
        self._stores: list[Store] = []
        self._queues: list[ChangeQueue] = []
        self._stops: list[Callable[[], None]] = []

    def add(self, store: Store) -> None:
        """Tells of a database too. Idempotent."""
        if any(store is known for known in self._stores):
            return
        self._stores.append(store)
        if self._queues:
            self._stops.append(store.watch_changes(self))

    @contextmanager
    def listen(self, name: str) -> Iterator[ChangeQueue]:
        """Gives a queue, which is fed until the block ends, once it was told what is wanted.

        Raises:
            Exhausted: FF19009, there are too many already.
        """
        if len(self._queues) >= LISTENERS_MAX:
            raise Exhausted("FF19009", LISTENERS_MAX, "streams of change events")
        queue = ChangeQueue(name, self._limits, self._clock)
        self._queues.append(queue)
        if len(self._queues) == 1:
            self._stops = [store.watch_changes(self) for store in self._stores]
        try:
            yield queue
        finally:
            self._queues.remove(queue)
            if not self._queues:
                stops, self._stops = self._stops, []
                for stop in stops:
                    stop()

    def changed(self, changes: Sequence[Change]) -> None:
        """Passes changes of a database on."""
        for queue in self._queues:
            queue.changed(changes)

    def lost(self, count: int) -> None:
        """Passes on that changes were lost."""
        for queue in self._queues:
            queue.lost(count)
