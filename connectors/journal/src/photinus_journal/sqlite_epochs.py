"""The highest epoch of each stream, durable, in a journal's own SQLite file."""

import sqlite3
from typing import Final

from photinus_journal.journal import Scope
from photinus_journal.sqlite_writer import SqliteWriter

EPOCHS_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS kit_epochs (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL)
    WITHOUT ROWID;
"""


class SqliteEpochs:
    """`OperationJournal.raise_epoch` for journals over SQLite; only a rise costs a commit.

    Args:
        writer: Writes to a file whose schema has `EPOCHS_SCHEMA`.
    """

    def __init__(self, writer: SqliteWriter) -> None:
        self._writer = writer
        self._highest: dict[str, int] = {}

    async def rise(self, stream: Scope, epoch: int) -> int:
        """Makes `epoch` the stream's highest if it is; gives the highest, once it is durable."""
        known = self._highest.get(stream.text)
        if known is not None and epoch <= known:
            return known

        def job(db: sqlite3.Connection) -> int:
            (highest,) = db.execute(
                "INSERT INTO kit_epochs VALUES (?, ?) ON CONFLICT (stream) DO UPDATE"
                " SET epoch = max(epoch, excluded.epoch) RETURNING epoch",
                (stream.text, epoch),
            ).fetchone()
            return int(highest)

        highest = await self._writer.write(job)
        self._highest[stream.text] = max(highest, self._highest.get(stream.text, 0))
        return highest
