"""What waits to be sent on one stream, cut into batches. Pure: no clock, no await.

Sources put events in; batches, with the checkpoints that belong behind their last events, come out.
A position without events (`Passed`) goes into Progress, but never overtakes events of its listener.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from photinus.connector.v1 import event_pb2 as events

from photinus_sdk.connector import Events, Passed
from photinus_sdk.errors import Exhausted

BATCH_BYTES_TARGET = 2 << 20
EVENT_BYTES_MAX = (4 << 20) - (128 << 10)
BATCH_OVERHEAD_BYTES = 16


@dataclass(slots=True)
class _Run:
    """Events of one source that came together, and what was said behind the last of them.

    Kept together because a task of a few microseconds per event is what limits a busy stream.
    """

    listener_id: str
    events: list[events.Event]
    checkpoint: bytes | None = None
    fragment: bool = False
    passed: Passed | None = None
    updates_through: int = 0
    sent: int = 0
    sizes: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many are not in a batch yet."""
        return len(self.events) - self.sent

    def fitting(self, count_max: int, bytes_max: int, *, at_least_one: bool) -> tuple[int, int]:
        """How many of the next ones fit both limits, and their bytes."""
        total = 0
        for count, size in enumerate(self.sizes[self.sent : self.sent + count_max]):
            if total + size > bytes_max and (count or not at_least_one):
                return count, total
            total += size
        return min(count_max, self.left), total


@dataclass(slots=True)
class _Source:
    """How far a source is, beside its queued events.

    Attributes:
        checkpoint, final_block: To be told by Progress, once batch `behind_seq` is acked.
        behind_seq: Last batch with events in front of that position.
        last_seq: Last batch with events of the source.
        catching_up: Whether it says that it is behind.
    """

    checkpoint: bytes | None = None
    final_block: int | None = None
    behind_seq: int = 0
    last_seq: int = 0
    catching_up: bool = False


@dataclass(slots=True)
class Outgoing:
    """The queue between sources and window.

    Attributes:
        batch_size: Most events in a batch.
        window_bytes: Most bytes in a batch.
        changed: Whether there is something to report before the regular Progress.
    """

    batch_size: int
    window_bytes: int
    changed: bool = False
    _queue: deque[_Run] = field(default_factory=deque)
    _queued_events: int = 0
    _sources: defaultdict[str, _Source] = field(default_factory=lambda: defaultdict(_Source))
    _gap_possible: bool = False

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
        run = _Run(listener_id, [], item.checkpoint)
        if isinstance(item, Events):
            run.events, run.fragment = list(item.events), item.fragment
        for event in run.events:
            event.listener_id = listener_id
        if not run.events:
            run.passed = item if isinstance(item, Passed) else Passed(item.checkpoint)
        self._append(run, len(item.checkpoint or b"") + len(listener_id.encode()) + 16)
        self._settle()

    def put_own(self, event: events.Event, row: int = 0) -> None:
        """Takes an event without listener, with its row among the journal's updates (or 0)."""
        self._append(_Run("", [event], updates_through=row))

    def drop_listener(self, listener_id: str) -> None:
        """Forgets what was not sent of a listener."""
        self._queue = deque(run for run in self._queue if run.listener_id != listener_id)
        self._queued_events = sum(run.left for run in self._queue)
        self._sources.pop(listener_id, None)
        self._settle()

    def clear(self) -> None:
        """Forgets everything that was not sent."""
        self._queue.clear()
        self._queued_events = 0

    def cut(self, seq: int, batch: events.Batch) -> int:
        """Fills the next batch, numbered `seq`; the last row of updates in it, or 0."""
        batch.seq, updates_through = seq, 0
        room = self.batch_size
        left = min(self.window_bytes, BATCH_BYTES_TARGET) - BATCH_OVERHEAD_BYTES
        while self._queue and room:
            run = self._queue[0]
            # The first event of a batch goes in whatever its size.
            count, size = run.fitting(room, left, at_least_one=room == self.batch_size)
            if not count:
                break
            batch.events.extend(run.events[run.sent : run.sent + count])
            run.sent += count
            room, left = room - count, left - size
            self._queued_events -= count
            source = self._sources[run.listener_id]
            # Overtaken by these events: an earlier checkpoint would take the core back.
            source.last_seq, source.checkpoint = seq, None
            batch.fragment = bool(run.left) or run.fragment
            if run.left:
                break
            self._queue.popleft()
            updates_through = max(updates_through, run.updates_through)
            if run.checkpoint is not None:
                batch.checkpoints[run.listener_id] = run.checkpoint
            self._settle()
        return updates_through

    def progress(self, acked_seq: int) -> events.Progress:
        """Positions that pass no unacked event, and whether listeners are behind."""
        behind = any(source.catching_up for source in self._sources.values())
        progress = events.Progress(catching_up=behind, gap_possible=self._gap_possible)
        for listener_id, source in self._sources.items():
            if source.behind_seq > acked_seq:
                continue
            if source.checkpoint is not None:
                progress.checkpoints[listener_id] = source.checkpoint
                source.checkpoint = None
            if source.final_block is not None:
                progress.final_blocks[listener_id] = source.final_block
        self._gap_possible = self.changed = False
        return progress

    def _append(self, run: _Run, checkpoint_room: int = 0) -> None:
        # Upper bounds of the events' bytes in a batch.
        run.sizes = [event.ByteSize() + 8 + checkpoint_room for event in run.events]
        limit = min(self.window_bytes - BATCH_OVERHEAD_BYTES, EVENT_BYTES_MAX)
        for event, size in zip(run.events, run.sizes, strict=True):
            if size > limit:
                message = f"The event {event.id} has {size} bytes; the core takes {limit}"
                raise Exhausted(message, reason="EVENT_TOO_LARGE")
        self._queue.append(run)
        self._queued_events += run.left

    def _settle(self) -> None:
        """Notes positions that wait behind no event."""
        while self._queue and (passed := self._queue[0].passed) is not None:
            source = self._sources[self._queue.popleft().listener_id]
            if passed.checkpoint is not None:
                source.checkpoint = passed.checkpoint
            if passed.final_block is not None:
                source.final_block = passed.final_block
            source.behind_seq = source.last_seq
            self._gap_possible |= passed.gap_possible
            self.changed |= passed.gap_possible or passed.catching_up != source.catching_up
            source.catching_up = passed.catching_up
