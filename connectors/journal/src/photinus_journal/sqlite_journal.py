"""The journal in one SQLite file per instance.

A key goes BEGUN (0) → PENDING → terminal. BEGUN is not an answer: after a crash the call is carried
out again with `retried` set. A finished key is forgotten `retention_s` after its last update was
acked, or after its answer when it has no updates; an unfinished one never.
"""

import asyncio
import functools
import sqlite3
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

from photinus_journal.errors import KeyReused, TooLarge
from photinus_journal.journal import (
    ERROR_BYTES_MAX,
    TERMINAL,
    Begun,
    Scope,
    StoredUpdate,
    cut,
    operation_of,
)
from photinus_journal.sqlite_epochs import EPOCHS_SCHEMA, SqliteEpochs
from photinus_journal.sqlite_writer import SqliteWriter

BEGUN = 0
UPDATE_BYTES_MAX = 512 << 10
RETENTION_DEFAULT_S = 7 * 24 * 3600
P = ParamSpec("P")
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


def _in_transaction(
    method: "Callable[Concatenate[SqliteJournal, sqlite3.Connection, P], R]",
) -> "Callable[Concatenate[SqliteJournal, P], Coroutine[Any, Any, R]]":
    """Makes a function of the connection one that is awaited until its transaction is committed."""

    @functools.wraps(method)
    async def run(self: "SqliteJournal", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.write(lambda db: method(self, db, *args, **kwargs))

    return run


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
        self._store_id = await self._own_id()

    @property
    def store_id(self) -> str:
        return self._store_id

    async def write(self, job: Callable[[sqlite3.Connection], R]) -> R:
        """Runs `job` on the journal's connection, in order of calls; returns after the commit."""
        return await self._writer.write(job)

    async def raise_epoch(self, stream: Scope, epoch: int) -> int:
        return await self._epochs.rise(stream, epoch)

    @_in_transaction
    def begin(
        self, db: sqlite3.Connection, stream: Scope, key: str, method: str, fingerprint: bytes
    ) -> Begun:
        now = self._now_ns()
        self._purge(db, now)
        row = db.execute(
            f"SELECT fingerprint, answer, {OPERATION} FROM kit_operations"  # noqa: S608 - our own constants
            " WHERE stream = ? AND key = ?",
            (stream.text, key),
        ).fetchone()
        if row is None:
            db.execute(
                "INSERT INTO kit_operations (stream, key, method, fingerprint, state, created_ns,"
                " updated_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (stream.text, key, method, fingerprint, BEGUN, now, now),
            )
            return Begun()
        known, answer, *columns = row
        operation = operation_of(columns)
        if known and (known != fingerprint or operation.method != method):
            message = f"The key {key} was used for another {operation.method}"
            raise KeyReused(message, "KEY_REUSED")
        if operation.state == BEGUN:
            return Begun(retried=True)
        return Begun(answer=answer or b"", operation=operation)

    @_in_transaction
    def accept(
        self,
        db: sqlite3.Connection,
        stream: Scope,
        key: str,
        answer: bytes,
        kept: common.Submission,
    ) -> None:
        found, output, pending = kept.external_id, kept.output_json, common.OPERATION_STATE_PENDING
        # What an update said before the answer came stays.
        db.execute(
            "UPDATE kit_operations SET answer = ?, updated_ns = ?, state = max(state, ?),"
            " external_id = coalesce(nullif(external_id, ''), ?),"
            " output_json = coalesce(nullif(output_json, ''), ?) WHERE stream = ? AND key = ?",
            (answer, self._now_ns(), pending, found, output, stream.text, key),
        )
        if kept.state in TERMINAL:
            update = events.OperationUpdate(
                idempotency_key=key, state=kept.state, external_id=found, output_json=output
            )
            self.update_in(db, stream, update)

    @_in_transaction
    def settle(self, db: sqlite3.Connection, stream: Scope, key: str, answer: bytes) -> None:
        now = self._now_ns()
        db.execute(
            "UPDATE kit_operations SET answer = ?, state = ?, updated_ns = ?, kept_from_ns = ?"
            " WHERE stream = ? AND key = ?",
            (answer, common.OPERATION_STATE_SUCCEEDED, now, now, stream.text, key),
        )

    @_in_transaction
    def release(self, db: sqlite3.Connection, stream: Scope, key: str) -> None:
        db.execute(
            "DELETE FROM kit_operations WHERE stream = ? AND key = ? AND state = ?",
            (stream.text, key, BEGUN),
        )

    async def update(self, stream: Scope, update: events.OperationUpdate) -> None:
        await self.write(lambda db: self.update_in(db, stream, update))

    def update_in(
        self, db: sqlite3.Connection, stream: Scope, update: events.OperationUpdate
    ) -> None:
        """As `update`, inside a transaction of the author; the key need not have been begun."""
        now, key, done = self._now_ns(), update.idempotency_key, common.OPERATION_STATE_SUCCEEDED
        kept = events.OperationUpdate()
        kept.CopyFrom(update)
        kept.error = cut(update.error, ERROR_BYTES_MAX)
        check_size(kept)
        known = (kept.state, kept.external_id, kept.output_json, kept.error)
        changed = db.execute(
            "INSERT INTO kit_operations (stream, key, method, fingerprint, state, external_id,"
            " output_json, error, created_ns, updated_ns) VALUES (?, ?, '', x'', ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (stream, key) DO UPDATE SET state = excluded.state,"
            " external_id = coalesce(nullif(excluded.external_id, ''), external_id),"
            " output_json = coalesce(nullif(excluded.output_json, ''), output_json),"
            " error = excluded.error, updated_ns = excluded.updated_ns WHERE state < ?",
            (stream.text, key, *known, now, now, done),
        ).rowcount
        if changed:
            self._queue(db, stream, key, kept, terminal=kept.state in TERMINAL)

    @_in_transaction
    def tell(self, db: sqlite3.Connection, stream: Scope, event: events.Event) -> None:
        """Queues an event without listener (TokenPoolEvent) for the stream, until the core acks it.

        The event brings its id: the same one again is the same event for the core.

        Raises:
            TooLarge: no stream could carry it.
        """
        check_size(event)
        # Without a key: it ends no operation. Its body is the whole event.
        self._queue(db, stream, "", event, terminal=False)

    @_in_transaction
    def get(
        self, db: sqlite3.Connection, stream: Scope, key: str, *, begun: bool = False
    ) -> operations.Operation | None:
        row = db.execute(
            f"SELECT {OPERATION} FROM kit_operations"  # noqa: S608 - as above
            " WHERE stream = ? AND key = ? AND state >= ?",
            (stream.text, key, BEGUN if begun else common.OPERATION_STATE_PENDING),
        ).fetchone()
        return operation_of(row) if row else None

    @_in_transaction
    def list_operations(
        self,
        db: sqlite3.Connection,
        stream: Scope,
        state: common.OperationState.ValueType,
        limit: int,
        after: int,
    ) -> tuple[list[operations.Operation], int]:
        rows = db.execute(
            f"SELECT id, {OPERATION} FROM kit_operations WHERE stream = ?"  # noqa: S608 - as above
            " AND id > ? AND state > ? AND (? = 0 OR state = ?) ORDER BY id LIMIT ?",
            (stream.text, after, BEGUN, state, state, limit + 1),
        ).fetchall()
        page = rows[:limit]
        return [operation_of(row[1:]) for row in page], page[-1][0] if len(rows) > limit else 0

    @_in_transaction
    def tombstone(
        self, db: sqlite3.Connection, stream: Scope, key: str
    ) -> common.OperationState.ValueType:
        now, cancelled = self._now_ns(), common.OPERATION_STATE_CANCELLED
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

    @_in_transaction
    def updates(
        self, db: sqlite3.Connection, stream: Scope, after: int, limit: int
    ) -> list[StoredUpdate]:
        rows = db.execute(
            "SELECT id, key, body FROM kit_updates WHERE stream = ? AND id > ? ORDER BY id LIMIT ?",
            (stream.text, after, limit),
        )
        return [
            StoredUpdate(row, events.OperationUpdate.FromString(body))
            if key
            else StoredUpdate(row, event=events.Event.FromString(body))
            for row, key, body in rows
        ]

    @_in_transaction
    def updates_acked(self, db: sqlite3.Connection, stream: Scope, through: int) -> None:
        db.execute(
            "UPDATE kit_operations SET kept_from_ns = ? WHERE stream = ? AND key IN (SELECT key"
            " FROM kit_updates WHERE stream = ? AND id <= ? AND terminal)",
            (self._now_ns(), stream.text, stream.text, through),
        )
        db.execute("DELETE FROM kit_updates WHERE stream = ? AND id <= ?", (stream.text, through))

    def changed(self, stream: Scope) -> asyncio.Event:
        return self._changed.setdefault(stream.text, asyncio.Event())

    async def aclose(self) -> None:
        await self._writer.aclose()

    @_in_transaction
    def _own_id(self, db: sqlite3.Connection) -> str:
        """The store's id, made the first time."""
        made = "INSERT INTO kit_meta VALUES ('store_id', ?) ON CONFLICT DO NOTHING"
        db.execute(made, (str(uuid.uuid4()),))
        (value,) = db.execute("SELECT value FROM kit_meta WHERE name = 'store_id'").fetchone()
        return str(value)

    def _queue(
        self,
        db: sqlite3.Connection,
        stream: Scope,
        key: str,
        body: events.OperationUpdate | events.Event,
        *,
        terminal: bool,
    ) -> None:
        db.execute(
            "INSERT INTO kit_updates (stream, key, terminal, body) VALUES (?, ?, ?, ?)",
            (stream.text, key, terminal, body.SerializeToString()),
        )
        self._touched.add(stream.text)

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


def check_size(body: events.OperationUpdate | events.Event) -> None:
    """Raises TooLarge for what no stream could carry."""
    if body.ByteSize() > UPDATE_BYTES_MAX:
        message = f"An update may have {UPDATE_BYTES_MAX} bytes, not {body.ByteSize()}"
        raise TooLarge(message, "LIMIT_REACHED")
