"""Opening a SQLite database: one process at a time, pragmas, migrations, errors of the library."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from photinus_core.model.errors import Conflict, PhotinusError, TimedOut, Unavailable
from photinus_core.model.ids import new_uuid
from photinus_core.store.schema import VERSION_TABLE, load_migrations, pending_migrations

C = TypeVar("C", bound=sqlite3.Connection)

APPLICATION_ID: Final = 0x50484F54
"""Marks a database file as ours ("PHOT")."""
BUSY_TIMEOUT_S: Final = 10.0
"""How long to wait for a lock that a tool (a backup, a shell) holds on the file."""
CHECKPOINT_PAGES: Final = 4000
"""The WAL is folded back into the database after this many pages (16 MB)."""
WRITER_CACHE_KB: Final = 32_000
READER_CACHE_KB: Final = 8_000
STATEMENTS_CACHED: Final = 256
READ_TIME_S: Final = 10.0
"""Longest time a reading statement may take; a filter without index on a long list can be that slow."""
_ROWS_MANY: Final = 1_000_000
_ROWS_FEW: Final = 10_000
"""Rows that a partial index is taken to have."""
_SHARE: Final = {"namespace": 2, "type": 5, "topics": 100, "tag": 100, "kind": 5, "consumer": 2}
"""How many different values columns are taken to have; others have ten rows for each."""
_STEPS_BETWEEN_CHECKS: Final = 100_000

_DIALECT: Final = {
    "$SEQUENCE$": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "$BYTES$": "BLOB",
    "$CLUSTERED$": "WITHOUT ROWID",
}
_LIST = re.compile(r"= ANY\(\$(\d+)\)")
_ROW_LOCK = re.compile(r" FOR (?:UPDATE|(?:KEY )?SHARE)\b")
_PARAMETER = re.compile(r"\$(\d+)")

_MEANINGS: Final = {
    sqlite3.SQLITE_FULL: "FF19101",
    sqlite3.SQLITE_BUSY: "FF19102",
    sqlite3.SQLITE_LOCKED: "FF19102",
    sqlite3.SQLITE_CORRUPT: "FF19103",
    sqlite3.SQLITE_NOTADB: "FF19103",
    sqlite3.SQLITE_INTERRUPT: "FF19111",
}


@lru_cache(maxsize=1024)
def translate(statement: str) -> str:
    """Turns a shared statement into SQLite's dialect: `?1` parameters, lists as JSON arrays."""
    alone = _ROW_LOCK.sub("", statement)  # its transactions are alone anyway
    listed = _LIST.sub(r"IN (SELECT value FROM json_each(?\1))", alone)
    return _PARAMETER.sub(r"?\1", listed)


def translate_error(failure: sqlite3.Error, path: Path) -> PhotinusError:
    """Gives the error of the core for one of SQLite."""
    if isinstance(failure, sqlite3.IntegrityError):
        return Conflict("FF19108", failure)
    # The low byte is the kind; the rest tells details that the text has too.
    kind = getattr(failure, "sqlite_errorcode", 0) & 0xFF
    match _MEANINGS.get(kind):
        case "FF19101":
            return Unavailable("FF19101", path)
        case "FF19102":
            return Unavailable("FF19102", BUSY_TIMEOUT_S, path)
        case "FF19111":
            return TimedOut("FF19111", READ_TIME_S)
        case "FF19103":
            return Unavailable("FF19103", path, failure)
        case _:
            return Unavailable("FF19107", path, failure)


class FileLock:
    """Keeps a second process off a database. Released by the system when the process ends.

    The lock is on a file beside the database: SQLite's own locks on the database are dropped when
    any descriptor of it closes.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise Unavailable("FF19107", database, failure) from failure
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            holder = os.read(self._descriptor, 64).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Unavailable("FF19106", database, f"process {holder or '?'}") from failure
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Lets another process in."""
        os.close(self._descriptor)


def open_writer(path: Path) -> tuple[sqlite3.Connection, str]:
    """Opens the writing connection and brings the schema up to date; the lock must be held.

    Returns:
        The connection and the cluster id.

    Raises:
        Unavailable: the file is damaged, not ours, newer than this program, or out of reach.
    """
    try:
        # SQLite gives the files beside it the same mode: what members tell each other is private.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _connect(path, sqlite3.Connection)
    except OSError as failure:
        raise Unavailable("FF19107", path, failure) from failure
    except sqlite3.Error as failure:
        raise translate_error(failure, path) from failure
    try:
        _refuse_strangers(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise Unavailable("FF19107", path, "its file system does not allow a write-ahead log")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KB}")
        return connection, _migrate(connection)
    except sqlite3.Error as failure:
        connection.close()
        raise translate_error(failure, path) from failure
    except BaseException:
        connection.close()
        raise


