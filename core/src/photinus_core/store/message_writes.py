"""Messages and data: writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Uuid
from photinus_core.model.messages import Batch, Blob, Data, Message, MessageState
from photinus_core.ports.store import Decision, MessageWrite
from photinus_core.store.batch_writes import insert_batch
from photinus_core.store.message_reads import BLOB_COLUMNS, decode_blob
from photinus_core.store.rows import join_refs, join_texts, split_refs
from photinus_core.store.session import WriteSession

_INSERT_MESSAGE: Final = (
    "INSERT INTO messages (namespace, id, hash, own, state, type, txtype, author, signing_key, "
    "created, network_namespace, topics, tag, datahash, cid, group_hash, txparent_type, "
    "txparent_id, batch, txid, confirmed, reject_reason, idempotency_key, pins, data_refs) VALUES "
    "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, "
    "$21, $22, $23, $24, $25)"
)
_INSERT_DATA: Final = (
    "INSERT INTO data (namespace, id, hash, visible, validator, created, datatype_name, "
    "datatype_version, blob_hash, blob_size, blob_name, blob_path, blob_public, public, "
    "value_size, value) VALUES "
    "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
)
_KEEP_KNOWN: Final = " ON CONFLICT (namespace, id, hash) DO NOTHING"
_INSERT_REFERENCE: Final = (
    "INSERT INTO message_data (namespace, data_id, message_id) VALUES ($1, $2, $3) "
    "ON CONFLICT (namespace, data_id, message_id) DO NOTHING"
)
_INSERT_BLOB: Final = (
    f"INSERT INTO blobs ({BLOB_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) "
    "ON CONFLICT (namespace, data_id, hash) DO NOTHING"
)


def _message_row(message: Message, *, own: bool) -> tuple[object, ...]:
    header = message.header
    parent = header.txparent
    return (
        message.namespace,
        header.id,
        message.hash,
        own,
        message.state.value,
        header.type.value,
        header.txtype.value,
        header.author,
        header.key,
        header.created,
        header.namespace,
        join_texts(header.topics),
        header.tag,
        header.datahash,
        header.cid or "",
        header.group or "",
        parent.type.value if parent else "",
        parent.id if parent else "",
        message.batch or "",
        message.txid or "",
        message.confirmed,
        message.reject_reason,
        message.idempotency_key,
        join_texts(message.pins),
        join_refs(message.data),
    )


def _data_row(data: Data, *, visible: bool) -> tuple[object, ...]:
    datatype, blob = data.datatype, data.blob
    return (
        data.namespace,
        data.id,
        data.hash,
        visible,
        data.validator.value,
        data.created,
        datatype.name if datatype else "",
        datatype.version if datatype else "",
        blob.hash if blob else "",
        blob.size if blob else 0,
        blob.name if blob else "",
        blob.path if blob else "",
        blob.public if blob else "",
        data.public,
        data.value_size,
        data.value,
    )


class MessageWriting(WriteSession):
    """Writes messages, data and blobs."""

    async def insert_messages(self, writes: Sequence[MessageWrite]) -> list[Uuid | None]:
        self.in_turn("messages")
        taken = await self._taken_keys(
            [write.message.idempotency_key for write in writes if write.message.idempotency_key]
        )
        outcomes: list[Uuid | None] = []
        stored: list[MessageWrite] = []
        for write in writes:
            key = write.message.idempotency_key
            outcomes.append(taken.get(key) if key else None)
            if outcomes[-1] is None:
                stored.append(write)
                if key:
                    taken[key] = write.message.header.id
        if stored:
            await self._check_references(stored)
            # Data first: a message's references are then never dangling.
            self._insert_data([data for write in stored for data in write.new_data])
            messages = [write.message for write in stored]
            self.later_many(_INSERT_MESSAGE, [_message_row(m, own=True) for m in messages])
            self._insert_references(messages)
            self._note_messages(ChangeKind.CREATED, messages)
            self.touch("messages")
        return outcomes

    async def _check_references(self, writes: Sequence[MessageWrite]) -> None:
        """Makes sure that data which messages refer to were not deleted since they were looked up."""
        new = {item.id for write in writes for item in write.new_data}
        old = [
            (number, ref.id)
            for write in writes
            for number, ref in enumerate(write.message.data)
            if ref.id not in new
        ]
        if not old:
            return
        rows = await self.fetch(
            "SELECT id FROM data WHERE namespace = $1 AND id = ANY($2) AND visible = TRUE",
            list({data_id for _, data_id in old}),
        )
        known = {row[0] for row in rows}
        for number, data_id in old:
            if data_id not in known:
                raise Rejected("FF10204", number)

    async def _taken_keys(self, keys: Sequence[str]) -> dict[str, Uuid]:
        if not keys:
            return {}
        rows = await self.fetch(
            "SELECT idempotency_key, id FROM messages "
            "WHERE namespace = $1 AND idempotency_key = ANY($2) AND idempotency_key <> ''",
            keys,
        )
        return {row[0]: Uuid(row[1]) for row in rows}

    async def insert_data(self, data: Sequence[Data], blobs: Sequence[Blob] = ()) -> None:
        self._insert_data(data)
        await self.insert_blobs(blobs)

    def _insert_data(self, data: Sequence[Data]) -> None:
        if data:
            self.later_many(_INSERT_DATA, [_data_row(item, visible=True) for item in data])
            self.note(ChangeCollection.DATA, ChangeKind.CREATED, (item.id for item in data))

    def _note_messages(self, kind: ChangeKind, messages: Sequence[Message]) -> None:
        self.note(ChangeCollection.MESSAGES, kind, (m.header.id for m in messages))

    def _insert_references(self, messages: Sequence[Message]) -> None:
        rows = [(m.namespace, ref.id, m.header.id) for m in messages for ref in m.data]
        if rows:
            self.later_many(_INSERT_REFERENCE, rows)

    async def set_data_public(self, refs: Mapping[Uuid, str]) -> None:
        self.later_many(
            "UPDATE data SET blob_public = $3 WHERE namespace = $1 AND id = $2 "
            "AND visible = TRUE AND blob_hash <> ''",
            [(self.namespace, data_id, ref) for data_id, ref in refs.items()],
        )
        self.note(ChangeCollection.DATA, ChangeKind.UPDATED, refs)

    async def set_value_public(self, refs: Mapping[Uuid, str]) -> None:
        self.later_many(
            "UPDATE data SET public = $3 WHERE namespace = $1 AND id = $2 AND visible = TRUE",
            [(self.namespace, data_id, ref) for data_id, ref in refs.items()],
        )
        self.note(ChangeCollection.DATA, ChangeKind.UPDATED, refs)

    async def insert_blobs(self, blobs: Sequence[Blob]) -> None:
        rows = [
            (b.namespace, b.data_id, b.hash, b.payload_ref, b.size, b.created, b.peer)
            for b in blobs
        ]
        if rows:
            self.later_many(_INSERT_BLOB, rows)

    async def undecided_message_of(self, data: Uuid) -> Uuid | None:
        self.in_turn("messages")
        self.in_turn("received")
        row = await self.fetch_one(
            "SELECT m.id FROM message_data d JOIN messages m "
            "ON m.namespace = d.namespace AND m.id = d.message_id "
            "WHERE d.namespace = $1 AND d.data_id = $2 "
            "AND m.state NOT IN ('confirmed', 'rejected') LIMIT 1",
            data,
        )
        return Uuid(row[0]) if row else None

    async def delete_data(self, data: Uuid) -> Blob | None:
        deleted = await self.fetch(
            "DELETE FROM data WHERE namespace = $1 AND id = $2 AND visible = TRUE "
            "RETURNING blob_hash",
            data,
        )
        if not deleted:
            return None
        self.note(ChangeCollection.DATA, ChangeKind.DELETED, (data,))
        rows = await self.fetch(
            "DELETE FROM blobs WHERE namespace = $1 AND data_id = $2 AND hash = ANY($3) "
            f"RETURNING {BLOB_COLUMNS}",
            data,
            [row[0] for row in deleted],
        )
        return decode_blob(rows[0]) if rows else None

    async def insert_received(
        self, batch: Batch, messages: Sequence[Message], data: Sequence[Data]
    ) -> bool:
        self.in_turn("received")
        known = await self.fetch(
            "SELECT 1 FROM batches WHERE namespace = $1 AND id = $2 AND hash = $3",
            batch.id,
            batch.hash,
        )
        if known:
            return False
        insert_batch(self, batch, own=False)
        if data:
            rows = [_data_row(item, visible=False) for item in data]
            self.later_many(_INSERT_DATA + _KEEP_KNOWN, rows)
        if messages:
            received = [_message_row(m, own=False) for m in messages]
            self.later_many(_INSERT_MESSAGE + _KEEP_KNOWN, received)
            self._insert_references(messages)
            # Data and batch are seen when they are confirmed.
            self._note_messages(ChangeKind.CREATED, messages)
        return True

    async def decide(self, decisions: Sequence[Decision]) -> None:
        if not decisions:
            return
        self.later_many(
            "UPDATE messages SET state = $4, confirmed = $5, reject_reason = $6 "
            "WHERE namespace = $1 AND id = $2 AND hash = $3 "
            "AND state NOT IN ('confirmed', 'rejected')",
            [(self.namespace, d.message, d.hash, d.state.value, d.at, d.reason) for d in decisions],
        )
        self.note(ChangeCollection.MESSAGES, ChangeKind.UPDATED, (d.message for d in decisions))
        confirmed = {d.message for d in decisions if d.state is MessageState.CONFIRMED}
        if not confirmed:
            return
        rows = await self.fetch(
            "SELECT data_refs FROM messages WHERE namespace = $1 AND id = ANY($2) "
            "AND state = 'confirmed' AND own = FALSE AND data_refs <> ''",
            list(confirmed),
        )
        refs = {ref for row in rows for ref in split_refs(row[0])}
        if refs:
            self.later_many(
                "UPDATE data SET visible = TRUE "
                "WHERE namespace = $1 AND id = $2 AND hash = $3 AND visible = FALSE",
                [(self.namespace, ref.id, ref.hash) for ref in refs],
            )
            self.note(ChangeCollection.DATA, ChangeKind.CREATED, (ref.id for ref in refs))
