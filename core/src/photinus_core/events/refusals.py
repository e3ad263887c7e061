"""What was refused from outside and why, for operators: counted, the latest ones kept."""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from photinus_core.model.ids import Nanoseconds

log: Final = logging.getLogger(__name__)

KEPT_MAX: Final = 100
"""Latest refusals that can be listed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One input that was refused.

    Attributes:
        at: When.
        source: `chain`, `download`, or the peer.
        subject: Id of the event, message or batch.
        reason: Why; coded text.
    """

    at: Nanoseconds
    source: str
    subject: str
    reason: str


class Refusals:
    """The refusals of one namespace since this replica leads."""

    def __init__(self) -> None:
        self._latest: deque[Refusal] = deque(maxlen=KEPT_MAX)
        self._counts: Counter[str] = Counter()

    def add(self, refusal: Refusal) -> None:
        """Notes and logs a refusal."""
        self._latest.append(refusal)
        self._counts[refusal.reason.partition(":")[0]] += 1
        log.warning("refused %s from %s: %s", refusal.subject, refusal.source, refusal.reason)

    def latest(self) -> list[Refusal]:
        """The latest ones, oldest first."""
        return list(self._latest)

    def counts(self) -> dict[str, int]:
        """How many, by error code."""
        return dict(self._counts)
