"""The SQLite adapter of `ports.Store`: for one replica, embedded, durable at every commit.

One thread writes, some read. A transaction hands its writes over together: one without reads costs a
single hop to the writing thread and back. The lock on the writer is given on as soon as the commit
is queued, so the next transaction is prepared while the commit is on its way to the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from photinus_core.model.changes import Change
from photinus_core.model.errors import Deposed, PhotinusError, Rejected, Unavailable
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.store import ChangeWatcher, Fence, Notification, Reader, WriteTransaction
from photinus_core.store.changes import ChangeHub, Noted
from photinus_core.store.event_rows import (
    INSERT_EVENT,
    TAKE_SEQUENCES,
    event_rows,
)
from photinus_core.store.notifier import Notifier
from photinus_core.store.session import Row
from photinus_core.store.sqlite_files import (
    FileLock,
    ReadConnection,
    open_reader,
    open_writer,
    translate,
    translate_error,
)
from photinus_core.store.sqlite_threads import ConnectionThreads
from photinus_core.store.statements import ReadStatements, WriteStatements

C = TypeVar("C", bound=sqlite3.Connection)
T = TypeVar("T")

READERS: Final = 3
WRITE_WAIT_S: Final = 30.0
"""Longest wait for the transaction before; then the caller is told that the database is busy."""

_SEQUENCE_TABLES: Final = {"messages": "messages", "wakeups": "wakeups"}
"""Topics whose number is the newest sequence of a table."""

_encode = msgspec.json.Encoder().encode


def _bind(args: Iterable[object]) -> list[object]:
    return [_encode(arg).decode() if isinstance(arg, (list, tuple, set)) else arg for arg in args]


class _SqliteReader(ReadStatements):
    """Reads what is committed when each statement runs."""

    def __init__(self, store: SqliteStore, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._store = store

    async def fetch(self, statement: str, *args: object) -> list[Row]:
        sql, bound = translate(statement), _bind((self.namespace, *args))
        return await self._store.read_job(lambda connection: connection.read(sql, bound))


@dataclass(frozen=True, slots=True)
class _Write:
    """A write in SQLite's dialect, for one row or many."""

    sql: str
    rows: Sequence[Sequence[object]]


class _SqliteTransaction(WriteStatements):
    """One transaction. It begins in the database with its first statement.

    Once a statement failed all others fail, and so does the commit, also when the failure is caught.
    """

    def __init__(self, store: SqliteStore, namespace: Namespace, fence: Fence | None) -> None:
        super().__init__(namespace)
        self._store = store
        self._fence = fence
        self._writes: list[_Write] = []
        self._events: list[NewEvent] = []
        self._topics: dict[str, int | None] = {}
        self._begun = False
        self._failure: PhotinusError | None = None
        self.noted = Noted() if store.changes.has_watchers else None

    async def fetch(self, statement: str, *args: object) -> list[Row]:
        sql, bound = translate(statement), _bind((self.namespace, *args))
        flush = self._take_flush()

        def job(connection: sqlite3.Connection) -> list[Row]:
            flush(connection)
            return connection.execute(sql, bound).fetchall()

        try:
            return await self._store.write_job(job)
        except PhotinusError as failure:
            self._failure = failure
            raise

    def later(self, statement: str, *args: object) -> None:
        self._writes.append(_Write(translate(statement), (_bind((self.namespace, *args)),)))

    def later_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        taken = list(rows)
        if taken:
            self._writes.append(_Write(translate(statement), taken))

    def in_turn(self, order: str) -> None:
        """All transactions come one after the other."""

    def append_events(self, events: Sequence[NewEvent]) -> None:
        self._events.extend(events)

    def touch(self, topic: str, number: int | None = None) -> None:
        self._topics[topic] = number

    def changes(self, told: Iterable[Notification]) -> list[Change]:
        """What it changed, once it is committed; empty when nobody wants to know."""
        if self.noted is None:
            return []
        newest = next((number for _, topic, number in told if topic == "events"), 0)
        return self.noted.changes(self.namespace, self._events, newest)

    @property
    def has_begun(self) -> bool:
        """True once the database may know of it."""
        return self._begun

    @property
    def is_empty(self) -> bool:
        """True while there is nothing to commit."""
        return not (self._begun or self._writes or self._events)

    def commit_job(self) -> Callable[[sqlite3.Connection], list[Notification]]:
        """Makes the job that commits; it rolls back itself when it fails."""
        flush, events, topics = self._take_flush(), self._events, dict(self._topics)
        namespace = self.namespace

        def job(connection: sqlite3.Connection) -> list[Notification]:
            try:
                flush(connection)
                for topic, table in _SEQUENCE_TABLES.items():
                    if topic in topics:
                        topics[topic] = _newest(connection, table, namespace)
                if events:
                    topics["events"] = _insert_events(connection, namespace, events)
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
            return [
                (namespace, topic, self._store.next_number() if number is None else number)
                for topic, number in topics.items()
            ]

        return job

    def _take_flush(self) -> Callable[[sqlite3.Connection], None]:
        """Gives what must run before the next statement: begin, fence, the writes so far."""
        if self._failure is not None:
            # Some writes of a failed hop may have happened: nothing may build on them.
            raise self._failure
        begins, fence, writes = not self._begun, self._fence, self._writes
        self._begun, self._writes = True, []

        def flush(connection: sqlite3.Connection) -> None:
            if begins:
                connection.execute("BEGIN IMMEDIATE")
                if fence is not None:
                    _check_fence(connection, fence)
            for write in writes:
                if len(write.rows) == 1:
                    connection.execute(write.sql, write.rows[0])
                else:
                    connection.executemany(write.sql, write.rows)

        return flush


