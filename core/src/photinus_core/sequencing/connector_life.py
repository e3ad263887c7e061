"""The life of one connector instance: what to do next, and what an operator is told.

    DISCOVERED → CONNECTING → DESCRIBED → CONFIGURED → READY ⇄ DEGRADED → DRAINING → GONE
                     ↑______________ lost, redial ______________|          FAILED

The machine decides, a supervisor acts. Every attempt to reach the connector has a number; what is
reported of an older attempt changes nothing, so reports may come late and in any order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PING_INTERVAL_S: Final = 5.0
PING_TIMEOUT_S: Final = 2.0
PINGS_MISSED_MAX: Final = 2
REDIAL_FIRST_S: Final = 0.1
REDIAL_LAST_S: Final = 5.0
STABLE_S: Final = 30.0
"""A connection that held this long starts the redial delays over."""
REFUSED_RETRY_S: Final = 30.0
"""An attached connector that was refused may be replaced by its operator: look again."""
RESTARTS_MAX: Final = 5
RESTART_WINDOW_S: Final = 60.0


class LifeState(StrEnum):
    """Where an instance stands."""

    DISCOVERED = "discovered"
    CONNECTING = "connecting"
    DESCRIBED = "described"
    CONFIGURED = "configured"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"


SERVING: Final = frozenset({LifeState.READY, LifeState.DEGRADED})


class Health(StrEnum):
    """What a connector says of itself."""

    OK = "ok"
    DEGRADED = "degraded"
    """It expects to recover without help."""
    FAILED = "failed"
    """It needs a person."""
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Connect:
    """Reach the connector (launch it first when it is to be launched) and ask Describe.

    Report `described`, `refused` or `lost`. Wait before it for a time picked from the range.
    """

    attempt: int
    after_least_s: float
    after_most_s: float


@dataclass(frozen=True, slots=True)
class Configure:
    """Validate and configure it. Report `configured`, `refused` or `lost`."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Serve:
    """It is in use: tell it so, let calls through, ping it, watch its status.

    `changed` says that it is not the connector it was before: whatever was cached of it is void.
    """

    attempt: int
    changed: bool


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is over: end the calls in flight with this error and close it."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the connector why it is not used, then close the connection."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class EndChild:
    """End the launched process, if there is one."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Let calls in flight finish, ask the connector to drain if we launched it, close."""

    attempt: int


Action = Connect | Configure | Serve | HangUp | Refuse | EndChild | Drain


