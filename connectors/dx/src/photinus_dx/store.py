"""Peers, outbox and what the connector chose itself. Statements only; every method returns after its commit."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_journal import SqliteJournal
from photinus_sdk.context import StreamKey

from photinus_dx.model import Dispatch, Outgoing, Peer, PeerId, Receipt, Scope
from photinus_dx.schema import SECOND_NS

ITEM_NAMESPACE = uuid.UUID("6f0d6a4e-9a43-5a0e-8f5b-0d8a3b1f6c11")
CANCELLED = events.OperationUpdate(state=common.OPERATION_STATE_CANCELLED)


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
        """End a send as cancelled that no attempt was made for; False when it is not (or no more) queued."""

        def job(db: sqlite3.Connection) -> bool:
            row = db.execute(
                "SELECT seq FROM dx_outbox WHERE cluster_id = ? AND namespace = ? AND consumer = ?"
                " AND key = ? AND attempted = 0",
                (*stream, key),
            ).fetchone()
            if row is not None:
                self._finish(db, row[0], CANCELLED)
            return row is not None

        return await self._journal.write(job)

    async def settle_receipts(self, peer: str, receipts: Sequence[Receipt]) -> int:
        """Receipts of `peer` (as its certificate proves it) end sends; how many fitted one."""

        def job(db: sqlite3.Connection) -> int:
            return sum(self._settle(db, peer, receipt) for receipt in receipts)

        return await self._journal.write(job)

    def _settle(self, db: sqlite3.Connection, peer: str, receipt: Receipt) -> bool:
        update = events.OperationUpdate(
            state=common.OPERATION_STATE_SUCCEEDED, manifest=receipt.manifest, hash=receipt.hash
        )
        for seq, recipient in db.execute(
            "SELECT seq, recipient FROM dx_outbox WHERE item_id = ?", (receipt.item_id,)
        ).fetchall():
            if PeerId.parse(recipient).peer == peer:
                self._finish(db, seq, update)
                return True
        return False

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
                # Each pause is as long as all before it: a core that is away for days is not flooded.
                "SELECT seq, cluster_id, namespace, recipient, created_ns FROM dx_outbox"
                " WHERE accepted_ns > 0 AND accepted_ns < ? AND ? - accepted_ns > accepted_ns"
                " - created_ns ORDER BY seq LIMIT 1000",
                (now - int(resend_s * SECOND_NS), now),
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
