"""The elector of a core with one replica: it wins every election at once.

The epoch is raised in the database all the same, so that connectors and leader transactions of an earlier life of this
process are refused.
"""

from __future__ import annotations

from photinus_core.model.errors import Conflict
from photinus_core.ports.elector import Lease
from photinus_core.ports.store import Store


class LocalElector:
    """Grants each role to whoever asks, once at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Lease] = {}

    @property
    def is_local(self) -> bool:
        """True: there is no other replica."""
        return True

    async def campaign(self, role: str) -> Lease:
        """Wins at once.

        Raises:
            Conflict: FF19121, this process leads the role already.
        """
        if role in self._held:
            raise Conflict("FF19121", role, self._held[role].epoch)
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

    async def aclose(self) -> None:
        """Gives everything back."""
        for lease in list(self._held.values()):
            await self.resign(lease)
