"""The kit's own journal, in one SQLite file per instance.

A key goes BEGUN (0) → PENDING → terminal. BEGUN is not an answer: after a crash the call is carried
out again with `retried` set. A finished key is forgotten `retention_s` after its last update was
acked, or after its answer when it has no updates; an unfinished one never.
"""

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sdk.context import StreamKey
from photinus_sdk.errors import Conflict, Exhausted, cut
from photinus_sdk.journal import ERROR_BYTES_MAX, TERMINAL, Begun, StoredUpdate, operation_of
from photinus_sdk.sqlite_epochs import EPOCHS_SCHEMA, SqliteEpochs
from photinus_sdk.sqlite_writer import SqliteWriter

BEGUN = 0
UPDATE_BYTES_MAX = 512 << 10
RETENTION_DEFAULT_S = 7 * 24 * 3600
R = TypeVar("R")

SCHEMA = """
CREATE TABLE IF NOT EXISTS kit_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kit_operations (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL, key TEXT NOT NULL, method TEXT NOT NULL,
    fingerprint BLOB NOT NULL, state INTEGER NOT NULL, answer BLOB,
    external_id TEXT NOT NULL DEFAULT '', output_json TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '', created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    kept_from_ns INTEGER, UNIQUE (stream, key));
CREATE INDEX IF NOT EXISTS kit_operations_kept ON kit_operations (kept_from_ns)
    WHERE kept_from_ns IS NOT NULL;
CREATE TABLE IF NOT EXISTS kit_updates (
    id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, key TEXT NOT NULL,
    terminal INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS kit_updates_stream ON kit_updates (stream, id);
"""
OPERATION = "key, method, state, external_id, output_json, error, created_ns, updated_ns"


