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
    PING_GRACES_MAX,
    SECOND_NS,
    Close,
    CloseStreams,
    Configure,
    ConnectorLife,
    Dial,
    Drain,
    EndChild,
    Launch,
    LifeAction,
    LifeLimits,
    LifeState,
    OpenStreams,
    Ping,
    TellRefused,
)

LIMITS = LifeLimits()
EVERY, SILENCE = LIMITS.ping_every_ns, LIMITS.silence_max_ns


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
    assert machine.next_due() == EVERY
    assert machine.tick(EVERY - 1) == []
    assert machine.tick(EVERY) == [Ping(1)]
    assert machine.next_due() == EVERY + SILENCE
    machine.pong(1, EVERY + 7)
    assert machine.next_due() == 2 * EVERY + 7


def test_a_hang_is_found_in_under_three_seconds() -> None:
    assert EVERY + SILENCE < 3 * SECOND_NS
    machine = ready()
    machine.tick(EVERY)
    machine.pong(1, EVERY)
    assert machine.tick(2 * EVERY) == [Ping(2)]
    machine.pong(1, 2 * EVERY)
    lost = 2 * EVERY + SILENCE
    assert machine.tick(lost - 1) == []
    reason = "it hangs: no ping was answered for 1.5 s"
    assert machine.tick(lost) == [CloseStreams(reason)]
    assert (machine.state, machine.last_error) == (LifeState.CONNECTING, reason)
    assert machine.next_due() == lost + BACKOFF_FIRST_NS
    assert machine.tick(lost + BACKOFF_FIRST_NS) == [Dial()]
    assert machine.next_due() is None


def test_a_hanging_child_is_ended_at_once_and_a_lost_one_politely() -> None:
    machine = ready(launches=True)
    machine.tick(EVERY)
    close, end = machine.tick(EVERY + SILENCE)
    assert isinstance(close, CloseStreams)
    assert end == EndChild(at_once=True)
    assert machine.next_due() is None, "it waits for the end of the process"
    assert machine.unavailable("again", EVERY + SILENCE) == []
    assert machine.child_exited("", EVERY + SILENCE) == []
    assert machine.last_error.startswith("it hangs")
    assert machine.tick(EVERY + SILENCE + BACKOFF_FIRST_NS) == [Launch()]
    machine = ready(launches=True)
    assert machine.unavailable("cut", 1) == [CloseStreams("cut"), EndChild(at_once=False)]


def test_whoever_says_something_does_not_hang() -> None:
    machine = ready()
    machine.heard(0)
    machine.tick(EVERY)
    machine.heard(EVERY + SILENCE - 1)
    assert machine.tick(EVERY + SILENCE) == []
    assert machine.usable
    assert machine.next_due() == EVERY + 2 * SILENCE - 1


def test_a_core_that_stood_still_itself_gives_more_time_but_not_for_ever() -> None:
    machine, now = ready(), EVERY
    machine.tick(now)
    for _ in range(PING_GRACES_MAX):
        now += 10 * SILENCE
        assert machine.tick(now) == []
        assert machine.next_due() == now + EVERY
    assert machine.tick(now + 10 * SILENCE)
    machine = ready()
    machine.tick(EVERY)
    machine.tick(EVERY + 10 * SILENCE)
    machine.pong(1, EVERY + 10 * SILENCE)
    assert machine.usable


def test_under_a_debugger_nothing_is_pinged() -> None:
    machine = ConnectorLife(launches=False, jitter=lambda: 1.0, limits=LifeLimits(ping_every_ns=0))
    machine.start(0)
    machine.described("1", 0)
    machine.configured(0)
    machine.streams_open(0)
    assert machine.usable
    assert machine.next_due() is None


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
    assert machine.next_due() == EVERY, "pings go on"
    machine.status(serving=False, reason="node is away", now=5)
    assert (machine.last_error, machine.since) == ("node is away", 5)
    machine.status(serving=True, reason="", now=6)
    assert (machine.state, machine.last_error) == (LifeState.READY, "")


def test_a_refusal_is_told_and_tried_again_after_the_cool_down() -> None:
    machine = life()
    machine.start(0)
    machine.described("1", 0)
    assert machine.refused("bad configuration", 1) == [TellRefused("bad configuration"), Close()]
    assert (machine.state, machine.last_error) == (LifeState.FAILED, "bad configuration")
    assert machine.next_due() == 1 + LIMITS.cool_down_ns
    assert machine.unavailable("gone", 2) == []
    assert machine.tick(1 + LIMITS.cool_down_ns) == [Dial()]
    assert machine.has_failed, "until it serves"
    machine.described("1", 3)
    machine.configured(3)
    machine.streams_open(3)
    assert not machine.has_failed


def test_an_operator_need_not_wait_for_the_cool_down() -> None:
    machine = life()
    machine.start(0)
    machine.refused("bad configuration", 1)
    assert machine.start(2) == [Dial()]


def test_what_may_pass_by_itself_costs_no_process() -> None:
    machine = life(launches=True)
    machine.start(0)
    machine.launched()
    machine.described("1", 0)
    assert machine.put_off("its node is away", 0) == []
    assert machine.last_error == "its node is away"
    assert machine.tick(BACKOFF_FIRST_NS) == [Dial()]
    assert machine.described("1", 1) == [Configure(changed=False)]


def failed_child(now: int = 0) -> ConnectorLife:
    machine = ready(launches=True)
    actions = machine.child_exited("signal 9", now)
    assert actions == [CloseStreams("signal 9")]
    for n in range(LIMITS.restarts_max):
        due = machine.next_due()
        assert due is not None
        assert machine.tick(due) == [Launch()]
        actions = machine.child_exited("signal 9", now + n + 1)
    assert actions == [Close()]
    return machine


