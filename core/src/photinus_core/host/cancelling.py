"""A cancellation that must not get lost."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raises CancelledError when the running task was cancelled and nobody passed it on.

    A TaskGroup of Python before 3.13 drops the cancellation of its owner when that comes while the
    group ends because of a failure. A loop around such a group would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
