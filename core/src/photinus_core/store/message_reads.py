"""Messages and data: columns, decoding and reading.

A row is found by id only when it is this member's own or decided (hard case 16): anyone can send a
message or a data item under an id that another uses. Received rows are found by id and hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import ReceivedBatchKey, TransactionType
from photinus_core.model.messages import (
    Blob,
    BlobRef,
    Data,
    DatatypeRef,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    TransactionRef,
    Validator,
)
from photinus_core.ports.store import ReadyMessage
from photinus_core.store.rows import (
    hash_or_none,
    split_refs,
    split_texts,
    uuid_or_none,
)
from photinus_core.store.session import Row, Session

MESSAGE_COLUMNS: Final = (
    "id, type, txtype, author, signing_key, created, network_namespace, topics, datahash, cid, "
    "group_hash, tag, txparent_type, txparent_id, hash, data_refs, namespace, state, batch, txid, "
    "confirmed, reject_reason, pins, idempotency_key, sequence"
)
DATA_COLUMNS: Final = (
    "id, validator, namespace, hash, created, value, datatype_name, datatype_version, blob_hash, "
    "blob_size, blob_name, blob_path, blob_public, public"
)
BLOB_COLUMNS: Final = "namespace, data_id, hash, payload_ref, size, created, peer"

# Enum calls are slow enough to count where hundreds of rows are decoded at once.
_TYPES: Final = {kind.value: kind for kind in MessageType}
_STATES: Final = {state.value: state for state in MessageState}
_TXTYPES: Final = {kind.value: kind for kind in TransactionType}
_VALIDATORS: Final = {validator.value: validator for validator in Validator}

# Own rows first, then confirmed ones, then those decided otherwise; the oldest of equals.
_RANK: Final = "own DESC, CASE state WHEN 'confirmed' THEN 0 ELSE 1 END, sequence"


def decode_message(row: Row) -> Message:
    """Reads a row of `MESSAGE_COLUMNS`."""
    txparent = TransactionRef(_TXTYPES[row[12]], Uuid(row[13])) if row[12] else None
    header = MessageHeader(
        Uuid(row[0]),
        _TYPES[row[1]],
        _TXTYPES[row[2]],
        row[3],
        row[4],
        Nanoseconds(row[5]),
        row[6],
        split_texts(row[7]),
        Hash32(row[8]),
        uuid_or_none(row[9]),
        hash_or_none(row[10]),
        row[11],
        txparent,
    )
    return Message(
        header,
        Hash32(row[14]),
        split_refs(row[15]),
        Namespace(row[16]),
        _STATES[row[17]],
        uuid_or_none(row[18]),
        uuid_or_none(row[19]),
        row[20],
        row[21],
        split_texts(row[22]),
        row[23],
        row[24],
    )


def decode_data(row: Row) -> Data:
    """Reads a row of `DATA_COLUMNS`."""
    return Data(
        Uuid(row[0]),
        _VALIDATORS[row[1]],
        Namespace(row[2]),
        Hash32(row[3]),
        Nanoseconds(row[4]),
        row[5],
        DatatypeRef(row[6], row[7]) if row[6] or row[7] else None,
        BlobRef(Hash32(row[8]), row[9], row[10], row[11], row[12]) if row[8] else None,
        row[13],
    )


def decode_blob(row: Row) -> Blob:
    """Reads a row of `BLOB_COLUMNS`."""
    return Blob(Namespace(row[0]), Uuid(row[1]), Hash32(row[2]), row[3], row[4], row[5], row[6])


class _ManifestEntry(msgspec.Struct):
    id: str
    hash: str


class _Manifest(msgspec.Struct):
    messages: list[_ManifestEntry]


_manifest = msgspec.json.Decoder(_Manifest)


class MessageReading(Session):
    """Reads messages, data and blobs."""

    async def messages(self, ids: Sequence[Uuid]) -> dict[Uuid, Message]:
        rows = await self.fetch(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE namespace = $1 AND id = ANY($2) "
            "AND (own = TRUE OR state IN ('confirmed', 'rejected', 'cancelled')) "
            f"ORDER BY {_RANK}",
            ids,
        )
        return _first_by_id(map(decode_message, rows))

    async def ready_messages(self, after: int, limit: int) -> list[ReadyMessage]:
        rows = await self.fetch(
            "SELECT sequence, id, type, txtype, author, signing_key, group_hash, topics, data_refs "
            "FROM messages WHERE namespace = $1 AND state = 'ready' AND batch = '' "
            "AND sequence > $2 ORDER BY sequence LIMIT $3",
            after,
            limit,
        )
        refs = [split_refs(row[8]) for row in rows]
        sizes: dict[tuple[str, str], int] = {}
        if any(refs):
            wanted = list({ref.id for some in refs for ref in some})
            found = await self.fetch(
                "SELECT id, hash, value_size FROM data WHERE namespace = $1 AND id = ANY($2)",
                wanted,
            )
            sizes = {(row[0], row[1]): row[2] for row in found}
        return [
            ReadyMessage(
                row[0],
                row[1],
                row[2],
                _TXTYPES[row[3]],
                row[4],
                row[5],
                hash_or_none(row[6]),
                len(split_texts(row[7])),
                tuple(sizes.get((ref.id, ref.hash), 0) for ref in some),
            )
            for row, some in zip(rows, refs, strict=True)
        ]

    async def batch_messages(self, batch: Uuid) -> list[Message]:
        rows = await self.fetch(
            f"SELECT {MESSAGE_COLUMNS} FROM messages "
            "WHERE namespace = $1 AND batch = $2 AND batch <> '' AND own = TRUE ORDER BY sequence",
            batch,
        )
        return [decode_message(row) for row in rows]

    async def received_messages(
        self, keys: Sequence[ReceivedBatchKey]
    ) -> dict[ReceivedBatchKey, list[Message]]:
        """Reads the messages that the manifests name: one message may be in several batches."""
        wanted = set(keys)
        found = await self.fetch(
            "SELECT id, hash, manifest FROM batches WHERE namespace = $1 AND id = ANY($2)",
            list({key.id for key in keys}),
        )
        entries = {
            key: _manifest.decode(row[2]).messages
            for row in found
            if (key := ReceivedBatchKey(Uuid(row[0]), Hash32(row[1]))) in wanted
        }
        ids = list({entry.id for some in entries.values() for entry in some})
        if not ids:
            return {key: [] for key in entries}
        rows = await self.fetch(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE namespace = $1 AND id = ANY($2)", ids
        )
        by_content: dict[tuple[str, str], Message] = {}
        for message in map(decode_message, rows):
            by_content[message.header.id, message.hash] = message
        return {
            key: [
                by_content[entry.id, entry.hash]
                for entry in some
                if (entry.id, entry.hash) in by_content
            ]
            for key, some in entries.items()
        }

    async def data(self, ids: Sequence[Uuid]) -> dict[Uuid, Data]:
        rows = await self.fetch(
            f"SELECT {DATA_COLUMNS} FROM data "
            "WHERE namespace = $1 AND id = ANY($2) AND visible = TRUE ORDER BY sequence",
            ids,
        )
        found: dict[Uuid, Data] = {}
        for item in map(decode_data, rows):
            found.setdefault(item.id, item)
        return found

    async def blob_paths(self, parent: str, limit: int) -> list[str]:
        # The condition on '' is the index's. '0' comes right behind the slash.
        rows = await self.fetch(
            "SELECT DISTINCT blob_path FROM data WHERE namespace = $1 AND blob_path <> '' "
            "AND visible = TRUE AND blob_path >= $2 AND blob_path < $3 ORDER BY blob_path LIMIT $4",
            f"{parent}/",
            f"{parent}0",
            limit,
        )
        return [row[0] for row in rows]

    async def received_data(
        self, refs: Sequence[tuple[Uuid, Hash32]]
    ) -> dict[tuple[Uuid, Hash32], Data]:
        wanted = set(refs)
        rows = await self.fetch(
            f"SELECT {DATA_COLUMNS} FROM data WHERE namespace = $1 AND id = ANY($2)",
            list({ref[0] for ref in refs}),
        )
        return {
            ref: item for item in map(decode_data, rows) if (ref := (item.id, item.hash)) in wanted
        }

    async def blobs(self, data_ids: Sequence[Uuid]) -> dict[Uuid, Blob]:
        rows = await self.fetch(
            "SELECT b.namespace, b.data_id, b.hash, b.payload_ref, b.size, b.created, b.peer "
            "FROM data d JOIN blobs b ON b.namespace = d.namespace AND b.data_id = d.id "
            "AND b.hash = d.blob_hash "
            "WHERE d.namespace = $1 AND d.id = ANY($2) AND d.visible = TRUE ORDER BY d.sequence",
            data_ids,
        )
        found: dict[Uuid, Blob] = {}
        for blob in map(decode_blob, rows):
            found.setdefault(blob.data_id, blob)
        return found

    async def received_blobs(
        self, refs: Sequence[tuple[Uuid, Hash32]]
    ) -> dict[tuple[Uuid, Hash32], Blob]:
        wanted = set(refs)
        rows = await self.fetch(
            f"SELECT {BLOB_COLUMNS} FROM blobs WHERE namespace = $1 AND data_id = ANY($2)",
            list({ref[0] for ref in refs}),
        )
        return {
            ref: blob
            for blob in map(decode_blob, rows)
            if (ref := (blob.data_id, blob.hash)) in wanted
        }


def _first_by_id(messages: Iterable[Message]) -> dict[Uuid, Message]:
    found: dict[Uuid, Message] = {}
    for message in messages:
        found.setdefault(message.header.id, message)
    return found
