"""The connector's durable memory: every transaction before it is sent, by idempotency key and by nonce.

One table serves both what the kit asks of an operation journal (keys, answers, updates to be acked, epochs)
and what the engine needs (signer, nonce, raw bytes, where it was mined), so that one commit journals a
submission. A key is in the table exactly when its transaction, or the decision that there will be none, is
durable; there is no half-begun state.

Retention (hard case 9): a key is forgotten `retention_s` after its terminal update was acked and its nonce is
used up; never before.
"""

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus_journal import (
    EPOCHS_SCHEMA,
    ERROR_BYTES_MAX,
    TERMINAL,
    Begun,
    KeyReused,
    Scope,
    SqliteEpochs,
    SqliteWriter,
    StoredUpdate,
    cut,
    operation_of,
)
from photinus_sdk.tasks import Background

from photinus_ethereum.hexes import Address, BlockHash, TxHash

PENDING = common.OPERATION_STATE_PENDING
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED
FAILED = common.OPERATION_STATE_FAILED
CANCELLED = common.OPERATION_STATE_CANCELLED

INTERNAL_SCOPE = "\n\n"
"""Scope of transactions nobody asked for: those that fill a gap in a signer's nonces."""

PURGED_BESIDE_ACKED = 50
UPDATES_PER_OPENING_MAX = 1 << 40

SCHEMA = """
CREATE TABLE IF NOT EXISTS eth_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS eth_transactions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL, key TEXT NOT NULL, method TEXT NOT NULL, fingerprint BLOB NOT NULL,
    state INTEGER NOT NULL, answer BLOB,
    signer TEXT, nonce INTEGER, hash TEXT NOT NULL DEFAULT '', raw BLOB, errors_json TEXT NOT NULL DEFAULT '',
    noop INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 1,
    block INTEGER, block_hash TEXT,
    output_json TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    update_row INTEGER, acked_ns INTEGER,
    UNIQUE (scope, key));
CREATE INDEX IF NOT EXISTS eth_by_nonce ON eth_transactions (signer, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX IF NOT EXISTS eth_unsettled ON eth_transactions (id) WHERE settled = 0;
CREATE INDEX IF NOT EXISTS eth_by_block ON eth_transactions (block) WHERE block IS NOT NULL;
CREATE INDEX IF NOT EXISTS eth_updates ON eth_transactions (scope, update_row) WHERE update_row IS NOT NULL;
CREATE INDEX IF NOT EXISTS eth_acked ON eth_transactions (acked_ns) WHERE acked_ns IS NOT NULL;
CREATE TABLE IF NOT EXISTS eth_attempts (
    id INTEGER PRIMARY KEY, transaction_id INTEGER NOT NULL REFERENCES eth_transactions ON DELETE CASCADE,
    hash TEXT NOT NULL, noop INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS eth_attempts_of ON eth_attempts (transaction_id);
"""

