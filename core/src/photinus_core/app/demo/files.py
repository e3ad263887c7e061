"""Files that are made while they are sent: the same bytes at every run, never held whole."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

PIECE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file that is nowhere on disk.

    Attributes:
        name: Its name, which decides its content.
        size: In bytes.
        content_type: What it claims to be.
    """

    name: str
    size: int
    content_type: str

    async def pieces(self, digest: hashlib._Hash) -> AsyncIterator[bytes]:
        """The content from the beginning; the digest sees what is given."""
        for start in range(0, self.size, PIECE_BYTES):
            seed = hashlib.shake_128(f"{self.name}/{start}".encode())
            piece = seed.digest(min(PIECE_BYTES, self.size - start))
            digest.update(piece)
            yield piece


CATALOGUE: Final = DemoFile("catalogue.pdf", 5_000_000, "application/pdf")
CONTRACT: Final = DemoFile("contract.pdf", 50_000_000, "application/pdf")
