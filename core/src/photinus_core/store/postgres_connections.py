"""Connections to PostgreSQL: making them, and keeping some of one kind ready.

The library's own pool asks the server to reset each connection it gets back, which is a round trip
for each use; ours hands out connections that our own code left clean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

from photinus_core.model.errors import PhotinusError, Unavailable
from photinus_core.store.postgres_errors import (
    LIBRARY_ERRORS,
    is_broken,
    is_transient,
    translate_connect_error,
)
from photinus_core.store.postgres_settings import PostgresSettings

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

STATEMENTS_CACHED: Final = 512
"""Prepared statements kept on each connection; lists with filters make ever new ones."""
ANSWER_MARGIN_S: Final = 2.0
"""How much longer than the server's own timeout a statement is waited for: then the way to it is cut."""
CLOSE_TIMEOUT_S: Final = 2.0
RETRY_PAUSE_S: Final = 0.2

HOLD_LEASE: Final = "photinus_hold_lease"
TAKE_TURN: Final = "photinus_take_turn"
_PREPARE_WRITER: Final = (
    # Division by zero is how a statement without an answer can fail: the lease is another's.
    f"PREPARE {HOLD_LEASE} (text, bigint) AS SELECT 1 / count(*) FROM "
    "(SELECT 1 FROM leases WHERE role = $1 AND epoch = $2 FOR SHARE) AS held; "
    f"PREPARE {TAKE_TURN} (bigint) AS SELECT pg_advisory_xact_lock($1)"
)

_log = logging.getLogger(__name__)


class Opener:
    """Makes connections of each kind.

    Args:
        settings: Where the database is and what sessions may cost.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self.durability: Mapping[str, str] = {}
        """Server settings that writing sessions add; found out when the database is opened."""
        self._last = 0
        """Index of the host that was of use last: the first to be tried."""

    async def writer(self) -> Connection:
        """Opens a connection for transactions.

        The database ends a transaction that stands still, so that a frozen replica holds no rows.
        """
        settings = self._settings
        idle_ms = str(round(settings.idle_in_transaction_s * 1000))
        connection = await self.open(
            "writer",
            settings.write_timeout_s,
            {
                "idle_in_transaction_session_timeout": idle_ms,
                "tcp_user_timeout": idle_ms,
                **self.durability,
            },
        )
        try:
            await connection.execute(_PREPARE_WRITER)
        except LIBRARY_ERRORS as failure:
            connection.terminate()
            raise translate_connect_error(
                failure, settings.place, settings.connect_timeout_s
            ) from failure
        return connection

    async def reader(self) -> Connection:
        """Opens a connection for reading."""
        return await self.open("reader", self._settings.read_timeout_s, {})

    async def open(
        self, kind: str, statement_timeout_s: float, server_settings: Mapping[str, str]
    ) -> Connection:
        """Opens a connection.

        Args:
            kind: For people who look at the server's list of sessions.
            statement_timeout_s: Longest time a statement may take; 0 for no limit.
            server_settings: Further settings of the session.

        Raises:
            Unavailable: FF1913x, the server is away, full, or refuses us.
            Rejected: FF19130, the URL is wrong.
        """
        settings = self._settings
        options: dict[str, Any] = {
            "command_timeout": statement_timeout_s + ANSWER_MARGIN_S
            if statement_timeout_s
            else None,
            "statement_cache_size": STATEMENTS_CACHED,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                "application_name": f"photinus {kind}",
                "statement_timeout": str(round(statement_timeout_s * 1000)),
                "default_transaction_isolation": "read committed",
                "jit": "off",
                **server_settings,
            },
        }
        if settings.names_session_attributes or not settings.has_several_hosts:
            return await self._connect(settings.library_url(), settings.connect_timeout_s, options)
        return await self._connect_to_writable(options)

    async def _connect_to_writable(self, options: Mapping[str, Any]) -> Connection:
        """Connects to the first of several hosts that takes writes, beginning with the last one used.

        The library would end at the first that answers with an error, as one does that is just
        starting, and spend all its time on one that does not answer.
        """
        urls, first = self._settings.library_urls(), self._last
        part_s = self._settings.connect_timeout_s / len(urls)
        options = {**options, "target_session_attrs": "read-write"}
        failures: list[PhotinusError] = []
        for turn in range(len(urls)):
            index = (first + turn) % len(urls)
            try:
                made = await self._connect(urls[index], part_s, options)
            except PhotinusError as failure:
                failures.append(failure)
            else:
                self._last = index
                return made
        # What may pass is said rather than what may not: a standby need not have the database yet.
        raise next(filter(is_transient, failures), failures[0])

    async def _connect(self, url: str, timeout_s: float, options: Mapping[str, Any]) -> Connection:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncpg.connect(url, timeout=timeout_s, **options)
        except (*LIBRARY_ERRORS, ValueError) as failure:
            raise translate_connect_error(failure, self._settings.place, timeout_s) from failure

    async def first(self) -> Connection:
        """Opens the first connection, waiting a while for a server that is away or starting.

        Raises:
            Unavailable, Rejected: as `open`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.start_timeout_s
        while True:
            try:
                return await self.open("opening", 0, {})
            except PhotinusError as failure:
                if not is_transient(failure) or loop.time() >= deadline:
                    raise
                _log.warning("waiting for the database: %s", failure)
            await asyncio.sleep(RETRY_PAUSE_S)


