"""Waiting for a condition in a test, with a limit, instead of sleeping for a fixed time."""

import asyncio
from collections.abc import Callable

POLL_S = 0.005


async def until(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    """Returns once `condition()` is true. Raises TimeoutError after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(POLL_S)