@dataclass(slots=True)
class ConnectorLife:
    """Decides for one instance. Times are seconds of a monotonic clock.

    Attributes:
        launched: Whether the core starts the process itself.
        state: Where it stands.
        since: When it came there.
        last_error: Why it is not ready, or was not the last time.
        restarts: How often it was reached anew after it had been in use or was launched again.
    """

    launched: bool
    state: LifeState = LifeState.DISCOVERED
    since: float = 0.0
    last_error: str = ""
    restarts: int = 0
    _attempt: int = 0
    _delay_s: float = REDIAL_FIRST_S
    _missed: int = 0
    _was_ready: bool = False
    _ready_at: float = 0.0
    _fingerprint: str = ""
    _changed: bool = False
    _launches: deque[float] = field(default_factory=deque)

    @property
    def shown(self) -> str:
        """The state in an operator's words."""
        match self.state:
            case LifeState.CONNECTING if self._was_ready or self.last_error:
                return "unreachable"
            case (
                LifeState.DISCOVERED
                | LifeState.CONNECTING
                | LifeState.DESCRIBED
                | LifeState.CONFIGURED
            ):
                return "starting"
            case LifeState.DRAINING | LifeState.GONE:
                return "stopping"
            case _:
                return self.state.value

    def start(self, now: float) -> list[Action]:
        """Begins."""
        return self._connect(now, 0.0)

    def described(self, attempt: int, fingerprint: str, now: float) -> list[Action]:
        """The connector said what it is; `fingerprint` differs when version or schema do."""
        if not self._current(attempt, LifeState.CONNECTING):
            return []
        self._changed = bool(self._fingerprint) and fingerprint != self._fingerprint
        self._fingerprint = fingerprint
        self._enter(LifeState.DESCRIBED, now)
        return [Configure(attempt)]

    def configured(self, attempt: int, now: float) -> list[Action]:
        """It took its configuration."""
        if not self._current(attempt, LifeState.DESCRIBED):
            return []
        self._enter(LifeState.CONFIGURED, now)
        self._enter(LifeState.READY, now)
        if self._was_ready:
            self.restarts += 1
        self._was_ready, self._ready_at, self._missed, self.last_error = True, now, 0, ""
        return [Serve(attempt, self._changed)]

    def refused(self, attempt: int, reason: str, now: float) -> list[Action]:
        """It cannot be used as it is: wrong kind, protocol, configuration or store.

        An attached one is looked at again after a while; a launched one is ended.
        """
        if not self._current(attempt, LifeState.CONNECTING, LifeState.DESCRIBED):
            return []
        self.last_error = reason
        self._enter(LifeState.FAILED, now)
        actions: list[Action] = [Refuse(attempt, reason)]
        if self.launched:
            return [*actions, EndChild()]
        self._attempt += 1
        return [*actions, Connect(self._attempt, REFUSED_RETRY_S, REFUSED_RETRY_S)]

    def dialling(self, attempt: int, now: float) -> bool:
        """The time to connect has come; False when this attempt is not wanted any more."""
        if attempt != self._attempt or self._over:
            return False
        if self.state is LifeState.FAILED:
            self._enter(LifeState.CONNECTING, now)
        return self.state is LifeState.CONNECTING

    def lost(self, attempt: int, reason: str, now: float) -> list[Action]:
        """The connection or the process is gone, or never came about."""
        if attempt != self._attempt or self._over or self.state is LifeState.FAILED:
            return []
        if self.state in SERVING and now - self._ready_at >= STABLE_S:
            self._delay_s = REDIAL_FIRST_S
        self.last_error = reason
        hang_up: list[Action] = [HangUp(attempt, reason)]
        if self.launched:
            hang_up.append(EndChild())
        delay_s = self._delay_s
        self._delay_s = min(2 * self._delay_s, REDIAL_LAST_S)
        return hang_up + self._connect(now, delay_s)

    def ponged(self, attempt: int) -> None:
        """A ping was answered."""
        if attempt == self._attempt:
            self._missed = 0

    def ping_missed(self, attempt: int, now: float) -> list[Action]:
        """A ping was not answered in time."""
        if attempt != self._attempt or self.state not in SERVING:
            return []
        self._missed += 1
        if self._missed < PINGS_MISSED_MAX:
            return []
        return self.lost(attempt, f"{self._missed} pings in a row were not answered", now)

    def reported(self, attempt: int, health: Health, reason: str, now: float) -> None:
        """The connector told how it is."""
        if attempt != self._attempt or self.state not in SERVING:
            return
        if health is Health.OK:
            self.last_error = ""
            self._enter(LifeState.READY, now)
        else:
            self.last_error = reason or f"the connector reports {health}"
            self._enter(LifeState.DEGRADED, now)

    def stop(self, now: float) -> list[Action]:
        """The core stops using it."""
        if self._over:
            return []
        attempt, self._attempt = self._attempt, self._attempt + 1
        self._enter(LifeState.DRAINING, now)
        return [Drain(attempt), EndChild()]

    def stopped(self, now: float) -> None:
        """Everything of it is ended."""
        self._enter(LifeState.GONE, now)

    @property
    def _over(self) -> bool:
        return self.state in {LifeState.DRAINING, LifeState.GONE}

    def _connect(self, now: float, delay_s: float) -> list[Action]:
        if self.launched and not self._may_launch(now):
            self._enter(LifeState.FAILED, now)
            self.last_error = (
                f"started {RESTARTS_MAX} times within {RESTART_WINDOW_S:.0f} s without success: "
                f"{self.last_error}"
            )
            return []
        self._attempt += 1
        self._enter(LifeState.CONNECTING, now)
        return [Connect(self._attempt, delay_s / 2, delay_s)]

    def _may_launch(self, now: float) -> bool:
        while self._launches and now - self._launches[0] > RESTART_WINDOW_S:
            self._launches.popleft()
        if len(self._launches) >= RESTARTS_MAX:
            return False
        self._launches.append(now)
        return True

    def _current(self, attempt: int, *states: LifeState) -> bool:
        return attempt == self._attempt and self.state in states

    def _enter(self, state: LifeState, now: float) -> None:
        if state is not self.state:
            self.state, self.since = state, now
