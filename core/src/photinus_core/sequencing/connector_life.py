"""The life cycle of one connector instance: dial, configure, ping, redial, restart, drain.

DISCOVERED → CONNECTING → DESCRIBED → CONFIGURED → READY ⇄ DEGRADED → DRAINING → GONE, and FAILED
where trying again is of no use (connector-protocol §5). Inputs carry the time; a supervisor acts
on what they return and calls `tick` at `next_due`. Only UNAVAILABLE, silence or a dead child
mean reconnecting; any other code is an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECOND_NS: Final = 1_000_000_000
PING_EVERY_NS: Final = 5 * SECOND_NS
PING_DEADLINE_NS: Final = 2 * SECOND_NS
PING_MISSES_MAX: Final = 2
BACKOFF_FIRST_NS: Final = SECOND_NS // 10
BACKOFF_LAST_NS: Final = 5 * SECOND_NS
RESTARTS_MAX: Final = 5
RESTART_WINDOW_NS: Final = 60 * SECOND_NS


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
    Launch | Dial | Configure | OpenStreams | CloseStreams | Ping | TellRefused | Drain | Close
)


class ConnectorLife:
    """One connector instance.

    Args:
        launches: Whether the core starts it; otherwise it attaches to an address.
        jitter: Gives numbers from 0 to 1 that spread redials.
    """

    def __init__(self, *, launches: bool, jitter: Callable[[], float]) -> None:
        self.state = LifeState.DISCOVERED
        self.since = 0
        self.last_error = ""
        self._launches = launches
        self._jitter = jitter
        self._fingerprint: str | None = None
        self._attempts = 0
        self._redial_at: int | None = None
        self._redial: LifeAction = Dial()
        self._ping_at: int | None = None
        self._ping_deadline: int | None = None
        self._ping_number = 0
        self._misses = 0
        self._restarts: deque[int] = deque()

    @property
    def usable(self) -> bool:
        """Whether calls may go out."""
        return self.state in (LifeState.READY, LifeState.DEGRADED)

    def start(self, now: int) -> list[LifeAction]:
        """Begins, or begins again after FAILED or GONE (the operator changed something)."""
        if self.state not in (LifeState.DISCOVERED, LifeState.FAILED, LifeState.GONE):
            return []
        self._attempts = 0
        self._restarts.clear()
        self._enter(LifeState.CONNECTING, now)
        return [Launch() if self._launches else Dial()]

    def launched(self) -> list[LifeAction]:
        """The child told its address."""
        return [Dial()] if self.state is LifeState.CONNECTING else []

    def described(self, fingerprint: str, now: int) -> list[LifeAction]:
        """Describe answered.

        Args:
            fingerprint: Stands for version and configuration schema.
            now: Nanoseconds.
        """
        if self.state is not LifeState.CONNECTING:
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
        self._attempts, self._misses, self.last_error = 0, 0, ""
        self._ping_at, self._ping_deadline = now + PING_EVERY_NS, None
        return []

    def status(self, *, serving: bool, reason: str, now: int) -> list[LifeAction]:
        """The connector says how it is (WatchStatus, or a ping's answer)."""
        if self.state is LifeState.READY and not serving:
            self.last_error = reason
            self._enter(LifeState.DEGRADED, now)
        elif self.state is LifeState.DEGRADED and serving:
            self.last_error = ""
            self._enter(LifeState.READY, now)
        return []

    def pong(self, number: int) -> list[LifeAction]:
        """A ping was answered in time; late answers are ignored."""
        if number == self._ping_number and self._ping_deadline is not None:
            self._misses, self._ping_deadline = 0, None
        return []

    def unavailable(self, reason: str, now: int) -> list[LifeAction]:
        """A call or stream ended with UNAVAILABLE: the connector is away."""
        match self.state:
            case LifeState.CONNECTING | LifeState.DESCRIBED | LifeState.CONFIGURED:
                return self._redial_later(Dial(), reason, now)
            case LifeState.READY | LifeState.DEGRADED:
                return [CloseStreams(reason), *self._redial_later(Dial(), reason, now)]
            case LifeState.DRAINING:
                return self._gone(now)
            case LifeState.DISCOVERED | LifeState.GONE | LifeState.FAILED:
                return []

    def child_exited(self, reason: str, now: int) -> list[LifeAction]:
        """The launched child ended. It is started again, but only so many times in a while."""
        if self.state is LifeState.DRAINING:
            return self._gone(now)
        if not self._launches or self.state in (
            LifeState.DISCOVERED,
            LifeState.GONE,
            LifeState.FAILED,
        ):
            return []
        actions: list[LifeAction] = [CloseStreams(reason)] if self.usable else []
        while self._restarts and self._restarts[0] <= now - RESTART_WINDOW_NS:
            self._restarts.popleft()
        if len(self._restarts) >= RESTARTS_MAX:
            return [
                *actions,
                *self._fail(f"ended {RESTARTS_MAX + 1} times within a minute: {reason}", now),
            ]
        self._restarts.append(now)
        return actions + self._redial_later(Launch(), reason, now)

    def refused(self, reason: str, now: int) -> list[LifeAction]:
        """Describe or Configure had an answer that trying again will not change."""
        if self.state not in (LifeState.CONNECTING, LifeState.DESCRIBED, LifeState.CONFIGURED):
            return []
        return [TellRefused(reason), *self._fail(reason, now)]

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

    def tick(self, now: int) -> list[LifeAction]:
        """What is due by time."""
        if self._redial_at is not None and now >= self._redial_at:
            self._redial_at = None
            return [self._redial]
        if self._ping_deadline is not None and now >= self._ping_deadline:
            self._ping_deadline = None
            self._misses += 1
            if self._misses >= PING_MISSES_MAX:
                return self.unavailable("does not answer pings", now)
        if self._ping_at is not None and now >= self._ping_at:
            self._ping_number += 1
            self._ping_at, self._ping_deadline = now + PING_EVERY_NS, now + PING_DEADLINE_NS
            return [Ping(self._ping_number)]
        return []

    def next_due(self) -> int | None:
        """When to call `tick`; None = not before something happens."""
        moments = (self._redial_at, self._ping_at, self._ping_deadline)
        return min((moment for moment in moments if moment is not None), default=None)

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
        self.last_error = reason
        self._enter(LifeState.FAILED, now)
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
