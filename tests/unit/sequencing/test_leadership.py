"""Goal: leader work runs only under an epoch the database took, rests while in doubt, and ends when
it is lost.

Method: directed cases, and a state machine of two replicas, one ensemble and one database with
random failures: never do two replicas hold work under the database's epoch, and whoever was
fenced gets a new number before it leads again.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
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


def leading(epoch: int = 5) -> Leadership:
    leadership = Leadership()
    assert leadership.start() == [Campaign()]
    assert leadership.elected(Epoch(epoch)) == [RaiseEpoch(Epoch(epoch))]
    assert leadership.epoch_raised(Epoch(epoch)) == [Begin(Epoch(epoch))]
    return leadership


def test_a_leader_hands_over_only_while_it_leads() -> None:
    leadership = leading()
    leadership.suspended()
    assert leadership.hand_over() == []
    leadership.reconnected()
    assert leadership.hand_over() == [End()]
    assert leadership.hand_over() == []
    assert leadership.ended() == [Withdraw()]
    assert leadership.withdrawn() == [Campaign()]
    assert leadership.hand_over() == []


def test_work_begins_once_the_database_took_the_epoch() -> None:
    leadership = leading()
    assert (leadership.state, leadership.epoch) == (LeaderState.LEADING, 5)
    assert leadership.start() == []


def test_a_refused_epoch_means_a_new_candidacy() -> None:
    leadership = Leadership()
    leadership.start()
    leadership.elected(Epoch(5))
    assert leadership.epoch_refused(Epoch(5)) == [Withdraw()]
    assert leadership.withdrawn() == [Campaign()]


def test_doubt_pauses_and_reconnecting_resumes() -> None:
    leadership = leading()
    assert leadership.suspended() == [Pause()]
    assert leadership.suspended() == []
    assert leadership.reconnected() == [Resume()]
    assert leadership.reconnected() == []


def test_doubt_while_the_epoch_is_raised() -> None:
    leadership = Leadership()
    leadership.start()
    leadership.elected(Epoch(5))
    assert leadership.suspended() == []
    assert leadership.epoch_raised(Epoch(5)) == [Begin(Epoch(5)), Pause()]
    assert leadership.reconnected() == [Resume()]


def test_a_lost_session_ends_work_and_stands_again() -> None:
    for doubt in (False, True):
        leadership = leading()
        if doubt:
            leadership.suspended()
        assert leadership.session_lost() == [End()]
        assert leadership.ended() == [Campaign()], "the candidacy went with the session"


def test_a_fenced_leader_removes_its_candidacy() -> None:
    leadership = leading()
    assert leadership.deposed() == [End()]
    assert leadership.deposed() == []
    assert leadership.ended() == [Withdraw()]
    assert leadership.withdrawn() == [Campaign()]


def test_a_session_lost_while_ending_or_withdrawing() -> None:
    leadership = leading()
    leadership.deposed()
    assert leadership.session_lost() == []
    assert leadership.ended() == [Campaign()]
    leadership = leading()
    leadership.deposed()
    leadership.ended()
    assert leadership.session_lost() == [Campaign()]
    assert leadership.withdrawn() == []


def test_stop_hands_over() -> None:
    leadership = leading()
    assert leadership.stop() == [End()]
    assert leadership.ended() == [Withdraw()]
    assert leadership.withdrawn() == []
    assert leadership.state is LeaderState.IDLE
    assert leadership.stop() == []
    assert leadership.start() == [Campaign()]
    assert leadership.stop() == [Withdraw()]
    assert leadership.session_lost() == []
    assert leadership.state is LeaderState.IDLE


def test_late_answers_change_nothing() -> None:
    leadership = Leadership()
    assert leadership.elected(Epoch(1)) == []
    assert leadership.epoch_raised(Epoch(1)) == []
    assert leadership.epoch_refused(Epoch(1)) == []
    assert leadership.ended() == []
    assert leadership.withdrawn() == []
    assert leadership.session_lost() == []
    leadership = leading(5)
    assert leadership.elected(Epoch(6)) == []
    assert leadership.epoch_raised(Epoch(4)) == []


class Cluster(RuleBasedStateMachine):
    """Two replicas; the lowest candidacy leads, and the database keeps the highest epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = [Leadership(), Leadership()]
        self.candidates: dict[int, int] = {}
        self.number = 0
        self.database = 0
        self.todo: list[tuple[int, LeaderAction]] = []
        self.working: dict[int, int] = {}
        self.paused: set[int] = set()
        for replica in (0, 1):
            self.act(replica, self.replicas[replica].start())

    def act(self, replica: int, actions: list[LeaderAction]) -> None:
        for action in actions:
            match action:
                case Begin(epoch):
                    assert replica not in self.working
                    self.working[replica] = epoch
                case Pause():
                    assert replica in self.working
                    self.paused.add(replica)
                case Resume():
                    self.paused.discard(replica)
                case _:
                    self.todo.append((replica, action))

    @precondition(lambda self: self.todo)
    @rule(data=st.data())
    def do(self, data: st.DataObject) -> None:
        self._do(data.draw(st.integers(0, len(self.todo) - 1)))

    @rule()
    def elect(self) -> None:
        if self.candidates:
            leader = min(self.candidates, key=lambda replica: self.candidates[replica])
            self.act(leader, self.replicas[leader].elected(Epoch(self.candidates[leader])))

    @rule(
        replica=st.sampled_from([0, 1]),
        what=st.sampled_from(["suspend", "reconnect", "lose", "hand over", "restart"]),
    )
    def weather(self, replica: int, what: str) -> None:
        machine = self.replicas[replica]
        match what:
            case "suspend":
                self.act(replica, machine.suspended())
            case "reconnect":
                self.act(replica, machine.reconnected())
            case "lose":
                self.candidates.pop(replica, None)
                self.todo = [
                    t for t in self.todo if t[0] != replica or not isinstance(t[1], Campaign)
                ]
                self.act(replica, machine.session_lost())
            case "hand over":
                self.act(replica, machine.hand_over())
            case _:
                self.act(replica, machine.stop())
                self.act(replica, machine.start())

    @rule(replica=st.sampled_from([0, 1]))
    def write(self, replica: int) -> None:
        if replica in self.working and self.working[replica] < self.database:
            self.act(replica, self.replicas[replica].deposed())

    @invariant()
    def one_writer(self) -> None:
        assert sum(epoch == self.database for epoch in self.working.values()) <= 1

    @invariant()
    def epochs_are_the_databases(self) -> None:
        assert all(epoch <= self.database for epoch in self.working.values())

    def teardown(self) -> None:
        for replica in (0, 1):
            self.act(replica, self.replicas[replica].reconnected())
            self.act(replica, self.replicas[replica].start())
        for _ in range(40):
            while self.todo:
                self._do(0)
            self.elect()
            for replica in (0, 1):
                self.write(replica)
        assert self.database in self.working.values(), "somebody leads in the end"

    def _do(self, index: int) -> None:
        replica, action = self.todo.pop(index)
        machine = self.replicas[replica]
        match action:
            case Campaign():
                self.number += 1
                self.candidates[replica] = self.number
            case RaiseEpoch(epoch) if epoch > self.database:
                self.database = epoch
                self.act(replica, machine.epoch_raised(epoch))
            case RaiseEpoch(epoch):
                self.act(replica, machine.epoch_refused(epoch))
            case End():
                self.working.pop(replica, None)
                self.paused.discard(replica)
                self.act(replica, machine.ended())
            case Withdraw():
                self.candidates.pop(replica, None)
                self.act(replica, machine.withdrawn())
            case Begin() | Pause() | Resume():
                raise AssertionError("done at once")


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
