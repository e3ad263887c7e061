"""One replica of a member's core: it serves clients, stands for election, and leads when elected.

The production machine of leadership decides; this carries out what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from photinus_core.model.ids import Epoch
from photinus_core.sequencing.leadership import (
    Begin,
    Campaign,
    End,
    LeaderAction,
    Leadership,
    LeaderState,
    Pause,
    RaiseEpoch,
    Resume,
    Withdraw,
)

from tests.simulation.content import SimMessage
from tests.simulation.database import Rows
from tests.simulation.election import Candidate, Session
from tests.simulation.leader import Leader
from tests.simulation.process import Call, DeposedError, Process, Scope, Step, TroubleError

if TYPE_CHECKING:
    from tests.simulation.member import Member


FREEZES_MAX: Final = 4
"""By replica."""


class Replica(Process):
    """One process of a member in one namespace."""

    def __init__(self, member: Member) -> None:
        super().__init__(member.clock)
        self.member = member
        self.leadership = Leadership()
        self.leader: Leader | None = None
        self.scope = Scope(self._unexpected)
        self.candidate: Candidate | None = None
        self.session = Session(lambda: None)

    # Life and death

    def start(self) -> None:
        super().start()
        self.leadership = Leadership()
        self.leader = self.candidate = None
        self.scope = Scope(self._unexpected)
        self._connect()
        self.act(self.leadership.start())

    def crash(self) -> None:
        if self.alive:
            self.member.election.silent(self.session, lambda: False)
        self.leader = None
        super().crash()

    def freeze(self, times: float) -> None:
        before = self.freezes
        super().freeze(times)
        if self.freezes > before:
            number = self.freezes
            self.member.election.silent(
                self.session, lambda: self.freezes != number or not self.frozen
            )

    def may_freeze(self) -> Step:
        """Here, in the middle of something, the replica may freeze for a while."""
        rate = self.clock.weather.freeze_rate
        if rate and self.freezes < FREEZES_MAX and self.clock.rng.random() < rate:
            self.freeze(self.member.tuning.session * self.clock.rng.choice([0.5, 2, 4]))
            yield 0.01

    def cut_off(self, times: float) -> None:
        """Loses the ensemble, and only that, for a while."""
        if not self.alive:
            return
        session, healed = self.session, False

        def heal() -> None:
            nonlocal healed
            healed = True
            if not session.is_over:
                self.deliver(lambda: self.act(self.leadership.reconnected()))

        def break_off() -> None:
            if session is self.session:
                self.act(self.leadership.suspended())
                self.clock.soon(heal, times)

        self.deliver(break_off)
        self.member.election.silent(session, lambda: healed)

    def hand_over(self) -> None:
        """Stops taking part, and comes back after a while: a rolling restart."""
        if not self.alive or self.frozen:
            return
        self.act(self.leadership.stop())
        self.deliver(lambda: self.act(self.leadership.start()), 30)

    @property
    def leads(self) -> bool:
        return self.alive and self.leader is not None

    # Leadership

    def act(self, actions: list[LeaderAction]) -> None:
        for action in actions:
            match action:
                case Campaign():
                    self.spawn(self.scope, self._campaign())
                case RaiseEpoch(epoch):
                    self.spawn(self.scope, self._raise(epoch))
                case Begin(epoch):
                    self.leader = Leader(self, epoch)
                    self.leader.start()
                case Pause() if self.leader is not None:
                    self.leader.scope.pause()
                case Resume() if self.leader is not None:
                    self.leader.scope.resume()
                case End():
                    self.spawn(self.scope, self._end())
                case Withdraw():
                    self.spawn(self.scope, self._withdraw(self.candidate))
                case _:
                    pass  # to pause or resume when nobody leads

    def _connect(self) -> None:
        def lost() -> None:
            self.deliver(lambda: self._lost(session))

        session = self.session = Session(lost)

    def _lost(self, session: Session) -> None:
        if session is self.session:
            self.candidate = None
            self._connect()
            self.act(self.leadership.session_lost())

    def _campaign(self) -> Step:
        yield 0.5
        if self.leadership.state is not LeaderState.CAMPAIGNING or self.candidate is not None:
            return

        def elected(epoch: int) -> None:
            self.deliver(lambda: self._elected(candidate, epoch))

        # The answer comes later; by then it has its name. A session that is over is told as lost.
        candidate = self.candidate = self.member.election.stand(self.session, elected)

    def _elected(self, candidate: Candidate | None, epoch: int) -> None:
        if candidate is self.candidate:
            self.act(self.leadership.elected(Epoch(epoch)))

    def _raise(self, epoch: Epoch) -> Step:
        while True:
            call = Call(
                self.clock,
                partial(self.member.database.raise_epoch, epoch),
                self.clock.weather.trouble_rate,
                0.3,
            )
            yield call
            try:
                call.answer()
            except DeposedError:
                self.act(self.leadership.epoch_refused(epoch))
                return
            except TroubleError:
                continue
            break
        self.act(self.leadership.epoch_raised(epoch))

    def _end(self) -> Step:
        if self.leader is not None:
            self.leader.scope.end()
            self.leader = None
        yield 0.1
        self.act(self.leadership.ended())

    def _withdraw(self, candidate: Candidate | None) -> Step:
        yield 0.2
        if candidate is not self.candidate:
            return
        if candidate is not None:
            self.member.election.remove(candidate)
            self.candidate = None
        self.act(self.leadership.withdrawn())

    def deposed(self) -> None:
        """Leader work met a newer leader."""
        self.act(self.leadership.deposed())

    @staticmethod
    def _unexpected() -> None:
        raise AssertionError("not leader work, and yet deposed")

    # Clients

    def submit(self, messages: tuple[SimMessage, ...], done: Callable[[], None]) -> None:
        """Takes messages of one request; a repeated request changes nothing."""
        if self.alive and not self.frozen:
            self.spawn(self.scope, self._submit(messages, done))

    def _submit(self, messages: tuple[SimMessage, ...], done: Callable[[], None]) -> Step:
        def insert(rows: Rows) -> None:
            for message in messages:
                if message.id in rows.messages:
                    continue
                rows.messages[message.id] = message
                rows.message_sequence += 1
                rows.outbox[message.id] = rows.message_sequence
                rows.touched.add("messages")
                if message.body.kind == "group" and message.group:
                    rows.groups[message.group] = message.body.members

        try:
            yield from self.write(insert, None)
        except TroubleError:
            return
        done()

    def write(self, change: Callable[[Rows], Any], fence: int | None) -> Step:
        """One transaction.

        Raises:
            DeposedError: A newer leader has the lease.
            TroubleError: Nobody knows whether it was committed.
        """
        self.may_crash()
        yield from self.may_freeze()
        call = Call(
            self.clock,
            partial(self.member.database.transact, change, fence),
            self.clock.weather.trouble_rate,
            0.1,
        )
        yield call
        self.may_crash()
        return call.answer()
