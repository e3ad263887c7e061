"""One worker per receiver, so that a dead or slow one delays nobody else; back-off with jitter between failures."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from photinus_dx.errors import PeerFailure
from photinus_dx.settings import Delivery

log = logging.getLogger("photinus.dx.lanes")

K = TypeVar("K", bound=Hashable)


class Lanes(Generic[K]):
    """Runs `step(key)` for every key that has work, each key in its own task and in order.

    Args:
        step: does some of the work of a key; True when there may be more. A PeerFailure is a reason to pause.
        failed: told of each failure before the pause.
        delivery: the pauses.
    """

    def __init__(
        self,
        step: Callable[[K], Awaitable[bool]],
        failed: Callable[[K, PeerFailure], Awaitable[None]],
        delivery: Delivery,
    ) -> None:
        self._step = step
        self._failed = failed
        self._delivery = delivery
        self._lanes: dict[K, _Lane] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for key, lane in self._lanes.items():
                    tasks.create_task(self._work(key, lane), name=f"lane {key}")
                await asyncio.Event().wait()
            finally:
                self._tasks = None
                self._lanes = {}

    def hurry(self, key: K) -> None:
        """What made a key fail may have changed: cut its pause short."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.work.set()
            lane.hurry.set()

    def wake(self, key: K) -> None:
        """There is work for a key."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
            if self._tasks is not None:
                self._tasks.create_task(self._work(key, lane), name=f"lane {key}")
        lane.work.set()

    async def _work(self, key: K, lane: _Lane) -> None:
        failures = 0
        while True:
            lane.work.clear()
            lane.hurry.clear()
            try:
                more = await self._step(key)
                failures = 0
            except PeerFailure as failure:
                failures += 1
                await self._pause(key, lane, failures, failure)
                more = True
            except Exception as error:
                failures += 1
                log.exception("a lane failed")
                await self._pause(key, lane, failures, PeerFailure(f"internal error: {error}"))
                more = True
            if not more:
                await lane.work.wait()

    async def _pause(self, key: K, lane: _Lane, failures: int, failure: PeerFailure) -> None:
        try:
            await self._failed(key, failure)
        except Exception:
            log.exception("a failure could not be noted")
        longest = self._delivery.backoff_max_s
        pause = min(longest, self._delivery.backoff_initial_s * 2 ** min(failures - 1, 32))
        pause = max(failure.retry_after_s, pause * random.uniform(0.5, 1.0))
        try:
            async with asyncio.timeout(pause):
                await lane.hurry.wait()
        except TimeoutError:
            pass


class _Lane:
    def __init__(self) -> None:
        self.work = asyncio.Event()
        self.hurry = asyncio.Event()
