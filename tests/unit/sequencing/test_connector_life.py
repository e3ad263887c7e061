"""Goal: a connector instance is dialled, configured, watched and restarted as the protocol page
says (§5).

Method: directed cases with a hand-moved clock, and a state machine of random inputs that checks
what may never happen: calls without configuration, two things being dialled at once, a machine
that waits for nothing.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from photinus_core.sequencing.connector_life import (
    BACKOFF_FIRST_NS,
    BACKOFF_LAST_NS,
    PING_DEADLINE_NS,
    PING_EVERY_NS,
    RESTART_WINDOW_NS,
    RESTARTS_MAX,
    Close,
    CloseStreams,
    Configure,
    ConnectorLife,
    Dial,
    Drain,
    Launch,
    LifeAction,
    LifeState,
    OpenStreams,
    Ping,
    TellRefused,
)


def life(*, launches: bool = False, jitter: float = 1.0) -> ConnectorLife:
    return ConnectorLife(launches=launches, jitter=lambda: jitter)


def ready(*, launches: bool = False, now: int = 0) -> ConnectorLife:
    machine = life(launches=launches)
    machine.start(now)
    if launches:
        machine.launched()
    machine.described("1", now)
    machine.configured(now)
    machine.streams_open(now)
    assert machine.state is LifeState.READY
    return machine


def test_the_straight_way() -> None:
    machine = life()
    assert machine.start(1) == [Dial()]
    assert machine.state is LifeState.CONNECTING
    assert machine.described("v1", 2) == [Configure(changed=True)]
    assert machine.configured(3) == [OpenStreams()]
    usable_before = machine.usable
    assert machine.streams_open(4) == []
    assert (usable_before, machine.usable) == (False, True)
    assert (str(machine.state), machine.since) == ("ready", 4)


def test_a_launched_child_is_dialled_after_its_handshake() -> None:
    machine = life(launches=True)
    assert machine.start(0) == [Launch()]
    assert machine.launched() == [Dial()]


def test_pings_and_answers() -> None:
    machine = ready()
    assert machine.next_due() == PING_EVERY_NS
    assert machine.tick(PING_EVERY_NS - 1) == []
    assert machine.tick(PING_EVERY_NS) == [Ping(1)]
    assert machine.next_due() == PING_EVERY_NS + PING_DEADLINE_NS
    machine.pong(1)
    assert machine.next_due() == 2 * PING_EVERY_NS


def test_two_misses_mean_redial() -> None:
    machine = ready()
    machine.tick(PING_EVERY_NS)
    assert machine.tick(PING_EVERY_NS + PING_DEADLINE_NS) == []
    assert machine.tick(2 * PING_EVERY_NS) == [Ping(2)]
    machine.pong(1)
    lost = 2 * PING_EVERY_NS + PING_DEADLINE_NS
    assert machine.tick(lost) == [CloseStreams("does not answer pings")]
    assert machine.state is LifeState.CONNECTING
    assert machine.next_due() == lost + BACKOFF_FIRST_NS
    assert machine.tick(lost + BACKOFF_FIRST_NS) == [Dial()]
    assert machine.next_due() is None


def test_one_miss_is_forgiven() -> None:
    machine = ready()
    machine.tick(PING_EVERY_NS)
    machine.tick(PING_EVERY_NS + PING_DEADLINE_NS)
    machine.tick(2 * PING_EVERY_NS)
    machine.pong(2)
    machine.tick(3 * PING_EVERY_NS)
    assert machine.tick(3 * PING_EVERY_NS + PING_DEADLINE_NS) == []
    assert machine.usable


def test_backoff_grows_and_ends_with_success() -> None:
    machine = life()
    machine.start(0)
    now, delays = 0, []
    for _ in range(12):
        assert machine.unavailable("refused", now) == []
        due = machine.next_due()
        assert due is not None
        delays.append(due - now)
        assert machine.tick(due) == [Dial()]
        now = due
    assert delays[:3] == [BACKOFF_FIRST_NS, 2 * BACKOFF_FIRST_NS, 4 * BACKOFF_FIRST_NS]
    assert delays[-1] == max(delays) == BACKOFF_LAST_NS
    assert machine.last_error == "refused"
    machine.described("1", now)
    machine.configured(now)
    machine.streams_open(now)
    assert machine.last_error == ""
    assert machine.unavailable("gone", now) == [CloseStreams("gone")]
    assert machine.next_due() == now + BACKOFF_FIRST_NS


def test_jitter_takes_up_to_half_of_a_delay() -> None:
    machine = life(jitter=0.0)
    machine.start(0)
    machine.unavailable("refused", 0)
    assert machine.next_due() == BACKOFF_FIRST_NS // 2


def test_a_reconnected_connector_is_configured_again() -> None:
    machine = ready()
    machine.unavailable("gone", 0)
    machine.tick(BACKOFF_LAST_NS)
    assert machine.described("1", 1) == [Configure(changed=False)]
    machine.unavailable("gone", 2)
    machine.tick(2 + BACKOFF_LAST_NS)
    assert machine.described("2", 3) == [Configure(changed=True)]


def test_degraded_and_back() -> None:
    machine = ready()
    machine.status(serving=False, reason="node is syncing", now=5)
    assert (machine.state, machine.last_error, machine.usable) == (
        LifeState.DEGRADED,
        "node is syncing",
        True,
    )
    assert machine.next_due() == PING_EVERY_NS, "pings go on"
    machine.status(serving=True, reason="", now=6)
    assert (machine.state, machine.last_error) == (LifeState.READY, "")


def test_a_refusal_is_told_and_final_until_somebody_changes_something() -> None:
    machine = life()
    machine.start(0)
    machine.described("1", 0)
    assert machine.refused("bad configuration", 1) == [TellRefused("bad configuration"), Close()]
    assert (machine.state, machine.last_error) == (LifeState.FAILED, "bad configuration")
    assert machine.next_due() is None
    assert machine.unavailable("gone", 2) == []
    assert machine.start(3) == [Dial()]


def test_a_child_is_restarted_so_many_times() -> None:
    machine = ready(launches=True)
    assert machine.child_exited("signal 9", 0) == [CloseStreams("signal 9")]
    actions: list[LifeAction] = []
    for n in range(RESTARTS_MAX):
        due = machine.next_due()
        assert due is not None
        assert machine.tick(due) == [Launch()]
        actions = machine.child_exited("signal 9", n + 1)
    assert actions == [Close()]
    assert machine.state is LifeState.FAILED
    assert "signal 9" in machine.last_error


def test_old_restarts_are_forgotten() -> None:
    machine = ready(launches=True)
    now = 0
    for _ in range(3 * RESTARTS_MAX):
        now += RESTART_WINDOW_NS // (RESTARTS_MAX - 1)
        machine.child_exited("signal 9", now)
        assert machine.state is LifeState.CONNECTING


def test_draining() -> None:
    machine = ready()
    assert machine.drain(1) == [Drain()]
    assert not machine.usable
    assert machine.next_due() is None
    assert machine.drain(2) == []
    assert machine.drained(3) == [Close()]
    assert machine.state is LifeState.GONE
    assert machine.drain(4) == []
    for end in ("unavailable", "child_exited"):
        machine = ready(launches=True)
        machine.drain(1)
        assert getattr(machine, end)("gone", 2) == [Close()]
        assert machine.state is LifeState.GONE
    machine = life()
    machine.start(0)
    assert machine.drain(1) == [Close()]


def test_answers_out_of_turn_change_nothing() -> None:
    machine = life()
    assert machine.launched() == []
    assert machine.described("1", 0) == []
    assert machine.configured(0) == []
    assert machine.streams_open(0) == []
    assert machine.refused("no", 0) == []
    assert machine.unavailable("no", 0) == []
    assert machine.child_exited("no", 0) == []
    assert machine.drained(0) == []
    machine.pong(1)
    assert machine.tick(0) == []
    machine = ready()
    assert machine.start(1) == []
    assert machine.refused("no", 1) == []


class Supervisor(RuleBasedStateMachine):
    """Random outcomes for whatever is out, random time."""

    @initialize(launches=st.booleans())
    def begin(self, launches: bool) -> None:
        self.now = 0
        self.life = life(launches=launches)
        self.launches = launches
        self.out: list[LifeAction] = []
        self.configured = False
        self.act(self.life.start(0))

    def act(self, actions: list[LifeAction]) -> None:
        for action in actions:
            match action:
                case CloseStreams() | Close():
                    self.configured = False
                    self.out.clear()
                case TellRefused() | Ping() | Drain():
                    pass
                case _:
                    self.out.append(action)

    @rule(good=st.integers(0, 3))
    def outcome(self, good: int) -> None:
        if not self.out:
            return
        action = self.out.pop()
        if not good:
            if isinstance(action, Launch):
                self.act(self.life.child_exited("exit 1", self.now))
            else:
                self.act(self.life.unavailable("away", self.now))
            return
        match action:
            case Launch():
                self.act(self.life.launched())
            case Dial():
                self.act(self.life.described("v", self.now))
            case Configure():
                self.act(self.life.configured(self.now))
                self.configured = True
            case OpenStreams():
                self.act(self.life.streams_open(self.now))
            case _:
                raise AssertionError(action)

    @rule(amount=st.integers(0, PING_EVERY_NS))
    def time_passes(self, amount: int) -> None:
        self.now += amount
        due = self.life.next_due()
        while due is not None and due <= self.now:
            self.act(self.life.tick(self.now))
            due = self.life.next_due()

    @rule(what=st.sampled_from(["away", "exit", "pong", "degraded", "well", "drain", "start"]))
    def something_happens(self, what: str) -> None:
        machine, now = self.life, self.now
        match what:
            case "away" if not self.out:
                self.act(machine.unavailable("away", now))
            case "exit" if self.launches and not self.out:
                self.act(machine.child_exited("exit 1", now))
            case "pong":
                machine.pong(machine._ping_number)
            case "degraded" | "well":
                machine.status(serving=what == "well", reason="", now=now)
            case "drain" if now > 100 * PING_EVERY_NS:
                self.act(machine.drain(now))
            case "start":
                self.act(machine.start(now))
            case _:
                pass

    @invariant()
    def calls_go_out_only_when_configured(self) -> None:
        assert not self.life.usable or self.configured

    @invariant()
    def one_thing_at_a_time(self) -> None:
        assert len(self.out) <= 1

    @invariant()
    def it_never_waits_for_nothing(self) -> None:
        resting = (LifeState.GONE, LifeState.FAILED, LifeState.DRAINING)
        assert self.out or self.life.next_due() is not None or self.life.state in resting


TestSupervisor = Supervisor.TestCase
TestSupervisor.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