class SqliteJournal:
    """`OperationJournal` over SQLite. Further tables may live in the same file: see `write`.

    `update_in` takes part in a transaction of the author:

        def job(db):
            db.execute("INSERT INTO sent …")
            journal.update_in(db, stream, update)
        await journal.write(job)

    Args:
        path: The file; None keeps everything in memory, to end with the process.
        schema: Further SQL for the author's own tables (`CREATE … IF NOT EXISTS`).
        retention_s: How long a finished key is remembered.
        now_ns: Wall clock, for tests.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        schema: str = "",
        retention_s: int = RETENTION_DEFAULT_S,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._writer = SqliteWriter(path, EPOCHS_SCHEMA + SCHEMA + schema, self._notify)
        self._retention_ns = retention_s * 1_000_000_000
        self._now_ns = now_ns
        self._changed: dict[str, asyncio.Event] = {}
        self._touched: set[str] = set()
        self._epochs = SqliteEpochs(self._writer)
        self._store_id = ""

    async def open(self) -> None:
        """Reads the store's id, making it the first time. The kit calls this first."""

        def job(db: sqlite3.Connection) -> str:
            db.execute(
                "INSERT INTO kit_meta VALUES ('store_id', ?) ON CONFLICT DO NOTHING",
                (str(uuid.uuid4()),),
            )
            (value,) = db.execute("SELECT value FROM kit_meta WHERE name = 'store_id'").fetchone()
            return str(value)

        self._store_id = await self._writer.write(job)

    @property
    def store_id(self) -> str:
        return self._store_id

    async def write(self, job: Callable[[sqlite3.Connection], R]) -> R:
        """Runs `job` on the journal's connection, in order of calls; returns after the commit."""
        return await self._writer.write(job)

    async def raise_epoch(self, stream: StreamKey, epoch: int) -> int:
        return await self._epochs.rise(stream, epoch)

    async def begin(self, stream: StreamKey, key: str, method: str, fingerprint: bytes) -> Begun:
        def job(db: sqlite3.Connection) -> Begun:
            now = self._now_ns()
            self._purge(db, now)
            row = db.execute(
                f"SELECT fingerprint, answer, {OPERATION} FROM kit_operations"  # noqa: S608 - our own constants
                " WHERE stream = ? AND key = ?",
                (stream.text, key),
            ).fetchone()
            if row is None:
                db.execute(
                    "INSERT INTO kit_operations (stream, key, method, fingerprint, state,"
                    " created_ns, updated_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (stream.text, key, method, fingerprint, BEGUN, now, now),
                )
                return Begun()
            known, answer, *columns = row
            operation = operation_of(columns)
            if known and (known != fingerprint or operation.method != method):
                raise Conflict(
                    f"The key {key} was used for another {operation.method}", reason="KEY_REUSED"
                )
            if operation.state == BEGUN:
                return Begun(retried=True)
            return Begun(answer=answer or b"", operation=operation)

        return await self._writer.write(job)

    async def accept(
        self, stream: StreamKey, key: str, answer: bytes, kept: common.Submission
    ) -> None:
        def job(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE kit_operations SET answer = ?, updated_ns = ?,"
                " state = CASE state WHEN 0 THEN ? ELSE state END,"
                " external_id = CASE external_id WHEN '' THEN ? ELSE external_id END,"
                " output_json = CASE output_json WHEN '' THEN ? ELSE output_json END"
                " WHERE stream = ? AND key = ?",
                (
                    answer,
                    self._now_ns(),
                    common.OPERATION_STATE_PENDING,
                    kept.external_id,
                    kept.output_json,
                    stream.text,
                    key,
                ),
            )
            if kept.state in TERMINAL:
                update = events.OperationUpdate(
                    idempotency_key=key,
                    state=kept.state,
                    external_id=kept.external_id,
                    output_json=kept.output_json,
                )
                self.update_in(db, stream, update)

        await self._writer.write(job)

    async def settle(self, stream: StreamKey, key: str, answer: bytes) -> None:
        now = self._now_ns()
        await self._writer.write(
            lambda db: db.execute(
                "UPDATE kit_operations SET answer = ?, state = ?, updated_ns = ?, kept_from_ns = ?"
                " WHERE stream = ? AND key = ?",
                (answer, common.OPERATION_STATE_SUCCEEDED, now, now, stream.text, key),
            )
        )

    async def release(self, stream: StreamKey, key: str) -> None:
        await self._writer.write(
            lambda db: db.execute(
                "DELETE FROM kit_operations WHERE stream = ? AND key = ? AND state = ?",
                (stream.text, key, BEGUN),
            )
        )

    async def update(self, stream: StreamKey, update: events.OperationUpdate) -> None:
        await self.write(lambda db: self.update_in(db, stream, update))

    def update_in(
        self, db: sqlite3.Connection, stream: StreamKey, update: events.OperationUpdate
    ) -> None:
        """As `update`, inside a transaction of the author; the key need not have been begun."""
        now, key = self._now_ns(), update.idempotency_key
        kept = events.OperationUpdate()
        kept.CopyFrom(update)
        kept.error = cut(update.error, ERROR_BYTES_MAX)
        if kept.ByteSize() > UPDATE_BYTES_MAX:
            raise Exhausted(f"The update of {key} is larger than {UPDATE_BYTES_MAX} bytes")
        changed = db.execute(
            "INSERT INTO kit_operations (stream, key, method, fingerprint, state, external_id,"
            " output_json, error, created_ns, updated_ns) VALUES (?, ?, '', x'', ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (stream, key) DO UPDATE SET state = excluded.state,"
            " external_id = CASE excluded.external_id WHEN '' THEN external_id"
            " ELSE excluded.external_id END,"
            " output_json = CASE excluded.output_json WHEN '' THEN output_json"
            " ELSE excluded.output_json END,"
            " error = excluded.error, updated_ns = excluded.updated_ns WHERE state < ?",
            (
                stream.text,
                key,
                kept.state,
                kept.external_id,
                kept.output_json,
                kept.error,
                now,
                now,
                common.OPERATION_STATE_SUCCEEDED,
            ),
        ).rowcount
        if changed:
            db.execute(
                "INSERT INTO kit_updates (stream, key, terminal, body) VALUES (?, ?, ?, ?)",
                (stream.text, key, kept.state in TERMINAL, kept.SerializeToString()),
            )
            self._touched.add(stream.text)

    async def tell(self, stream: StreamKey, event: events.Event) -> None:
        """Queues an event without listener (TokenPoolEvent) for the stream, until the core acks it.

        The event brings its id: the same one again is the same event for the core.

        Raises:
            Exhausted: the event is too large.
        """
        if event.ByteSize() > UPDATE_BYTES_MAX:
            raise Exhausted(f"The event {event.id} is larger than {UPDATE_BYTES_MAX} bytes")

        def job(db: sqlite3.Connection) -> None:
            # Without a key: it ends no operation. Its body is the whole event.
            db.execute(
                "INSERT INTO kit_updates (stream, key, terminal, body) VALUES (?, '', 0, ?)",
                (stream.text, event.SerializeToString()),
            )
            self._touched.add(stream.text)

        await self._writer.write(job)

    async def get(
        self, stream: StreamKey, key: str, *, begun: bool = False
    ) -> operations.Operation | None:
        def job(db: sqlite3.Connection) -> operations.Operation | None:
            row = db.execute(
                f"SELECT {OPERATION} FROM kit_operations"  # noqa: S608 - as above
                " WHERE stream = ? AND key = ? AND state >= ?",
                (stream.text, key, BEGUN if begun else common.OPERATION_STATE_PENDING),
            ).fetchone()
            return operation_of(row) if row else None

        return await self._writer.write(job)

    async def list_operations(
        self, stream: StreamKey, state: common.OperationState.ValueType, limit: int, after: int
    ) -> tuple[list[operations.Operation], int]:
        def job(db: sqlite3.Connection) -> tuple[list[operations.Operation], int]:
            rows = db.execute(
                f"SELECT id, {OPERATION} FROM kit_operations WHERE stream = ?"  # noqa: S608 - as above
                " AND id > ? AND state > ? AND (? = 0 OR state = ?) ORDER BY id LIMIT ?",
                (stream.text, after, BEGUN, state, state, limit + 1),
            ).fetchall()
            page = rows[:limit]
            return [operation_of(row[1:]) for row in page], page[-1][0] if len(rows) > limit else 0

        return await self._writer.write(job)

    async def tombstone(self, stream: StreamKey, key: str) -> common.OperationState.ValueType:
        cancelled = common.OPERATION_STATE_CANCELLED

        def job(db: sqlite3.Connection) -> common.OperationState.ValueType:
            now = self._now_ns()
            unknown = db.execute(
                "INSERT INTO kit_operations (stream, key, method, fingerprint, state, created_ns,"
                " updated_ns) VALUES (?, ?, '', x'', ?, ?, ?) ON CONFLICT DO NOTHING",
                (stream.text, key, cancelled, now, now),
            ).rowcount
            if not unknown:
                update = events.OperationUpdate(idempotency_key=key, state=cancelled)
                self.update_in(db, stream, update)
            (state,) = db.execute(
                "SELECT state FROM kit_operations WHERE stream = ? AND key = ?", (stream.text, key)
            ).fetchone()
            return common.OperationState.ValueType(state)

        return await self.write(job)

    async def updates(self, stream: StreamKey, after: int, limit: int) -> list[StoredUpdate]:
        def job(db: sqlite3.Connection) -> list[StoredUpdate]:
            rows = db.execute(
                "SELECT id, key, body FROM kit_updates WHERE stream = ? AND id > ?"
                " ORDER BY id LIMIT ?",
                (stream.text, after, limit),
            )
            return [
                StoredUpdate(row, events.OperationUpdate.FromString(body))
                if key
                else StoredUpdate(row, event=events.Event.FromString(body))
                for row, key, body in rows
            ]

        return await self._writer.write(job)

    async def updates_acked(self, stream: StreamKey, through: int) -> None:
        def job(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE kit_operations SET kept_from_ns = ? WHERE stream = ? AND key IN (SELECT key"
                " FROM kit_updates WHERE stream = ? AND id <= ? AND terminal)",
                (self._now_ns(), stream.text, stream.text, through),
            )
            db.execute(
                "DELETE FROM kit_updates WHERE stream = ? AND id <= ?", (stream.text, through)
            )

        await self._writer.write(job)

    def changed(self, stream: StreamKey) -> asyncio.Event:
        return self._changed.setdefault(stream.text, asyncio.Event())

    async def aclose(self) -> None:
        await self._writer.aclose()

    def _purge(self, db: sqlite3.Connection, now: int) -> None:
        db.execute(
            "DELETE FROM kit_operations WHERE id IN (SELECT id FROM kit_operations"
            " WHERE kept_from_ns < ? LIMIT 20)",
            (now - self._retention_ns,),
        )

    def _notify(self) -> None:
        # Filled on the writer's thread before the commit, emptied here after it.
        while self._touched:
            stream = self._touched.pop()
            if stream in self._changed:
                self._changed[stream].set()