_OPERATION = "key, method, state, hash, output_json, error, created_ns, updated_ns"
_ENTRY = (
    "id, scope, key, method, fingerprint, signer, nonce, hash, raw, errors_json, noop, error,"
    " state, block, block_hash"
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A signed transaction about to be journaled. `fingerprint` is a digest of what was asked under the key."""

    scope: str
    key: str
    method: str
    fingerprint: bytes
    signer: Address
    nonce: int
    hash: TxHash
    raw: bytes
    errors_json: str = ""
    noop: bool = False
    error: str = ""
    """Why the transaction was given up, when this is the empty one in its place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A journaled transaction as recovery finds it. `former` are hashes of earlier attempts at its nonce."""

    id: int
    submitted: Submitted
    state: common.OperationState.ValueType
    block: int | None
    block_hash: BlockHash | None
    former: tuple[tuple[TxHash, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a transaction. `state` None leaves the key's state as it was told before."""

    id: int
    state: common.OperationState.ValueType | None
    hash: TxHash
    block: int
    block_hash: BlockHash
    output_json: str
    error: str = ""


class Journal:
    """`photinus_journal.OperationJournal` for transactions. Open it once per file; a lock keeps others out."""

    def __init__(
        self, path: Path, *, retention_s: int, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._writer = SqliteWriter(path, EPOCHS_SCHEMA + SCHEMA)
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._reader.execute("PRAGMA query_only = ON")
        self._retention_ns = retention_s * 1_000_000_000
        self._now_ns = now_ns
        self._epochs = SqliteEpochs(self._writer)
        self._inserting: dict[tuple[str, str], asyncio.Task[int]] = {}
        self._inserting_nonces: set[tuple[Address, int]] = set()
        self._tasks = Background()
        self._changed: dict[str, asyncio.Event] = {}
        self._next_update = 1
        self._store_id = ""
        self._closed = False

    async def open(self) -> None:
        def job(db: sqlite3.Connection) -> tuple[str, int]:
            db.execute(
                "INSERT INTO eth_meta VALUES ('store_id', ?) ON CONFLICT DO NOTHING",
                (str(uuid.uuid4()),),
            )
            (value,) = db.execute("SELECT value FROM eth_meta WHERE name = 'store_id'").fetchone()
            (opened,) = db.execute(
                "INSERT INTO eth_meta VALUES ('opened', '1') ON CONFLICT (name)"
                " DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value"
            ).fetchone()
            return str(value), int(opened)

        self._store_id, opened = await self._writer.write(job)
        # Rows name updates for ever, so they begin behind all of the times before.
        self._next_update = opened * UPDATES_PER_OPENING_MAX

    @property
    def store_id(self) -> str:
        return self._store_id

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._writer.aclose()
            self._reader.close()

    # What the engine needs.

    def insert(self, submitted: Submitted) -> asyncio.Task[int]:
        """Journals a transaction; the task gives its id after the commit. Ends are in the order of calls.

        Nobody's cancellation stops it: await it shielded.
        """
        known, place = (submitted.scope, submitted.key), (submitted.signer, submitted.nonce)
        task = self._tasks.start(self._insert(submitted), f"journal {submitted.hash}")
        self._inserting[known] = task
        self._inserting_nonces.add(place)

        def done(_: asyncio.Task[int]) -> None:
            self._inserting.pop(known, None)
            self._inserting_nonces.discard(place)

        task.add_done_callback(done)
        return task

    def is_inserting(self, signer: Address, nonce: int) -> bool:
        """True while a transaction with this nonce is on its way into the journal."""
        return (signer, nonce) in self._inserting_nonces

    async def _insert(self, submitted: Submitted) -> int:
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> int:
            return int(
                db.execute(
                    "INSERT INTO eth_transactions (scope, key, method, fingerprint, state, signer, nonce, hash,"
                    " raw, errors_json, noop, settled, created_ns, updated_ns)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
                    (
                        submitted.scope,
                        submitted.key,
                        submitted.method,
                        submitted.fingerprint,
                        PENDING,
                        submitted.signer,
                        submitted.nonce,
                        submitted.hash,
                        submitted.raw,
                        submitted.errors_json,
                        submitted.noop,
                        now,
                        now,
                    ),
                ).lastrowid
                or 0
            )

        return await self._writer.write(job)

    async def replace(self, entry_id: int, submitted: Submitted) -> None:
        """Journals another attempt at the same key: a higher fee, another nonce, or an empty transaction."""
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO eth_attempts (transaction_id, hash, noop)"
                " SELECT id, hash, noop FROM eth_transactions WHERE id = ?",
                (entry_id,),
            )
            db.execute(
                "UPDATE eth_transactions SET nonce = ?, hash = ?, raw = ?, noop = ?, error = ?, updated_ns = ?"
                " WHERE id = ?",
                (
                    submitted.nonce,
                    submitted.hash,
                    submitted.raw,
                    submitted.noop,
                    cut(submitted.error, ERROR_BYTES_MAX),
                    now,
                    entry_id,
                ),
            )

        await self._writer.write(job)

    async def cancel(self, entry_id: int, submitted: Submitted) -> None:
        """Takes back a transaction nobody has seen: its key is CANCELLED, its nonce used by an empty one."""
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> set[str]:
            db.execute(
                "UPDATE eth_transactions SET hash = ?, raw = ?, noop = 1, updated_ns = ? WHERE id = ?",
                (submitted.hash, submitted.raw, now, entry_id),
            )
            return self._end_in(db, [(CANCELLED, "", "", entry_id)], now)

        self._tell(await self._writer.write(job))

    async def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Journals the ends of transactions, one commit for all; each queues its update."""
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> set[str]:
            db.executemany(
                "UPDATE eth_transactions SET settled = 1, hash = ?, block = ?, block_hash = ? WHERE id = ?",
                [(end.hash, end.block, end.block_hash, end.id) for end in outcomes],
            )
            ended = [
                (end.state, end.output_json, cut(end.error, ERROR_BYTES_MAX), end.id)
                for end in outcomes
                if end.state is not None
            ]
            return self._end_in(db, ended, now)

        self._tell(await self._writer.write(job))

    async def unsettle(self, entry_ids: Iterable[int]) -> None:
        """A reorganisation took these back: their nonces are open again. What was told of the keys stays."""
        ids = [(entry_id,) for entry_id in entry_ids]
        await self._writer.write(
            lambda db: db.executemany(
                "UPDATE eth_transactions SET settled = 0, block = NULL, block_hash = NULL WHERE id = ?",
                ids,
            )
        )

    def unsettled(self) -> list[Entry]:
        """Transactions whose nonce is not known to be used up, by signer and nonce."""
        return self._entries("settled = 0 AND nonce IS NOT NULL ORDER BY signer, nonce", ())

    def mined_from(self, block: int) -> list[Entry]:
        """Settled transactions mined at or above a block, by signer and nonce."""
        return self._entries("block >= ? AND settled = 1 ORDER BY signer, nonce", (block,))

    def with_nonce(self, signer: Address, nonce: int) -> Entry | None:
        """The transaction that was given this nonce last."""
        found = self._entries("signer = ? AND nonce = ? ORDER BY id DESC LIMIT 1", (signer, nonce))
        return found[0] if found else None

    def highest_nonce(self, signer: Address) -> int | None:
        """The highest nonce ever given to a transaction of this signer that is still remembered."""
        (highest,) = self._reader.execute(
            "SELECT max(nonce) FROM eth_transactions WHERE signer = ? AND nonce IS NOT NULL",
            (signer,),
        ).fetchone()
        return None if highest is None else int(highest)

    def status(self, scope: str, key: str) -> dict[str, object] | None:
        """What is known of a key, for people."""
        row = self._reader.execute(
            "SELECT method, state, signer, nonce, hash, noop, settled, block, error FROM eth_transactions"
            " WHERE scope = ? AND key = ?",
            (scope, key),
        ).fetchone()
        if row is None:
            return None
        method, state, signer, nonce, tx_hash, noop, settled, block, error = row
        return {
            "key": key,
            "method": method,
            "state": common.OperationState.Name(state).removeprefix("OPERATION_STATE_"),
            "signer": signer,
            "nonce": nonce,
            "transactionHash": tx_hash,
            "givenUp": bool(noop),
            "settled": bool(settled),
            "block": block,
            "error": error,
        }

    def meta(self, name: str) -> str | None:
        """A remembered fact about the store."""
        row = self._reader.execute("SELECT value FROM eth_meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    async def remember(self, name: str, value: str) -> None:
        """Remembers a fact about the store."""
        await self._writer.write(
            lambda db: db.execute(
                "INSERT INTO eth_meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )
        )

    def _entries(self, where: str, arguments: tuple[object, ...]) -> list[Entry]:
        rows = self._reader.execute(
            f"SELECT {_ENTRY} FROM eth_transactions WHERE {where}",  # noqa: S608 - our own constants
            arguments,
        ).fetchall()
        return [_entry(row, self._former(row[0])) for row in rows]

    def _former(self, entry_id: int) -> tuple[tuple[TxHash, bool], ...]:
        rows = self._reader.execute(
            "SELECT hash, noop FROM eth_attempts WHERE transaction_id = ? ORDER BY id", (entry_id,)
        )
        return tuple((TxHash(former), bool(noop)) for former, noop in rows)

    def _end_in(
        self,
        db: sqlite3.Connection,
        ended: Sequence[tuple[common.OperationState.ValueType, str, str, int]],
        now: int,
    ) -> set[str]:
        """Ends keys that are still pending; returns the scopes that have something new to be told."""
        scopes: set[str] = set()
        for state, output_json, error, entry_id in ended:
            row = db.execute(
                "UPDATE eth_transactions SET state = ?, output_json = ?, error = ?, updated_ns = ?, update_row = ?"
                " WHERE id = ? AND state = ? RETURNING scope",
                (state, output_json, error, now, self._next_update, entry_id, PENDING),
            ).fetchone()
            if row is None:
                continue
            self._next_update += 1
            scopes.add(row[0])
            if row[0] == INTERNAL_SCOPE:
                # Nobody waits for its end.
                db.execute(
                    "UPDATE eth_transactions SET update_row = NULL, acked_ns = ? WHERE id = ?",
                    (now, entry_id),
                )
        return scopes

    # What the kit needs.

    async def raise_epoch(self, stream: Scope, epoch: int) -> int:
        return await self._epochs.rise(stream, epoch)

    async def begin(self, stream: Scope, key: str, method: str, fingerprint: bytes) -> Begun:
        known = (stream.text, key)
        if (running := self._inserting.get(known)) is not None:
            await asyncio.wait([running])
        row = self._reader.execute(
            f"SELECT fingerprint, answer, {_OPERATION} FROM eth_transactions WHERE scope = ? AND key = ?",  # noqa: S608 - our own constants
            known,
        ).fetchone()
        if row is None:
            return Begun()
        stored, answer, *columns = row
        operation = operation_of(columns)
        if stored and (stored != fingerprint or operation.method != method):
            message = f"The key {key} was used for another {operation.method}"
            raise KeyReused(message, "KEY_REUSED")
        return Begun(answer=answer or _answer(operation), operation=operation)

    async def accept(self, stream: Scope, key: str, answer: bytes, kept: common.Submission) -> None:
        """Nothing to store: the transaction was journaled with its key."""

    async def settle(self, stream: Scope, key: str, answer: bytes) -> None:
        """Not called: all that changes something on a chain is a submission."""
        del stream, key, answer
        raise AssertionError("the blockchain contract has no call that is done when it is answered")

    async def release(self, stream: Scope, key: str) -> None:
        """Nothing to forget: a key without a transaction is not here."""

    async def update(self, stream: Scope, update: events.OperationUpdate) -> None:
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> set[str]:
            row = db.execute(
                "SELECT id FROM eth_transactions WHERE scope = ? AND key = ?",
                (stream.text, update.idempotency_key),
            ).fetchone()
            if row is not None and update.state in TERMINAL:
                error = cut(update.error, ERROR_BYTES_MAX)
                ended = [(update.state, update.output_json, error, row[0])]
                return self._end_in(db, ended, now)
            return set()

        self._tell(await self._writer.write(job))

    async def get(
        self, stream: Scope, key: str, *, begun: bool = False
    ) -> operations.Operation | None:
        del begun  # there is no such state here
        if (running := self._inserting.get((stream.text, key))) is not None:
            await asyncio.wait([running])
        row = self._reader.execute(
            f"SELECT {_OPERATION} FROM eth_transactions WHERE scope = ? AND key = ?",  # noqa: S608 - our own constants
            (stream.text, key),
        ).fetchone()
        return operation_of(row) if row else None

    async def list_operations(
        self, stream: Scope, state: common.OperationState.ValueType, limit: int, after: int
    ) -> tuple[list[operations.Operation], int]:
        rows = self._reader.execute(
            f"SELECT id, {_OPERATION} FROM eth_transactions WHERE scope = ? AND id > ?"  # noqa: S608 - our own constants
            " AND (? = 0 OR state = ?) ORDER BY id LIMIT ?",
            (stream.text, after, state, state, limit + 1),
        ).fetchall()
        page = rows[:limit]
        return [operation_of(row[1:]) for row in page], page[-1][0] if len(rows) > limit else 0

    async def tombstone(self, stream: Scope, key: str) -> common.OperationState.ValueType:
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> common.OperationState.ValueType:
            db.execute(
                "INSERT INTO eth_transactions (scope, key, method, fingerprint, state, created_ns, updated_ns,"
                " acked_ns) VALUES (?, ?, '', x'', ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (stream.text, key, CANCELLED, now, now, now),
            )
            (state,) = db.execute(
                "SELECT state FROM eth_transactions WHERE scope = ? AND key = ?",
                (stream.text, key),
            ).fetchone()
            return common.OperationState.ValueType(state)

        return await self._writer.write(job)

    async def updates(self, stream: Scope, after: int, limit: int) -> list[StoredUpdate]:
        rows = self._reader.execute(
            "SELECT update_row, key, state, hash, output_json, error FROM eth_transactions"
            " WHERE scope = ? AND update_row > ? ORDER BY update_row LIMIT ?",
            (stream.text, after, limit),
        )
        return [
            StoredUpdate(
                row,
                events.OperationUpdate(
                    idempotency_key=key,
                    state=state,
                    external_id=external,
                    output_json=output,
                    error=error,
                ),
            )
            for row, key, state, external, output, error in rows
        ]

    async def updates_acked(self, stream: Scope, through: int) -> None:
        now = self._now_ns()

        def job(db: sqlite3.Connection) -> None:
            acked = db.execute(
                "UPDATE eth_transactions SET update_row = NULL, acked_ns = ? WHERE scope = ? AND update_row <= ?",
                (now, stream.text, through),
            ).rowcount
            # More than came: however large the batches are, the table does not grow for ever.
            db.execute(
                "DELETE FROM eth_transactions WHERE id IN (SELECT id FROM eth_transactions"
                " WHERE acked_ns < ? AND settled = 1 LIMIT ?)",
                (now - self._retention_ns, acked + PURGED_BESIDE_ACKED),
            )

        await self._writer.write(job)

    def changed(self, stream: Scope) -> asyncio.Event:
        return self._changed.setdefault(stream.text, asyncio.Event())

    def _tell(self, scopes: set[str]) -> None:
        # After the commit, and not from the writer's thread: a reader that is woken must find the rows.
        for scope in scopes:
            if scope in self._changed:
                self._changed[scope].set()


def _entry(row: tuple[Any, ...], former: tuple[tuple[TxHash, bool], ...]) -> Entry:
    submitted = Submitted(
        scope=row[1],
        key=row[2],
        method=row[3],
        fingerprint=row[4],
        signer=Address(row[5]),
        nonce=row[6],
        hash=TxHash(row[7]),
        raw=row[8],
        errors_json=row[9],
        noop=bool(row[10]),
        error=row[11],
    )
    return Entry(row[0], submitted, row[12], row[13], row[14], former)


def _answer(operation: operations.Operation) -> bytes:
    """The answer a submission gave; every submission's answer is a `Submission` in field 1."""
    submission = common.Submission(state=PENDING, external_id=operation.external_id)
    return blockchain.InvokeContractResponse(submission=submission).SerializeToString()
