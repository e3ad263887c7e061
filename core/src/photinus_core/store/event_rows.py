"""The event log and subscriptions: decoding, reading, writing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.model.errors import Conflict
from photinus_core.model.events import (
    Event,
    EventType,
    NewEvent,
    Subscription,
    SubscriptionFilter,
)
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid
from photinus_core.ports.store import Fence
from photinus_core.store.batch_writes import to_json
from photinus_core.store.rows import uuid_or_none
from photinus_core.store.session import Row, Session, WriteSession

EVENT_COLUMNS: Final = "id, sequence, type, namespace, reference, created, correlator, tx, topic"
SUBSCRIPTION_COLUMNS: Final = (
    "id, namespace, name, transport, filter, filter_json, options_json, first_event, read_ahead, "
    "with_data, batch, batch_timeout_ms, created, updated"
)

# The statement that serialises writers of one namespace's log: adapters run it last before commit.
TAKE_SEQUENCES: Final = (
    "INSERT INTO event_heads (namespace, sequence) VALUES ($1, $2) ON CONFLICT (namespace) "
    "DO UPDATE SET sequence = event_heads.sequence + excluded.sequence RETURNING sequence"
)
INSERT_EVENT: Final = (
    "INSERT INTO events (namespace, sequence, id, type, reference, correlator, tx, topic, created) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)

_EVENT_TYPES: Final = {kind.value: kind for kind in EventType}
_filter = msgspec.json.Decoder(SubscriptionFilter)


def event_rows(events: Iterable[NewEvent], first: int) -> list[tuple[object, ...]]:
    """Gives events their sequences, as rows of `INSERT_EVENT`."""
    return [
        (
            e.namespace,
            sequence,
            e.id,
            e.type.value,
            e.reference,
            e.correlator or "",
            e.tx or "",
            e.topic,
            e.created,
        )
        for sequence, e in enumerate(events, first)
    ]


def decode_event(row: Row) -> Event:
    """Reads a row of `EVENT_COLUMNS`."""
    return Event(
        Uuid(row[0]),
        row[1],
        _EVENT_TYPES[row[2]],
        Namespace(row[3]),
        Uuid(row[4]),
        Nanoseconds(row[5]),
        uuid_or_none(row[6]),
        uuid_or_none(row[7]),
        row[8],
    )


def decode_subscription(row: Row) -> Subscription:
    """Reads a row of `SUBSCRIPTION_COLUMNS`."""
    return Subscription(
        id=Uuid(row[0]),
        namespace=Namespace(row[1]),
        name=row[2],
        transport=row[3],
        filter=_filter.decode(row[4]),
        filter_json=row[5],
        options_json=row[6],
        first_event=row[7],
        read_ahead=row[8],
        with_data=bool(row[9]),
        batch=bool(row[10]),
        batch_timeout_ms=row[11],
        created=Nanoseconds(row[12]),
        updated=row[13],
    )


class EventReading(Session):
    """Reads the event log, subscriptions and their offsets."""

    async def events(self, ids: Sequence[Uuid]) -> dict[Uuid, Event]:
        rows = await self.fetch(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE namespace = $1 AND id = ANY($2)", ids
        )
        return {event.id: event for event in map(decode_event, rows)}

    async def events_after(
        self, sequence: int, limit: int, types: Collection[str] | None = None
    ) -> list[Event]:
        if types is None:
            rows = await self.fetch(
                f"SELECT {EVENT_COLUMNS} FROM events WHERE namespace = $1 AND sequence > $2 "
                "ORDER BY sequence LIMIT $3",
                sequence,
                limit,
            )
        else:
            rows = await self.fetch(
                f"SELECT {EVENT_COLUMNS} FROM events WHERE namespace = $1 AND sequence > $2 "
                "AND type = ANY($4) ORDER BY sequence LIMIT $3",
                sequence,
                limit,
                list(types),
            )
        return [decode_event(row) for row in rows]

    async def last_event_sequence(self) -> int:
        row = await self.fetch_one("SELECT sequence FROM event_heads WHERE namespace = $1")
        return row[0] if row else 0

    async def subscriptions(self) -> list[Subscription]:
        rows = await self.fetch(
            f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions "
            "WHERE namespace = $1 ORDER BY sequence"
        )
        return [decode_subscription(row) for row in rows]

    async def subscription(self, subscription: Uuid) -> Subscription | None:
        row = await self.fetch_one(
            f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions WHERE namespace = $1 AND id = $2",
            subscription,
        )
        return decode_subscription(row) if row else None

    async def subscription_by_name(self, name: str) -> Subscription | None:
        row = await self.fetch_one(
            f"SELECT {SUBSCRIPTION_COLUMNS} FROM subscriptions WHERE namespace = $1 AND name = $2",
            name,
        )
        return decode_subscription(row) if row else None

    async def offset(self, subscription: Uuid) -> int | None:
        row = await self.fetch_one(
            "SELECT current FROM offsets WHERE namespace = $1 AND subscription = $2", subscription
        )
        return row[0] if row else None


_MOVE_OFFSET: Final = (
    "INSERT INTO offsets (namespace, subscription, current) "
    "SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT) WHERE "
    "EXISTS (SELECT 1 FROM subscriptions WHERE namespace = $1 AND id = $2 FOR KEY SHARE)"
)
_UNDER_LEASE: Final = " AND EXISTS (SELECT 1 FROM leases WHERE role = $4 AND epoch = $5 FOR SHARE)"
_MOVED: Final = " ON CONFLICT (namespace, subscription) DO UPDATE SET current = excluded.current"


class EventWriting(WriteSession):
    """Writes subscriptions and offsets; events are the adapter's, for their sequences."""

    async def save_subscription(self, subscription: Subscription, offset: int | None) -> None:
        self.in_turn("subscriptions")
        holder = await self.fetch_one(
            "SELECT id FROM subscriptions WHERE namespace = $1 AND name = $2", subscription.name
        )
        if holder is not None and holder[0] != subscription.id:
            raise Conflict("FF10193", "subscription", self.namespace, subscription.name)
        self.later(
            "INSERT INTO subscriptions (namespace, id, name, transport, first_event, read_ahead, "
            "with_data, batch, batch_timeout_ms, created, updated, events, filter, filter_json, "
            "options_json) VALUES "
            "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) "
            "ON CONFLICT (namespace, id) DO UPDATE SET name = excluded.name, "
            "transport = excluded.transport, first_event = excluded.first_event, "
            "read_ahead = excluded.read_ahead, with_data = excluded.with_data, "
            "batch = excluded.batch, batch_timeout_ms = excluded.batch_timeout_ms, "
            "updated = excluded.updated, events = excluded.events, filter = excluded.filter, "
            "filter_json = excluded.filter_json, options_json = excluded.options_json",
            subscription.id,
            subscription.name,
            subscription.transport,
            subscription.first_event,
            subscription.read_ahead,
            subscription.with_data,
            subscription.batch,
            subscription.batch_timeout_ms,
            subscription.created,
            subscription.updated,
            subscription.filter.events,
            to_json(subscription.filter),
            subscription.filter_json,
            subscription.options_json,
        )
        kind = ChangeKind.CREATED if holder is None else ChangeKind.UPDATED
        self.note(ChangeCollection.SUBSCRIPTIONS, kind, (subscription.id,))
        if offset is not None:
            await self.set_offset(subscription.id, offset)
        self.touch("subscriptions")

    async def delete_subscription(self, subscription: Uuid) -> bool:
        # First, for what moves the offset looks whether it is there.
        deleted = await self.fetch(
            "DELETE FROM subscriptions WHERE namespace = $1 AND id = $2 RETURNING id", subscription
        )
        self.later("DELETE FROM offsets WHERE namespace = $1 AND subscription = $2", subscription)
        self.later(
            "DELETE FROM dead_letters WHERE namespace = $1 AND subscription = $2", subscription
        )
        self.touch("subscriptions")
        self.note(ChangeCollection.SUBSCRIPTIONS, ChangeKind.DELETED, (row[0] for row in deleted))
        return bool(deleted)

    async def set_offset(self, subscription: Uuid, offset: int, fence: Fence | None = None) -> None:
        if fence is None:
            self.later(_MOVE_OFFSET + _MOVED, subscription, offset)
        else:
            statement = _MOVE_OFFSET + _UNDER_LEASE + _MOVED
            self.later(statement, subscription, offset, fence.role, fence.epoch)
