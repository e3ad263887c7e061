"""What is known of the blobs on the disk. Statements only; every method returns after its commit."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from photinus_journal import SqliteJournal


@dataclass(frozen=True)
class StoredBlob:
    """A blob on the disk."""

    payload_ref: str
    hash: str
    size: int


class BlobIndex:
    """The table of blobs: announced before a file is moved into place, stored after."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def reserve_blob(self, blob: StoredBlob) -> bool:
        """Announce a file before it is moved into place; True when it is stored already."""

        def job(db: sqlite3.Connection) -> bool:
            db.execute(
                # One that was announced and never placed may come again with other bytes.
                "INSERT INTO dx_blobs VALUES (?, 0, ?, ?) ON CONFLICT DO UPDATE"
                " SET hash = excluded.hash, size = excluded.size WHERE stored = 0",
                (blob.payload_ref, blob.hash, blob.size),
            )
            (stored,) = db.execute(
                "SELECT stored FROM dx_blobs WHERE payload_ref = ?", (blob.payload_ref,)
            ).fetchone()
            return bool(stored)

        return await self._journal.write(job)

    async def confirm_blob(self, payload_ref: str) -> None:
        """The file is in place."""
        await self._journal.write(
            lambda db: db.execute(
                "UPDATE dx_blobs SET stored = 1 WHERE payload_ref = ?", (payload_ref,)
            )
        )

    async def blob(self, payload_ref: str) -> StoredBlob | None:
        """A stored blob."""

        def job(db: sqlite3.Connection) -> StoredBlob | None:
            row = db.execute(
                "SELECT payload_ref, hash, size FROM dx_blobs WHERE payload_ref = ? AND stored = 1",
                (payload_ref,),
            ).fetchone()
            return StoredBlob(*row) if row else None

        return await self._journal.write(job)

    async def forget_blob(self, payload_ref: str) -> bool:
        """Forget a blob; False when it was not known."""
        return await self._journal.write(
            lambda db: bool(
                db.execute("DELETE FROM dx_blobs WHERE payload_ref = ?", (payload_ref,)).rowcount
            )
        )

    async def unconfirmed_blobs(self) -> list[str]:
        """Announced files that may or may not be in place."""

        def job(db: sqlite3.Connection) -> list[str]:
            rows = db.execute("SELECT payload_ref FROM dx_blobs WHERE stored = 0")
            return [payload_ref for (payload_ref,) in rows]

        return await self._journal.write(job)
