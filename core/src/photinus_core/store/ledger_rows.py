"""Transactions, operations, blockchain events, checkpoints, notes, namespaces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import (
    FINAL_STATUSES,
    BlockchainEvent,
    NamespaceRow,
    NetworkContract,
    Operation,
    OperationStatus,
    OperationType,
    Transaction,
    TransactionType,
)
from photinus_core.ports.store import OperationChange
from photinus_core.store.batch_writes import to_json
from photinus_core.store.rows import join_texts, split_texts, uuid_or_none
from photinus_core.store.session import Row, Session, WriteSession

TRANSACTION_COLUMNS: Final = "id, namespace, type, created, idempotency_key, blockchain_ids"
OPERATION_COLUMNS: Final = (
    "id, namespace, tx, type, status, plugin, input, created, updated, output, error, retry"
)
BLOCKCHAIN_EVENT_COLUMNS: Final = (
    "id, namespace, source, name, protocol_id, output, info, timestamp, listener, tx_type, tx_id, "
    "tx_blockchain_id, location, signature"
)

_contracts = msgspec.json.Decoder(tuple[NetworkContract, ...])

_SENT_BY_LEADER: Final = frozenset(
    {
        OperationType.BLOCKCHAIN_NETWORK_ACTION,
        OperationType.SHAREDSTORAGE_UPLOAD_VALUE,
        OperationType.SHAREDSTORAGE_UPLOAD_BLOB,
    }
)
"""What any replica may store for the leader to send; those of batches it finds and leaves alone."""

_OPERATION_TYPES: Final = {kind.value: kind for kind in OperationType}
_STATUSES: Final = {status.value: status for status in OperationStatus}


def decode_transaction(row: Row) -> Transaction:
    """Reads a row of `TRANSACTION_COLUMNS`."""
    return Transaction(
        Uuid(row[0]),
        Namespace(row[1]),
        TransactionType(row[2]),
        Nanoseconds(row[3]),
        row[4],
        split_texts(row[5]),
    )


def decode_operation(row: Row) -> Operation:
    """Reads a row of `OPERATION_COLUMNS`."""
    return Operation(
        Uuid(row[0]),
        Namespace(row[1]),
        Uuid(row[2]),
        _OPERATION_TYPES[row[3]],
        _STATUSES[row[4]],
        row[5],
        row[6],
        Nanoseconds(row[7]),
        Nanoseconds(row[8]),
        row[9],
        row[10],
        uuid_or_none(row[11]),
    )


def decode_blockchain_event(row: Row) -> BlockchainEvent:
    """Reads a row of `BLOCKCHAIN_EVENT_COLUMNS`."""
    return BlockchainEvent(
        Uuid(row[0]),
        Namespace(row[1]),
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        Nanoseconds(row[7]),
        uuid_or_none(row[8]),
        TransactionType(row[9]) if row[9] else None,
        uuid_or_none(row[10]),
        row[11],
        row[12],
        row[13],
    )


def _may_change(operation: Operation, change: OperationChange) -> bool:
    is_final = operation.status in FINAL_STATUSES
    if not change.corrects:
        return not is_final
    is_news = (
        change.status is not operation.status
        or change.output not in (None, operation.output)
        or change.error not in (None, operation.error)
    )
    return is_news and not (is_final and change.status not in FINAL_STATUSES)


class LedgerReading(Session):
    """Reads transactions, operations, blockchain events, checkpoints, notes, the namespace."""

    async def transactions(self, ids: Sequence[Uuid]) -> dict[Uuid, Transaction]:
        rows = await self.fetch(
            f"SELECT {TRANSACTION_COLUMNS} FROM transactions WHERE namespace = $1 AND id = ANY($2)",
            ids,
        )
        return {found.id: found for found in map(decode_transaction, rows)}

    async def transaction_by_key(self, idempotency_key: str) -> Transaction | None:
        row = await self.fetch_one(
            f"SELECT {TRANSACTION_COLUMNS} FROM transactions "
            "WHERE namespace = $1 AND idempotency_key = $2 AND idempotency_key <> ''",
            idempotency_key,
        )
        return decode_transaction(row) if row else None

    async def operations(self, ids: Sequence[Uuid]) -> dict[Uuid, Operation]:
        rows = await self.fetch(
            f"SELECT {OPERATION_COLUMNS} FROM operations WHERE namespace = $1 AND id = ANY($2)", ids
        )
        return {found.id: found for found in map(decode_operation, rows)}

    async def operations_of(self, transaction: Uuid) -> list[Operation]:
        rows = await self.fetch(
            f"SELECT {OPERATION_COLUMNS} FROM operations "
            "WHERE namespace = $1 AND tx = $2 ORDER BY sequence",
            transaction,
        )
        return [decode_operation(row) for row in rows]

    async def unfinished_operations(
        self, types: Collection[OperationType], limit: int
    ) -> list[Operation]:
        rows = await self.fetch(
            f"SELECT {OPERATION_COLUMNS} FROM operations WHERE namespace = $1 "
            "AND status IN ('Initialized', 'Pending') AND retry = '' AND type = ANY($2) "
            "ORDER BY sequence LIMIT $3",
            [kind.value for kind in types],
            limit,
        )
        return [decode_operation(row) for row in rows]

    async def unsubmitted_operations(self, limit: int) -> list[Operation]:
        # The first condition on the status is the index's, word for word, as SQLite wants it.
        rows = await self.fetch(
            f"SELECT {OPERATION_COLUMNS} FROM operations o WHERE namespace = $1 "
            "AND status IN ('Initialized', 'Pending') AND status = 'Initialized' AND retry = '' "
            "AND (type = $2 OR EXISTS (SELECT 1 FROM operations p WHERE p.namespace = o.namespace "
            "AND p.tx = o.tx AND p.retry = o.id) OR EXISTS (SELECT 1 FROM transactions t "
            "WHERE t.namespace = o.namespace AND t.id = o.tx AND t.type = $4)) "
            "ORDER BY sequence LIMIT $3",
            OperationType.BLOCKCHAIN_NETWORK_ACTION.value,
            limit,
            TransactionType.DATA_PUBLISH.value,
        )
        return [decode_operation(row) for row in rows]

    async def blockchain_events(self, ids: Sequence[Uuid]) -> dict[Uuid, BlockchainEvent]:
        rows = await self.fetch(
            f"SELECT {BLOCKCHAIN_EVENT_COLUMNS} FROM blockchain_events "
            "WHERE namespace = $1 AND id = ANY($2)",
            ids,
        )
        return {found.id: found for found in map(decode_blockchain_event, rows)}

    async def blockchain_events_of(self, transaction: Uuid) -> list[BlockchainEvent]:
        rows = await self.fetch(
            f"SELECT {BLOCKCHAIN_EVENT_COLUMNS} FROM blockchain_events "
            "WHERE namespace = $1 AND tx_id = $2 AND tx_id <> '' ORDER BY sequence",
            transaction,
        )
        return [decode_blockchain_event(row) for row in rows]

    async def notes(self, kind: str) -> dict[str, str]:
        rows = await self.fetch(
            "SELECT key, value FROM notes WHERE namespace = $1 AND kind = $2 ORDER BY key", kind
        )
        return {row[0]: row[1] for row in rows}

    async def checkpoints(self, consumer: str) -> dict[str, bytes]:
        rows = await self.fetch(
            "SELECT listener, value FROM checkpoints WHERE namespace = $1 AND consumer = $2",
            consumer,
        )
        return {row[0]: bytes(row[1]) for row in rows}

    async def namespace_row(self) -> NamespaceRow | None:
        row = await self.fetch_one(
            "SELECT name, network_name, description, created, contracts, halted "
            "FROM namespaces WHERE name = $1"
        )
        if row is None:
            return None
        return NamespaceRow(
            Namespace(row[0]),
            row[1],
            row[2],
            Nanoseconds(row[3]),
            _contracts.decode(row[4]),
            row[5],
        )


class LedgerWriting(WriteSession):
    """Writes transactions, operations, blockchain events, checkpoints, notes, the namespace."""

    async def insert_transactions(self, transactions: Sequence[Transaction]) -> None:
        if transactions:
            self.later_many(
                "INSERT INTO transactions (namespace, id, type, created, idempotency_key, "
                "blockchain_ids) VALUES ($1, $2, $3, $4, $5, $6) "
                "ON CONFLICT (namespace, id) DO NOTHING",
                [
                    (
                        t.namespace,
                        t.id,
                        t.type.value,
                        t.created,
                        t.idempotency_key,
                        join_texts(t.blockchain_ids),
                    )
                    for t in transactions
                ],
            )
            if self.noted is not None:
                inserted = {t.id: t.created for t in transactions}
                self.noted.land(ChangeCollection.TRANSACTIONS, inserted)

    async def add_blockchain_ids(
        self, ids: Mapping[Uuid, str], transactions: Sequence[Transaction] = ()
    ) -> None:
        await self.insert_transactions(transactions)
        # replace() tells whether the list holds the id, in both databases and without patterns.
        self.later_many(
            "UPDATE transactions SET blockchain_ids = "
            "CASE WHEN blockchain_ids = '' THEN $3 ELSE blockchain_ids || ',' || $3 END "
            "WHERE namespace = $1 AND id = $2 "
            "AND replace(',' || blockchain_ids || ',', ',' || $3 || ',', '') "
            "= ',' || blockchain_ids || ','",
            [
                (self.namespace, transaction, join_texts((chain_id.lower(),)))
                for transaction, chain_id in ids.items()
                if chain_id
            ],
        )
        self.note(
            ChangeCollection.TRANSACTIONS, ChangeKind.UPDATED, (each for each in ids if ids[each])
        )

    async def insert_operations(self, operations: Sequence[Operation]) -> None:
        if operations:
            self.later_many(
                "INSERT INTO operations (namespace, id, tx, type, status, plugin, created, "
                "updated, retry, error, input, output) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                [
                    (
                        o.namespace,
                        o.id,
                        o.tx,
                        o.type.value,
                        o.status.value,
                        o.plugin,
                        o.created,
                        o.updated,
                        o.retry or "",
                        o.error,
                        o.input,
                        o.output,
                    )
                    for o in operations
                ],
            )
            self.touch("operations")
            self.note(ChangeCollection.OPERATIONS, ChangeKind.CREATED, (o.id for o in operations))
            if any(o.type in _SENT_BY_LEADER for o in operations):
                self.touch("submissions")

    async def lock_operations(self, ids: Sequence[Uuid]) -> dict[Uuid, Operation]:
        rows = await self.fetch(
            f"SELECT {OPERATION_COLUMNS} FROM operations "
            "WHERE namespace = $1 AND id = ANY($2) ORDER BY sequence FOR UPDATE",
            list(ids),
        )
        return {operation.id: operation for operation in map(decode_operation, rows)}

    async def change_operations(self, changes: Sequence[OperationChange]) -> list[Operation]:
        if not changes:
            return []
        current = await self.lock_operations(list({change.id for change in changes}))
        changed: dict[Uuid, Operation] = {}
        corrected: set[Uuid] = set()
        for change in changes:
            operation = current.get(change.id)
            if operation is None or not _may_change(operation, change):
                continue
            operation = msgspec.structs.replace(
                operation,
                status=change.status,
                updated=change.at,
                output=operation.output if change.output is None else change.output,
                error=operation.error if change.error is None else change.error,
            )
            current[change.id] = changed[change.id] = operation
            if change.corrects:
                corrected.add(change.id)
        if changed:
            self.later_many(
                "UPDATE operations SET status = $3, updated = $4, output = $5, error = $6 "
                "WHERE namespace = $1 AND id = $2 "
                "AND (status NOT IN ('Succeeded', 'Failed') OR $7 = TRUE)",
                [
                    (
                        *(o.namespace, o.id, o.status.value, o.updated, o.output, o.error),
                        o.id in corrected,
                    )
                    for o in changed.values()
                ],
            )
            self.touch("operations")
            self.note(ChangeCollection.OPERATIONS, ChangeKind.UPDATED, changed)
        return list(changed.values())

    async def set_operation_retry(self, operation: Uuid, by: Uuid) -> None:
        self.later(
            "UPDATE operations SET retry = $3 WHERE namespace = $1 AND id = $2", operation, by
        )
        self.note(ChangeCollection.OPERATIONS, ChangeKind.UPDATED, (operation,))
        self.touch("operations")
        self.touch("submissions")

    async def insert_blockchain_events(
        self, events: Sequence[BlockchainEvent]
    ) -> list[BlockchainEvent]:
        if not events:
            return []
        self.later_many(
            "INSERT INTO blockchain_events (namespace, id, source, name, protocol_id, timestamp, "
            "listener, tx_type, tx_id, tx_blockchain_id, location, signature, info, output) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
            "ON CONFLICT (namespace, listener, protocol_id) DO NOTHING",
            [
                (
                    e.namespace,
                    e.id,
                    e.source,
                    e.name,
                    e.protocol_id,
                    e.timestamp,
                    e.listener or "",
                    e.tx_type.value if e.tx_type else "",
                    e.tx_id or "",
                    e.tx_blockchain_id,
                    e.location,
                    e.signature,
                    e.info,
                    e.output,
                )
                for e in events
            ],
        )
        rows = await self.fetch(
            "SELECT id FROM blockchain_events WHERE namespace = $1 AND id = ANY($2)",
            [event.id for event in events],
        )
        stored = {row[0] for row in rows}
        self.note(ChangeCollection.BLOCKCHAIN_EVENTS, ChangeKind.CREATED, stored)
        return [event for event in events if event.id in stored]

    async def set_checkpoints(self, consumer: str, checkpoints: Mapping[str, bytes]) -> None:
        self.later_many(
            "INSERT INTO checkpoints (namespace, consumer, listener, value) "
            "VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (namespace, consumer, listener) DO UPDATE SET value = excluded.value",
            [
                (self.namespace, consumer, listener, value)
                for listener, value in checkpoints.items()
            ],
        )

    async def set_notes(self, kind: str, notes: Mapping[str, str]) -> None:
        self.later_many(
            "INSERT INTO notes (namespace, kind, key, value) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (namespace, kind, key) DO UPDATE SET value = excluded.value",
            [(self.namespace, kind, key, value) for key, value in notes.items()],
        )

    async def delete_notes(self, kind: str, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        gone = await self.fetch(
            "DELETE FROM notes WHERE namespace = $1 AND kind = $2 AND key = ANY($3) RETURNING key",
            kind,
            keys,
        )
        return len(gone)

    async def save_namespace_row(self, row: NamespaceRow) -> None:
        self.later(
            "INSERT INTO namespaces (name, network_name, description, created, contracts, halted) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET "
            "network_name = excluded.network_name, description = excluded.description, "
            "contracts = excluded.contracts, halted = excluded.halted",
            row.network_name,
            row.description,
            row.created,
            to_json(row.contracts),
            row.halted,
        )
