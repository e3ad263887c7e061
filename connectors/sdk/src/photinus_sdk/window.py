"""Which batch may be sent next: numbering, window, acks, nacks. Pure: no clock, no await.

Checks of the protocol kept here: EVT-002 (numbers without gaps, sent again in order), EVT-004
(cumulative acks), EVT-005 (never more than the window unacked, in batches and in bytes).
"""

from collections import deque
from dataclasses import dataclass, field

from photinus.connector.v1 import event_pb2 as events

from photinus_sdk.errors import Rejected


@dataclass(frozen=True, slots=True)
class SentBatch:
    """A batch that waits to be acked.

    Attributes:
        batch: As it was sent.
        size: Its bytes on the wire.
        updates_through: Last row of the journal's updates in it; 0 for none.
    """

    batch: events.Batch
    size: int
    updates_through: int = 0


@dataclass(slots=True)
class Window:
    """The unacked batches of one stream.

    Attributes:
        batches_max: Window in batches.
        bytes_max: Window in bytes.
        last_seq: Number of the last batch that was added.
        acked_seq: Number up to which all is acked.
    """

    batches_max: int
    bytes_max: int
    last_seq: int = 0
    acked_seq: int = 0
    _unacked: deque[SentBatch] = field(default_factory=deque)
    _bytes: int = 0
    _again: deque[SentBatch] = field(default_factory=deque)

    @property
    def empty(self) -> bool:
        """Whether everything sent is acked."""
        return not self._unacked

    def has_room(self, size: int) -> bool:
        """Whether a new batch of `size` bytes may be sent now."""
        fits = len(self._unacked) < self.batches_max and self._bytes + size <= self.bytes_max
        return fits and not self._again

    def add(self, sent: SentBatch) -> None:
        """Counts a new batch as sent; its number must be `last_seq + 1`, and there must be room."""
        assert sent.batch.seq == self.last_seq + 1
        assert self.has_room(sent.size)
        self.last_seq = sent.batch.seq
        self._unacked.append(sent)
        self._bytes += sent.size

    def check_sent(self, seq: int) -> None:
        """Refuses an ack or nack of what was never sent."""
        if seq > self.last_seq:
            message = f"Batch {seq} is answered, but only {self.last_seq} were sent"
            raise Rejected(message, reason="BEYOND_SENT")

    def unacked(self, through: int) -> list[SentBatch]:
        """Batches up to `through` that were not acked before, oldest first."""
        return [sent for sent in self._unacked if sent.batch.seq <= through]

    def ack(self, through: int) -> None:
        """Forgets batches up to `through`; their room is free."""
        self.check_sent(through)
        while self._unacked and self._unacked[0].batch.seq <= through:
            self._bytes -= self._unacked.popleft().size
        while self._again and self._again[0].batch.seq <= through:
            self._again.popleft()
        self.acked_seq = max(self.acked_seq, through)

    def nack(self, seq: int) -> None:
        """From `seq` on everything is to be sent again, in order, before anything new."""
        self.check_sent(seq)
        self._again = deque(sent for sent in self._unacked if sent.batch.seq >= seq)

    def next_again(self) -> events.Batch | None:
        """The next batch to send again, None when there is none."""
        return self._again.popleft().batch if self._again else None
