"""The one place that starts tasks which outlive a function; whoever starts one ends it with `end`."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


def start(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """A named task; the caller keeps it and ends it."""
    return asyncio.get_running_loop().create_task(work, name=name)


async def end(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits for its end; its errors were told by other means."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
