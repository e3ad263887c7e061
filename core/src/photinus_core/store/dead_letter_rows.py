"""Dead letters of webhooks: decoding, reading, writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from photinus_core.model.events import DeadLetter, DeadLetterState, EventType
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid
from photinus_core.store.session import Row, Session, WriteSession

DEAD_LETTER_COLUMNS: Final = (
    "id, namespace, subscription, event, event_sequence, event_type, state, attempts, status, "
    "error, created, updated"
)


def decode_dead_letter(row: Row) -> DeadLetter:
    """Reads a row of `DEAD_LETTER_COLUMNS`."""
    return DeadLetter(
        id=Uuid(row[0]),
        namespace=Namespace(row[1]),
        subscription=Uuid(row[2]),
        event=Uuid(row[3]),
        event_sequence=row[4],
        event_type=EventType(row[5]),
        state=DeadLetterState(row[6]),
        attempts=row[7],
        status=row[8],
        error=row[9],
        created=Nanoseconds(row[10]),
        updated=Nanoseconds(row[11]),
    )


class DeadLetterReading(Session):
    """Reads dead letters."""

    async def dead_letter(self, subscription: Uuid, letter: Uuid) -> DeadLetter | None:
        row = await self.fetch_one(
            f"SELECT {DEAD_LETTER_COLUMNS} FROM dead_letters "
            "WHERE namespace = $1 AND id = $2 AND subscription = $3",
            letter,
            subscription,
        )
        return decode_dead_letter(row) if row else None

    async def queued_dead_letters(self, subscription: Uuid, limit: int) -> list[DeadLetter]:
        rows = await self.fetch(
            f"SELECT {DEAD_LETTER_COLUMNS} FROM dead_letters WHERE namespace = $1 "
            "AND subscription = $2 AND state = 'queued' ORDER BY sequence LIMIT $3",
            subscription,
            limit,
        )
        return [decode_dead_letter(row) for row in rows]

    async def dead_letter_count(self, subscription: Uuid) -> int:
        row = await self.fetch_one(
            "SELECT count(*) FROM dead_letters WHERE namespace = $1 AND subscription = $2",
            subscription,
        )
        return int(row[0]) if row else 0


class DeadLetterWriting(WriteSession):
    """Writes dead letters."""

    async def save_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        self.later_many(
            "INSERT INTO dead_letters (namespace, id, subscription, event, event_sequence, "
            "event_type, state, attempts, status, error, created, updated) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
            "ON CONFLICT (namespace, event, subscription) DO UPDATE SET state = excluded.state, "
            "attempts = excluded.attempts, status = excluded.status, error = excluded.error, "
            "updated = excluded.updated",
            [
                (
                    self.namespace,
                    letter.id,
                    letter.subscription,
                    letter.event,
                    letter.event_sequence,
                    letter.event_type.value,
                    letter.state.value,
                    letter.attempts,
                    letter.status,
                    letter.error,
                    letter.created,
                    letter.updated,
                )
                for letter in letters
            ],
        )

    async def queue_dead_letters(
        self, subscription: Uuid, letter: Uuid | None, now: Nanoseconds
    ) -> int:
        one = "" if letter is None else " AND id = $4"
        changed = await self.fetch(
            "UPDATE dead_letters SET state = 'queued', updated = $3 "
            f"WHERE namespace = $1 AND subscription = $2{one} RETURNING id",
            subscription,
            now,
            *(() if letter is None else (letter,)),
        )
        self.touch("subscriptions")
        return len(changed)

    async def delete_dead_letter(self, subscription: Uuid, letter: Uuid) -> bool:
        deleted = await self.fetch(
            "DELETE FROM dead_letters WHERE namespace = $1 AND id = $2 AND subscription = $3 "
            "RETURNING id",
            letter,
            subscription,
        )
        return bool(deleted)
