"""An ensemble in memory: electors of several replicas in one process, with leases a test can trouble."""

import asyncio
from collections import defaultdict, deque

from photinus_core.model.ids import Epoch
from photinus_core.ports.elector import Cluster, Lease
from photinus_core.ports.store import Store


class Ensemble:
    """Grants each role to one elector at a time, in the order of asking."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: dict[str, Lease] = {}
        self.queues: dict[str, deque[asyncio.Future[None]]] = defaultdict(deque)

    def doubt(self, role: str) -> None:
        """The holder cannot reach the ensemble."""
        self.held[role].running.clear()

    def trust(self, role: str) -> None:
        """It can again, in time."""
        self.held[role].running.set()

    def expire(self, role: str) -> None:
        """The holder's session ends: the next one wins, whatever the holder does."""
        lease = self.held.pop(role)
        lease.running.clear()
        lease.lost.set()
        self.next(role)

    def next(self, role: str) -> None:
        """Lets the next one in the queue win."""
        queue = self.queues[role]
        while queue and queue[0].done():
            queue.popleft()
        if queue:
            queue.popleft().set_result(None)


class EnsembleElector:
    """One replica's elector."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble

    is_local = False
    trouble = ""

    async def campaign(self, role: str) -> Lease:
        ensemble = self._ensemble
        while role in ensemble.held:
            turn = asyncio.get_running_loop().create_future()
            ensemble.queues[role].append(turn)
            await turn
        lease = ensemble.held[role] = Lease(role, Epoch(0))
        lease.epoch = await ensemble.store.raise_epoch(role, None)
        lease.running.set()
        return lease

    async def resign(self, lease: Lease) -> None:
        lease.running.clear()
        lease.lost.set()
        if self._ensemble.held.get(lease.role) is lease:
            del self._ensemble.held[lease.role]
            self._ensemble.next(lease.role)

    async def drain(self) -> None:
        raise AssertionError("not asked of it")

    async def redescribe(self, fingerprint: str) -> None:
        raise AssertionError("not asked of it")

    async def members(self) -> Cluster:
        raise AssertionError("not asked of it")

    async def aclose(self) -> None:
        """Holds nothing of its own."""
