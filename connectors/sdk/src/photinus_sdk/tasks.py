"""The one place that starts background tasks: named, kept by their owner, their failures logged, ended together.

A task group would cancel its siblings when one fails; the parts of an instance must outlive each other.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from photinus_sdk.errors import ConnectorError

log = logging.getLogger("photinus.sdk")

CLOSE_TIMEOUT_S = 5.0
R = TypeVar("R")


class Background:
    """A few tasks with one owner, who must call `aclose`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """Runs `work` until it ends or `aclose`; after that it is cancelled at once."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        if self._closed:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def aclose(self) -> None:
        """Cancels what runs and waits for it, at most CLOSE_TIMEOUT_S. Idempotent."""
        self._closed = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
            for task in late:
                log.warning("%s does not end", task.get_name())

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        # An error of the protocol is an answer to whoever waits for the task.
        level = logging.DEBUG if isinstance(error, ConnectorError) else logging.ERROR
        log.log(level, "%s failed", task.get_name(), exc_info=error)
