"""The life cycle of one connector instance: dial, configure, ping, redial, restart, drain.

DISCOVERED → CONNECTING → DESCRIBED → CONFIGURED → READY ⇄ DEGRADED → DRAINING → GONE, and FAILED
where trying again at once is of no use (connector-protocol §5). Inputs carry the time; a supervisor
acts on what they return and calls `tick` at `next_due`. Only UNAVAILABLE, silence or a dead child
mean reconnecting; any other code is an answer. A launched child whose connection is lost is ended
and started anew: only a new process is sure to work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECOND_NS: Final = 1_000_000_000
BACKOFF_FIRST_NS: Final = SECOND_NS // 10
BACKOFF_LAST_NS: Final = 5 * SECOND_NS
PING_GRACES_MAX: Final = 4
"""How often a ping is given more time because we were late ourselves."""


@dataclass(frozen=True, slots=True)
class LifeLimits:
    """How patient the core is with a connector.

    Attributes:
        ping_every_ns: From the answer of a ping to the next one; 0 for no pings (a debugger).
        silence_max_ns: Longest time in which a connector may answer no ping and say nothing else.
        restarts_max: How often a launched child may be started again within `restart_window_ns`.
        restart_window_ns: See there.
        cool_down_ns: From FAILED to the next try, which has a fresh budget.
    """

    ping_every_ns: int = SECOND_NS // 2
    silence_max_ns: int = 3 * SECOND_NS // 2
    restarts_max: int = 5
    restart_window_ns: int = 60 * SECOND_NS
    cool_down_ns: int = 60 * SECOND_NS


LIMITS: Final = LifeLimits()
"""The usual ones."""


class LifeState(StrEnum):
    """Where a connector instance stands, as operators see it."""

    DISCOVERED = "discovered"
    CONNECTING = "connecting"
    DESCRIBED = "described"
    CONFIGURED = "configured"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the child; report `launched` once it printed its handshake, or `child_exited`."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect and call Describe; report `described`, `unavailable` or `refused`."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Call Configure; report `configured`, `unavailable` or `refused`."""

    changed: bool
    """Whether version or schema differ from last time: validate the configuration again."""


@dataclass(frozen=True, slots=True)
class OpenStreams:
    """Open the event streams with their checkpoints; calls may go out from now on."""


@dataclass(frozen=True, slots=True)
class CloseStreams:
    """The connector is away: close streams, fail queries in flight, queue submissions."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Call health; report `pong` with the answer. Silence is noticed by `tick`."""

    number: int


@dataclass(frozen=True, slots=True)
class EndChild:
    """End the launched process; report `child_exited`."""

    at_once: bool
    """It hangs: do not wait for it to end by itself."""


@dataclass(frozen=True, slots=True)
class TellRefused:
    """Tell the connector why it was refused, so that its author sees it (NotifyRegistration)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask the connector to finish what it has; report `drained`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the channel, end the child if there is one."""


LifeAction = (
    Launch
    | Dial
    | Configure
    | OpenStreams
    | CloseStreams
    | Ping
    | EndChild
    | TellRefused
    | Drain
    | Close
)


