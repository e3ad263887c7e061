"""What the statements of this package need of an adapter: one namespace's connection.

Statements are written once, as PostgreSQL would take them: `$1` parameters, of which `$1` is always
the namespace, and `= ANY($n)` for lists. An adapter for another database translates these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.model.ids import Namespace
from photinus_core.store.changes import Noted

Row = Sequence[Any]
"""One row of an answer, columns in the order asked for."""


class Session(ABC):
    """Runs statements in one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    @abstractmethod
    async def fetch(self, statement: str, *args: object) -> list[Row]:
        """Runs a statement and gives its rows. `$1` is the namespace, `args` begin at `$2`.

        Raises:
            Unavailable: the database cannot be used.
            Conflict: FF19108, what it would store contradicts what is stored.
        """

    async def fetch_one(self, statement: str, *args: object) -> Row | None:
        """Runs a statement that gives at most one row."""
        rows = await self.fetch(statement, *args)
        return rows[0] if rows else None


class WriteSession(Session):
    """Runs statements of one transaction.

    Writes without an answer are handed over with `later`: they run in their order before the next
    `fetch`, at the latest at the commit, which then costs one hop for all of them.
    """

    noted: Noted | None = None
    """What it changed so far; None when nobody wants to know."""

    def note(self, collection: ChangeCollection, kind: ChangeKind, keys: Iterable[object]) -> None:
        """Notes a change of objects, if anybody wants to know; `keys` are not looked at otherwise."""
        if self.noted is not None:
            self.noted.add(collection, kind, keys)

    @abstractmethod
    def later(self, statement: str, *args: object) -> None:
        """Runs a write in its turn. `$1` is the namespace, `args` begin at `$2`."""

    @abstractmethod
    def later_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Runs a write once per row in its turn. Rows carry all parameters, the namespace first."""

    @abstractmethod
    def in_turn(self, order: str) -> None:
        """Has transactions of one order come one after the other, from here to their end.

        What they insert then appears in the order of its sequences: a reader that goes on from the
        newest sequence misses nothing. Call it before the first read or write it is to cover.
        """

    @abstractmethod
    def touch(self, topic: str, number: int | None = None) -> None:
        """Has listeners told, after the commit, that something of a topic changed.

        Args:
            topic: `messages`, `events`, `wakeups`, `operations`, `subscriptions`, `definitions`.
            number: The newest sequence; None lets the adapter count.
        """
