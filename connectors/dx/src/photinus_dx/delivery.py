"""Outgoing traffic: the outbox's lanes and the receipts' lanes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import takewhile

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk.errors import NotFound

from photinus_dx.blobs import BlobStore
from photinus_dx.client import PeerClient
from photinus_dx.errors import FINAL_STATUSES, PeerFailure
from photinus_dx.lanes import Lanes
from photinus_dx.model import Outgoing, Peer, PeerId, Scope
from photinus_dx.peers import PeerRegistry
from photinus_dx.settings import Delivery
from photinus_dx.store import Store
from photinus_dx.store_inbox import InboxStore
from photinus_dx.wire import BATCH_BYTES, BATCH_ITEMS_MAX, RECEIPTS_MAX, ReceiptRecord

log = logging.getLogger("photinus.dx.delivery")

RESEND_CHECK_S = 30.0
RECEIPT_BATCH_BYTES = 4 * 1024 * 1024

NO_RECEIPTS = events.OperationUpdate(
    state=common.OPERATION_STATE_SUCCEEDED,
    output_json='{"receipt":"the peer knows none; it accepted the item"}',
)

OutboxKey = tuple[Scope, PeerId]
ReceiptKey = tuple[str, PeerId]


class Sender:
    """Carries the outbox to the peers and receipts back to senders.

    Args:
        reachable: told when a peer begins or ceases to answer, with the reason.
    """

    def __init__(
        self,
        store: Store,
        incoming: InboxStore,
        registry: PeerRegistry,
        blobs: BlobStore,
        delivery: Delivery,
        reachable: Callable[[Peer, bool, str], None],
    ) -> None:
        self._store = store
        self._incoming = incoming
        self._registry = registry
        self._blobs = blobs
        self._delivery = delivery
        self._reachable = reachable
        self._answers: dict[OutboxKey, bool] = {}
        self._clients: dict[tuple[Peer, str], PeerClient] = {}
        self._replaced: set[PeerClient] = set()
        self._replacing = asyncio.Event()
        self._outbox = Lanes[OutboxKey](self._send_some, self._send_failed, delivery)
        self._receipts = Lanes[ReceiptKey](self._tell_some, self._tell_failed, delivery)
        registry.on_change(self._peer_changed)

    async def run(self) -> None:
        """Deliver until cancelled."""
        for lane in await self._store.waiting_lanes():
            self._outbox.wake(lane)
        for receipt_lane in await self._incoming.receipt_lanes():
            self._receipts.wake(receipt_lane)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outbox.run(), name="outbox")
                tasks.create_task(self._receipts.run(), name="receipts")
                tasks.create_task(self._look_after(), name="resend")
                tasks.create_task(self._close_replaced(), name="close")
        finally:
            for client in (*self._replaced, *self._clients.values()):
                await client.aclose()

    def wake(self, scope: Scope, recipient: PeerId) -> None:
        """Something was queued for a peer."""
        self._outbox.wake((scope, recipient))

    def wake_receipts(self, network: str, sender: PeerId) -> None:
        """A receipt was queued for a sender."""
        self._receipts.wake((network, sender))

    # Outbox

    async def _send_some(self, key: OutboxKey) -> bool:
        scope, recipient = key
        rows = await self._store.next_outgoing(scope, recipient, BATCH_ITEMS_MAX, BATCH_BYTES)
        if not rows:
            return False
        peer = self._registry.get(scope, recipient)
        if peer is None:
            await self._fail(rows, f"Peer {recipient.text} is not registered")
            return True
        client = self._client(peer, "outbox")
        extensions = await client.extensions()
        rows = rows[:1] if rows[0].is_blob else list(takewhile(lambda row: not row.is_blob, rows))
        attempted = set(await self._store.attempt([row.seq for row in rows]))
        rows = [row for row in rows if row.seq in attempted]
        if not rows:
            return True
        if rows[0].is_blob:
            await self._send_blob(client, rows[0], extensions)
        elif "batch" in extensions:
            await self._send_batch(client, rows, extensions)
        else:
            for row in rows:
                await self._send_one(client, row)
        self._note_answer(key, peer, True, "")
        return True

    async def _send_batch(
        self, client: PeerClient, rows: list[Outgoing], extensions: frozenset[str]
    ) -> None:
        results = await client.send_batch(rows)
        taken = [row for row, result in zip(rows, results, strict=False) if result.status == 204]
        await self._delivered(taken, extensions)
        for row, result in zip(rows, results, strict=False):
            why = f"{result.status} {result.reason}: {result.error}"
            if result.status in FINAL_STATUSES:
                await self._fail([row], f"The peer refused it: {why}")
            elif result.status != 204:
                raise PeerFailure(f"the peer does not take it now: {why}")

    async def _send_one(self, client: PeerClient, row: Outgoing) -> None:
        try:
            await client.send_message(row)
        except PeerFailure as failure:
            if not failure.final:
                raise
            await self._fail([row], str(failure))
        else:
            await self._store.finish([row.seq], NO_RECEIPTS)

    async def _send_blob(
        self, client: PeerClient, row: Outgoing, extensions: frozenset[str]
    ) -> None:
        try:
            blob = await self._blobs.find(row.payload_ref)
            await client.send_blob(row, blob, self._blobs.read, resume="resume" in extensions)
        except NotFound as error:
            await self._fail([row], error.message)
        except PeerFailure as failure:
            if not failure.final:
                raise
            await self._fail([row], str(failure))
        else:
            await self._delivered([row], extensions)

    async def _delivered(self, rows: list[Outgoing], extensions: frozenset[str]) -> None:
        seqs = [row.seq for row in rows]
        if not seqs:
            return
        if "receipts" in extensions:
            await self._store.accepted(seqs)
        else:
            await self._store.finish(seqs, NO_RECEIPTS)

    async def _fail(self, rows: list[Outgoing], why: str) -> None:
        await self._store.finish(
            [row.seq for row in rows],
            events.OperationUpdate(state=common.OPERATION_STATE_FAILED, error=why),
        )

    async def _send_failed(self, key: OutboxKey, failure: PeerFailure) -> None:
        scope, recipient = key
        log.info("peer %s: %s", recipient.text, failure)
        peer = self._registry.get(scope, recipient)
        if peer is not None:
            self._note_answer(key, peer, False, str(failure))
        oldest = time.time() - self._delivery.give_up_after_s
        rows = await self._store.next_outgoing(scope, recipient, BATCH_ITEMS_MAX, BATCH_BYTES)
        expired = [row for row in rows if row.created_s < oldest]
        if expired:
            await self._fail(expired, f"Not delivered in time; at last: {failure}")

    # Receipts

    async def _tell_some(self, key: ReceiptKey) -> bool:
        network, sender = key
        receipts = await self._incoming.next_receipts(
            network, sender, RECEIPTS_MAX, RECEIPT_BATCH_BYTES
        )
        if not receipts:
            return False
        peer = self._registry.find(network, sender)
        if peer is None:
            raise PeerFailure("the sender is no longer registered")
        client = self._client(peer, "receipts")
        if "receipts" not in await client.extensions():
            raise PeerFailure("the sender knows no receipts any more")
        await client.send_receipts(
            [
                ReceiptRecord(
                    item=receipt.item_id,
                    recipient=receipt.recipient,
                    manifest=receipt.manifest,
                    hash=receipt.hash,
                )
                for receipt in receipts
            ]
        )
        await self._incoming.drop_receipts(network, sender, receipts[-1].seq)
        return True

    async def _tell_failed(self, key: ReceiptKey, failure: PeerFailure) -> None:
        log.info("receipts for %s: %s", key[1].text, failure)

    async def _look_after(self) -> None:
        """Now and then: items without receipts, receipts without takers, interrupted blobs."""
        while True:
            lanes = await self._store.resend_unreceipted(
                self._delivery.receipt_resend_s, self._delivery.give_up_after_s
            )
            for lane in lanes:
                self._outbox.wake(lane)
            await self._incoming.drop_old_receipts(self._delivery.give_up_after_s)
            await self._blobs.sweep(self._delivery.partial_retention_s)
            await asyncio.sleep(min(RESEND_CHECK_S, self._delivery.receipt_resend_s))

    # Peers

    async def _close_replaced(self) -> None:
        while True:
            await self._replacing.wait()
            self._replacing.clear()
            while self._replaced:
                await self._replaced.pop().aclose()

    def _client(self, peer: Peer, purpose: str) -> PeerClient:
        # Receipts have connections of their own: a slow upload must not hold them up.
        client = self._clients.get((peer, purpose))
        if client is None:
            client = self._clients[peer, purpose] = PeerClient(
                peer, self._registry.dialling_context(peer), self._delivery
            )
        return client

    def _peer_changed(self, scope: Scope, peer_id: PeerId) -> None:
        for peer, purpose in list(self._clients):
            if (peer.scope, peer.id) == (scope, peer_id):
                # A request under way fails and is repeated with the new certificate and endpoint.
                self._replaced.add(self._clients.pop((peer, purpose)))
                self._replacing.set()
        self._outbox.hurry((scope, peer_id))
        current = self._registry.get(scope, peer_id)
        if current is not None:
            self._receipts.hurry((current.network, peer_id))

    def _note_answer(self, key: OutboxKey, peer: Peer, answers: bool, why: str) -> None:
        if self._answers.get(key) is not answers:
            self._answers[key] = answers
            self._reachable(peer, answers, why)
