"""One read for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class JoinedRead(Generic[T]):
    """Answers all who came before a read began with that read; nothing is kept for later ones.

    What anyone gets was read after they asked, as if they had read alone. One read runs at a time. A
    read that fails, or whose caller goes away, fails for that caller only: the next one reads again.

    Args:
        read: Reads; its result is shared, so it must not be changed.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._turn = asyncio.Lock()
        self._begun = 0
        self._last: tuple[int, T] | None = None
        self._waiting = 0

    async def get(self) -> T:
        """What a read gives that begins after this call."""
        wanted = self._begun + 1
        self._waiting += 1
        try:
            async with self._turn:
                if self._last is not None and self._last[0] >= wanted:
                    return self._last[1]
                self._begun += 1
                number = self._begun
                found = await self._read()
                self._last = (number, found)
                return found
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._last = None
