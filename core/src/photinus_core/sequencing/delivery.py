"""Delivery of one subscription over one connection: what to send, how far the offset may go.

Events are read from the log in order, filtered outside, and sent in order. Up to 1 +
`read_ahead` are out at a time, or one batch. Acks may come in any order; the offset is the
lowest event not acked − 1, and events that the filter left out move it too. A nack takes back
what is out from that event on: it is sent again, in order, after a growing delay. Delivery is at
least once: a new connection begins after the stored offset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

BATCH_EVENTS: Final = 50
"""Events of a batch where the subscription names no number."""
BATCH_EVENTS_MAX: Final = 1_000
"""Most events of a batch, whatever the subscription names: all of them are in memory at once."""
BATCH_TIMEOUT_NS: Final = 50_000_000
READ_EVENTS: Final = 200
"""Matching events kept ready to be sent, at least so many at most."""
READ_EVENTS_MAX: Final = 2 * BATCH_EVENTS_MAX
"""Most of them, whatever the window."""
NACK_FIRST_NS: Final = 100_000_000
NACK_LAST_NS: Final = 30_000_000_000

E = TypeVar("E")
"""Whatever an event is to the caller."""


@dataclass(frozen=True, slots=True)
class Send(Generic[E]):
    """Send these events to the client: one, or one batch.

    The client acks or nacks them by `number`.
    """

    number: int
    """Sequence of the first event."""
    events: tuple[tuple[int, E], ...]
    """With their sequences, in order."""


class Delivery(Generic[E]):
    """The cursor of a subscription while one connection has it.

    Args:
        offset: Stored offset: events up to it are done.
        read_ahead: Events that may be out besides the first; in batch mode the size of a batch.
        batch: Whether events go out in batches, one at a time.
        batch_timeout_ns: How long a batch waits to get full.
    """

    def __init__(
        self,
        offset: int,
        *,
        read_ahead: int = 0,
        batch: bool = False,
        batch_timeout_ns: int = BATCH_TIMEOUT_NS,
    ) -> None:
        self._batch_max = min(read_ahead or BATCH_EVENTS, BATCH_EVENTS_MAX) if batch else 1
        self._window = 1 if batch else 1 + read_ahead
        self._timeout = batch_timeout_ns if batch else 0
        wanted = min(2 * self._window * self._batch_max, READ_EVENTS_MAX)
        self._read_max = max(READ_EVENTS, wanted)
        self._offset = offset
        self._through = offset
        self._waiting: deque[tuple[int, E]] = deque()
        self._waiting_since = 0
        self._out: dict[int, Send[E]] = {}
        """Sent and not acked, by number, in order."""
        self._nacks = 0
        self._due = 0

    @property
    def read_position(self) -> int:
        """Sequence after which to read on."""
        return self._through

    @property
    def offset(self) -> int:
        """All events up to this sequence are done: the offset to store."""
        return self._offset

    @property
    def in_flight(self) -> int:
        """Number of sends that wait for an ack."""
        return len(self._out)

    def room(self) -> int:
        """How many more matching events may be read."""
        return max(0, self._read_max - len(self._waiting))

    def wants_more(self) -> bool:
        """Whether it is time to read: not for every event that is sent, but before a batch waits for it."""
        return 2 * self.room() >= self._read_max

    def read(self, events: Iterable[tuple[int, E]], through: int, now: int) -> None:
        """Takes a page of the log.

        Args:
            events: The ones that match, with their sequences, in order, all above `read_position`.
            through: Sequence of the last event that was looked at.
            now: Nanoseconds.
        """
        was_empty = not self._waiting
        self._waiting.extend(events)
        if was_empty:
            self._waiting_since = now
        self._through = max(self._through, through)
        self._move_offset()

    def next(self, now: int) -> list[Send[E]]:
        """What to send now, in order."""
        sends: list[Send[E]] = []
        if now < self._due:
            return sends
        while self._waiting and len(self._out) < self._window and self._batch_is_due(now):
            size = min(self._batch_max, len(self._waiting))
            taken = tuple(self._waiting.popleft() for _ in range(size))
            send = Send(taken[0][0], taken)
            self._waiting_since = now
            self._out[send.number] = send
            sends.append(send)
        return sends

    def shorten(self, send: Send[E], count: int) -> Send[E]:
        """Takes all but the first events out of a batch that was not sent yet: they come next."""
        kept = Send(send.number, send.events[:count])
        self._out[send.number] = kept
        self._waiting.extendleft(reversed(send.events[count:]))
        return kept

    def next_due(self) -> int | None:
        """When to call `next` if nothing happens before; None = no need."""
        if not self._waiting or len(self._out) >= self._window:
            return None
        full = len(self._waiting) >= self._batch_max
        return self._due if full else max(self._due, self._waiting_since + self._timeout)

    def ack(self, number: int) -> bool:
        """A client is done with what was sent under the number. Unknown numbers are ignored.

        Returns:
            Whether the offset moved, so that it should be stored.
        """
        if self._out.pop(number, None) is None:
            return False
        self._nacks = 0
        before = self._offset
        self._move_offset()
        return self._offset > before

    def nack(self, number: int, now: int) -> None:
        """A client refuses what was sent under the number. Unknown numbers are ignored.

        It and what was sent after it and not acked is sent again; acks for those are ignored until
        then.
        """
        if number not in self._out:
            return
        again = [send for send in self._out.values() if send.number >= number]
        for send in reversed(again):
            del self._out[send.number]
            self._waiting.extendleft(reversed(send.events))
        self._due = now + min(NACK_FIRST_NS << min(self._nacks, 16), NACK_LAST_NS)
        self._nacks += 1
        self._waiting_since = now

    def _batch_is_due(self, now: int) -> bool:
        return len(self._waiting) >= self._batch_max or now >= self._waiting_since + self._timeout

    def _move_offset(self) -> None:
        if self._out:
            lowest = next(iter(self._out))
        elif self._waiting:
            lowest = self._waiting[0][0]
        else:
            lowest = self._through + 1
        self._offset = max(self._offset, lowest - 1)