@dataclass(slots=True)
class _Kept:
    """A connection that waits for use."""

    connection: Connection
    opened_s: float
    idle_since_s: float


@dataclass(slots=True)
class Connections:
    """Connections of one kind, at most a number; the most recently used is taken first.

    Attributes:
        open_one: Makes one.
        limit: Most at one time.
        settings: How long they are kept and waited for.
    """

    open_one: Callable[[], Awaitable[Connection]]
    limit: int
    settings: PostgresSettings
    _idle: list[_Kept] = field(default_factory=list)
    _opened_s: dict[Connection, float] = field(default_factory=dict)
    _free: asyncio.Semaphore = field(init=False)
    _closed: bool = False
    _usable_since_s: float = 0.0

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.limit)

    async def acquire(self) -> Connection:
        """Takes a connection; give it back with `release` or `discard`.

        Raises:
            Unavailable: FF19122 all stayed busy, FF1913x none can be made, FF19100 closed.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(self.settings.wait_s):
                    await self._free.acquire()
            except TimeoutError as failure:
                raise Unavailable("FF19122", self.limit, self.settings.wait_s) from failure
        else:
            await self._free.acquire()
        try:
            if self._closed:
                raise Unavailable("FF19100")
            while self._idle:
                connection = self._idle.pop().connection
                if not connection.is_closed():
                    return connection
                self._opened_s.pop(connection, None)
            connection = await self.open_one()
        except BaseException:
            self._free.release()
            raise
        self._opened_s[connection] = asyncio.get_running_loop().time()
        return connection

    def release(self, connection: Connection) -> None:
        """Gives back a connection that is between transactions."""
        outdated = self._opened_s[connection] < self._usable_since_s
        if self._closed or outdated or connection.is_closed():
            self.discard(connection)
            return
        now = asyncio.get_running_loop().time()
        self._idle.append(_Kept(connection, self._opened_s[connection], now))
        self._free.release()

    def discard(self, connection: Connection) -> None:
        """Gives back a connection that is broken or in the middle of something; it is cut."""
        self._opened_s.pop(connection, None)
        connection.terminate()
        self._free.release()

    def give_back(self, connection: Connection, failure: BaseException) -> None:
        """Gives back a connection on which a statement outside of a transaction failed."""
        if isinstance(failure, Exception) and not is_broken(failure):
            self.release(connection)
        else:
            self.discard(connection)

    def drop_idle(self) -> None:
        """Cuts all that wait for use: one of them was found lost."""
        idle, self._idle = self._idle, []
        for kept in idle:
            self._opened_s.pop(kept.connection, None)
            kept.connection.terminate()

    def renew(self) -> None:
        """Cuts all that were opened so far: those that wait at once, the others when they come back."""
        self._usable_since_s = asyncio.get_running_loop().time()
        self.drop_idle()

    async def trim(self) -> None:
        """Closes what was unused for long, and what is old."""
        now = asyncio.get_running_loop().time()
        lifetime_s = self.settings.connection_lifetime_s
        stale = [
            kept
            for kept in self._idle
            if now - kept.idle_since_s > self.settings.connection_idle_s
            or (lifetime_s and now - kept.opened_s > lifetime_s)
        ]
        self._idle = [kept for kept in self._idle if kept not in stale]
        for kept in stale:
            await self._close(kept.connection)

    async def aclose(self) -> None:
        """Waits for the connections in use and closes all."""
        self._closed = True
        for _ in range(self.limit):
            await self._free.acquire()
        idle, self._idle = self._idle, []
        for kept in idle:
            await self._close(kept.connection)
        for _ in range(self.limit):
            self._free.release()

    async def _close(self, connection: Connection) -> None:
        self._opened_s.pop(connection, None)
        try:
            await connection.close(timeout=CLOSE_TIMEOUT_S)
        except LIBRARY_ERRORS:
            connection.terminate()
