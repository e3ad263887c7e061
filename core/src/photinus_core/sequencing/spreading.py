"""Which replica should lead which role, and when a leader makes room for a better one.

Rendezvous hashing ranks the replicas for each role, so that roles spread evenly and move little
when a replica comes or goes. The rank is only a preference: whoever stands first in the queue
leads. Candidates that wait let better ones pass, which disturbs nobody; the one that leads makes
room only when all has been quiet for a while, and waits longer for a replica that went away
before, so that one that keeps crashing does not take its roles along each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ABSENCES_COUNTED_MAX: Final = 6
"""Each absence doubles the wait, up to 64 times."""
FORGIVEN_AFTER: Final = 10
"""An absence is forgotten after this many of the waits it caused, without another."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place in the queue for a role.

    Attributes:
        order: Place in the queue; the lowest leads.
        replica: Name of the replica.
        node: The node that stands for it in the ensemble.
    """

    order: int
    replica: str
    node: str


def preference(role: str, replica: str) -> int:
    """How much a replica is wanted for a role; the highest leads when all is calm."""
    digest = hashlib.sha256(f"{role}\n{replica}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def lets_pass(role: str, queue: Sequence[Candidate], own: Candidate) -> bool:
    """Whether a waiting candidate should go to the end of the queue.

    Args:
        role: What is stood for.
        queue: All candidates, first one first.
        own: The one that asks; the first of the queue never lets pass.
    """
    if not queue or queue[0].node == own.node:
        return False
    mine = preference(role, own.replica)
    return any(c.order > own.order and preference(role, c.replica) > mine for c in queue)


class Calm:
    """When the leader of one role should hand over to a replica that is preferred."""

    def __init__(self, role: str, replica: str, quiet_s: float) -> None:
        self._role = role
        self._replica = replica
        self._quiet_s = quiet_s
        self._since: dict[str, float] = {}
        self._gone: dict[str, tuple[int, float]] = {}
        """Absences and when the last one was noticed."""

    def hand_over_at(self, queue: Sequence[Candidate], led_since_s: float) -> float | None:
        """When to make room, by the clock of `seen`; None while nobody better is next.

        Args:
            queue: As it was last given to `seen`.
            led_since_s: When this leadership began.
        """
        better = self._best(queue)
        if better is None or queue[1].replica != better:
            return None
        absences, _ = self._gone.get(better, (0, 0.0))
        return max(self._since[better], led_since_s) + self._wait_s(absences)

    def seen(self, queue: Sequence[Candidate], now_s: float) -> None:
        """Notes who stands for the role now."""
        present = {c.replica for c in queue}
        for replica in [r for r in self._since if r not in present]:
            del self._since[replica]
            absences, _ = self._gone.get(replica, (0, 0.0))
            self._gone[replica] = (absences + 1, now_s)
        for replica in present:
            self._since.setdefault(replica, now_s)
        for replica, (absences, last_s) in list(self._gone.items()):
            if now_s - last_s > FORGIVEN_AFTER * self._wait_s(absences):
                del self._gone[replica]

    def _wait_s(self, absences: int) -> float:
        return self._quiet_s * 2.0 ** min(absences, ABSENCES_COUNTED_MAX)

    def _best(self, queue: Sequence[Candidate]) -> str | None:
        """The most wanted of the waiting replicas, if it is wanted more than this one."""
        waiting = {c.replica for c in queue} - {self._replica}
        if not waiting:
            return None
        best = max(waiting, key=lambda replica: preference(self._role, replica))
        mine = preference(self._role, self._replica)
        return best if preference(self._role, best) > mine else None
