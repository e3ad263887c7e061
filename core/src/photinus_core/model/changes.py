"""Changes of stored objects, as FireFly's change events name them: what a cache or a view follows.

They say that something was created, updated or deleted, not what it is now. They are hints: told
after the commit to whoever listens, kept nowhere, and sometimes told twice. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace, Nanoseconds

E = TypeVar("E", bound=StrEnum)


class ChangeCollection(StrEnum):
    """What can change. Those from `POOLS` to `CONTRACT_LISTENERS` have nothing yet."""

    MESSAGES = "messages"
    EVENTS = "events"
    PINS = "pins"
    BATCHES = "batches"
    BLOCKCHAIN_EVENTS = "blockchainevents"
    DATA = "data"
    DATATYPES = "datatypes"
    OPERATIONS = "operations"
    SUBSCRIPTIONS = "subscriptions"
    TRANSACTIONS = "transactions"
    POOLS = "tokenpools"
    TRANSFERS = "tokentransfers"
    APPROVALS = "tokenapprovals"
    FFIS = "ffi"
    FFI_METHODS = "ffimethods"
    FFI_EVENTS = "ffievents"
    FFI_ERRORS = "ffierrors"
    CONTRACT_APIS = "contractapis"
    CONTRACT_LISTENERS = "contractlisteners"
    IDENTITIES = "identities"
    GROUPS = "groups"


class ChangeKind(StrEnum):
    """What happened to an object."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    DROPPED = "dropped"
    """Of no object: changes were lost to a listener."""


@dataclass(frozen=True, slots=True)
class Change:
    """One object changed.

    Attributes:
        id: Its id; empty for pins and groups, which have none.
        hash: Its hash; groups only.
        sequence: Its sequence; of messages and events when they are created, of pins always.
    """

    collection: ChangeCollection
    kind: ChangeKind
    namespace: Namespace
    id: str = ""
    hash: str = ""
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """Changes were lost to a listener.

    Attributes:
        since: When the first one was.
        count: How many; 0 when nobody counted them.
    """

    since: Nanoseconds
    count: int


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes a listener wants.

    Attributes:
        collections: Of these collections only; of none when empty.
        kinds: These only; all when empty. Listeners always hear what they lost.
        namespaces: In these only; in all when empty.
    """

    collections: frozenset[ChangeCollection]
    kinds: frozenset[ChangeKind] = frozenset()
    namespaces: frozenset[str] = frozenset()

    @classmethod
    def read(
        cls, collections: Iterable[str], kinds: Iterable[str], namespaces: Iterable[str]
    ) -> ChangeFilter:
        """Reads what a client wrote; kinds in any case, as FireFly's enums are.

        Raises:
            Rejected: FF19002, no such collection or kind.
        """
        return cls(
            frozenset(_read("collections", ChangeCollection, each) for each in collections),
            frozenset(_read("filter.types", ChangeKind, each.lower()) for each in kinds),
            frozenset(namespaces),
        )

    def matches(self, change: Change) -> bool:
        """Whether a change is wanted."""
        return (
            change.collection in self.collections
            and (not self.kinds or change.kind in self.kinds)
            and (not self.namespaces or change.namespace in self.namespaces)
        )


def _read(field: str, kind: type[E], text: str) -> E:
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(kind)
        raise Rejected("FF19002", field, f"'{text}' is not one of {known}") from None
