"""Stores the offsets of subscriptions as acks move them: the newest, all in one transaction.

While one write is under way, newer offsets collect and older ones of the same subscription are
forgotten. A crash loses the last moment's acks, after which those events are delivered again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Namespace, Uuid
from photinus_core.ports.store import Fence, Store

log: Final = logging.getLogger(__name__)

PAUSE_S: Final = 0.02
"""Shortest time between two writes."""
RETRY_S: Final = 0.5
FLUSH_TIMEOUT_S: Final = 5.0


class OffsetWriter:
    """Writes offsets of one namespace."""

    def __init__(self, store: Store, namespace: Namespace) -> None:
        self._store = store
        self._namespace = namespace
        self._moved: dict[Uuid, tuple[int, Fence | None]] = {}
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()

    def move(self, subscription: Uuid, offset: int, fence: Fence | None = None) -> None:
        """Notes that an offset moved; it is stored soon, unless the fence is down by then."""
        self._moved[subscription] = (offset, fence)
        self._news.set()

    def forget(self, subscription: Uuid) -> None:
        """A subscription was deleted: nothing of it is to be stored."""
        self._moved.pop(subscription, None)

    async def run(self) -> None:
        """Stores offsets until cancelled, and what is left then."""
        try:
            while True:
                await self._news.wait()
                try:
                    await self.flush()
                except Unavailable as failure:
                    log.warning("%s: offsets not stored yet: %s", self._namespace, failure)
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(PAUSE_S)
        finally:
            if self._moved:
                await self._last_flush()

    async def flush(self) -> None:
        """Stores what has moved.

        Raises:
            Unavailable: the database cannot be used; the offsets are kept for the next time.
        """
        async with self._writing:
            self._news.clear()
            moved, self._moved = self._moved, {}
            if not moved:
                return
            try:
                async with self._store.write(self._namespace) as tx:
                    for subscription, (offset, fence) in moved.items():
                        await tx.set_offset(subscription, offset, fence)
            except BaseException:
                self._moved = {**moved, **self._moved}
                self._news.set()
                raise

    async def _last_flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self.flush()
        except (Unavailable, TimeoutError) as failure:
            log.warning("%s: last offsets not stored: %s", self._namespace, failure)
