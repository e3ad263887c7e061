"""What came from peers, and what they are to be told. Statements only; every method returns after its commit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from photinus_journal import SqliteJournal

from photinus_dx.model import Incoming, PeerId, Receipt, Received
from photinus_dx.schema import SECOND_NS

SEEN_PURGED_PER_WRITE = 20
# A repetition is "settled" when its receipt was due again and has been queued.
Taken = Literal["new", "repeated", "settled"]
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


class InboxStore:
    """Inbox, claimed destinations and receipts to be sent."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def take_in(self, items: Sequence[Incoming], window_s: float) -> list[Taken]:
        """Put what a peer sent into the inbox, once, in order; its blobs become readable with it."""
        now = time.time_ns()
        until = now + int(window_s * SECOND_NS)

        def job(db: sqlite3.Connection) -> list[Taken]:
            db.execute(
                "DELETE FROM dx_seen WHERE (peer, repeat_key) IN"
                " (SELECT peer, repeat_key FROM dx_seen WHERE until_ns < ? LIMIT ?)",
                (now, SEEN_PURGED_PER_WRITE),
            )
            outcomes: list[Taken] = []
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
                    outcomes.append("new")
                else:
                    outcomes.append(self._repeated(db, item.sender, item.network, item.item_id))
            return outcomes

        return await self._journal.write(job)

    async def known_repetition(self, sender: PeerId, network: str, item_id: str) -> Taken:
        """What is known of a numbered item that a peer is about to send: "new" when nothing."""

        def job(db: sqlite3.Connection) -> Taken:
            known = db.execute(
                "SELECT 1 FROM dx_seen WHERE peer = ? AND repeat_key = ? AND until_ns >= ?",
                (sender.peer, item_id, time.time_ns()),
            ).fetchone()
            return self._repeated(db, sender, network, item_id) if known else "new"

        return await self._journal.write(job)

    def _repeated(
        self, db: sqlite3.Connection, sender: PeerId, network: str, item_id: str
    ) -> Taken:
        """A sender that repeats what the core stored long ago has lost the receipt; the manifest is gone here too."""
        if (
            not item_id
            or db.execute("SELECT 1 FROM dx_inbox WHERE item_id = ?", (item_id,)).fetchone()
            or db.execute("SELECT 1 FROM dx_receipts WHERE item_id = ?", (item_id,)).fetchone()
        ):
            return "repeated"
        db.execute(
            "INSERT INTO dx_receipts (network, peer, item_id, recipient, manifest, hash,"
            " created_ns) VALUES (?, ?, ?, '', '', '', ?)",
            (network, sender.text, item_id, time.time_ns()),
        )
        return "settled"

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
