"""Work under a lease: it rests while the leadership is in doubt and ends when it is lost.

The fence in the database is what keeps a deposed leader from writing; resting saves it from trying.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from photinus_core.model.errors import Deposed
from photinus_core.model.ids import Namespace
from photinus_core.ports.elector import Lease
from photinus_core.ports.store import Fence, Store, WriteTransaction
from photinus_core.ports.store_around import StoreAround
from photinus_core.ports.tasks import run_before, wait_any

T = TypeVar("T")


async def certain(lease: Lease) -> None:
    """Waits until work under the lease may go on; returns at once when it may.

    Raises:
        Deposed: FF19120, the lease is lost.
    """
    while not lease.running.is_set():
        if lease.lost.is_set():
            raise Deposed("FF19120", lease.role, lease.epoch)
        await wait_any(lease.running, lease.lost)
    if lease.lost.is_set():
        raise Deposed("FF19120", lease.role, lease.epoch)


async def under(lease: Lease, work: Coroutine[Any, Any, T]) -> T:
    """Runs work that began when the lease was certain; ends it when the lease is lost.

    Raises:
        Deposed: FF19120, the lease is lost.
    """
    try:
        await certain(lease)
    except BaseException:
        work.close()
        raise
    return await run_before(lease.lost, work, Deposed("FF19120", lease.role, lease.epoch))


def fence_of(lease: Lease) -> Fence:
    """The fence of transactions under a lease."""
    return Fence(lease.role, lease.epoch)


class LeaderStore(StoreAround):
    """The store as a leader uses it: its transactions wait while the leadership is in doubt."""

    def __init__(self, store: Store, lease: Lease) -> None:
        super().__init__(store)
        self._lease = lease

    @asynccontextmanager
    async def write(
        self, namespace: Namespace, fence: Fence | None = None
    ) -> AsyncIterator[WriteTransaction]:
        """See `ports.Store`; begins when the leadership is certain.

        Raises:
            Deposed: the lease is lost, or the fence's epoch is not the current one.
        """
        await certain(self._lease)
        async with self._store.write(namespace, fence) as tx:
            yield tx
