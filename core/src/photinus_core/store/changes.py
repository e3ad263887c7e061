"""Who wants to hear of changed rows, and what one transaction changed.

Nothing is collected while nobody listens: a transaction asks once, when it begins. One that collects
looks up what its statements cannot know (sequences, whether an insert had an effect) in a constant
number of statements, right before its commit.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from photinus_core.model.changes import Change, ChangeCollection, ChangeKind
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Namespace
from photinus_core.ports.store import ChangeWatcher

_log = logging.getLogger(__name__)

BY_SEQUENCE: Final = ChangeCollection.PINS
BY_HASH: Final = ChangeCollection.GROUPS
_LANDED: Final = MappingProxyType(
    {
        ChangeCollection.TRANSACTIONS: ("transactions", "id"),
        ChangeCollection.DATATYPES: ("datatypes", "id"),
        ChangeCollection.GROUPS: ("privacy_groups", "hash"),
    }
)
"""Collections that are inserted into unless the object is there: table, and column of the key."""

Fetch = Callable[..., Awaitable[Sequence[Sequence[Any]]]]
"""Runs a statement in the transaction."""


class Noted:
    """What one transaction changed, in order; of each object the first that happened to it."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[ChangeCollection, str], ChangeKind] = {}
        self._sequences: dict[tuple[ChangeCollection, str], int] = {}
        self.landing: dict[ChangeCollection, dict[str, int]] = {}
        """Objects that are inserted unless they are there: key and time of creation."""
        self.confirmed: list[str] = []
        """Batches that were confirmed: those of others can be seen from now on."""

    def add(self, collection: ChangeCollection, kind: ChangeKind, keys: Iterable[object]) -> None:
        """Notes a change of objects by id, hash (groups) or sequence (pins)."""
        for key in keys:
            known = self._kinds.setdefault((collection, str(key)), kind)
            if kind is ChangeKind.DELETED and known is not kind:
                self._kinds[collection, str(key)] = kind

    def land(self, collection: ChangeCollection, created: Mapping[Any, int]) -> None:
        """Notes objects that are inserted unless they are there, with their times of creation."""
        self.landing.setdefault(collection, {}).update({str(k): at for k, at in created.items()})

    def created(self, collection: ChangeCollection) -> list[str]:
        """Keys of the objects of a collection that were created."""
        return [
            key
            for (each, key), kind in self._kinds.items()
            if each is collection and kind is ChangeKind.CREATED
        ]

    async def settle(self, fetch: Fetch) -> None:
        """Looks up what the statements could not know; the last thing before the commit."""
        for collection, wanted in self.landing.items():
            table, key = _LANDED[collection]
            rows = await fetch(
                f"SELECT {key}, created FROM {table} WHERE namespace = $1 AND {key} = ANY($2)",
                list(wanted),
            )
            # Another's row of this key was made at another time.
            own = [str(row[0]) for row in rows if wanted.get(str(row[0])) == row[1]]
            for each in own:
                self._kinds[collection, each] = ChangeKind.CREATED
        if self.confirmed:
            rows = await fetch(
                "SELECT id, own FROM batches WHERE namespace = $1 AND id = ANY($2)", self.confirmed
            )
            for batch, own_batch in rows:
                kind = ChangeKind.UPDATED if own_batch else ChangeKind.CREATED
                self.add(ChangeCollection.BATCHES, kind, (batch,))
        if messages := self.created(ChangeCollection.MESSAGES):
            rows = await fetch(
                "SELECT id, sequence FROM messages WHERE namespace = $1 AND id = ANY($2)", messages
            )
            self._sequences |= {(ChangeCollection.MESSAGES, str(i)): int(s) for i, s in rows}

    def changes(
        self, namespace: Namespace, events: Sequence[NewEvent], newest_event: int
    ) -> list[Change]:
        """All of it, with the events of the log that were appended."""
        found = [
            self._change(namespace, collection, key, kind)
            for (collection, key), kind in self._kinds.items()
        ]
        first = newest_event - len(events) + 1
        found += [
            Change(
                ChangeCollection.EVENTS, ChangeKind.CREATED, namespace, event.id, sequence=sequence
            )
            for sequence, event in enumerate(events, first)
        ]
        return found

    def _change(
        self, namespace: Namespace, collection: ChangeCollection, key: str, kind: ChangeKind
    ) -> Change:
        if collection is BY_SEQUENCE:
            return Change(collection, kind, namespace, sequence=int(key))
        if collection is BY_HASH:
            return Change(collection, kind, namespace, hash=key)
        sequence = self._sequences.get((collection, key))
        return Change(collection, kind, namespace, key, sequence=sequence)


class ChangeHub:
    """Tells watchers in this process. Not thread-safe: use it from the loop.

    Args:
        turned: Called when the first watcher has come or the last one has gone.
    """

    def __init__(self, turned: Callable[[], None] = lambda: None) -> None:
        self._watchers: dict[object, ChangeWatcher] = {}
        self._turned = turned

    @property
    def has_watchers(self) -> bool:
        """Whether anybody listens in this process."""
        return bool(self._watchers)

    def watch(self, watcher: ChangeWatcher) -> Callable[[], None]:
        """Adds a watcher; the returned function removes it."""
        token = object()
        self._watchers[token] = watcher
        if len(self._watchers) == 1:
            self._turned()

        def stop() -> None:
            if self._watchers.pop(token, None) is not None and not self._watchers:
                self._turned()

        return stop

    def publish(self, changes: Sequence[Change]) -> None:
        """Tells all watchers; one that raises is logged and disturbs nobody."""
        if changes:
            self._tell(lambda watcher: watcher.changed(changes))

    def lost(self, count: int) -> None:
        """Tells all watchers that changes could not be told; 0 when nobody knows how many."""
        self._tell(lambda watcher: watcher.lost(count))

    def _tell(self, tell: Callable[[ChangeWatcher], None]) -> None:
        for watcher in tuple(self._watchers.values()):
            try:
                tell(watcher)
            except Exception:  # noqa: BLE001 - whatever a watcher does, the others hear of it
                _log.exception("a watcher of changes failed")