def _check_fence(connection: sqlite3.Connection, fence: Fence) -> None:
    held = connection.execute(
        "SELECT 1 FROM leases WHERE role = ? AND epoch = ?", (fence.role, fence.epoch)
    ).fetchone()
    if held is None:
        raise Deposed("FF19120", fence.role, fence.epoch)


def _newest(connection: sqlite3.Connection, table: str, namespace: Namespace) -> int:
    row = connection.execute(
        f"SELECT coalesce(max(sequence), 0) FROM {table} WHERE namespace = ?",
        (namespace,),
    ).fetchone()
    return int(row[0])


def _insert_events(
    connection: sqlite3.Connection, namespace: Namespace, events: Sequence[NewEvent]
) -> int:
    (newest,) = connection.execute(translate(TAKE_SEQUENCES), (namespace, len(events))).fetchone()
    rows = event_rows(events, newest - len(events) + 1)
    connection.executemany(translate(INSERT_EVENT), rows)
    return int(newest)


def roll_back(connection: sqlite3.Connection) -> None:
    """Ends a transaction without effect; SQLite may have ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


class SqliteStore:
    """`ports.Store` on one SQLite file that no other process uses."""

    def __init__(
        self,
        path: Path,
        lock: FileLock,
        cluster_id: str,
        writer: ConnectionThreads[sqlite3.Connection],
        readers: ConnectionThreads[ReadConnection],
    ) -> None:
        self._path = path
        self._lock = lock
        self._cluster_id = cluster_id
        self._writer = writer
        self._readers = readers
        self._turn = asyncio.Lock()
        self._notifier = Notifier()
        self.changes = ChangeHub()
        self._number = 0
        self._closed = False

    @classmethod
    async def open(cls, path: Path, readers: int = READERS) -> SqliteStore:
        """Opens a database, making it when there is none, and brings its schema up to date.

        Raises:
            Unavailable: FF19106 another process uses it; FF19103 it is damaged; FF19104, FF19105,
                FF19109 it is not one of this program; FF19107 it is out of reach.
        """
        return await asyncio.to_thread(cls._open, path, readers)

    @classmethod
    def _open(cls, path: Path, readers: int) -> SqliteStore:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise Unavailable("FF19107", path, failure) from failure
        lock = FileLock(path)
        try:
            writer, cluster_id = open_writer(path)
            reading = [open_reader(path) for _ in range(readers)]
        except BaseException:
            lock.release()
            raise
        return cls(
            path,
            lock,
            cluster_id,
            ConnectionThreads([writer], "store-writer"),
            ConnectionThreads(reading, "store-reader"),
        )

    @property
    def cluster_id(self) -> str:
        """UUID of the core cluster, made when the database was."""
        return self._cluster_id

    def read(self, namespace: Namespace) -> AbstractAsyncContextManager[Reader]:
        """Opens a read session. See `ports.Store`."""
        return self._read(namespace)

    @asynccontextmanager
    async def _read(self, namespace: Namespace) -> AsyncIterator[Reader]:
        yield _SqliteReader(self, namespace)

    def write(
        self, namespace: Namespace, fence: Fence | None = None
    ) -> AbstractAsyncContextManager[WriteTransaction]:
        """Opens a transaction. See `ports.Store`."""
        return self._write(namespace, fence)

    @asynccontextmanager
    async def _write(
        self, namespace: Namespace, fence: Fence | None
    ) -> AsyncIterator[WriteTransaction]:
        await self._take_turn()
        transaction = _SqliteTransaction(self, namespace, fence)
        try:
            yield transaction
            if transaction.noted is not None:
                await transaction.noted.settle(transaction.fetch)
            ending = None if transaction.is_empty else self._submit_write(transaction.commit_job())
        except BaseException:
            if transaction.has_begun:
                # Queued behind what the transaction still has under way, so that it ends after it.
                await _outlast(self._submit_write(roll_back))
            raise
        finally:
            self._turn.release()
        if ending is not None:
            await self._conclude(transaction, ending)

    async def _conclude(
        self, transaction: _SqliteTransaction, ending: asyncio.Future[list[Notification]]
    ) -> None:
        """Waits for a commit, also when cancelled: once queued, it happens or fails by itself."""
        try:
            await _outlast(ending)
        finally:
            if ending.done() and not ending.cancelled() and ending.exception() is None:
                self._notifier.publish(ending.result())
                self.changes.publish(transaction.changes(ending.result()))

    async def raise_epoch(self, role: str, epoch: Epoch | None) -> Epoch:
        """Makes a new leadership of a role the current one. See `ports.Store`."""

        def job(connection: sqlite3.Connection) -> Epoch:
            connection.execute("BEGIN IMMEDIATE")
            try:
                row = connection.execute(
                    "SELECT epoch FROM leases WHERE role = ?", (role,)
                ).fetchone()
                current = row[0] if row else 0
                raised = current + 1 if epoch is None else epoch
                if raised <= current:
                    raise Deposed("FF19121", role, raised)
                connection.execute(
                    "INSERT INTO leases (role, epoch) VALUES (?, ?) "
                    "ON CONFLICT (role) DO UPDATE SET epoch = excluded.epoch",
                    (role, raised),
                )
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
            return Epoch(raised)

        await self._take_turn()
        try:
            ending = self._submit_write(job)
        finally:
            self._turn.release()
        return await _outlast(ending)

    def subscribe(self, callback: Callable[[Notification], None]) -> Callable[[], None]:
        """Calls back after each commit. See `ports.Store`."""
        return self._notifier.subscribe(callback)

    def notifications(
        self, namespace: Namespace, topics: Collection[str]
    ) -> AsyncIterator[Notification]:
        """The same as a stream. See `ports.Store`."""
        return self._notifier.stream(namespace, topics)

    def watch_changes(self, watcher: ChangeWatcher) -> Callable[[], None]:
        """Tells of all rows that change. See `ports.Store`."""
        return self.changes.watch(watcher)

    async def aclose(self) -> None:
        """Waits for the transaction under way and closes the database. Idempotent.

        The writer goes last: only it can bring the write-ahead log into the file, which then holds
        everything.
        """
        if self._closed:
            return
        self._closed = True
        async with self._turn:
            await self._readers.aclose()
            await self._writer.aclose()
        self._lock.release()

    def next_number(self) -> int:
        """A growing number for topics that have none of their own. Called by the writing thread."""
        self._number += 1
        return self._number

    async def read_job(self, job: Callable[[ReadConnection], T]) -> T:
        """Runs a job on a reading connection."""
        if self._closed:
            raise Unavailable("FF19100")
        return await self._readers.submit(self._translated(job))

    async def write_job(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a job on the writing connection, whose turn the caller has."""
        return await self._submit_write(job)

    def _submit_write(self, job: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._writer.submit(self._translated(job))

    def _translated(self, job: Callable[[C], T]) -> Callable[[C], T]:
        def run(connection: C) -> T:
            try:
                return job(connection)
            except sqlite3.Error as failure:
                raise translate_error(failure, self._path) from failure
            except (OverflowError, UnicodeError) as failure:
                raise Rejected("FF19112", failure) from failure

        return run

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(WRITE_WAIT_S):
                await self._turn.acquire()
        except TimeoutError as failure:
            raise Unavailable("FF19110", WRITE_WAIT_S) from failure
        if self._closed:
            self._turn.release()
            raise Unavailable("FF19100")


async def _outlast(future: asyncio.Future[T]) -> T:
    """Waits for a job to its end, cancelled or not; a cancellation is passed on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as failure:
            cancelled = failure
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()
