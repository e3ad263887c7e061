"""A watched directory of sockets: each `<name>.sock` is a connector that can be attached to.

Watched by looking again and again, which needs nothing of the system and sees every kind of change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from photinus_core.model.errors import PhotinusError, Rejected

log: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 0.5
SUFFIX: Final = ".sock"
SOCKETS_MAX: Final = 1000


class SocketDirectory:
    """Tells what sockets there are, whenever that changes.

    Args:
        path: The directory; it is made, with mode 0700, when it is missing.
        on_change: Called with the address of each socket by name, and why nothing could be seen
            (empty when it could).
    """

    def __init__(self, path: Path, on_change: Callable[[Mapping[str, str], str], None]) -> None:
        self.path = path
        self._on_change = on_change
        self._seen: tuple[Mapping[str, str], str] | None = None

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Looks once."""
        try:
            seen: tuple[Mapping[str, str], str] = await asyncio.to_thread(self._sockets), ""
        except PhotinusError as failure:
            # What was seen before is not gone because we cannot look.
            seen = self._seen[0] if self._seen else {}, str(failure)
        if seen == self._seen:
            return
        if seen[1]:
            log.error("%s", seen[1])
        self._seen = seen
        self._on_change(*seen)

    def _sockets(self) -> dict[str, str]:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = self.path.stat()
            mode = stat.S_IMODE(directory.st_mode)
            if directory.st_uid not in {os.geteuid(), 0}:
                raise Rejected("FF19215", self.path, "it belongs to another user")
            if mode & 0o022:
                reason = f"others may write to it (mode {mode:o}); type: chmod 700 {self.path}"
                raise Rejected("FF19215", self.path, reason)
            with os.scandir(self.path) as entries:
                found = {
                    entry.name.removesuffix(SUFFIX): f"unix:{entry.path}"
                    for entry in entries
                    if entry.name.endswith(SUFFIX) and _is_socket(entry)
                }
        except OSError as error:
            raise Rejected("FF19215", self.path, error.strerror or error) from error
        if len(found) > SOCKETS_MAX:
            raise Rejected("FF19215", self.path, f"more than {SOCKETS_MAX} sockets")
        return found


def _is_socket(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
