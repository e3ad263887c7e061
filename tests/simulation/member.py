"""One member in one namespace: a database, connectors, and replicas of its core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.batching import Batching
from photinus_core.sequencing.feeding import Feed

from tests.simulation.connectors import Connectors
from tests.simulation.content import SimMessage
from tests.simulation.database import Database, Rows
from tests.simulation.election import Election
from tests.simulation.replica import Replica
from tests.simulation.world import Clock, Ledger, Storage


@dataclass(frozen=True)
class Holes:
    """What is broken on purpose, to see that it is found."""

    machine: Callable[..., Agreement] = Agreement
    feed: Callable[[int], Feed] = Feed
    batching: Callable[..., Batching] = Batching
    wakeups_in_memory: bool = False
    masked_fed_after: int = 0
    """Strangers' masked pins up to this sequence are never fed; 0 as production."""
    renews_pins_apart: bool = False
    seals_again: bool = False
    makes_keys_anew: bool = False
    decides_what_is_gone: bool = False
    """A commit does not look whether its pins are still there."""
    removals_untold: bool = False
    """Agreement does not hear that pins were taken back."""
    no_epoch_in_database: bool = False
    no_epoch_in_connectors: bool = False


@dataclass(frozen=True)
class Tuning:
    """Limits of machines and drivers, small enough to matter."""

    replicas: int = 1
    session: float = 0.0
    """In latencies."""
    decisions_max: int = 1000
    load_all_masked: bool = False
    masked_events_max: int = 1000
    private_contexts_max: int = 1000
    batch_messages_max: int = 5
    collect_max_ns: int = 0
    pins_page: int = 2000
    wakeups_page: int = 1000
    wakeups_kept_max: int = 200
    pause_rate: float = 0.3
    """Chance that time passes between two statements."""


class Member:
    """One member in one namespace."""

    def __init__(
        self,
        name: str,
        did: str,
        clock: Clock,
        ledger: Ledger,
        storage: Storage,
        tuning: Tuning,
        holes: Holes,
    ) -> None:
        self.name = name
        self.did = did
        self.clock = clock
        self.tuning = tuning
        self.holes = holes
        self.peers: dict[str, Member] = {}
        """All members of the namespace by DID of their organisation."""
        self.database = Database(checks_epoch=not holes.no_epoch_in_database)
        self.connectors = Connectors(
            clock, ledger, storage, checks_epoch=not holes.no_epoch_in_connectors
        )
        self.election = Election(clock, tuning.session)
        self.acked: list[SimMessage] = []
        """What clients were told is taken."""
        self.replicas = [Replica(self) for _ in range(tuning.replicas)]
        self.database.listeners.append(self._committed)
        self._number = 0

    @property
    def store(self) -> Rows:
        return self.database.rows

    def start(self) -> None:
        for replica in self.replicas:
            replica.start()

    def new_id(self) -> str:
        self._number += 1
        return f"{self.name}-{self._number}"

    def submit(self, *messages: SimMessage) -> None:
        """A client asks one of the replicas."""

        def done() -> None:
            known = {message.id for message in self.acked}
            self.acked.extend(m for m in messages if m.id not in known)

        self.clock.rng.choice(self.replicas).submit(messages, done)

    def has_acked(self, message: SimMessage) -> bool:
        return any(message.id == other.id for other in self.acked)

    def _committed(self, touched: set[str]) -> None:
        """Notifies the leaders; who is late hears of it late, as by a poll."""
        for replica in self.replicas:
            leader = replica.leader
            if leader is not None:
                times = self.clock.rng.choice([0.05, 0.05, 2])
                replica.deliver(partial(leader.notified, touched), times)

    @property
    def crashes(self) -> int:
        return sum(replica.crashes for replica in self.replicas)
