"""Leadership of one role on one replica: when its work runs, pauses, ends.

Inputs are what the ensemble and the database say, outputs what the replica must do, in order.
The epoch is the candidate's creation number in the ensemble; it counts once the database took it
(hard case 4). A leader that a newer epoch has fenced removes its candidacy before it stands
again, so that it cannot win with the number that was refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from photinus_core.model.ids import Epoch


class LeaderState(Enum):
    """Where the replica stands."""

    IDLE = auto()
    CAMPAIGNING = auto()
    FENCING = auto()
    """Elected; the database has not taken the epoch yet."""
    LEADING = auto()
    PAUSED = auto()
    """The connection to the ensemble is in doubt: leader work rests."""
    ENDING = auto()
    """Leader work is being stopped."""
    WITHDRAWING = auto()
    """The candidacy is being removed."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Stand for election; report `elected`."""


@dataclass(frozen=True, slots=True)
class RaiseEpoch:
    """Raise the role's epoch in the database; report `epoch_raised` or `epoch_refused`."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Begin:
    """Start leader work under the epoch."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Pause:
    """Let leader work rest, without losing what it holds in memory."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with leader work."""


@dataclass(frozen=True, slots=True)
class End:
    """Stop leader work and forget what it held; report `ended`."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Remove the candidacy from the ensemble; report `withdrawn`."""


LeaderAction = Campaign | RaiseEpoch | Begin | Pause | Resume | End | Withdraw


class Leadership:
    """One role of one replica."""

    def __init__(self) -> None:
        self.state = LeaderState.IDLE
        self.epoch: Epoch | None = None
        self._stopping = False
        self._connected = True
        self._session = True
        """Whether the session that holds the candidacy lives; without it there is nothing to
        withdraw.
        """

    def start(self) -> list[LeaderAction]:
        """Takes part in elections."""
        self._stopping = False
        if self.state is not LeaderState.IDLE:
            return []
        return self._campaign()

    def elected(self, epoch: Epoch) -> list[LeaderAction]:
        """The ensemble made this candidate the first."""
        if self.state is not LeaderState.CAMPAIGNING:
            return []
        self.state, self.epoch = LeaderState.FENCING, epoch
        return [RaiseEpoch(epoch)]

    def epoch_raised(self, epoch: Epoch) -> list[LeaderAction]:
        """The database took the epoch: older leaders cannot write any more."""
        if self.state is not LeaderState.FENCING or epoch != self.epoch:
            return []
        self.state = LeaderState.LEADING
        if self._connected:
            return [Begin(epoch)]
        self.state = LeaderState.PAUSED
        return [Begin(epoch), Pause()]

    def epoch_refused(self, epoch: Epoch) -> list[LeaderAction]:
        """The database has a newer epoch: this replica is no leader."""
        if self.state is not LeaderState.FENCING or epoch != self.epoch:
            return []
        return self._withdraw()

    def suspended(self) -> list[LeaderAction]:
        """The connection to the ensemble broke; the session may live on."""
        self._connected = False
        if self.state is not LeaderState.LEADING:
            return []
        self.state = LeaderState.PAUSED
        return [Pause()]

    def reconnected(self) -> list[LeaderAction]:
        """The connection is back and the session lived on."""
        self._connected = True
        if self.state is not LeaderState.PAUSED:
            return []
        self.state = LeaderState.LEADING
        return [Resume()]

    def session_lost(self) -> list[LeaderAction]:
        """The session ended, and the candidacy with it."""
        self._connected = True
        self._session = False
        match self.state:
            case LeaderState.LEADING | LeaderState.PAUSED:
                return self._end()
            case LeaderState.CAMPAIGNING | LeaderState.FENCING | LeaderState.WITHDRAWING:
                return self._after_withdrawal()
            case LeaderState.IDLE | LeaderState.ENDING:
                return []

    def deposed(self) -> list[LeaderAction]:
        """A leader transaction failed on its fence."""
        if self.state not in (LeaderState.LEADING, LeaderState.PAUSED):
            return []
        return self._end()

    def hand_over(self) -> list[LeaderAction]:
        """A replica that is preferred for the role waits, and all is calm."""
        if self.state is not LeaderState.LEADING:
            return []
        return self._end()

    def stop(self) -> list[LeaderAction]:
        """Hands over and takes no part any more (drain)."""
        self._stopping = True
        match self.state:
            case LeaderState.LEADING | LeaderState.PAUSED:
                return self._end()
            case LeaderState.CAMPAIGNING | LeaderState.FENCING:
                return self._withdraw()
            case LeaderState.IDLE | LeaderState.ENDING | LeaderState.WITHDRAWING:
                return []

    def ended(self) -> list[LeaderAction]:
        """Leader work has stopped."""
        if self.state is not LeaderState.ENDING:
            return []
        return self._withdraw() if self._session else self._after_withdrawal()

    def withdrawn(self) -> list[LeaderAction]:
        """The candidacy is gone."""
        if self.state is not LeaderState.WITHDRAWING:
            return []
        return self._after_withdrawal()

    def _campaign(self) -> list[LeaderAction]:
        self.state, self.epoch, self._session = LeaderState.CAMPAIGNING, None, True
        return [Campaign()]

    def _end(self) -> list[LeaderAction]:
        self.state = LeaderState.ENDING
        return [End()]

    def _withdraw(self) -> list[LeaderAction]:
        self.state = LeaderState.WITHDRAWING
        return [Withdraw()]

    def _after_withdrawal(self) -> list[LeaderAction]:
        if not self._stopping:
            return self._campaign()
        self.state, self.epoch = LeaderState.IDLE, None
        return []
