"""What is counted while the core works; the numbers an operator's monitoring reads.

Calls come per batch, commit or connector call, never per message, return at once and never raise.
Where nobody monitors, `UNMETERED` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from photinus_core.model.messages import MessageType


class Decided(NamedTuple):
    """A message that was confirmed or rejected here.

    Attributes:
        kind: Its type.
        is_confirmed: False when it was rejected.
        waited_s: Time since it was taken; None for what came from another member, whose clock is
            not ours.
    """

    kind: MessageType
    is_confirmed: bool
    waited_s: float | None


class Meter(Protocol):
    """Counts for one namespace."""

    def submitted(self, kinds: Mapping[MessageType, int]) -> None:
        """Messages were taken durably, so many of each type."""
        ...

    def decided(self, messages: Sequence[Decided]) -> None:
        """Messages were confirmed or rejected durably."""
        ...

    def pinned(self) -> None:
        """A batch pin was handed to the ledger's connector."""
        ...

    def ledger_events(self, events: Mapping[tuple[str, str], int]) -> None:
        """Events of a ledger that are new here, by location (JSON) and signature."""
        ...


class LedgerMeter(Protocol):
    """Counts what connectors of ledgers are asked; locations are JSON."""

    def ledger_transaction(self, location: str, method: str) -> None:
        """A method of a contract is to be called in a transaction."""
        ...

    def ledger_query(self, location: str, method: str) -> None:
        """A method of a contract is to be called without one."""
        ...


class _Unmetered:
    """Counts nothing."""

    def submitted(self, kinds: Mapping[MessageType, int]) -> None:
        pass

    def decided(self, messages: Sequence[Decided]) -> None:
        pass

    def pinned(self) -> None:
        pass

    def ledger_events(self, events: Mapping[tuple[str, str], int]) -> None:
        pass

    def ledger_transaction(self, location: str, method: str) -> None:
        pass

    def ledger_query(self, location: str, method: str) -> None:
        pass


UNMETERED: Final = _Unmetered()
