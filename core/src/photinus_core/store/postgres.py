"""The PostgreSQL adapter of `ports.Store`: for clusters of replicas.

Transactions run on connections of their own, reads on others; nothing is kept in this process that
another replica could change. What readers rely on is kept by order, not by isolation (read
committed): tables read by a growing sequence are written in turn (`in_turn`), events get theirs
last, and a leader's transaction begins by holding its lease row, which its successor must have to
raise the epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from photinus_core.model.errors import CommitUnknown, Deposed, PhotinusError, Unavailable
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.store import ChangeWatcher, Fence, Notification, Reader, WriteTransaction
from photinus_core.ports.tasks import Background, run_to_end
from photinus_core.store import postgres_dialect
from photinus_core.store.changes import Noted
from photinus_core.store.notifier import Notifier
from photinus_core.store.postgres_connections import Connection, Connections, Opener
from photinus_core.store.postgres_errors import (
    LIBRARY_ERRORS,
    deposed,
    is_broken,
    is_lost,
    is_read_only,
    translate_error,
)
from photinus_core.store.postgres_listener import Listener
from photinus_core.store.postgres_schema import Opened, prepare_database
from photinus_core.store.postgres_session import PostgresReader, PostgresTransaction, deposed_by
from photinus_core.store.postgres_settings import PostgresSettings, check_url
from photinus_core.store.session import Row

LEASE_GRACE_S: Final = 0.3
"""How long a new leader waits for transactions of the old one before it has the database end them."""
LEASE_LOOK_S: Final = 0.1
LEAVE_AGAIN_S: Final = 1.0
"""How often at most all connections are made anew because the server takes no writes."""

_RAISE_TO: Final = (
    "INSERT INTO leases AS l (role, epoch) VALUES ($1, $2) ON CONFLICT (role) "
    "DO UPDATE SET epoch = excluded.epoch WHERE l.epoch < excluded.epoch RETURNING epoch"
)
_RAISE_BY_ONE: Final = (
    "INSERT INTO leases AS l (role, epoch) VALUES ($1, 1) ON CONFLICT (role) "
    "DO UPDATE SET epoch = l.epoch + 1 RETURNING epoch"
)
_END_HOLDERS: Final = (
    "SELECT pid, pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1)) AS blocking (pid)"
)

_log = logging.getLogger(__name__)


class PostgresStore:
    """`ports.Store` on a PostgreSQL database that any number of replicas share."""

    def __init__(self, settings: PostgresSettings, opener: Opener, opened: Opened) -> None:
        self._settings = settings
        self._place = settings.place
        self._cluster_id = opened.cluster_id
        self._case_collation = opened.case_collation
        self._writers = Connections(opener.writer, settings.writers_max, settings)
        self._readers = Connections(opener.reader, settings.readers_max, settings)
        self._notifier = Notifier()
        self._listener = Listener(opener, settings, self._notifier, self._trim)
        self._types: dict[str, tuple[str, ...]] = {}
        self._number = 0
        self._work = AsyncExitStack()
        self._closed = False
        self._leave_again_s = 0.0

    @classmethod
    async def open(cls, settings: PostgresSettings) -> PostgresStore:
        """Opens a database, makes its tables when there are none, and brings them up to date.

        Waits `start_timeout_s` for a server that is away or starting.

        Raises:
            Rejected: FF19130, the URL is wrong.
            Unavailable: FF19131 to FF19134 the server is away, full, or refuses us; FF19139 it
                cannot serve; FF19104, FF19105, FF19109 the database is not one of this program.
        """
        check_url(settings.url)
        opener = Opener(settings)
        connection = await opener.first()
        try:
            opened = await prepare_database(connection, settings.place)
        finally:
            connection.terminate()
        opener.durability = opened.durability
        store = cls(settings, opener, opened)
        background = await store._work.enter_async_context(Background("postgres"))
        background.start("listener", store._listener.run())
        return store

    @property
    def cluster_id(self) -> str:
        """UUID of the core cluster, made when the database was."""
        return self._cluster_id

    def read(self, namespace: Namespace) -> AbstractAsyncContextManager[Reader]:
        """Opens a read session. See `ports.Store`."""
        return self._read(namespace)

    @asynccontextmanager
    async def _read(self, namespace: Namespace) -> AsyncIterator[Reader]:
        yield PostgresReader(self, namespace)

    def write(
        self, namespace: Namespace, fence: Fence | None = None
    ) -> AbstractAsyncContextManager[WriteTransaction]:
        """Opens a transaction. See `ports.Store`.

        Raises:
            CommitUnknown: FF19136, the connection broke during the commit: look whether it was
                stored, or repeat what is safe to repeat.
        """
        return self._write(namespace, fence)

    @asynccontextmanager
    async def _write(
        self, namespace: Namespace, fence: Fence | None
    ) -> AsyncIterator[WriteTransaction]:
        if self._closed:
            raise Unavailable("FF19100")
        transaction = PostgresTransaction(self, namespace, fence)
        try:
            yield transaction
            if not transaction.is_empty:
                await run_to_end(self._conclude(transaction))
        except Exception:
            await transaction.roll_back(gracefully=True)
            raise
        except BaseException:
            await transaction.roll_back(gracefully=False)
            raise

    async def _conclude(self, transaction: PostgresTransaction) -> None:
        told = await transaction.commit()
        self._listener.committed(told)
        self._listener.changes.committed(transaction.changes(told))

    async def commit(self, connection: Connection) -> None:
        """Commits what a connection has begun.

        Raises:
            CommitUnknown: FF19136, it may have committed.
            PhotinusError: it did not.
        """
        try:
            await connection.execute("COMMIT")
        except LIBRARY_ERRORS as failure:
            if is_broken(failure):
                raise CommitUnknown("FF19136", self._place, failure) from failure
            raise self.translated(failure) from failure

    async def raise_epoch(self, role: str, epoch: Epoch | None) -> Epoch:
        """Makes a new leadership of a role the current one. See `ports.Store`.

        Returns once no transaction of an earlier one is under way: those that do not end by
        themselves within `LEASE_GRACE_S` are ended by the database.
        """
        if self._closed:
            raise Unavailable("FF19100")
        statement, args = (_RAISE_BY_ONE, ()) if epoch is None else (_RAISE_TO, (epoch,))
        connection = await self._writers.acquire()
        failure: BaseException | None = None
        rows: list[Row] = []
        async with Background(f"lease of {role}") as work:
            work.start("end holders", self._end_holders(connection.get_server_pid(), role))
            try:
                rows = await connection.fetch(statement, role, *args)
            except LIBRARY_ERRORS as refused:
                failure = refused
            except BaseException as other:
                self._writers.give_back(connection, other)
                raise
        if failure is not None:
            self._writers.give_back(connection, failure)
            raise self.translated(failure) from failure
        self._writers.release(connection)
        if not rows:
            raise Deposed("FF19121", role, epoch)
        return Epoch(rows[0][0])

    async def _end_holders(self, pid: int, role: str) -> None:
        """Ends the sessions that hold a lease row against its new leader, as long as there are any."""
        await asyncio.sleep(LEASE_GRACE_S)
        while True:
            try:
                for ended, _ in await self._fetch(_END_HOLDERS, pid):
                    _log.warning("%s: ended a stalled transaction (backend %d)", role, ended)
            except PhotinusError as failure:
                _log.warning("%s: stalled transactions could not be ended: %s", role, failure)
            await asyncio.sleep(LEASE_LOOK_S)

    def subscribe(self, callback: Callable[[Notification], None]) -> Callable[[], None]:
        """Calls back after each commit, other replicas' included. See `ports.Store`."""
        return self._notifier.subscribe(callback)

    def notifications(
        self, namespace: Namespace, topics: Collection[str]
    ) -> AsyncIterator[Notification]:
        """The same as a stream. See `ports.Store`."""
        return self._notifier.stream(namespace, topics)

    def watch_changes(self, watcher: ChangeWatcher) -> Callable[[], None]:
        """Tells of all rows that change, on other replicas too. See `ports.Store`."""
        return self._listener.changes.hub.watch(watcher)

    def noted(self) -> Noted | None:
        """For a transaction that begins: where to note its changes, if anybody wants them."""
        return self._listener.changes.noted()

    async def wait_listening(self) -> None:
        """Returns once other replicas' commits are heard of."""
        await self._listener.is_listening.wait()

    async def aclose(self) -> None:
        """Waits for transactions under way and closes all connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._writers.aclose()
        await self._readers.aclose()
        await self._work.aclose()
        # What was cut, the listening connection above all, closes its socket in the loop's next turn.
        await asyncio.sleep(0)

    @property
    def writers(self) -> Connections:
        """Connections for transactions."""
        return self._writers

    def translate(self, statement: str) -> str:
        """A shared statement in PostgreSQL's dialect."""
        return postgres_dialect.translate(statement, self._case_collation)

    def translated(self, failure: BaseException, fence: Fence | None = None) -> PhotinusError:
        """The error of the core for one of the library."""
        if fence is not None and deposed_by(failure, fence):
            return deposed(fence.role, fence.epoch)
        if is_read_only(failure):
            self._leave_server()
        return translate_error(failure, self._place)

    def _leave_server(self) -> None:
        """Has all connections be made anew: another server takes the writes now, and has what is to be read.

        Sessions with a server that was only told to take no writes would otherwise last for ever.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._leave_again_s:
            self._leave_again_s = now + LEAVE_AGAIN_S
            self._writers.renew()
            self._readers.renew()
            self._listener.renew()

    def next_number(self) -> int:
        """A growing number for topics that have none of their own."""
        self._number += 1
        return self._number

    async def parameter_types(self, connection: Connection, statement: str) -> tuple[str, ...]:
        """The types of a statement's parameters, as the database infers them."""
        types = self._types.get(statement)
        if types is None:
            prepared = await connection.prepare(statement)
            types = tuple(kind.name for kind in prepared.get_parameters())
            self._types[statement] = types
        return types

    async def read_rows(self, statement: str, *args: object) -> list[Row]:
        """Runs a reading statement of the shared dialect."""
        if self._closed:
            raise Unavailable("FF19100")
        return await self._fetch(self.translate(statement), *args)

    async def _fetch(self, sql: str, *args: object) -> list[Row]:
        try:
            return await self._fetch_once(sql, args)
        except LIBRARY_ERRORS as failure:
            if not is_lost(failure):
                raise self._read_error(failure) from failure
        # It may have been lost while it was idle, and others with it: reading again does no harm.
        self._readers.drop_idle()
        try:
            return await self._fetch_once(sql, args)
        except LIBRARY_ERRORS as failure:
            raise self._read_error(failure) from failure

    async def _fetch_once(self, sql: str, args: tuple[object, ...]) -> list[Row]:
        connection = await self._readers.acquire()
        try:
            rows: list[Row] = await connection.fetch(sql, *args)
        except BaseException as failure:
            self._readers.give_back(connection, failure)
            raise
        self._readers.release(connection)
        return rows

    def _read_error(self, failure: BaseException) -> PhotinusError:
        return translate_error(failure, self._place, self._settings.read_timeout_s)

    async def _trim(self) -> None:
        await self._writers.trim()
        await self._readers.trim()
