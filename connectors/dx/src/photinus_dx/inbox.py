"""Incoming messages and blobs between the peers' requests and the core's commit: durable, bounded, routed.

A request of a peer is answered with 204 once its items are here. They stay until the core has stored them. What no core
has ever asked for is kept too, within a smaller bound of its own: a peer that invents destinations fills only that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from photinus_dx.errors import PeerRefusal
from photinus_dx.model import Incoming, PeerId, Received
from photinus_dx.settings import Delivery, Limits
from photinus_dx.store_inbox import InboxStore, Taken

FULL_RETRY_AFTER_S = 1

Outcome = Taken | PeerRefusal


@dataclass
class _Load:
    """What of one peer waits here."""

    messages: int = 0
    message_bytes: int = 0
    blob_bytes: int = 0
    unclaimed: int = 0


class Inbox:
    """The inbox of one instance. Use from one event loop.

    Args:
        receipt_due: told the network and sender when a receipt was queued.
    """

    def __init__(
        self,
        store: InboxStore,
        limits: Limits,
        delivery: Delivery,
        receipt_due: Callable[[str, PeerId], None],
    ) -> None:
        self._receipt_due = receipt_due
        self._store = store
        self._limits = limits
        self._delivery = delivery
        self._loads: dict[str, _Load] = {}
        self._claimed: set[tuple[str, str]] = set()
        self._arrivals: dict[tuple[str, str], asyncio.Event] = {}

    async def open(self) -> None:
        """Read what waits from before."""
        self._claimed = await self._store.claimed()
        for usage in await self._store.usage():
            load = self._loads.setdefault(usage.peer, _Load())
            load.messages += usage.messages
            load.message_bytes += usage.message_bytes
            load.blob_bytes += usage.blob_bytes
            if (usage.network, usage.node) not in self._claimed:
                load.unclaimed += usage.messages

    def destination(self, network: str, node: str) -> str:
        """The node an item is for; a peer that named none means the only one there is."""
        if node:
            return node
        nodes = [name for known, name in self._claimed if known == network]
        return nodes[0] if len(nodes) == 1 else ""

    async def take(self, items: Sequence[Incoming], *, numbered: bool) -> list[Outcome]:
        """Take items in order, durably, each once. Stops at the first there is no room for now.

        Args:
            items: what one peer sent in one request.
            numbered: whether the peer numbers its items; repetitions are recognised for longer then.
        """
        outcomes: list[Outcome] = []
        roomy: list[Incoming] = []
        for item in items:
            try:
                self._reserve(item)
            except PeerRefusal as refusal:
                outcomes.append(refusal)
                break
            roomy.append(item)
        window_s = (
            self._delivery.repeat_window_s if numbered else self._delivery.plain_repeat_window_s
        )
        try:
            taken = await self._store.take_in(roomy, window_s) if roomy else []
        except sqlite3.Error:
            for item in roomy:
                self._release(
                    item.sender.peer, item.network, item.node, item.size, item.payload_ref
                )
            raise
        for item, outcome in zip(roomy, taken, strict=True):
            if outcome == "settled":
                self._receipt_due(item.network, item.sender)
            if outcome != "new":
                self._release(
                    item.sender.peer, item.network, item.node, item.size, item.payload_ref
                )
            else:
                self._arrival(item.network, item.node).set()
        return [*taken, *outcomes]

    async def knows(self, sender: PeerId, network: str, item_id: str) -> bool:
        """Whether a numbered item of a peer was taken before."""
        taken = await self._store.known_repetition(sender, network, item_id)
        if taken == "settled":
            self._receipt_due(network, sender)
        return taken != "new"

    async def claim(self, network: str, node: str) -> None:
        """A core asks for a destination: from now on its items are not counted as unclaimed."""
        if (network, node) in self._claimed:
            return
        await self._store.claim(network, node)
        self._claimed.add((network, node))
        for usage in await self._store.usage():
            if (usage.network, usage.node) == (network, node):
                load = self._loads.setdefault(usage.peer, _Load())
                load.unclaimed = max(0, load.unclaimed - usage.messages)

    async def next(
        self, network: str, node: str, after: int, items: int, size: int
    ) -> list[Received]:
        """Items for a destination behind `after`, waiting for the first."""
        while True:
            arrival = self._arrival(network, node)
            arrival.clear()
            found = await self._store.received(network, node, after, items, size)
            if found:
                return found
            await arrival.wait()

    async def stored_by_core(self, manifests: dict[int, str], own_peer: str) -> None:
        """The core has these rows (seq → manifest): forget them and tell their senders."""
        for item_id, row in await self._store.stored_by_core(manifests, own_peer):
            sender = PeerId.parse(row.sender)
            self._release(sender.peer, row.network, row.node, row.size, row.payload_ref)
            if item_id:
                self._receipt_due(row.network, sender)

    def check_room(self, peer: str, destination: tuple[str, str], size: int, *, blob: bool) -> None:
        """Whether an item would be taken now; asked before a blob's bytes are read.

        Raises:
            PeerRefusal: 404 UNKNOWN_DESTINATION, 429 INBOX_FULL.
        """
        load = self._loads.setdefault(peer, _Load())
        limits = self._limits
        if (
            destination not in self._claimed
            and load.unclaimed >= limits.unclaimed_messages_per_peer
        ):
            network, node = destination
            raise PeerRefusal(
                404,
                "UNKNOWN_DESTINATION",
                f"no node {node!r} of network {network!r} is known here, and "
                f"{load.unclaimed} items of this peer wait for unknown ones already",
            )
        waiting = load.blob_bytes if blob else load.message_bytes
        most = limits.inbox_blob_bytes_per_peer if blob else limits.inbox_bytes_per_peer
        # One item always fits, whatever its size: else it could never be delivered.
        full = (waiting and waiting + size > most) or (
            load.messages >= limits.inbox_messages_per_peer
        )
        if full:
            raise PeerRefusal(
                429,
                "INBOX_FULL",
                f"{load.messages} items of this peer wait to be stored",
                retry_after_s=FULL_RETRY_AFTER_S,
            )

    def _reserve(self, item: Incoming) -> None:
        destination, blob = (item.network, item.node), bool(item.payload_ref)
        self.check_room(item.sender.peer, destination, item.size, blob=blob)
        load = self._loads[item.sender.peer]
        load.messages += 1
        load.unclaimed += destination not in self._claimed
        if blob:
            load.blob_bytes += item.size
        else:
            load.message_bytes += item.size

    def _release(self, peer: str, network: str, node: str, size: int, payload_ref: str) -> None:
        load = self._loads.setdefault(peer, _Load())
        load.messages = max(0, load.messages - 1)
        if (network, node) not in self._claimed:
            load.unclaimed = max(0, load.unclaimed - 1)
        if payload_ref:
            load.blob_bytes = max(0, load.blob_bytes - size)
        else:
            load.message_bytes = max(0, load.message_bytes - size)

    def _arrival(self, network: str, node: str) -> asyncio.Event:
        return self._arrivals.setdefault((network, node), asyncio.Event())
