"""What an operator looks at and cleans up: what waits, and what is old and no longer needed.

Pruning goes through a collection in windows of its sequence, oldest first. Nothing that a decision,
a position or an unfinished step rests on is ever deleted: messages, data, batches, pins, nonces,
groups, identities and definitions are no subject of it at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.ports.store import Backlog, Prunable, PruneWindow, SubscriptionLag
from photinus_core.store.session import Row, Session, WriteSession

WINDOW_ROWS: Final = 1_000
"""Rows looked at in one transaction."""

_BACKLOG: Final = (
    "SELECT (SELECT count(*) FROM pins WHERE namespace = $1 AND dispatched = FALSE), "
    "(SELECT count(*) FROM messages WHERE namespace = $1 AND state = 'ready' AND batch = ''), "
    "(SELECT sequence FROM event_heads WHERE namespace = $1)"
)
# A subscription that was never served has no offset yet: it may want all events there are.
_SLOWEST: Final = (
    "SELECT min(coalesce(o.current, 0)) FROM subscriptions s LEFT JOIN offsets o "
    "ON o.namespace = s.namespace AND o.subscription = s.id WHERE s.namespace = $1"
)


_LAGS: Final = (
    "SELECT s.name, coalesce((SELECT h.sequence FROM event_heads h WHERE h.namespace = $1), 0) "
    "- coalesce(o.current, 0) FROM subscriptions s LEFT JOIN offsets o "
    "ON o.namespace = s.namespace AND o.subscription = s.id WHERE s.namespace = $1"
)


@dataclass(frozen=True, slots=True)
class _Collection:
    """How one collection is pruned.

    Attributes:
        table: The table.
        moment: Column with the time that counts.
        needed: Condition of rows, called `t`, that must stay.
    """

    table: str
    moment: str
    needed: str


# An own batch whose way is not finished may be sent again: that looks at its operations.
_OPEN_BATCH: Final = (
    "EXISTS (SELECT 1 FROM batches b WHERE b.namespace = t.namespace AND b.tx_id = t.tx "
    "AND b.own = TRUE AND b.cancelled = FALSE "
    "AND (b.dispatched = FALSE OR (b.confirmed IS NULL AND b.tx_type <> 'unpinned')))"
)
# A download that failed for good waits for an operator who has it run again.
_UNFINISHED: Final = (
    "t.status IN ('Initialized', 'Pending') OR (t.status = 'Failed' AND t.retry = '' "
    "AND t.type LIKE 'sharedstorage_download%')"
)
_UNDECIDED: Final = (
    "t.protocol_id IN (SELECT p.protocol_id FROM pins p "
    "WHERE p.namespace = $1 AND p.dispatched = FALSE)"
)
_NAMED: Final = (
    "EXISTS (SELECT 1 FROM batches b WHERE b.namespace = t.namespace AND b.tx_id = t.id) "
    "OR EXISTS (SELECT 1 FROM operations o WHERE o.namespace = t.namespace AND o.tx = t.id) "
    "OR EXISTS (SELECT 1 FROM blockchain_events e WHERE e.namespace = t.namespace "
    "AND e.tx_id = t.id AND e.tx_id <> '')"
)

# A dead letter is tried again with the event as it is.
_PARKED: Final = (
    "EXISTS (SELECT 1 FROM dead_letters d WHERE d.namespace = t.namespace AND d.event = t.id)"
)

_COLLECTIONS: Final = MappingProxyType(
    {
        Prunable.EVENTS: _Collection("events", "created", _PARKED),
        Prunable.BLOCKCHAIN_EVENTS: _Collection("blockchain_events", "timestamp", _UNDECIDED),
        Prunable.OPERATIONS: _Collection(
            "operations", "updated", f"{_UNFINISHED} OR {_OPEN_BATCH}"
        ),
        Prunable.TRANSACTIONS: _Collection("transactions", "created", _NAMED),
    }
)


class UpkeepReading(Session):
    """Counts what waits."""

    async def backlog(self) -> Backlog:
        row = await self.fetch_one(_BACKLOG)
        slowest = await self._slowest()
        pins, messages, head = row or (0, 0, None)
        behind = 0 if slowest is None else max(0, (head or 0) - slowest)
        return Backlog(pins, messages, behind)

    async def subscription_lags(self, limit: int) -> list[SubscriptionLag]:
        rows = await self.fetch(_LAGS)
        lags = [SubscriptionLag(str(name), max(0, int(behind))) for name, behind in rows]
        return sorted(lags, key=lambda lag: (-lag.events, lag.name))[:limit]

    async def _slowest(self) -> int | None:
        """What all durable subscriptions have got; None without one."""
        row = await self.fetch_one(_SLOWEST)
        return None if row is None or row[0] is None else int(row[0])

    async def prune_window(self, collection: Prunable, after: int, before: int) -> PruneWindow:
        needed = await self._floor(collection)
        window = await self._window(collection, after)
        old = [row for row in window if row[1] < before]
        free = tuple(row[0] for row in old if not row[2] and (needed is None or row[0] <= needed))
        return PruneWindow(
            free=free,
            kept=len(old) - len(free),
            last=window[-1][0] if window else after,
            more=len(window) == WINDOW_ROWS and bool(old),
        )

    async def _floor(self, collection: Prunable) -> int | None:
        """Sequence above which everything is needed; None for no such thing."""
        return await self._slowest() if collection is Prunable.EVENTS else None

    async def _window(self, collection: Prunable, after: int) -> list[Row]:
        found = _COLLECTIONS[collection]
        return await self.fetch(
            f"SELECT t.sequence, t.{found.moment}, ({found.needed}) FROM {found.table} t "
            "WHERE t.namespace = $1 AND t.sequence > $2 ORDER BY t.sequence LIMIT $3",
            after,
            WINDOW_ROWS,
        )


class UpkeepWriting(WriteSession):
    """Deletes what is no longer needed."""

    async def prune(self, collection: Prunable, sequences: tuple[int, ...]) -> None:
        if not sequences:
            return
        statement = (
            f"DELETE FROM {_COLLECTIONS[collection].table} "
            "WHERE namespace = $1 AND sequence = ANY($2)"
        )
        if self.noted is None:
            self.later(statement, list(sequences))
        else:
            gone = await self.fetch(f"{statement} RETURNING id", list(sequences))
            changed = ChangeCollection(collection.value)
            self.note(changed, ChangeKind.DELETED, (row[0] for row in gone))