def test_a_child_is_restarted_so_many_times() -> None:
    machine = failed_child()
    assert machine.state is LifeState.FAILED
    assert machine.last_error == "ended 6 times within 60 s: signal 9"


def test_a_failed_child_comes_back_with_a_fresh_budget() -> None:
    machine = failed_child()
    due = machine.next_due()
    assert due == machine.since + LIMITS.cool_down_ns
    assert machine.tick(due) == [Launch()]
    for _ in range(LIMITS.restarts_max):
        machine.child_exited("signal 9", due)
        again = machine.next_due()
        assert again is not None
        assert machine.tick(again) == [Launch()]


def test_old_restarts_are_forgotten() -> None:
    machine = ready(launches=True)
    now = 0
    for _ in range(3 * LIMITS.restarts_max):
        now += LIMITS.restart_window_ns // (LIMITS.restarts_max - 1)
        machine.child_exited("signal 9", now)
        assert machine.state is LifeState.CONNECTING


def test_a_changed_configuration_is_taken_by_the_running_process() -> None:
    machine = ready(launches=True)
    closed = CloseStreams("its configuration was changed")
    assert machine.changed(1, launches=True, anew=False) == [closed, Dial()]
    assert machine.described("1", 2) == [Configure(changed=True)]
    assert ready().changed(1, launches=False, anew=False) == [closed, Dial()]
    assert ready().changed(1, launches=True, anew=True) == [closed, Launch()]


def test_another_command_gets_another_process_at_no_cost_of_the_budget() -> None:
    for launches, first in ((True, Launch()), (False, Dial())):
        machine = ready(launches=True)
        actions = machine.changed(1, launches=launches, anew=True)
        assert actions[1:] == [EndChild(at_once=False)]
        assert machine.changed(1, launches=launches, anew=False) == [], "one end is enough"
        assert machine.child_exited("", 2) == [first]


def test_a_change_brings_a_failed_connector_back_at_once() -> None:
    assert failed_child().changed(9, launches=True, anew=False) == [Launch()]
    machine = life(launches=True)
    assert machine.changed(0, launches=True, anew=False) == [], "not begun"
    machine.start(0)
    assert machine.changed(1, launches=True, anew=False) == [Launch()], "instead of the one begun"
    machine.drain(2)
    assert machine.changed(3, launches=True, anew=False) == []


def test_what_vanished_may_appear_again() -> None:
    machine = life()
    assert machine.vanished("no such socket", 0) == [Close()]
    assert (machine.state, machine.last_error) == (LifeState.GONE, "no such socket")
    assert machine.vanished("nothing to be seen", 0) == []
    assert machine.last_error == "nothing to be seen"
    assert machine.start(1) == [Dial()]
    machine = ready()
    assert machine.vanished("removed", 1) == [CloseStreams("removed"), Close()]
    assert machine.start(2) == [Dial()]


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
    assert machine.put_off("no", 0) == []
    machine.pong(1, 0)
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
        self.configured = self.changed = False
        self.act(self.life.start(0))

    def act(self, actions: list[LifeAction]) -> None:
        for action in actions:
            match action:
                case CloseStreams() | Close():
                    self.configured = False
                    self.out.clear()
                case EndChild():
                    self.out[:] = [action]
                case Launch() | Dial() if self.changed:
                    # What was begun before the change is of no use any more.
                    self.out[:] = [action]
                case TellRefused() | Ping() | Drain():
                    pass
                case _:
                    self.out.append(action)

    @rule(good=st.integers(0, 3))
    def outcome(self, good: int) -> None:
        if not self.out:
            return
        action = self.out.pop()
        if isinstance(action, EndChild):
            self.act(self.life.child_exited("", self.now))
            return
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

    @rule(amount=st.integers(0, 10 * EVERY))
    def time_passes(self, amount: int) -> None:
        self.now += amount
        due = self.life.next_due()
        while due is not None and due <= self.now:
            self.act(self.life.tick(self.now))
            due = self.life.next_due()

    @rule(
        what=st.sampled_from(
            [
                "away",
                "hang",
                "exit",
                "pong",
                "degraded",
                "well",
                "drain",
                "start",
                "gone",
                "refused",
            ]
        )
    )
    def something_happens(self, what: str) -> None:
        machine, now = self.life, self.now
        match what:
            case "away" | "hang" if not self.out:
                self.act(machine.unavailable("away", now, hangs=what == "hang"))
            case "gone" if not self.launches:
                self.act(machine.vanished("gone", now))
            case "refused" if self.out and isinstance(self.out[0], Dial | Configure):
                self.out.clear()
                self.act(machine.refused("no", now))
            case "exit" if self.launches and not self.out:
                self.act(machine.child_exited("exit 1", now))
            case "pong":
                machine.pong(machine._ping_number, now)
            case "degraded" | "well":
                machine.status(serving=what == "well", reason="", now=now)
            case "drain" if now > 1000 * EVERY:
                self.act(machine.drain(now))
            case "start":
                self.act(machine.start(now))
            case _:
                pass

    @rule(launches=st.booleans(), anew=st.booleans())
    def an_operator_changes_it(self, launches: bool, anew: bool) -> None:
        self.launches, self.changed = launches, True
        self.act(self.life.changed(self.now, launches=launches, anew=anew))
        self.changed = False

    @invariant()
    def calls_go_out_only_when_configured(self) -> None:
        assert not self.life.usable or self.configured

    @invariant()
    def one_thing_at_a_time(self) -> None:
        assert len(self.out) <= 1

    @invariant()
    def it_never_waits_for_nothing(self) -> None:
        resting = (LifeState.GONE, LifeState.DRAINING)
        assert self.out or self.life.next_due() is not None or self.life.state in resting


TestSupervisor = Supervisor.TestCase
TestSupervisor.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
