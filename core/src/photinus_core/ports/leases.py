"""Work under a lease: it rests while the leadership is in doubt and ends when it is lost.

The fence in the database is what keeps a deposed leader from writing; resting saves it from trying.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from photinus_core.model.errors import Deposed
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.elector import Lease
from photinus_core.ports.store import (
    ChangeWatcher,
    Fence,
    Notification,
    Reader,
    Store,
    WriteTransaction,
)
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


class LeaderStore:
    """The store as a leader uses it: its transactions wait while the leadership is in doubt."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease

    @property
    def cluster_id(self) -> str:
        """See `ports.Store`."""
        return self._store.cluster_id

    def read(self, namespace: Namespace) -> AbstractAsyncContextManager[Reader]:
        """See `ports.Store`."""
        return self._store.read(namespace)

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

    async def raise_epoch(self, role: str, epoch: Epoch | None) -> Epoch:
        """See `ports.Store`."""
        return await self._store.raise_epoch(role, epoch)

    def subscribe(self, callback: Callable[[Notification], None]) -> Callable[[], None]:
        """See `ports.Store`."""
        return self._store.subscribe(callback)

    def notifications(
        self, namespace: Namespace, topics: Collection[str]
    ) -> AsyncIterator[Notification]:
        """See `ports.Store`."""
        return self._store.notifications(namespace, topics)

    def watch_changes(self, watcher: ChangeWatcher) -> Callable[[], None]:
        """See `ports.Store`."""
        return self._store.watch_changes(watcher)

    async def aclose(self) -> None:
        """See `ports.Store`."""
        await self._store.aclose()