class ConnectorLife:
    """One connector instance.

    Args:
        launches: Whether the core starts it; otherwise it attaches to an address.
        jitter: Gives numbers from 0 to 1 that spread redials.
        limits: How patient it is.
    """

    def __init__(
        self,
        *,
        launches: bool,
        jitter: Callable[[], float],
        limits: LifeLimits | None = None,
    ) -> None:
        self.state = LifeState.DISCOVERED
        self.since = 0
        self.last_error = ""
        self.has_failed = False
        self._launches = launches
        self._jitter = jitter
        self._limits = limits or LIMITS
        self._fingerprint: str | None = None
        self._attempts = 0
        self._redial_at: int | None = None
        self._redial: LifeAction = Dial()
        self._ping_at: int | None = None
        self._ping_deadline: int | None = None
        self._ping_number = 0
        self._restarts: deque[int] = deque()
        self._ping_graces = 0
        self._has_child = False
        self._is_ending = False
        self._starts_anew = False

    @property
    def usable(self) -> bool:
        """Whether calls may go out."""
        return self.state in (LifeState.READY, LifeState.DEGRADED)

    @property
    def is_ending(self) -> bool:
        """Whether a process is to end, and its end to be reported."""
        return self._is_ending

    # Ways up.

    def start(self, now: int) -> list[LifeAction]:
        """Begins, or begins again after FAILED or GONE, with a fresh budget of restarts."""
        if self.state not in (LifeState.DISCOVERED, LifeState.FAILED, LifeState.GONE):
            return []
        if self.state is LifeState.GONE:
            self.last_error = ""
        self._attempts = 0
        self._restarts.clear()
        self._enter(LifeState.CONNECTING, now)
        return [self._first()]

    def launched(self) -> list[LifeAction]:
        """The child told its address."""
        if self.state is not LifeState.CONNECTING or self._is_ending:
            return []
        self._has_child = True
        return [Dial()]

    def described(self, fingerprint: str, now: int) -> list[LifeAction]:
        """Describe answered.

        Args:
            fingerprint: Stands for version and configuration schema.
            now: Nanoseconds.
        """
        if self.state is not LifeState.CONNECTING or self._is_ending:
            return []
        changed = fingerprint != self._fingerprint
        self._fingerprint = fingerprint
        self._enter(LifeState.DESCRIBED, now)
        return [Configure(changed)]

    def configured(self, now: int) -> list[LifeAction]:
        """Configure answered."""
        if self.state is not LifeState.DESCRIBED:
            return []
        self._enter(LifeState.CONFIGURED, now)
        return [OpenStreams()]

    def streams_open(self, now: int) -> list[LifeAction]:
        """The streams are open."""
        if self.state is not LifeState.CONFIGURED:
            return []
        self._enter(LifeState.READY, now)
        self._attempts, self.last_error, self.has_failed = 0, "", False
        self._ping_deadline = None
        if self._limits.ping_every_ns:
            self._ping_at = now + self._limits.ping_every_ns
        return []

    # While it serves.

    def status(self, *, serving: bool, reason: str, now: int) -> list[LifeAction]:
        """The connector says how it is (WatchStatus)."""
        if self.usable and not serving:
            self.last_error = reason
            self._enter(LifeState.DEGRADED, now)
        elif self.state is LifeState.DEGRADED and serving:
            self.last_error = ""
            self._enter(LifeState.READY, now)
        return []

    def pong(self, number: int, now: int) -> list[LifeAction]:
        """A ping was answered; answers to former ones are ignored."""
        if number == self._ping_number and self._ping_deadline is not None:
            self._ping_deadline = None
            self._ping_at = now + self._limits.ping_every_ns
        return []

    def heard(self, at: int) -> None:
        """The connector said something at this time: it does not hang, however busy it is."""
        if self._ping_deadline is not None:
            self._ping_deadline = max(self._ping_deadline, at + self._limits.silence_max_ns)

    # Ways down.

    def unavailable(self, reason: str, now: int, *, hangs: bool = False) -> list[LifeAction]:
        """A call or stream ended with UNAVAILABLE, or with nothing: the connector is away.

        Args:
            reason: What an operator is told.
            now: Nanoseconds.
            hangs: It is there and does not answer.
        """
        if self.state is LifeState.DRAINING:
            return self._gone(now)
        resting = self.state in (LifeState.DISCOVERED, LifeState.GONE, LifeState.FAILED)
        unlaunched = self._launches and not self._has_child
        if resting or self._is_ending or unlaunched:
            return []
        actions = self._closing(reason)
        if self._launches:
            self._end_child(reason, now)
            return [*actions, EndChild(at_once=hangs)]
        return actions + self._redial_later(Dial(), reason, now)

    def put_off(self, reason: str, now: int) -> list[LifeAction]:
        """Configure had an answer that may change by itself: what it connects to is away."""
        if self.state not in (LifeState.CONNECTING, LifeState.DESCRIBED) or self._is_ending:
            return []
        return self._redial_later(Dial(), reason, now)

    def child_exited(self, reason: str, now: int) -> list[LifeAction]:
        """The launched child ended. It is started again, but only so many times in a while.

        Args:
            reason: How; empty when it was ended for a reason given before.
            now: Nanoseconds.
        """
        was_ending, self._is_ending, self._has_child = self._is_ending, False, False
        if self.state is LifeState.DRAINING:
            return self._gone(now)
        if self.state in (LifeState.DISCOVERED, LifeState.GONE, LifeState.FAILED):
            return []
        if was_ending and self._starts_anew:
            self._starts_anew = False
            return [self._first()]
        if not self._launches:
            return []
        reason = reason or self.last_error
        actions = self._closing(reason)
        while self._restarts and self._restarts[0] <= now - self._limits.restart_window_ns:
            self._restarts.popleft()
        if len(self._restarts) >= self._limits.restarts_max:
            window_s = self._limits.restart_window_ns // SECOND_NS
            times = self._limits.restarts_max + 1
            return actions + self._fail(f"ended {times} times within {window_s} s: {reason}", now)
        self._restarts.append(now)
        return actions + self._redial_later(Launch(), reason, now)

    def refused(self, reason: str, now: int) -> list[LifeAction]:
        """Describe or Configure had an answer that trying again at once will not change."""
        if self.state not in (LifeState.CONNECTING, LifeState.DESCRIBED, LifeState.CONFIGURED):
            return []
        return [TellRefused(reason), *self._fail(reason, now)]

    def vanished(self, reason: str, now: int) -> list[LifeAction]:
        """What was discovered is there no more; `start` begins again."""
        if self.state is LifeState.DRAINING:
            return []
        self.last_error = reason
        if self.state is LifeState.GONE:
            return []
        return self._closing(reason) + self._gone(now)

    def changed(
        self, now: int, *, launches: bool, anew: bool, limits: LifeLimits | None = None
    ) -> list[LifeAction]:
        """The operator changed the configuration: it is reached again, with a fresh budget.

        Args:
            now: Nanoseconds.
            launches: Whether the core starts it from now on.
            anew: Whether a process that runs is of no use any more.
            limits: How patient it is from now on.
        """
        self._launches = launches
        self._limits = limits or self._limits
        self._fingerprint = None
        if self.state in (LifeState.DISCOVERED, LifeState.DRAINING, LifeState.GONE):
            return []
        actions = self._closing("its configuration was changed")
        self._attempts = 0
        self._restarts.clear()
        self._enter(LifeState.CONNECTING, now)
        if not self._has_child:
            return [*actions, self._first()]
        if not anew and launches and not self._is_ending:
            return [*actions, Dial()]
        self._starts_anew = True
        if self._is_ending:
            return actions
        self._is_ending = True
        return [*actions, EndChild(at_once=False)]

    def drain(self, now: int) -> list[LifeAction]:
        """Takes the connector out of use."""
        match self.state:
            case LifeState.READY | LifeState.DEGRADED:
                self._enter(LifeState.DRAINING, now)
                return [Drain()]
            case LifeState.DRAINING | LifeState.GONE:
                return []
            case _:
                return self._gone(now)

    def drained(self, now: int) -> list[LifeAction]:
        """The connector has finished."""
        return self._gone(now) if self.state is LifeState.DRAINING else []

    # Time.

    def tick(self, now: int) -> list[LifeAction]:
        """What is due by time."""
        if self._redial_at is not None and now >= self._redial_at:
            self._redial_at = None
            return self.start(now) if self.state is LifeState.FAILED else [self._redial]
        every, deadline = self._limits.ping_every_ns, self._ping_deadline
        if deadline is not None and now >= deadline:
            if now < deadline + every // 2 or self._ping_graces >= PING_GRACES_MAX:
                silence_s = self._limits.silence_max_ns / SECOND_NS
                reason = f"it hangs: no ping was answered for {silence_s:g} s"
                return self.unavailable(reason, now, hangs=True)
            # We stood still ourselves: an answer may wait behind this call.
            self._ping_graces += 1
            self._ping_deadline = now + every
        if self._ping_at is not None and now >= self._ping_at:
            self._ping_number, self._ping_graces = self._ping_number + 1, 0
            self._ping_at, self._ping_deadline = None, now + self._limits.silence_max_ns
            return [Ping(self._ping_number)]
        return []

    def next_due(self) -> int | None:
        """When to call `tick`; None = not before something happens."""
        moments = (self._redial_at, self._ping_at, self._ping_deadline)
        return min((moment for moment in moments if moment is not None), default=None)

    def _first(self) -> LifeAction:
        return Launch() if self._launches else Dial()

    def _closing(self, reason: str) -> list[LifeAction]:
        return [CloseStreams(reason)] if self.usable else []

    def _end_child(self, reason: str, now: int) -> None:
        self.last_error = reason
        self._is_ending = True
        self._enter(LifeState.CONNECTING, now)

    def _redial_later(self, action: LifeAction, reason: str, now: int) -> list[LifeAction]:
        self.last_error = reason
        self._enter(LifeState.CONNECTING, now)
        delay = min(BACKOFF_FIRST_NS << min(self._attempts, 16), BACKOFF_LAST_NS)
        self._attempts += 1
        # Half of the delay is random, so that many cores do not dial in step.
        self._redial_at = now + int(delay * (1 + self._jitter()) / 2)
        self._redial = action
        return []

    def _fail(self, reason: str, now: int) -> list[LifeAction]:
        self.last_error, self.has_failed = reason, True
        self._enter(LifeState.FAILED, now)
        self._redial_at = now + self._limits.cool_down_ns
        return [Close()]

    def _gone(self, now: int) -> list[LifeAction]:
        self._enter(LifeState.GONE, now)
        return [Close()]

    def _enter(self, state: LifeState, now: int) -> None:
        if state is not self.state:
            self.state, self.since = state, now
        self._redial_at = None
        if not self.usable:
            self._ping_at = self._ping_deadline = None
        if state in (LifeState.FAILED, LifeState.GONE):
            self._has_child = self._is_ending = self._starts_anew = False
