"""Leader work of one replica, under one epoch: everything the production leader runs, as tasks.

Intake of the chain and of the peers, downloads, agreement, batches. All of it is written under the
epoch's fence, and ends with the leadership.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.agreeing import Agreeing
from tests.simulation.database import Database, Rows
from tests.simulation.intake import ChainIntake, Downloads, PeerIntake
from tests.simulation.process import Call, Scope, Step, TroubleError
from tests.simulation.sending import Sending
from tests.simulation.world import Clock

if TYPE_CHECKING:
    from tests.simulation.member import Member
    from tests.simulation.replica import Replica


class Leader:
    """One leadership."""

    member: Member
    clock: Clock

    def __init__(self, replica: Replica, epoch: int) -> None:
        self.replica = replica
        self.member = replica.member
        self.clock = replica.clock
        self.epoch = epoch
        self.scope = Scope(replica.deposed)
        self.chain = ChainIntake(self)
        self.peers = PeerIntake(self)
        self.downloads = Downloads(self)
        self.agreeing = Agreeing(self)
        self.sending = Sending(self)

    @property
    def database(self) -> Database:
        return self.member.database

    @property
    def rows(self) -> Rows:
        """For reading: one statement sees one moment."""
        return self.member.database.rows

    def start(self) -> None:
        for work in (
            self.agreeing.run(),
            self.downloads.run(),
            self.sending.run(),
            self._streams(),
        ):
            self.spawn(work)

    def spawn(self, work: Step) -> None:
        self.replica.spawn(self.scope, work)

    def moment(self) -> Step:
        """Lets time pass between two statements: often none that matters."""
        if self.clock.rng.random() < self.member.tuning.pause_rate:
            yield 0.3

    def write(self, change: Callable[[Rows], Any]) -> Step:
        """One leader transaction."""
        return (yield from self.replica.write(change, self.epoch))

    def write_surely(self, change: Callable[[Rows], Any]) -> Step:
        """The same of a change that may be made twice: until the database answers."""
        while True:
            try:
                return (yield from self.write(change))
            except TroubleError:
                yield 2

    def call(self, serve: Callable[[], None]) -> Step:
        """A call of a connector."""
        yield from self.replica.may_freeze()
        call = Call(self.clock, serve, 0, 0.5)
        yield call
        call.answer()

    def notified(self, touched: set[str]) -> None:
        """Something was committed, here or elsewhere."""
        if "wakeups" in touched:
            self.agreeing.wake.set()
        if "downloads" in touched:
            self.downloads.wake.set()
        if "messages" in touched:
            self.sending.wake.set()

    def _streams(self) -> Step:
        while self.clock.lost():
            yield 2
        yield from self.call(lambda: self.member.connectors.open_streams(self))
        self.spawn(self.chain.run())
        self.spawn(self.peers.run())
