"""Who is served for a durable subscription: one connection of the whole cluster.

Of the connections of one replica one takes its turn, the others stand by in the order in which they
came. With several replicas the one whose turn it is stands for election against those of the
others, and is served under the lease it wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from photinus_core.model.ids import Namespace, Uuid
from photinus_core.ports.elector import Elector, Lease


def subscription_role(namespace: Namespace, subscription: Uuid) -> str:
    """The role that is led by serving a durable subscription."""
    return f"subscription/{namespace}/{subscription}"


class SubscriptionTurns:
    """The turns of one namespace's durable subscriptions on this replica."""

    def __init__(self, namespace: Namespace, elector: Elector) -> None:
        self._namespace = namespace
        self._elector = elector
        self._turns: dict[Uuid, _Turn] = {}

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether other replicas can serve a subscription."""
        return not self._elector.is_local

    def is_taken(self, subscription: Uuid) -> bool:
        """Whether another connection of this replica has its turn."""
        turn = self._turns.get(subscription)
        return turn is not None and turn.lock.locked()

    @asynccontextmanager
    async def turn(self, subscription: Uuid) -> AsyncIterator[Lease | None]:
        """Waits until no other connection is served.

        Gives the lease to be served under; None where there is no other replica.
        """
        turn = self._turns.setdefault(subscription, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                if self._elector.is_local:
                    yield None
                else:
                    async with self._elected(subscription) as lease:
                        yield lease
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[subscription]

    @asynccontextmanager
    async def _elected(self, subscription: Uuid) -> AsyncIterator[Lease]:
        lease = await self._elector.campaign(subscription_role(self._namespace, subscription))
        try:
            yield lease
        finally:
            await self._elector.resign(lease)


class _Turn:
    """The connections of this replica that want to be served."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
