"""The one place that starts background tasks: named, tracked, their failures logged, ended together.

A task group would cancel its siblings when one fails; here the parts of an instance (a sender per signer, the
head watcher, a reader per listener) must outlive each other, so their owner keeps them in a `Tasks`.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from photinus_sdk.errors import ConnectorError

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0
R = TypeVar("R")


class Tasks:
    """A set of background tasks with one owner, who must call `aclose`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """Starts `work`; after `aclose` it is cancelled at once."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        if self._closed:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        # An error of the protocol is an answer to whoever waits for the task.
        level = logging.DEBUG if isinstance(error, ConnectorError) else logging.ERROR
        logger.log(level, "background task %s failed", task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        """Cancels all tasks and waits for them, at most CLOSE_TIMEOUT_S."""
        self._closed = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
