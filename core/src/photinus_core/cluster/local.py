"""The elector of a core with one replica: it wins every election at once.

The epoch is raised in the database all the same, so that connectors and leader transactions of an earlier life of this
process are refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from photinus_core.model.errors import Conflict
from photinus_core.ports.elector import Cluster, Lease, Replica, RoleStanding
from photinus_core.ports.store import Store


class LocalElector:
    """Grants each role to whoever asks, once at a time."""

    def __init__(self, store: Store, replica: Replica | None = None) -> None:
        self._store = store
        self._replica = replica or Replica("local", "", "", "", is_self=True)
        self._held: dict[str, Lease] = {}
        self._draining = False

    @property
    def is_local(self) -> bool:
        """True: there is no other replica."""
        return True

    @property
    def trouble(self) -> str:
        """Empty: there is nobody to lose against."""
        return ""

    async def campaign(self, role: str) -> Lease:
        """Wins at once; does not end after `drain`.

        Raises:
            Conflict: FF19121, this process leads the role already.
        """
        if role in self._held:
            raise Conflict("FF19121", role, self._held[role].epoch)
        if self._draining:
            await asyncio.Event().wait()
        epoch = await self._store.raise_epoch(role, None)
        lease = Lease(role, epoch)
        lease.running.set()
        self._held[role] = lease
        return lease

    async def resign(self, lease: Lease) -> None:
        """Gives a role back. Idempotent."""
        lease.running.clear()
        lease.lost.set()
        if self._held.get(lease.role) is lease:
            del self._held[lease.role]

    async def drain(self) -> None:
        """Grants no role any more; those held are lost. Idempotent."""
        self._draining = True
        for lease in self._held.values():
            lease.running.clear()
            lease.lost.set()

    async def redescribe(self, fingerprint: str) -> None:
        """Shows the digest of another configuration."""
        self._replica = replace(self._replica, fingerprint=fingerprint)

    async def members(self) -> Cluster:
        """This process, and what it leads."""
        own = replace(self._replica, draining=self._draining, is_self=True)
        roles = (RoleStanding(role, own.name, held.epoch) for role, held in self._held.items())
        return Cluster((own,), tuple(sorted(roles, key=lambda r: r.role)))

    async def aclose(self) -> None:
        """Gives everything back. Idempotent."""
        for lease in list(self._held.values()):
            await self.resign(lease)
