"""Time, as a thing that tests can hold in their hands."""

from __future__ import annotations

import time
from typing import Protocol

from photinus_core.model.ids import Nanoseconds


class Clock(Protocol):
    """Where the core asks what time it is."""

    def now(self) -> Nanoseconds:
        """Wall-clock time in nanoseconds since the epoch.

        For records that people read, never for order.
        """
        ...

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back; for durations."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Nanoseconds:
        """Wall-clock time in nanoseconds since the epoch."""
        return Nanoseconds(time.time_ns())

    def monotonic_s(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()
