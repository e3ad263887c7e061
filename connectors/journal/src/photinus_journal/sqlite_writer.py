"""One thread that owns an SQLite file, with group commit and no timers.

While one commit is in flight, further jobs collect; the next transaction takes them all, each in a
savepoint of its own, so that one that fails fails alone. A job is a plain function of the
connection.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from photinus_journal.errors import Unusable

JOBS_PER_COMMIT_MAX = 512
R = TypeVar("R")

_Job = tuple[Callable[[sqlite3.Connection], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class SqliteWriter:
    """Runs functions on the database, durably: `await write(fn)` returns after the commit.

    Jobs run in the order of their calls. Reads go the same way and see all that was written before.

    Args:
        path: The database file. A lock file beside it keeps a second process out. None keeps everything
            in memory, to end with the process.
        schema: SQL that creates what is missing; run at every start.
        on_commit: Called on the event loop after each commit, also when a caller is cancelled.

    Raises:
        Unusable: STORE_IN_USE when another process holds the file, STORE_UNUSABLE when it is no store.
    """

    def __init__(
        self, path: Path | None, schema: str, on_commit: Callable[[], None] = lambda: None
    ) -> None:
        self._lock = None if path is None else _locked(path)
        try:
            self._db = _opened(path, schema)
        except sqlite3.Error as error:
            self._unlock()
            raise Unusable(f"{path} cannot be used: {error}", "STORE_UNUSABLE") from error
        self._on_commit = on_commit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        name = "memory" if path is None else path.name
        self._thread = threading.Thread(target=self._work, name=f"sqlite {name}", daemon=True)
        self._thread.start()

    async def write(self, job: Callable[[sqlite3.Connection], R]) -> R:
        """Runs `job` in a transaction and returns its result once that is on disk.

        An exception of the job undoes what the job did and is raised here. A caller that is
        cancelled leaves the job running: whether it took effect is then not known to the caller.
        """
        if self._closed:
            raise Unusable("The store is closed", "STORE_CLOSED")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._jobs.put((job, future, loop))
        return await future

    async def aclose(self) -> None:
        """Finishes queued jobs, then closes the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def _work(self) -> None:
        running = True
        while running:
            group = [self._jobs.get()]
            while len(group) < JOBS_PER_COMMIT_MAX and not self._jobs.empty():
                group.append(self._jobs.get())
            jobs = [job for job in group if job is not None]
            running = len(jobs) == len(group)
            if jobs:
                self._commit(jobs)
        self._db.close()

    def _commit(self, jobs: list[_Job]) -> None:
        outcomes: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            outcomes.extend(self._run(job) for job in jobs)
            self._db.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            # A database that cannot even roll back must not end the thread: callers would wait for ever.
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            outcomes = [(job, None, error) for job in jobs]
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any, BaseException | None]]] = {}
        for outcome in outcomes:
            by_loop.setdefault(outcome[0][2], []).append(outcome)
        for loop, group in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._resolve, group)

    def _run(self, job: _Job) -> tuple[_Job, Any, BaseException | None]:
        self._db.execute("SAVEPOINT job")
        try:
            result = job[0](self._db)
        except BaseException as error:  # noqa: BLE001 - as above; the others of the group go on
            self._db.execute("ROLLBACK TO job")
            self._db.execute("RELEASE job")
            return job, None, error
        self._db.execute("RELEASE job")
        return job, result, None

    def _resolve(self, outcomes: list[tuple[_Job, Any, BaseException | None]]) -> None:
        self._on_commit()
        for (_, future, _), result, error in outcomes:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def _locked(path: Path) -> int:
    """Takes the lock file of a database; its descriptor. Makes the folder. Raises Unusable."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        message = f"{path} is in use by another process; give each its own data directory"
        raise Unusable(message, "STORE_IN_USE") from None
    return lock


def _opened(path: Path | None, schema: str) -> sqlite3.Connection:
    db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            db.execute(f"PRAGMA {pragma}")
        db.executescript(schema)
    except BaseException:
        db.close()
        raise
    return db
