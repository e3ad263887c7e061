"""Tells the data exchange about nodes, and looks again at what they sent before they were known.

All nodes are told again when a leader starts: the connector's list may be older than ours. Calls
are idempotent, so that one too many does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Final

from photinus_core.definitions.payloads import profile_member
from photinus_core.events.intake import IntakeContext
from photinus_core.model.errors import PhotinusError
from photinus_core.model.ids import Uuid
from photinus_core.model.network import Identity
from photinus_core.ports.connectors import CallKey, ConnectorFailure, DataExchange
from photinus_core.ports.tasks import Backoff

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.2
PAUSE_MAX_S: Final = 30.0


class ExchangePeers:
    """Keeps the data exchange's peers in step with the confirmed nodes of one namespace.

    Args:
        own_node: Name of this member's node, which is no peer.
        peer_known: Called with a peer id once the data exchange knows it: parked messages of that
            peer can be judged now.
    """

    def __init__(
        self,
        context: IntakeContext,
        exchange: DataExchange,
        own_node: str,
        peer_known: Callable[[str], Awaitable[object]],
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._own_node = own_node
        self._peer_known = peer_known
        self._waiting: dict[Uuid, Identity] = {}
        self._news = asyncio.Event()
        self._refused: dict[str, str] = {}

    def nodes_known(self, nodes: Sequence[Identity]) -> None:
        """These nodes exist, or have changed; the newest profile counts."""
        for node in nodes:
            if node.base.name != self._own_node and node.profile:
                self._waiting[node.base.id] = node
        self._news.set()

    def refused(self) -> dict[str, str]:
        """Nodes whose profile the data exchange does not take, with the reason; by DID."""
        return dict(self._refused)

    async def run(self) -> None:
        """Tells the data exchange, until cancelled."""
        pauses = Backoff(FIRST_PAUSE_S, PAUSE_MAX_S)
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                node_id, node = next(iter(self._waiting.items()))
                try:
                    await self._tell(node)
                except (ConnectorFailure, PhotinusError) as failure:
                    if self._is_final(failure):
                        self._refuse(node, failure)
                        self._done(node_id, node)
                        continue
                    pause_s = pauses.next_s()
                    log.warning(
                        "peer %s not added, again in %.1f s: %s", node.base.did, pause_s, failure
                    )
                    # To the end of the line: one bad node must not keep the others waiting.
                    self._waiting[node_id] = self._waiting.pop(node_id)
                    await asyncio.sleep(pause_s)
                    continue
                pauses.reset()
                self._done(node_id, node)

    async def _tell(self, node: Identity) -> None:
        context = self._context
        digest = sha256(node.profile.encode()).hexdigest()[:16]
        key = f"{context.namespace}:peer:{node.base.id}:{digest}"
        call = CallKey(key, context.namespace, context.fence.epoch)
        await self._exchange.add_peer(call, context.network_name, node.profile)
        self._refused.pop(node.base.did, None)
        await self._peer_known(profile_member(node.profile, "id"))

    def _done(self, node_id: Uuid, node: Identity) -> None:
        if self._waiting.get(node_id) is node:
            del self._waiting[node_id]

    def _refuse(self, node: Identity, failure: Exception) -> None:
        log.warning("peer %s refused by the data exchange: %s", node.base.did, failure)
        self._refused[node.base.did] = str(failure)

    @staticmethod
    def _is_final(failure: Exception) -> bool:
        """A profile that is wrong stays wrong; until its owner updates it."""
        return isinstance(failure, ConnectorFailure) and failure.reason.startswith("INVALID")
