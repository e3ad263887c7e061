"""Background work with names: the one place that starts tasks.

    async with Background("intake") as work:
        work.start("worker-1", run_worker())
        ...

Leaving the block cancels what still runs and waits for it. A task that fails is logged with its
name and ends the others; the block raises the failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import copy_context
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

log: Final = logging.getLogger(__name__)


class Background:
    """A group of named tasks that live and die together.

    They work for whoever opened the group, not for the request that happens to start one: what they
    log and trace is that of the place where the group was made.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._context = copy_context()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self._group.__aexit__(kind, failure, trace)

    def start(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Starts a task. Names are unique among the running ones."""
        assert name not in self._tasks, f"{self._name} already runs {name}"
        task = self._group.create_task(
            self._logged(name, work),
            name=f"{self._name}/{name}",
            context=self._context.copy(),
        )
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended(name, work))
        return task

    def running(self) -> list[str]:
        """Names of the tasks that run."""
        return sorted(self._tasks)

    def _ended(self, name: str, work: Coroutine[object, object, None]) -> None:
        self._tasks.pop(name, None)
        work.close()  # if it was cancelled before it could begin

    async def _logged(self, name: str, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s/%s failed", self._name, name)
            raise


async def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Runs work to its end, also when the caller is cancelled, who then is so afterwards.

    For what cannot be taken back once begun, a commit for example. The work must end by itself.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as failure:
            cancelled = failure
    if cancelled is not None:
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()


async def run_before(event: asyncio.Event, work: Coroutine[Any, Any, T], late: Exception) -> T:
    """Runs work; when an event is set before its end, ends it and raises what was given."""
    task = asyncio.ensure_future(work)
    wait = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([task, wait], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise late
    finally:
        wait.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def wait_any(*events: asyncio.Event) -> None:
    """Waits until one of some events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class Backoff:
    """Waiting times that double up to a cap; starts over after a success."""

    def __init__(self, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._next_s = first_s

    def next_s(self) -> float:
        """How long to wait now."""
        wait_s = self._next_s
        self._next_s = min(self._next_s * 2, self._cap_s)
        return wait_s

    def reset(self) -> None:
        """Something worked."""
        self._next_s = self._first_s


class Wake:
    """A signal that work is there: set any number of times, taken once.

    The waiter also wakes after the given time, so that a lost signal costs only delay.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """There is work."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Waits for the signal and clears it; False when the time was up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
