"""A file that is read again when it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path


class WatchedFile:
    """Gives the text of a file whenever it is another than before.

    Args:
        path: The file.
        bytes_max: A larger one is refused.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._stamp: tuple[int, ...] | None = None

    async def changed(self) -> str | None:
        """The text, if it was written since the last call; None when it was not.

        Raises:
            OSError: it cannot be read, is too large, or no text.
        """
        try:
            return await asyncio.to_thread(self._read)
        except OSError:
            self._stamp = None  # whatever is there next is new
            raise

    def _read(self) -> str | None:
        before = self._look()
        if before == self._stamp:
            return None
        with self.path.open("rb") as file:
            content = file.read(self._bytes_max + 1)
        if len(content) > self._bytes_max:
            raise OSError(f"it is larger than {self._bytes_max} bytes")
        if self._look() != before:
            return None  # it is being written: the next look sees all of it
        try:
            text = content.decode()
        except UnicodeDecodeError as failure:
            raise OSError("it is no text in UTF-8") from failure
        self._stamp = before
        return text

    def _look(self) -> tuple[int, ...]:
        found = self.path.stat()
        return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
