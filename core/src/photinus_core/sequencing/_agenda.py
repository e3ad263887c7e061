"""What to try next: items whose turn to be looked at has come, and what the others wait for.

An item waits for some keys, any of which may change its case; it is looked at again when one of
them is notified. Lower positions come first, so that decisions come out near chain order and
little is looked at in vain.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count

from photinus_core.sequencing._state import Blocker, Item
from photinus_core.sequencing.decisions import Wait
from photinus_core.sequencing.position import Position


class Agenda:
    """Items to look at, by position, and items that wait, by key."""

    def __init__(self) -> None:
        self.now = 0
        """Nanoseconds: when waits begin that are noted from now on."""
        self._heap: list[tuple[Position, int, int, Item]] = []
        self._ticket = count()
        self._waiters: dict[Hashable, dict[Item, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._heap)

    def queue(self, item: Item) -> None:
        """Has an item looked at. Idempotent."""
        self._release(item)
        if not item.queued and not item.done:
            item.queued = True
            heapq.heappush(self._heap, (item.position, item.rank, next(self._ticket), item))

    def pop(self) -> Item:
        """Takes the next item; it may be done already."""
        item = heapq.heappop(self._heap)[3]
        item.queued = False
        return item

    def notify(self, key: Hashable) -> None:
        """Has everything looked at that waits for the key."""
        for item in list(self._waiters.get(key, ())):
            self.queue(item)

    def wait(self, item: Item, blocker: Blocker) -> None:
        """Puts an item aside until one of the blocker's keys is notified."""
        item.waits_on = tuple(blocker.on)
        for key in item.waits_on:
            self._waiters.setdefault(key, {})[item] = None
        wait, behind, need = item.wait, blocker.behind, blocker.need
        if wait is None or (wait.reason, wait.behind, wait.need) != (blocker.reason, behind, need):
            item.wait = Wait(blocker.reason, self.now, behind, need)

    def finish(self, item: Item) -> None:
        """Notes that an item needs no more looking at, and has what waits for it looked at."""
        item.done = True
        item.wait = None
        self._release(item)
        self.notify(item)

    def _release(self, item: Item) -> None:
        for key in item.waits_on:
            waiters = self._waiters.get(key)
            if waiters is not None:
                waiters.pop(item, None)
                if not waiters:
                    del self._waiters[key]
        item.waits_on = ()
