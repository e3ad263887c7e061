"""Sessions on PostgreSQL: reading, and one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from photinus_core.model.changes import Change
from photinus_core.model.errors import PhotinusError
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Namespace
from photinus_core.ports.store import Fence, Notification
from photinus_core.store.changes import Noted
from photinus_core.store.event_rows import event_rows
from photinus_core.store.postgres_connections import (
    HOLD_LEASE,
    TAKE_TURN,
    Connection,
    Connections,
)
from photinus_core.store.postgres_dialect import (
    BULK_ROWS_MIN,
    JOINED_ROWS_MAX,
    Bulk,
    BulkPlan,
    columns_of,
    join_inserts,
    plan_bulk,
    unnest,
)
from photinus_core.store.postgres_errors import LIBRARY_ERRORS, is_deposed, is_lost
from photinus_core.store.postgres_listener import CHANNEL, FREQUENT, pack
from photinus_core.store.session import Row
from photinus_core.store.statements import ReadStatements, WriteStatements

# The last statement before the commit: from its lock on the head to the commit, writers of events of
# one namespace wait for each other. `$2` and on are arrays, one per column.
APPEND_EVENTS: Final = (
    "WITH head AS (INSERT INTO event_heads AS h (namespace, sequence) VALUES ($1, $2) "
    "ON CONFLICT (namespace) DO UPDATE SET sequence = h.sequence + excluded.sequence "
    "RETURNING sequence) "
    "INSERT INTO events (namespace, sequence, id, type, reference, correlator, tx, topic, created) "
    "SELECT $1, head.sequence - $2 + given.place, given.id, given.type, given.reference, "
    "given.correlator, given.tx, given.topic, given.created FROM head, "
    "unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[]) "
    "WITH ORDINALITY AS given (id, type, reference, correlator, tx, topic, created, place) "
    "RETURNING sequence"
)
_NEWEST: Final = {
    "messages": "(SELECT max(sequence) FROM messages WHERE namespace = $1)",
    "wakeups": "(SELECT max(sequence) FROM wakeups WHERE namespace = $1)",
}
"""Topics whose number is the newest sequence of a table."""


@lru_cache(maxsize=4096)
def turn_key(namespace: Namespace, order: str) -> int:
    """The key of the lock that transactions of one order take in turn."""
    digest = hashlib.sha256(f"photinus/{namespace}/{order}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Database(Protocol):
    """What sessions ask of the store they belong to."""

    @property
    def writers(self) -> Connections:
        """Connections for transactions."""
        ...

    async def read_rows(self, statement: str, *args: object) -> list[Row]:
        """Runs a reading statement of the shared dialect."""
        ...

    async def commit(self, connection: Connection) -> None:
        """Commits what a connection has begun; errors as `ports.Store.write`."""
        ...

    def translate(self, statement: str) -> str:
        """A shared statement in PostgreSQL's dialect."""
        ...

    def translated(self, failure: BaseException, fence: Fence | None = None) -> PhotinusError:
        """The error of the core for one of the library."""
        ...

    async def parameter_types(self, connection: Connection, statement: str) -> tuple[str, ...]:
        """The types of a statement's parameters, as the database infers them."""
        ...

    def next_number(self) -> int:
        """A growing number for topics that have none of their own."""
        ...

    def noted(self) -> Noted | None:
        """Where a transaction is to note its changes; None when nobody wants to know."""
        ...


