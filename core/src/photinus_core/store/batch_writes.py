"""Batches, pins, next pins, groups, wake-ups and parked messages: writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

import msgspec

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.model.ids import Hash32, Nanoseconds, Uuid
from photinus_core.model.ledger import ReceivedBatchKey
from photinus_core.model.messages import Batch, Group, MessageState, NextPin, Pin
from photinus_core.ports.store import ParkedMessage, Wakeup
from photinus_core.store.batch_reads import (
    GROUP_COLUMNS,
    NEXT_PIN_COLUMNS,
    PIN_COLUMNS,
    decode_pin,
)
from photinus_core.store.rows import join_texts
from photinus_core.store.session import WriteSession

_encode = msgspec.json.Encoder().encode


def to_json(value: object) -> str:
    """Writes a value of ours as JSON text."""
    return _encode(value).decode()


def insert_batch(session: WriteSession, batch: Batch, *, own: bool) -> None:
    """Stores a batch, own or received."""
    session.later(
        "INSERT INTO batches (namespace, id, hash, own, type, author, signing_key, created, "
        "tx_type, tx_id, node, group_hash, confirmed, payload_ref, dispatched, cancelled, manifest) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        batch.id,
        batch.hash,
        own,
        batch.type.value,
        batch.author,
        batch.key,
        batch.created,
        batch.tx.type.value,
        batch.tx.id,
        batch.node or "",
        batch.group or "",
        batch.confirmed,
        batch.payload_ref,
        batch.dispatched,
        batch.cancelled,
        batch.manifest,
    )


class BatchWriting(WriteSession):
    """Writes batches, pins, next pins, nonces, groups, wake-ups and parked messages."""

    async def seal_batch(
        self,
        batch: Batch,
        messages: Sequence[tuple[Uuid, tuple[str, ...]]],
        nonces: Mapping[Hash32, int],
    ) -> None:
        insert_batch(self, batch, own=True)
        self.note(ChangeCollection.BATCHES, ChangeKind.CREATED, (batch.id,))
        self.note(ChangeCollection.MESSAGES, ChangeKind.UPDATED, (each for each, _ in messages))
        self.later_many(
            "UPDATE messages SET batch = $3, txid = $4, pins = $5 "
            "WHERE namespace = $1 AND id = $2 AND own = TRUE AND batch = ''",
            [
                (self.namespace, message, batch.id, batch.tx.id, join_texts(pins))
                for message, pins in messages
            ],
        )
        if nonces:
            self.later_many(
                "INSERT INTO nonces (namespace, hash, nonce) VALUES ($1, $2, $3) "
                "ON CONFLICT (namespace, hash) DO UPDATE SET nonce = excluded.nonce",
                [(self.namespace, key, nonce) for key, nonce in nonces.items()],
            )

    async def finish_batch(self, batch: Uuid, state: MessageState, at: Nanoseconds) -> list[Uuid]:
        self.later(
            "UPDATE batches SET dispatched = TRUE WHERE namespace = $1 AND id = $2 AND own = TRUE",
            batch,
        )
        confirmed = at if state is MessageState.CONFIRMED else None
        rows = await self.fetch(
            "UPDATE messages SET state = $3, confirmed = $4 WHERE namespace = $1 AND batch = $2 "
            "AND batch <> '' AND own = TRUE AND state = 'ready' RETURNING sequence, id",
            batch,
            state.value,
            confirmed,
        )
        self.note(ChangeCollection.BATCHES, ChangeKind.UPDATED, (batch,))
        self.note(ChangeCollection.MESSAGES, ChangeKind.UPDATED, (row[1] for row in rows))
        return [Uuid(row[1]) for row in sorted(rows, key=itemgetter(0))]

    async def cancel_batch(self, batch: Uuid) -> list[Uuid]:
        self.later(
            "UPDATE batches SET cancelled = TRUE, dispatched = TRUE "
            "WHERE namespace = $1 AND id = $2 AND own = TRUE",
            batch,
        )
        rows = await self.fetch(
            "UPDATE messages SET state = 'cancelled' WHERE namespace = $1 AND batch = $2 "
            "AND batch <> '' AND own = TRUE AND state = 'ready' RETURNING sequence, id",
            batch,
        )
        self.note(ChangeCollection.BATCHES, ChangeKind.UPDATED, (batch,))
        self.note(ChangeCollection.MESSAGES, ChangeKind.UPDATED, (row[1] for row in rows))
        return [Uuid(row[1]) for row in sorted(rows, key=itemgetter(0))]

    async def set_batch_payload_ref(self, batch: Uuid, payload_ref: str) -> None:
        self.later(
            "UPDATE batches SET payload_ref = $3 WHERE namespace = $1 AND id = $2 AND own = TRUE",
            batch,
            payload_ref,
        )
        self.note(ChangeCollection.BATCHES, ChangeKind.UPDATED, (batch,))

    async def confirm_batches(self, batches: Sequence[ReceivedBatchKey], at: Nanoseconds) -> None:
        self.later_many(
            "UPDATE batches SET confirmed = $4 "
            "WHERE namespace = $1 AND id = $2 AND hash = $3 AND confirmed IS NULL",
            [(self.namespace, key.id, key.hash, at) for key in batches],
        )
        if self.noted is not None:
            self.noted.confirmed += [key.id for key in batches]

    async def insert_pins(self, pins: Sequence[Pin]) -> list[Pin]:
        if not pins:
            return []
        self.in_turn("pins")
        newest = await self.fetch(
            "SELECT coalesce(max(sequence), 0) FROM pins WHERE namespace = $1"
        )
        self.later_many(
            "INSERT INTO pins (namespace, hash, batch, batch_hash, pin_index, signer, masked, "
            "created, contract_index, block, transaction_index, log_index, protocol_id, "
            "payload_ref, dispatched) VALUES "
            "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) "
            "ON CONFLICT (namespace, batch, batch_hash, pin_index, protocol_id) DO NOTHING",
            [
                (
                    pin.namespace,
                    pin.hash,
                    pin.batch,
                    pin.batch_hash,
                    pin.index,
                    pin.signer,
                    pin.masked,
                    pin.created,
                    pin.contract_index,
                    pin.block,
                    pin.transaction_index,
                    pin.log_index,
                    pin.protocol_id,
                    pin.payload_ref,
                    pin.dispatched,
                )
                for pin in pins
            ],
        )
        # Only a namespace's leader stores its pins, so all newer ones are those just stored.
        rows = await self.fetch(
            f"SELECT {PIN_COLUMNS} FROM pins WHERE namespace = $1 AND sequence > $2 "
            "ORDER BY sequence",
            newest[0][0],
        )
        stored = [decode_pin(row) for row in rows]
        self.note(ChangeCollection.PINS, ChangeKind.CREATED, (pin.sequence for pin in stored))
        return stored

    async def mark_dispatched(self, sequences: Sequence[int]) -> int:
        if not sequences:
            return 0
        self.note(ChangeCollection.PINS, ChangeKind.UPDATED, sequences)
        marked = await self.fetch(
            "UPDATE pins SET dispatched = TRUE WHERE namespace = $1 AND sequence = ANY($2) "
            "RETURNING sequence",
            sequences,
        )
        return len(marked)

    async def delete_pins(self, protocol_ids: Sequence[str]) -> None:
        if not protocol_ids:
            return
        statement = (
            "DELETE FROM pins WHERE namespace = $1 AND dispatched = FALSE AND protocol_id = ANY($2)"
        )
        if self.noted is None:
            self.later(statement, protocol_ids)
        else:
            gone = await self.fetch(f"{statement} RETURNING sequence", protocol_ids)
            self.note(ChangeCollection.PINS, ChangeKind.DELETED, (row[0] for row in gone))

    async def set_next_pins(self, pins: Sequence[NextPin]) -> None:
        self.later_many(
            f"INSERT INTO next_pins ({NEXT_PIN_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6) "
            "ON CONFLICT (namespace, context, identity) DO UPDATE SET hash = excluded.hash, "
            "nonce = excluded.nonce, decided_key = excluded.decided_key",
            [
                (p.namespace, p.context, p.identity, p.hash, p.nonce, to_json(p.decided_key))
                for p in pins
            ],
        )

    async def insert_groups(self, groups: Sequence[Group]) -> None:
        self.later_many(
            f"INSERT INTO privacy_groups ({GROUP_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT (namespace, hash) DO NOTHING",
            [
                (
                    g.namespace,
                    g.network_namespace,
                    g.name,
                    to_json(g.members),
                    g.hash,
                    g.created,
                    g.message or "",
                )
                for g in groups
            ],
        )
        if self.noted is not None:
            self.noted.land(ChangeCollection.GROUPS, {g.hash: g.created for g in groups})

    async def insert_wakeups(self, wakeups: Sequence[Wakeup]) -> None:
        if wakeups:
            self.in_turn("wakeups")
            self.later_many(
                "INSERT INTO wakeups (namespace, kind, key) VALUES ($1, $2, $3)",
                [(self.namespace, wakeup.kind, wakeup.key) for wakeup in wakeups],
            )
            self.touch("wakeups")

    async def delete_wakeups(self, through: int) -> None:
        self.later("DELETE FROM wakeups WHERE namespace = $1 AND sequence <= $2", through)

    async def park_messages(self, parked: Sequence[ParkedMessage]) -> None:
        self.later_many(
            "INSERT INTO parked_messages (namespace, id, peer, recipient, payload, received, size) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (namespace, id) DO NOTHING",
            [
                (
                    self.namespace,
                    p.id,
                    p.peer,
                    p.recipient,
                    p.payload,
                    p.received,
                    len(p.payload.encode()),
                )
                for p in parked
            ],
        )

    async def unpark_messages(self, ids: Sequence[str]) -> None:
        if ids:
            self.later("DELETE FROM parked_messages WHERE namespace = $1 AND id = ANY($2)", ids)
