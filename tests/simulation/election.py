"""The ensemble: elects one candidate of a role, as ZooKeeper's ephemeral sequential nodes do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.world import Clock


@dataclass(eq=False)
class Session:
    """A connection to the ensemble that may break and come back; it carries a candidacy."""

    lost: Callable[[], None]
    is_over: bool = False


@dataclass(eq=False)
class Candidate:
    """A candidacy; it lives no longer than its session."""

    epoch: int
    session: Session
    elected: Callable[[int], None]
    is_told: bool = False


class Election:
    """One role."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        self.clock = clock
        self.timeout = timeout
        """How long a session outlives its silent owner, in latencies; 0 with one replica."""
        self.candidates: list[Candidate] = []
        self.changes = 0
        """How often somebody was elected."""
        self._number = 0

    def stand(self, session: Session, elected: Callable[[int], None]) -> Candidate | None:
        """Adds a candidate behind the others; None if its session is over."""
        if session.is_over:
            return None
        self._number += self.clock.rng.randint(1, 3)
        candidate = Candidate(self._number, session, elected)
        self.candidates.append(candidate)
        self._elect()
        return candidate

    def silent(self, session: Session, is_back: Callable[[], bool]) -> None:
        """Nothing is heard in a session: it ends unless its owner is back in time."""

        def expire() -> None:
            if session.is_over or is_back():
                return
            session.is_over = True
            for candidate in [c for c in self.candidates if c.session is session]:
                self.remove(candidate)
            session.lost()

        self.clock.after(expire, self.timeout)

    def remove(self, candidate: Candidate) -> None:
        """Ends a candidacy."""
        if candidate in self.candidates:
            self.candidates.remove(candidate)
            self._elect()

    def _elect(self) -> None:
        if self.candidates and not self.candidates[0].is_told:
            first = self.candidates[0]
            first.is_told = True
            self.changes += 1
            first.elected(first.epoch)