class PostgresReader(ReadStatements):
    """Reads what is committed when each statement runs."""

    def __init__(self, store: Database, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._store = store

    async def fetch(self, statement: str, *args: object) -> list[Row]:
        return await self._store.read_rows(statement, self.namespace, *args)


@dataclass(frozen=True, slots=True)
class _Write:
    """A write, for one row or many."""

    statement: str
    rows: Sequence[Sequence[object]]


class PostgresTransaction(WriteStatements):
    """One transaction. It begins in the database with its first statement.

    Once a statement failed all others fail, and so does the commit, also when the failure is caught.
    """

    def __init__(self, store: Database, namespace: Namespace, fence: Fence | None) -> None:
        super().__init__(namespace)
        self._store = store
        self._fence = fence
        self._connection: Connection | None = None
        self._turns: set[int] = set()
        self._writes: list[_Write] = []
        self._events: list[NewEvent] = []
        self._topics: dict[str, int | None] = {}
        self._newest: dict[str, int] = {}
        self._failure: PhotinusError | None = None
        self.noted = store.noted()

    async def fetch(self, statement: str, *args: object) -> list[Row]:
        try:
            connection = await self._flushed()
            rows: list[Row] = await connection.fetch(
                self._store.translate(statement), self.namespace, *args
            )
        except LIBRARY_ERRORS as failure:
            raise self._failed(failure) from failure
        return rows

    def later(self, statement: str, *args: object) -> None:
        self._writes.append(_Write(statement, ((self.namespace, *args),)))

    def later_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        taken = list(rows)
        if taken:
            self._writes.append(_Write(statement, taken))

    def in_turn(self, order: str) -> None:
        key = turn_key(self.namespace, order)
        if key in self._turns:
            return
        self._turns.add(key)
        if self._connection is not None:
            self._writes.append(_Write(f"EXECUTE {TAKE_TURN} ({key})", ()))

    def append_events(self, events: Sequence[NewEvent]) -> None:
        self._events.extend(events)

    def touch(self, topic: str, number: int | None = None) -> None:
        self._topics[topic] = number

    @property
    def is_empty(self) -> bool:
        """True while there is nothing to commit."""
        return not (self._connection or self._writes or self._events)

    async def commit(self) -> list[Notification]:
        """Commits and gives what listeners are to hear. Run it to its end: it cannot be taken back.

        Raises:
            Deposed, Unavailable, Conflict, Rejected: nothing was stored.
            CommitUnknown: FF19136, the connection broke during the commit.
        """
        if self.noted is not None:
            await self.noted.settle(self.fetch)
        try:
            connection = await self._flushed()
            numbers = await self._closing(connection)
            await self._notify_rare(connection, numbers)
        except LIBRARY_ERRORS as failure:
            raise self._failed(failure) from failure
        await self._store.commit(connection)
        self._release()
        return [(self.namespace, topic, number) for topic, number in numbers.items()]

    def changes(self, told: Iterable[Notification]) -> list[Change]:
        """What it changed, once it is committed; empty when nobody wants to know."""
        if self.noted is None:
            return []
        newest = next((number for _, topic, number in told if topic == "events"), 0)
        return self.noted.changes(self.namespace, self._events, newest)

    async def roll_back(self, *, gracefully: bool) -> None:
        """Ends the transaction without effect; connections in an unknown state are cut."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not gracefully or connection.is_closed():
            self._store.writers.discard(connection)
            return
        try:
            await connection.execute("ROLLBACK")
        except LIBRARY_ERRORS:
            # Without an answer it is over as well: the database ends what has no client.
            self._store.writers.discard(connection)
        except BaseException:
            self._store.writers.discard(connection)
            raise
        else:
            self._store.writers.release(connection)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._store.writers.release(connection)

    def _failed(self, failure: BaseException) -> PhotinusError:
        self._failure = self._store.translated(failure, self._fence)
        return self._failure

    async def _flushed(self) -> Connection:
        """Gives the connection, begun, with the writes so far done."""
        if self._failure is not None:
            raise self._failure
        connection = self._connection
        if connection is None:
            connection = await self._begin()
        writes, self._writes = self._writes, []
        joined: list[_Write] = []
        for write in writes:
            if not self._fits(write, joined):
                await self._run_joined(connection, joined)
                joined = []
            if self._fits(write, joined):
                joined.append(write)
            else:
                await self._run(connection, write)
        await self._run_joined(connection, joined)
        return connection

    def _fits(self, write: _Write, others: Sequence[_Write]) -> bool:
        """Whether an insert can be joined to others: they must not see each other's rows."""
        plan = plan_bulk(self._store.translate(write.statement))
        return (
            bool(plan.table)
            and len(write.rows) <= (JOINED_ROWS_MAX if plan.takes_twice else 1)
            and all(
                plan_bulk(self._store.translate(o.statement)).table != plan.table for o in others
            )
        )

    async def _run_joined(self, connection: Connection, writes: Sequence[_Write]) -> None:
        """Runs inserts as one statement, and notes the newest sequences it gave."""
        if not writes:
            return
        inserts: list[tuple[BulkPlan, tuple[str, ...]]] = []
        args: list[list[Any]] = []
        for write in writes:
            statement = self._store.translate(write.statement)
            types = await self._store.parameter_types(connection, statement)
            inserts.append((plan_bulk(statement), types))
            args += columns_of(write.rows)
        counted = tuple(plan.table for plan, _ in inserts if plan.table in _NEWEST)
        row = await connection.fetchrow(join_inserts(tuple(inserts), counted), *args)
        assert row is not None
        for table, newest in zip(counted, row, strict=False):
            if newest is not None:
                self._newest[table] = newest

    async def _begin(self) -> Connection:
        """Begins, holds the lease and takes turns, all in one round trip."""
        words = ["BEGIN"]
        if self._fence is not None:
            words.append(f"EXECUTE {HOLD_LEASE} ({_quoted(self._fence.role)}, {self._fence.epoch})")
        words += [f"EXECUTE {TAKE_TURN} ({key})" for key in sorted(self._turns)]
        script = "; ".join(words)
        writers = self._store.writers
        try:
            self._connection = await writers.acquire()
            await self._connection.execute(script)
        except LIBRARY_ERRORS as failure:
            if not is_lost(failure):
                raise
            # It may have been lost while it was idle, and others with it: nothing was done yet.
            await self.roll_back(gracefully=False)
            writers.drop_idle()
            self._connection = await writers.acquire()
            await self._connection.execute(script)
        return self._connection

    async def _run(self, connection: Connection, write: _Write) -> None:
        statement = self._store.translate(write.statement)
        if len(write.rows) <= 1:
            await connection.execute(statement, *(write.rows[0] if write.rows else ()))
            return
        plan = plan_bulk(statement)
        if plan.kind is Bulk.ONE_BY_ONE or len(write.rows) < BULK_ROWS_MIN:
            await connection.executemany(statement, write.rows)
        elif plan.kind is Bulk.COPY:
            self._newest.pop(plan.table, None)
            await connection.copy_records_to_table(
                plan.table, records=write.rows, columns=plan.columns
            )
        else:
            types = await self._store.parameter_types(connection, statement)
            await connection.execute(unnest(plan, types), *columns_of(write.rows))

    async def _closing(self, connection: Connection) -> dict[str, int]:
        """Finds the numbers of the topics; appends the events, which is the last write."""
        numbers = {
            topic: self._store.next_number() if number is None else number
            for topic, number in self._topics.items()
            if topic not in _NEWEST
        }
        numbers |= {topic: self._newest[topic] for topic in self._topics if topic in self._newest}
        sequenced = [topic for topic in _NEWEST if topic in self._topics and topic not in numbers]
        if sequenced:
            row = await connection.fetchrow(
                f"SELECT {', '.join(_NEWEST[topic] for topic in sequenced)}", self.namespace
            )
            assert row is not None
            numbers |= {topic: row[at] or 0 for at, topic in enumerate(sequenced)}
        if self._events:
            numbers["events"] = await self._append(connection)
        return numbers

    async def _append(self, connection: Connection) -> int:
        _, _, *columns = columns_of(event_rows(self._events, 0))
        rows: list[Any] = await connection.fetch(
            APPEND_EVENTS, self.namespace, len(self._events), *columns
        )
        return int(max(row[0] for row in rows))

    async def _notify_rare(self, connection: Connection, numbers: dict[str, int]) -> None:
        rare = [(self.namespace, t, n) for t, n in numbers.items() if t not in FREQUENT]
        for payload in pack(rare):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)


def deposed_by(failure: BaseException, fence: Fence | None) -> bool:
    """Whether a statement failed because the fence's epoch is over."""
    return fence is not None and is_deposed(failure)
