"""A store around a store: for those that add something to some of its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager

from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.store import (
    ChangeWatcher,
    Fence,
    Notification,
    Reader,
    Store,
    WriteTransaction,
)


class StoreAround:
    """Passes every call on to another store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def cluster_id(self) -> str:
        """See `ports.Store`."""
        return self._store.cluster_id

    def read(self, namespace: Namespace) -> AbstractAsyncContextManager[Reader]:
        """See `ports.Store`."""
        return self._store.read(namespace)

    def write(
        self, namespace: Namespace, fence: Fence | None = None
    ) -> AbstractAsyncContextManager[WriteTransaction]:
        """See `ports.Store`."""
        return self._store.write(namespace, fence)

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
