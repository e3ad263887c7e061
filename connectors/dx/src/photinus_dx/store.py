"""What the data exchange remembers: peers, outbox, inbox, receipts, blobs. Statements only; no decisions.

The tables live in the instance's journal, so that an operation's outcome and the row that brought it about commit
together. Every method returns after its commit.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk.context import StreamKey
from photinus_sdk.sqlite_journal import SqliteJournal

from photinus_dx.model import Dispatch, Incoming, Outgoing, Peer, PeerId, Receipt, Received, Scope

SCHEMA = """
CREATE TABLE IF NOT EXISTS dx_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dx_peers (
    cluster_id TEXT NOT NULL, namespace TEXT NOT NULL, peer_id TEXT NOT NULL,
    network TEXT NOT NULL, endpoint TEXT NOT NULL, certificate TEXT NOT NULL,
    PRIMARY KEY (cluster_id, namespace, peer_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dx_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster_id TEXT NOT NULL, namespace TEXT NOT NULL, consumer TEXT NOT NULL, key TEXT NOT NULL,
    item_id TEXT NOT NULL, recipient TEXT NOT NULL, sender TEXT NOT NULL,
    network TEXT NOT NULL, data_id TEXT NOT NULL, payload_ref TEXT NOT NULL,
    attempted INTEGER NOT NULL DEFAULT 0, accepted_ns INTEGER NOT NULL DEFAULT 0,
    created_ns INTEGER NOT NULL,
    UNIQUE (cluster_id, namespace, consumer, key));
-- Apart, because an update of a row writes all of it again.
CREATE TABLE IF NOT EXISTS dx_outbox_text (
    seq INTEGER PRIMARY KEY REFERENCES dx_outbox ON DELETE CASCADE, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS dx_outbox_lane ON dx_outbox (cluster_id, namespace, recipient, seq)
    WHERE accepted_ns = 0;
CREATE INDEX IF NOT EXISTS dx_outbox_accepted ON dx_outbox (accepted_ns) WHERE accepted_ns > 0;
CREATE INDEX IF NOT EXISTS dx_outbox_item ON dx_outbox (item_id);
CREATE TABLE IF NOT EXISTS dx_inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL, node TEXT NOT NULL, network TEXT NOT NULL, item_id TEXT NOT NULL,
    message TEXT NOT NULL, data_id TEXT NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL,
    payload_ref TEXT NOT NULL, received_ns INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS dx_inbox_destination ON dx_inbox (network, node, seq);
CREATE TABLE IF NOT EXISTS dx_seen (
    peer TEXT NOT NULL, repeat_key TEXT NOT NULL, until_ns INTEGER NOT NULL,
    PRIMARY KEY (peer, repeat_key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dx_seen_until ON dx_seen (until_ns);
CREATE TABLE IF NOT EXISTS dx_destinations (
    network TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (network, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dx_receipts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    network TEXT NOT NULL, peer TEXT NOT NULL, item_id TEXT NOT NULL, recipient TEXT NOT NULL,
    manifest TEXT NOT NULL, hash TEXT NOT NULL, created_ns INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS dx_receipts_peer ON dx_receipts (network, peer, seq);
CREATE TABLE IF NOT EXISTS dx_blobs (
    payload_ref TEXT PRIMARY KEY, stored INTEGER NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL)
    WITHOUT ROWID;
"""
SECOND_NS = 1_000_000_000
SEEN_PURGED_PER_WRITE = 20
ITEM_NAMESPACE = uuid.UUID("6f0d6a4e-9a43-5a0e-8f5b-0d8a3b1f6c11")

RECEIVED = "seq, sender, node, network, message, data_id, hash, size, payload_ref, received_ns"


@dataclass(frozen=True)
class Usage:
    """What of one sender waits in the inbox for one destination."""

    peer: str
    network: str
    node: str
    messages: int
    message_bytes: int
    blob_bytes: int


@dataclass(frozen=True)
class StoredBlob:
    """A blob on the disk."""

    payload_ref: str
    hash: str
    size: int


class Store:
    """The durable side of the data exchange."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        # Rows in the outbox; written on the journal's thread only. A failed commit may leave it slightly off.
        self.waiting = 0

    async def open(self) -> None:
        """Read what is kept in memory."""

        def job(db: sqlite3.Connection) -> int:
            (count,) = db.execute("SELECT count(*) FROM dx_outbox").fetchone()
            return int(count)

        self.waiting = await self._journal.write(job)

    # Peers

    async def peers(self) -> list[Peer]:
        """All registered peers."""

        def job(db: sqlite3.Connection) -> list[tuple[str, ...]]:
            return db.execute(
                "SELECT cluster_id, namespace, network, peer_id, endpoint, certificate"
                " FROM dx_peers"
            ).fetchall()

        return [
            Peer.restore(Scope(cluster_id, namespace), network, peer_id, endpoint, certificate)
            for cluster_id, namespace, network, peer_id, endpoint, certificate in (
                await self._journal.write(job)
            )
        ]

    async def put_peer(self, peer: Peer) -> None:
        """Remember a peer, replacing what was known of it."""
        await self._journal.write(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO dx_peers (cluster_id, namespace, peer_id, network,"
                " endpoint, certificate) VALUES (?, ?, ?, ?, ?, ?)",
                (*peer.scope, peer.id.text, peer.network, peer.endpoint, peer.certificate_pem),
            )
        )

    async def remove_peer(self, scope: Scope, peer_id: PeerId) -> int:
        """Forget a peer and fail what was queued for it; returns how many sends that ended."""

        def job(db: sqlite3.Connection) -> int:
            db.execute(
                "DELETE FROM dx_peers WHERE cluster_id = ? AND namespace = ? AND peer_id = ?",
                (*scope, peer_id.text),
            )
            rows = db.execute(
                "SELECT seq FROM dx_outbox WHERE cluster_id = ? AND namespace = ?"
                " AND recipient = ?",
                (*scope, peer_id.text),
            ).fetchall()
            for (seq,) in rows:
                self._finish(
                    db,
                    seq,
                    events.OperationUpdate(
                        state=common.OPERATION_STATE_FAILED,
                        error=f"Peer {peer_id.text} was removed",
                    ),
                )
            return len(rows)

        return await self._journal.write(job)

    # Outbox

    async def enqueue(self, stream: StreamKey, key: str, dispatch: Dispatch) -> str:
        """Queue a send; a key that is queued already stays as it is. Returns the item's id."""
        # The same for every attempt of a key, so that the receiver recognises a repetition.
        item_id = str(uuid.uuid5(ITEM_NAMESPACE, f"{stream.text}\n{key}"))
        values = (
            *stream,
            key,
            item_id,
            dispatch.recipient.text,
            dispatch.sender.text,
            dispatch.network,
            dispatch.data_id,
            dispatch.payload_ref,
            time.time_ns(),
        )

        def job(db: sqlite3.Connection) -> None:
            row = db.execute(
                "INSERT INTO dx_outbox (cluster_id, namespace, consumer, key, item_id, recipient,"
                " sender, network, data_id, payload_ref, created_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING seq",
                values,
            ).fetchone()
            if row is not None:
                db.execute("INSERT INTO dx_outbox_text VALUES (?, ?)", (*row, dispatch.message))
                self.waiting += 1

        await self._journal.write(job)
        return item_id

    async def waiting_lanes(self) -> list[tuple[Scope, PeerId]]:
        """Receivers with something queued."""

        def job(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
            return db.execute(
                "SELECT DISTINCT cluster_id, namespace, recipient FROM dx_outbox"
                " WHERE accepted_ns = 0"
            ).fetchall()

        return [
            (Scope(cluster_id, namespace), PeerId.parse(recipient))
            for cluster_id, namespace, recipient in await self._journal.write(job)
        ]

    async def next_outgoing(
        self, scope: Scope, recipient: PeerId, items: int, size: int
    ) -> list[Outgoing]:
        """The oldest queued sends to a peer: at most `items`, and about `size` bytes."""

        def job(db: sqlite3.Connection) -> list[Outgoing]:
            found: list[Outgoing] = []
            total = 0
            for row in db.execute(
                "SELECT seq, item_id, recipient, sender, message, network, data_id, payload_ref,"
                " created_ns FROM dx_outbox JOIN dx_outbox_text USING (seq) WHERE cluster_id = ?"
                " AND namespace = ? AND recipient = ? AND accepted_ns = 0 ORDER BY seq LIMIT ?",
                (*scope, recipient.text, items),
            ):
                total += len(row[4])
                if found and total > size:
                    break
                found.append(_outgoing(row))
            return found

        return await self._journal.write(job)

    async def attempt(self, seqs: Sequence[int]) -> list[int]:
        """Mark sends before their first byte leaves; those that were withdrawn meanwhile are left out."""

        def job(db: sqlite3.Connection) -> list[int]:
            return [
                seq
                for seq in seqs
                if db.execute("UPDATE dx_outbox SET attempted = 1 WHERE seq = ?", (seq,)).rowcount
            ]

        return await self._journal.write(job)

    async def accepted(self, seqs: Iterable[int]) -> None:
        """The peer has these durably; they wait for its receipt."""
        rows = [(time.time_ns(), seq) for seq in seqs]
        await self._journal.write(
            lambda db: db.executemany(
                "UPDATE dx_outbox SET accepted_ns = ? WHERE seq = ? AND accepted_ns = 0", rows
            )
        )

    async def finish(self, seqs: Sequence[int], update: events.OperationUpdate) -> None:
        """End sends; the update tells their core, under the key of each."""

        def job(db: sqlite3.Connection) -> None:
            for seq in seqs:
                self._finish(db, seq, update)

        await self._journal.write(job)

    async def withdraw(self, stream: StreamKey, key: str) -> bool:
        """Take a send back that no attempt was made for; False when it is not (or no more) queued."""

        def job(db: sqlite3.Connection) -> bool:
            withdrawn = bool(
                db.execute(
                    "DELETE FROM dx_outbox WHERE cluster_id = ? AND namespace = ? AND consumer = ?"
                    " AND key = ? AND attempted = 0",
                    (*stream, key),
                ).rowcount
            )
            self.waiting -= withdrawn
            return withdrawn

        return await self._journal.write(job)

    async def settle_receipt(self, peer: str, receipt: Receipt) -> bool:
        """A receipt of `peer` (as its certificate proves it) ends a send; False when it fits none."""

        def job(db: sqlite3.Connection) -> bool:
            for seq, recipient in db.execute(
                "SELECT seq, recipient FROM dx_outbox WHERE item_id = ?", (receipt.item_id,)
            ).fetchall():
                if PeerId.parse(recipient).peer == peer:
                    self._finish(
                        db,
                        seq,
                        events.OperationUpdate(
                            state=common.OPERATION_STATE_SUCCEEDED,
                            manifest=receipt.manifest,
                            hash=receipt.hash,
                        ),
                    )
                    return True
            return False

        return await self._journal.write(job)

    async def resend_unreceipted(
        self, resend_s: float, give_up_s: float
    ) -> list[tuple[Scope, PeerId]]:
        """Queue again what was accepted `resend_s` ago without a receipt; the lanes that have work.

        What is older than `give_up_s` ends as delivered without a manifest: the peer has it durably.
        """
        now = time.time_ns()

        def job(db: sqlite3.Connection) -> list[tuple[Scope, PeerId]]:
            lanes: dict[tuple[Scope, PeerId], None] = {}
            for seq, cluster_id, namespace, recipient, created_ns in db.execute(
                "SELECT seq, cluster_id, namespace, recipient, created_ns FROM dx_outbox"
                " WHERE accepted_ns > 0 AND accepted_ns < ? ORDER BY seq LIMIT 1000",
                (now - int(resend_s * SECOND_NS),),
            ).fetchall():
                if created_ns < now - int(give_up_s * SECOND_NS):
                    self._finish(
                        db,
                        seq,
                        events.OperationUpdate(
                            state=common.OPERATION_STATE_SUCCEEDED,
                            output_json='{"receipt":"none in time"}',
                        ),
                    )
                else:
                    db.execute("UPDATE dx_outbox SET accepted_ns = 0 WHERE seq = ?", (seq,))
                    lanes[Scope(cluster_id, namespace), PeerId.parse(recipient)] = None
            return list(lanes)

        return await self._journal.write(job)

    def _finish(self, db: sqlite3.Connection, seq: int, update: events.OperationUpdate) -> None:
        row = db.execute(
            "DELETE FROM dx_outbox WHERE seq = ?"
            " RETURNING cluster_id, namespace, consumer, key, item_id",
            (seq,),
        ).fetchone()
        if row is None:
            return
        self.waiting -= 1
        *stream, key, item_id = row
        named = events.OperationUpdate()
        named.CopyFrom(update)
        named.idempotency_key, named.external_id = key, item_id
        self._journal.update_in(db, StreamKey(*stream), named)

    # Inbox

    async def take_in(
        self, items: Sequence[Incoming], window_s: float
    ) -> list[Literal["new", "repeated"]]:
        """Put what a peer sent into the inbox, once, in order; its blobs become readable with it."""
        now = time.time_ns()
        until = now + int(window_s * SECOND_NS)

        def job(db: sqlite3.Connection) -> list[Literal["new", "repeated"]]:
            db.execute(
                "DELETE FROM dx_seen WHERE (peer, repeat_key) IN"
                " (SELECT peer, repeat_key FROM dx_seen WHERE until_ns < ? LIMIT ?)",
                (now, SEEN_PURGED_PER_WRITE),
            )
            outcomes: list[Literal["new", "repeated"]] = []
            for item in items:
                if item.payload_ref:
                    db.execute(
                        "UPDATE dx_blobs SET stored = 1 WHERE payload_ref = ?", (item.payload_ref,)
                    )
                fresh = db.execute(
                    "INSERT INTO dx_seen VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET until_ns = excluded.until_ns WHERE until_ns < ?",
                    (item.sender.peer, item.repeat_key, until, now),
                ).rowcount
                if fresh:
                    db.execute(
                        "INSERT INTO dx_inbox (sender, node, network, item_id, message, data_id,"
                        " hash, size, payload_ref, received_ns)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            item.sender.text,
                            item.node,
                            item.network,
                            item.item_id,
                            item.message,
                            item.data_id,
                            item.hash,
                            item.size,
                            item.payload_ref,
                            now,
                        ),
                    )
                outcomes.append("new" if fresh else "repeated")
            return outcomes

        return await self._journal.write(job)

    async def known_repetition(self, peer: str, repeat_key: str) -> bool:
        """Whether an item was taken in already."""
        return await self._journal.write(
            lambda db: (
                db.execute(
                    "SELECT 1 FROM dx_seen WHERE peer = ? AND repeat_key = ? AND until_ns >= ?",
                    (peer, repeat_key, time.time_ns()),
                ).fetchone()
                is not None
            )
        )

    async def received(
        self, network: str, node: str, after: int, items: int, size: int
    ) -> list[Received]:
        """Inbox rows of a destination behind `after`, oldest first, about `size` bytes of them."""

        def job(db: sqlite3.Connection) -> list[Received]:
            found: list[Received] = []
            total = 0
            for row in db.execute(
                f"SELECT {RECEIVED} FROM dx_inbox WHERE network = ? AND node = ? AND seq > ?"  # noqa: S608 - constant columns
                " ORDER BY seq LIMIT ?",
                (network, node, after, items),
            ):
                total += len(row[4])
                if found and total > size:
                    break
                found.append(Received(*row))
            return found

        return await self._journal.write(job)

    async def stored_by_core(
        self, manifests: dict[int, str], own_peer: str
    ) -> list[tuple[str, Received]]:
        """The core has committed these inbox rows (seq → manifest): delete them and queue receipts.

        Returns each row with the network and sender whose receipt queue got longer; empty text when the sender does
        not know receipts. Idempotent.
        """
        now = time.time_ns()

        def job(db: sqlite3.Connection) -> list[tuple[str, Received]]:
            done: list[tuple[str, Received]] = []
            for seq, manifest in manifests.items():
                row = db.execute(
                    f"DELETE FROM dx_inbox WHERE seq = ? RETURNING {RECEIVED}, item_id",  # noqa: S608 - constant columns
                    (seq,),
                ).fetchone()
                if row is None:
                    continue
                received, item_id = Received(*row[:-1]), row[-1]
                if item_id:
                    recipient = PeerId(own_peer, received.node).text
                    db.execute(
                        "INSERT INTO dx_receipts (network, peer, item_id, recipient, manifest,"
                        " hash, created_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            received.network,
                            received.sender,
                            item_id,
                            recipient,
                            manifest,
                            received.hash,
                            now,
                        ),
                    )
                done.append((item_id, received))
            return done

        return await self._journal.write(job)

    async def usage(self) -> list[Usage]:
        """What waits in the inbox, by sender and destination."""

        def job(db: sqlite3.Connection) -> list[Usage]:
            return [
                Usage(PeerId.parse(sender).peer, network, node, count, messages, blobs)
                for sender, network, node, count, messages, blobs in db.execute(
                    "SELECT sender, network, node, count(*),"
                    " sum(CASE payload_ref WHEN '' THEN size ELSE 0 END),"
                    " sum(CASE payload_ref WHEN '' THEN 0 ELSE size END)"
                    " FROM dx_inbox GROUP BY sender, network, node"
                )
            ]

        return await self._journal.write(job)

    async def claim(self, network: str, node: str) -> None:
        """Remember that a core asks for a destination."""
        await self._journal.write(
            lambda db: db.execute(
                "INSERT INTO dx_destinations VALUES (?, ?) ON CONFLICT DO NOTHING", (network, node)
            )
        )

    async def claimed(self) -> set[tuple[str, str]]:
        """Destinations a core has ever asked for."""

        def job(db: sqlite3.Connection) -> set[tuple[str, str]]:
            return set(db.execute("SELECT network, node FROM dx_destinations"))

        return await self._journal.write(job)

    # Receipts

    async def receipt_lanes(self) -> list[tuple[str, PeerId]]:
        """Senders with receipts waiting, with their network."""

        def job(db: sqlite3.Connection) -> list[tuple[str, str]]:
            return db.execute("SELECT DISTINCT network, peer FROM dx_receipts").fetchall()

        return [(network, PeerId.parse(peer)) for network, peer in await self._journal.write(job)]

    async def next_receipts(
        self, network: str, peer: PeerId, items: int, size: int
    ) -> list[Receipt]:
        """The oldest receipts for a sender."""

        def job(db: sqlite3.Connection) -> list[Receipt]:
            found: list[Receipt] = []
            total = 0
            for row in db.execute(
                "SELECT seq, item_id, recipient, manifest, hash FROM dx_receipts"
                " WHERE network = ? AND peer = ? ORDER BY seq LIMIT ?",
                (network, peer.text, items),
            ):
                total += len(row[3])
                if found and total > size:
                    break
                found.append(Receipt(*row))
            return found

        return await self._journal.write(job)

    async def drop_receipts(self, network: str, peer: PeerId, through: int) -> None:
        """Forget receipts up to a place: the sender has them."""
        await self._journal.write(
            lambda db: db.execute(
                "DELETE FROM dx_receipts WHERE network = ? AND peer = ? AND seq <= ?",
                (network, peer.text, through),
            )
        )

    async def drop_old_receipts(self, age_s: float) -> None:
        """Forget receipts nobody could be told for so long."""
        before = time.time_ns() - int(age_s * SECOND_NS)
        await self._journal.write(
            lambda db: db.execute("DELETE FROM dx_receipts WHERE created_ns < ?", (before,))
        )

    # Blobs

    async def reserve_blob(self, blob: StoredBlob) -> bool:
        """Announce a file before it is moved into place; True when it is stored already."""

        def job(db: sqlite3.Connection) -> bool:
            db.execute(
                "INSERT INTO dx_blobs VALUES (?, 0, ?, ?) ON CONFLICT DO NOTHING",
                (blob.payload_ref, blob.hash, blob.size),
            )
            (stored,) = db.execute(
                "SELECT stored FROM dx_blobs WHERE payload_ref = ?", (blob.payload_ref,)
            ).fetchone()
            return bool(stored)

        return await self._journal.write(job)

    async def confirm_blob(self, payload_ref: str) -> None:
        """The file is in place."""
        await self._journal.write(
            lambda db: db.execute(
                "UPDATE dx_blobs SET stored = 1 WHERE payload_ref = ?", (payload_ref,)
            )
        )

    async def blob(self, payload_ref: str) -> StoredBlob | None:
        """A stored blob."""

        def job(db: sqlite3.Connection) -> StoredBlob | None:
            row = db.execute(
                "SELECT payload_ref, hash, size FROM dx_blobs WHERE payload_ref = ? AND stored = 1",
                (payload_ref,),
            ).fetchone()
            return StoredBlob(*row) if row else None

        return await self._journal.write(job)

    async def forget_blob(self, payload_ref: str) -> bool:
        """Forget a blob; False when it was not known."""
        return await self._journal.write(
            lambda db: bool(
                db.execute("DELETE FROM dx_blobs WHERE payload_ref = ?", (payload_ref,)).rowcount
            )
        )

    async def unconfirmed_blobs(self) -> list[str]:
        """Announced files that may or may not be in place."""

        def job(db: sqlite3.Connection) -> list[str]:
            rows = db.execute("SELECT payload_ref FROM dx_blobs WHERE stored = 0")
            return [payload_ref for (payload_ref,) in rows]

        return await self._journal.write(job)

    # Settings the connector chose itself

    async def remember(self, name: str, value: str) -> None:
        """Keep a value."""
        await self._journal.write(
            lambda db: db.execute("INSERT OR REPLACE INTO dx_meta VALUES (?, ?)", (name, value))
        )

    async def recall(self, name: str) -> str:
        """A kept value, empty when there is none."""

        def job(db: sqlite3.Connection) -> str:
            row = db.execute("SELECT value FROM dx_meta WHERE name = ?", (name,)).fetchone()
            return str(row[0]) if row else ""

        return await self._journal.write(job)


def _outgoing(row: tuple[int, str, str, str, str, str, str, str, int]) -> Outgoing:
    seq, item_id, recipient, sender, message, network, data_id, payload_ref, created_ns = row
    return Outgoing(
        seq=seq,
        item_id=item_id,
        recipient=PeerId.parse(recipient),
        sender=PeerId.parse(sender),
        message=message,
        network=network,
        data_id=data_id,
        payload_ref=payload_ref,
        created_s=created_ns / SECOND_NS,
    )
