"""What waits to be sent on one stream, cut into batches. Pure: no clock, no await.

Sources put events in; batches, with the checkpoints that belong behind their last events, come out.
A position without events (`Passed`) goes into Progress, but never overtakes events of its listener.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from photinus.connector.v1 import event_pb2 as events

from photinus_sdk.connector import Events, Passed
from photinus_sdk.errors import Exhausted

BATCH_BYTES_TARGET = 2 << 20
EVENT_BYTES_MAX = (4 << 20) - (128 << 10)
BATCH_OVERHEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event, or what its source said when it had none."""

    listener_id: str
    found: events.Event | Passed
    size: int = 0
    checkpoint: bytes | None = None
    more: bool = False
    updates_through: int = 0


@dataclass(slots=True)
class _Position:
    checkpoint: bytes | None = None
    final_block: int | None = None
    behind_seq: int = 0


@dataclass(slots=True)
class Outgoing:
    """The queue between sources and window.

    Args:
        batch_size: Most events in a batch.
        window_bytes: Most bytes in a batch.
    """

    batch_size: int
    window_bytes: int
    _queue: deque[_Entry] = field(default_factory=deque)
    _queued_events: int = 0
    _positions: dict[str, _Position] = field(default_factory=dict)
    _last_seq: dict[str, int] = field(default_factory=dict)
    _catching_up: dict[str, bool] = field(default_factory=dict)
    _gap_possible: bool = False
    _changed: bool = False

    def __len__(self) -> int:
        return self._queued_events

    @property
    def full(self) -> bool:
        """Whether sources should wait."""
        return self._queued_events >= 2 * self.batch_size

    @property
    def has_batch(self) -> bool:
        """Whether a complete batch is there."""
        return self._queued_events >= self.batch_size

    def put(self, listener_id: str, item: Events | Passed) -> None:
        """Takes what a source yielded. Raises Exhausted for an event that no window can hold."""
        match item:
            case Passed():
                self._queue.append(_Entry(listener_id, item))
                self._settle()
            case Events():
                found = list(item.events)
                if not found:
                    self.put(listener_id, Passed(item.checkpoint))
                    return
                for event in found:
                    event.listener_id = listener_id
                room = len(item.checkpoint or b"") + len(listener_id.encode()) + 16
                sizes = [self._checked_size(event, room) for event in found]
                last = len(found) - 1
                for index, (event, size) in enumerate(zip(found, sizes, strict=True)):
                    self._append(
                        _Entry(
                            listener_id,
                            event,
                            size,
                            item.checkpoint if index == last else None,
                            more=index < last or item.fragment,
                        )
                    )

    def put_own(self, found: Iterable[tuple[events.Event, int]]) -> None:
        """Takes events without listener, each with its row among the journal's updates (or 0)."""
        for event, row in found:
            self._append(_Entry("", event, self._checked_size(event), updates_through=row))

    def drop_listener(self, listener_id: str) -> None:
        """Forgets what was not sent of a listener."""
        self._queue = deque(entry for entry in self._queue if entry.listener_id != listener_id)
        self._queued_events = sum(not isinstance(entry.found, Passed) for entry in self._queue)
        for known in (self._positions, self._last_seq, self._catching_up):
            known.pop(listener_id, None)

    def clear(self) -> None:
        """Forgets everything that was not sent."""
        self._queue.clear()
        self._queued_events = 0

    def cut(self, seq: int) -> tuple[events.Batch, int] | None:
        """The next batch, numbered `seq`, with the last row of updates in it; None when empty."""
        if not self._queued_events:
            return None
        batch, updates_through, more = events.Batch(seq=seq), 0, False
        limit = min(self.window_bytes, BATCH_BYTES_TARGET)
        size = BATCH_OVERHEAD_BYTES
        while self._queue and len(batch.events) < self.batch_size:
            entry = self._queue[0]
            if isinstance(entry.found, Passed):
                self._queue.popleft()
                self._take_position(entry.listener_id, entry.found)
                continue
            if batch.events and size + entry.size > limit:
                break
            self._queue.popleft()
            self._queued_events -= 1
            batch.events.append(entry.found)
            size += entry.size
            more = entry.more
            self._last_seq[entry.listener_id] = seq
            updates_through = max(updates_through, entry.updates_through)
            if entry.checkpoint is not None:
                batch.checkpoints[entry.listener_id] = entry.checkpoint
            if entry.listener_id in self._positions:
                # Overtaken by this event: its checkpoint would take the core back.
                self._positions[entry.listener_id].checkpoint = None
        batch.fragment = more
        return batch, updates_through

    @property
    def progress_due(self) -> bool:
        """Whether there is something to report before the regular Progress."""
        return self._changed

    def progress(self, acked_seq: int) -> events.Progress:
        """Positions that pass no unacked event, and whether listeners are behind."""
        self._settle()
        progress = events.Progress(
            catching_up=any(self._catching_up.values()), gap_possible=self._gap_possible
        )
        for listener_id, position in self._positions.items():
            if position.behind_seq > acked_seq:
                continue
            if position.checkpoint is not None:
                progress.checkpoints[listener_id] = position.checkpoint
                position.checkpoint = None
            if position.final_block is not None:
                progress.final_blocks[listener_id] = position.final_block
        self._gap_possible = self._changed = False
        return progress

    def _append(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self._queued_events += 1

    def _checked_size(self, event: events.Event, checkpoint_room: int = 0) -> int:
        size = event.ByteSize() + 8 + checkpoint_room
        if size > min(self.window_bytes - BATCH_OVERHEAD_BYTES, EVENT_BYTES_MAX):
            raise Exhausted(
                f"The event {event.id} has {size} bytes; the core takes"
                f" {min(self.window_bytes, EVENT_BYTES_MAX)}",
                reason="EVENT_TOO_LARGE",
            )
        return size

    def _settle(self) -> None:
        """Notes positions that wait behind no event."""
        while self._queue and isinstance(passed := self._queue[0].found, Passed):
            self._take_position(self._queue.popleft().listener_id, passed)

    def _take_position(self, listener_id: str, passed: Passed) -> None:
        position = self._positions.setdefault(listener_id, _Position())
        if passed.checkpoint is not None:
            position.checkpoint = passed.checkpoint
        if passed.final_block is not None:
            position.final_block = passed.final_block
        position.behind_seq = self._last_seq.get(listener_id, 0)
        if passed.catching_up != self._catching_up.get(listener_id, False):
            self._changed = True
        self._catching_up[listener_id] = passed.catching_up
        if passed.gap_possible:
            self._gap_possible = self._changed = True