class ReadConnection(sqlite3.Connection):
    """A connection that can only read, each statement within `READ_TIME_S`. For one thread."""

    _deadline = 0.0

    def prepare(self) -> None:
        """Sets the limits; called once."""
        self.execute(f"PRAGMA cache_size = -{READER_CACHE_KB}")
        self.execute("PRAGMA query_only = ON")
        self.set_progress_handler(self._is_over, _STEPS_BETWEEN_CHECKS)

    def read(self, sql: str, args: Sequence[object]) -> list[Any]:
        """Runs a statement and gives all its rows."""
        self._deadline = time.monotonic() + READ_TIME_S
        return self.execute(sql, args).fetchall()

    def _is_over(self) -> bool:
        return self._deadline > 0.0 and time.monotonic() > self._deadline


def open_reader(path: Path) -> ReadConnection:
    """Opens a connection that can only read."""
    connection = _connect(path, ReadConnection)
    connection.prepare()
    return connection


def _connect(path: Path, kind: type[C]) -> C:
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_CACHED,
        factory=kind,
    )
    # As PostgreSQL: LIKE tells case apart, lower() knows all letters.
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.create_function("lower", 1, _lower, deterministic=True)
    return connection


def _lower(text: str | float | bytes | None) -> str | float | bytes | None:
    return text.lower() if isinstance(text, str) else text


def _refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise Unavailable("FF19109", path)


def _migrate(connection: sqlite3.Connection) -> str:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(VERSION_TABLE)
        _add_min_code(connection)
        applied = connection.execute(
            "SELECT version, checksum, min_code FROM schema_migrations ORDER BY version"
        ).fetchall()
        pending = pending_migrations(applied, load_migrations())
        for migration in pending:
            for statement in migration.statements(_DIALECT):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum, applied, min_code) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    migration.version,
                    migration.name,
                    migration.checksum,
                    # tidy: when this file was migrated is of interest to people only
                    time.time_ns(),
                    migration.min_code,
                ),
            )
        if pending:
            write_statistics(connection)
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('cluster_id', ?) ON CONFLICT DO NOTHING",
            (new_uuid(),),
        )
        (cluster_id,) = connection.execute(
            "SELECT value FROM meta WHERE key = 'cluster_id'"
        ).fetchone()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return str(cluster_id)


def _add_min_code(connection: sqlite3.Connection) -> None:
    """Adds the column that databases of 0.1 do not have."""
    columns = connection.execute("PRAGMA table_info(schema_migrations)").fetchall()
    if all(column[1] != "min_code" for column in columns):
        connection.execute("ALTER TABLE schema_migrations ADD COLUMN min_code BIGINT")


def write_statistics(connection: sqlite3.Connection) -> None:
    """Tells SQLite's planner what the tables will be like: many rows, few namespaces.

    Without statistics it takes any equality for selective and would rather read all rows of a namespace in
    order than look some up and sort them. Real statistics of a young database would mislead it later.
    """
    connection.execute("ANALYZE")  # makes the table of statistics
    connection.execute("DELETE FROM sqlite_stat1")
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    for (table,) in tables.fetchall():
        for _, index, unique, origin, partial in connection.execute(
            f"PRAGMA index_list({table})"
        ).fetchall():
            columns = [row[2] for row in connection.execute(f"PRAGMA index_info({index})")]
            name = table if origin == "pk" else index
            connection.execute(
                "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)",
                (
                    table,
                    name,
                    _statistics(columns, is_unique=bool(unique), is_partial=bool(partial)),
                ),
            )
    connection.execute("ANALYZE sqlite_master")  # has the planner read it


def _statistics(columns: Sequence[str], *, is_unique: bool, is_partial: bool) -> str:
    """Writes the number of rows, then for each column how many rows share the values up to it."""
    rows = _ROWS_FEW if is_partial else _ROWS_MANY
    shared = [rows // _SHARE.get(column, rows // 10) for column in columns]
    numbers = [min(shared[: at + 1]) for at in range(len(columns))]
    if is_unique or columns[-1] == "sequence":
        numbers[-1] = 1
    return " ".join(str(number) for number in (rows, *numbers))
