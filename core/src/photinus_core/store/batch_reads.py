"""Batches, pins, next pins, groups, wake-ups and parked messages: decoding and reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from photinus_core.model.ids import INTEGER_MAX, Did, Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import ReceivedBatchKey, TransactionType
from photinus_core.model.messages import (
    Batch,
    BatchType,
    Group,
    GroupMember,
    NextPin,
    Pin,
    TransactionRef,
)
from photinus_core.ports.store import ParkedMessage, Wakeup
from photinus_core.store.rows import hash_or_none, uuid_or_none
from photinus_core.store.session import Row, Session

BATCH_COLUMNS: Final = (
    "id, type, namespace, author, signing_key, created, hash, manifest, tx_type, tx_id, node, "
    "group_hash, confirmed, payload_ref, dispatched, cancelled, own, sequence"
)
PIN_COLUMNS: Final = (
    "namespace, hash, batch, batch_hash, pin_index, signer, masked, created, contract_index, block, "
    "transaction_index, log_index, protocol_id, payload_ref, dispatched, sequence"
)
NEXT_PIN_COLUMNS: Final = "namespace, context, identity, hash, nonce, decided_key"
GROUP_COLUMNS: Final = "namespace, network_namespace, name, members, hash, created, message"
PARKED_COLUMNS: Final = "id, peer, recipient, payload, received"
CHAIN_ORDER: Final = "contract_index, block, transaction_index, log_index, pin_index"

_VISIBLE: Final = "(own = TRUE OR confirmed IS NOT NULL)"

members_decoder = msgspec.json.Decoder(tuple[GroupMember, ...])
decided_key_decoder = msgspec.json.Decoder(tuple[int, ...])


def decode_batch(row: Row) -> Batch:
    """Reads a row of `BATCH_COLUMNS`."""
    return Batch(
        id=Uuid(row[0]),
        type=BatchType(row[1]),
        namespace=Namespace(row[2]),
        author=row[3],
        key=row[4],
        created=Nanoseconds(row[5]),
        hash=Hash32(row[6]),
        manifest=row[7],
        tx=TransactionRef(TransactionType(row[8]), Uuid(row[9])),
        node=uuid_or_none(row[10]),
        group=hash_or_none(row[11]),
        confirmed=row[12],
        payload_ref=row[13],
        dispatched=bool(row[14]),
        cancelled=bool(row[15]),
        seal_order=row[17] if row[16] else -1,
    )


def decode_pin(row: Row) -> Pin:
    """Reads a row of `PIN_COLUMNS`."""
    return Pin(
        Namespace(row[0]),
        Hash32(row[1]),
        Uuid(row[2]),
        Hash32(row[3]),
        row[4],
        row[5],
        bool(row[6]),
        Nanoseconds(row[7]),
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
        bool(row[14]),
        row[15],
    )


def decode_next_pin(row: Row) -> NextPin:
    """Reads a row of `NEXT_PIN_COLUMNS`."""
    return NextPin(
        Namespace(row[0]),
        Hash32(row[1]),
        Did(row[2]),
        Hash32(row[3]),
        row[4],
        decided_key_decoder.decode(row[5]),
    )


def decode_group(row: Row) -> Group:
    """Reads a row of `GROUP_COLUMNS`."""
    return Group(
        Namespace(row[0]),
        row[1],
        row[2],
        members_decoder.decode(row[3]),
        Hash32(row[4]),
        Nanoseconds(row[5]),
        uuid_or_none(row[6]),
    )


class BatchReading(Session):
    """Reads batches, pins, next pins, nonces, groups, wake-ups and parked messages."""

    async def batches(self, ids: Sequence[Uuid]) -> dict[Uuid, Batch]:
        rows = await self.fetch(
            f"SELECT {BATCH_COLUMNS} FROM batches WHERE namespace = $1 AND id = ANY($2) "
            f"AND {_VISIBLE} ORDER BY own DESC, sequence",
            ids,
        )
        found: dict[Uuid, Batch] = {}
        for batch in map(decode_batch, rows):
            found.setdefault(batch.id, batch)
        return found

    async def received_batches(
        self, keys: Sequence[ReceivedBatchKey]
    ) -> dict[ReceivedBatchKey, Batch]:
        wanted = set(keys)
        rows = await self.fetch(
            f"SELECT {BATCH_COLUMNS} FROM batches WHERE namespace = $1 AND id = ANY($2)",
            list({key.id for key in keys}),
        )
        return {
            key: batch
            for batch in map(decode_batch, rows)
            if (key := ReceivedBatchKey(batch.id, batch.hash)) in wanted
        }

    async def open_batches(self) -> list[Batch]:
        rows = await self.fetch(
            f"SELECT {BATCH_COLUMNS} FROM batches "
            "WHERE namespace = $1 AND dispatched = FALSE AND own = TRUE ORDER BY sequence"
        )
        return [decode_batch(row) for row in rows]

    async def batches_of(self, transaction: Uuid) -> list[Batch]:
        rows = await self.fetch(
            f"SELECT {BATCH_COLUMNS} FROM batches "
            f"WHERE namespace = $1 AND tx_id = $2 AND {_VISIBLE} ORDER BY sequence",
            transaction,
        )
        return [decode_batch(row) for row in rows]

    async def own_batches_off_chain(
        self, final: tuple[int, int, int, int] | None = None
    ) -> list[Batch]:
        # A batch is confirmed after all its pins were decided: only unconfirmed ones can lack pins.
        rows = await self.fetch(
            f"SELECT {BATCH_COLUMNS} FROM batches b "
            "WHERE namespace = $1 AND own = TRUE AND confirmed IS NULL AND cancelled = FALSE "
            "AND tx_type NOT IN ('none', 'unpinned') AND NOT EXISTS (SELECT 1 FROM pins p "
            "WHERE p.namespace = b.namespace AND p.batch = b.id AND p.batch_hash = b.hash "
            "AND p.signer = b.signing_key AND NOT (p.contract_index = $2 "
            "AND (p.block, p.transaction_index, p.log_index) > ($3, $4, $5))) "
            "ORDER BY sequence",
            *(final or (-1, 0, 0, 0)),
        )
        return [decode_batch(row) for row in rows]

    async def last_pin_sequence(self) -> int:
        row = await self.fetch_one(
            "SELECT sequence FROM pins WHERE namespace = $1 ORDER BY sequence DESC LIMIT 1"
        )
        return int(row[0]) if row else 0

    async def undispatched_pins(
        self, after: int, limit: int, all_after: int | None = None
    ) -> list[Pin]:
        rows = await self.fetch(
            f"SELECT {PIN_COLUMNS} FROM pins p "
            "WHERE namespace = $1 AND dispatched = FALSE AND sequence > $2 "
            "AND (masked = FALSE OR sequence > $4 OR EXISTS (SELECT 1 FROM batches b "
            "WHERE b.namespace = p.namespace AND b.id = p.batch AND b.hash = p.batch_hash)) "
            "ORDER BY sequence LIMIT $3",
            after,
            limit,
            INTEGER_MAX if all_after is None else all_after,
        )
        return [decode_pin(row) for row in rows]

    async def pins_of_batches(self, batches: Sequence[Uuid]) -> list[Pin]:
        rows = await self.fetch(
            f"SELECT {PIN_COLUMNS} FROM pins WHERE namespace = $1 AND batch = ANY($2) "
            f"ORDER BY {CHAIN_ORDER}",
            batches,
        )
        return [decode_pin(row) for row in rows]

    async def pins_by_hash(self, hashes: Sequence[Hash32]) -> list[Pin]:
        rows = await self.fetch(
            f"SELECT {PIN_COLUMNS} FROM pins WHERE namespace = $1 AND hash = ANY($2) "
            f"AND dispatched = FALSE AND masked = TRUE ORDER BY {CHAIN_ORDER}",
            hashes,
        )
        return [decode_pin(row) for row in rows]

    async def next_pins(self, contexts: Sequence[Hash32]) -> list[NextPin]:
        rows = await self.fetch(
            f"SELECT {NEXT_PIN_COLUMNS} FROM next_pins "
            "WHERE namespace = $1 AND context = ANY($2) ORDER BY context, identity",
            contexts,
        )
        return [decode_next_pin(row) for row in rows]

    async def nonces(self, keys: Sequence[Hash32]) -> dict[Hash32, int]:
        rows = await self.fetch(
            "SELECT hash, nonce FROM nonces WHERE namespace = $1 AND hash = ANY($2)", keys
        )
        return {Hash32(row[0]): row[1] for row in rows}

    async def groups(self, hashes: Sequence[Hash32]) -> dict[Hash32, Group]:
        rows = await self.fetch(
            f"SELECT {GROUP_COLUMNS} FROM privacy_groups WHERE namespace = $1 AND hash = ANY($2)",
            hashes,
        )
        return {group.hash: group for group in map(decode_group, rows)}

    async def parked_messages(self, peer: str | None, limit: int) -> list[ParkedMessage]:
        if peer is None:
            rows = await self.fetch(
                f"SELECT {PARKED_COLUMNS} FROM parked_messages "
                "WHERE namespace = $1 ORDER BY sequence LIMIT $2",
                limit,
            )
        else:
            rows = await self.fetch(
                f"SELECT {PARKED_COLUMNS} FROM parked_messages "
                "WHERE namespace = $1 AND peer = $2 ORDER BY sequence LIMIT $3",
                peer,
                limit,
            )
        return [ParkedMessage(*row) for row in rows]

    async def parked_size(self, peer: str) -> tuple[int, int]:
        rows = await self.fetch(
            "SELECT count(*), coalesce(sum(size), 0) FROM parked_messages "
            "WHERE namespace = $1 AND peer = $2",
            peer,
        )
        return (int(rows[0][0]), int(rows[0][1]))

    async def wakeups(self, limit: int) -> list[Wakeup]:
        rows = await self.fetch(
            "SELECT kind, key, sequence FROM wakeups WHERE namespace = $1 "
            "ORDER BY sequence LIMIT $2",
            limit,
        )
        return [Wakeup(*row) for row in rows]
