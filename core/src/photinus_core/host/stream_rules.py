"""What a connector may send on an event stream, checked frame by frame. Pure: no clock, no await.

A connector that breaks a rule loses its stream, not the core: the client closes it, says which rule
of event.proto was broken, and opens a new one later.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class BrokenRuleError(Exception):
    """The connector broke a rule of the protocol; the text names it."""


@dataclass(slots=True)
class StreamRules:
    """The state of one stream, as far as the rules need it.

    Attributes:
        window_batches: Most batches unacked; what was asked, then what Opened said.
        window_bytes: Most bytes unacked, likewise.
        batch_size: Most events in a batch, likewise.
        listeners: Ids of all listeners there ever were on the stream.
    """

    window_batches: int
    window_bytes: int
    batch_size: int
    listeners: set[str]
    is_open: bool = False
    last_seq: int = 0
    _highest: int = 0
    _again_from: int | None = None
    _unacked: dict[int, int] = field(default_factory=dict)

    def opened(self, window_batches: int, window_bytes: int, batch_size: int) -> None:
        """Opened arrived; the effective limits may not be above what was asked."""
        if self.is_open:
            raise BrokenRuleError("EVT-001: a second Opened")
        if not (
            0 < window_batches <= self.window_batches
            and 0 < window_bytes <= self.window_bytes
            and 0 < batch_size <= self.batch_size
        ):
            raise BrokenRuleError(
                f"EVT-005: Opened with a window of {window_batches} batches, {window_bytes} bytes,"
                f" {batch_size} events a batch, more than asked or none"
            )
        self.is_open = True
        self.window_batches, self.window_bytes = window_batches, window_bytes
        self.batch_size = batch_size

    def other(self, kind: str | None) -> None:
        """Any other frame arrived."""
        if kind is None:
            raise BrokenRuleError("a frame that says nothing")
        if not self.is_open:
            raise BrokenRuleError(f"EVT-001: {kind} before Opened")

    def named(self, listener: str) -> None:
        """Something names a listener."""
        if listener and listener not in self.listeners:
            raise BrokenRuleError(f"there is no listener {listener[:100]!r}")

    def batch(self, seq: int, size: int, events: int) -> bool:
        """A batch arrived; False when it was under way before a nack and comes again.

        Args:
            seq: Its number.
            size: Its bytes on the wire.
            events: How many events it has.
        """
        self.other("batch")
        if events > self.batch_size:
            raise BrokenRuleError(f"batch {seq} has {events} events, {self.batch_size} were asked")
        if self._again_from is not None and self._again_from < seq <= self._highest + 1:
            self._hold(seq, size)
            return False
        if seq != self.last_seq + 1:
            raise BrokenRuleError(f"EVT-002: batch {seq} after batch {self.last_seq}")
        self._again_from = None
        self._hold(seq, size)
        self.last_seq = seq
        return True

    def acked(self, through: int) -> None:
        """We acked everything up to a batch."""
        for seq in [seq for seq in self._unacked if seq <= through]:
            del self._unacked[seq]

    def nacked(self, seq: int) -> None:
        """We asked for a batch, and all behind it, again."""
        self._again_from = seq
        self.last_seq = seq - 1

    def _hold(self, seq: int, size: int) -> None:
        self._unacked[seq] = size
        self._highest = max(self._highest, seq)
        held, total = len(self._unacked), sum(self._unacked.values())
        if held > self.window_batches or total > self.window_bytes:
            raise BrokenRuleError(
                f"EVT-005: {held} batches with {total} bytes unacked, the window is"
                f" {self.window_batches} batches and {self.window_bytes} bytes"
            )
