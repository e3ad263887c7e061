"""Group commit without timers: while one commit is in flight, arrivals collect; the next takes all.

Under load many callers share one transaction; an idle system commits each at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from photinus_core.model.errors import Deposed, Exhausted, InternalBug, TimedOut, Unavailable

T = TypeVar("T")
R = TypeVar("R")

SET_MAX: Final = 500
"""Most items in one commit: bounds how long a transaction holds the database."""
WAITING_MAX: Final = 20_000
"""Most items that may wait; more are refused."""

_CONCERNS_ALL: Final = (Unavailable, Deposed, TimedOut, Exhausted)

_log = logging.getLogger(__name__)


class GroupCommit(Generic[T, R]):
    """Collects items of concurrent callers and commits them together, in the order of arrival.

    A set that fails because of one of its items (it contradicts what is stored, say) is committed
    again item by item, so that the bad one fails alone. A set that fails because the database is
    away or another replica leads fails as a whole: it would fail item by item, too.

    A caller that is cancelled while its item waits withdraws it; once its commit has begun the item
    may be stored all the same, as with any request whose answer is lost.

    Args:
        commit: Commits items, all or nothing, and returns one result for each.
        name: For logs.
        set_max: Most items in one commit.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        name: str,
        set_max: int = SET_MAX,
    ) -> None:
        self._commit = commit
        self._name = name
        self._set_max = set_max
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: T) -> R:
        """Commits an item together with others; returns when it is durable.

        Raises:
            Exhausted: FF19009, too much waits already.
            Unavailable: FF19011, closed.
            PhotinusError: what the commit of this item raised.
        """
        if self._closed:
            raise Unavailable("FF19011")
        if len(self._waiting) >= WAITING_MAX:
            raise Exhausted("FF19009", WAITING_MAX, f"writes of {self._name}")
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._worker is None:
            # It works for many callers: in the context of none.
            # tidy: kept, and awaited in aclose(); it ends by itself when nothing waits.
            self._worker = asyncio.create_task(
                self._run(), name=f"group commit of {self._name}", context=Context()
            )
        return await done

    async def aclose(self) -> None:
        """Refuses new items and returns once those that wait are committed. Idempotent."""
        self._closed = True
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = (
                    self._waiting[: self._set_max],
                    self._waiting[self._set_max :],
                )
                live = [(item, done) for item, done in taken if not done.done()]
                if live:
                    await self._commit_set(live)
        finally:
            self._worker = None
            for _, done in self._waiting:
                done.cancel()

    async def _commit_set(self, live: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._commit([item for item, _ in live])
            if len(results) != len(live):
                reason = f"{self._name}: {len(live)} items gave {len(results)} results"
                raise InternalBug("FF19000", reason)
        except asyncio.CancelledError:
            for _, done in live:
                done.cancel()
            raise
        except Exception as failure:  # noqa: BLE001 - given to the callers it concerns
            if len(live) == 1 or isinstance(failure, _CONCERNS_ALL):
                for _, done in live:
                    _fail(done, failure)
                return
            _log.info("%s: a set of %d failed, retrying one by one", self._name, len(live))
            for one in live:
                if not one[1].done():
                    await self._commit_set([one])
            return
        for (_, done), result in zip(live, results, strict=True):
            if not done.done():
                done.set_result(result)


def _fail(done: asyncio.Future[R], failure: Exception) -> None:
    if not done.done():
        done.set_exception(failure)
