"""Batch assembly and dispatch: what goes into a batch, when it is cut, when its pin is sent.

A processor is what FireFly calls so: the messages of one author (private: and one group) through
one dispatcher. Processors do not wait for each other. Within one:

- An idle pipe cuts at once, a busy one collects, since each batch costs every member far more than
  a message in it: a batch is cut when all before it are journaled by the connector, the last of
  them is decided here, and three quarters as many messages wait as that one had (senders who
  waited for it come back together; the first of them would go alone, and all others wait for that
  one; the last are accepted while this one travels); or when `collect_max_ns` passed since the
  last step of it (a slow ledger holds nothing up for longer); or when it is full and fewer than
  `in_flight_max` batches are under way.
- Batches are prepared (blobs and payload sent) in parallel, but their pins go out in the order
  of sealing, the next one once the previous is journaled by the connector (hard case 8). The
  chain keeps the order of one key's transactions only, so the first pin by another key waits
  until what was pinned before it is on chain.
- What fails is tried again with growing delays, for ever; later pins of the processor wait.

The machine acts on nothing. `poll(now)` says what to do, each action once; the driver reports
the outcome.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil
from typing import Final, NamedTuple

BATCH_MESSAGES_MAX: Final = 200
BATCH_BYTES_MAX: Final = 800 * 1024
IN_FLIGHT_MAX: Final = 4
"""Batches of one processor under way at a time."""
COLLECT_MAX_NS: Final = 100_000_000
"""Longest time for which messages are collected after a batch was handed over, or was decided."""
COLLECT_SHARE: Final = 0.75
"""How much of the batch before is awaited once it is decided: all of it would let batches only grow."""

_BATCH_BYTES: Final = 512
_MESSAGE_BYTES: Final = 1024
_DATA_BYTES: Final = 256

RETRY_FIRST_NS: Final = 250_000_000
RETRY_FACTOR: Final = 2
RETRY_LAST_NS: Final = 30_000_000_000

CONTRACT_INVOKE_PIN: Final = "contract_invoke_pin"
UNPINNED: Final = "unpinned"


class ProcessorKey(NamedTuple):
    """One stream of batches."""

    dispatcher: str
    author: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that waits to be sent."""

    sequence: int
    id: str
    processor: ProcessorKey
    txtype: str
    key: str
    size: int
    """From `estimated_bytes`."""


def estimated_bytes(value_sizes: Iterable[int]) -> int:
    """What a message adds to its batch, by FireFly's estimate; blobs never count."""
    return _MESSAGE_BYTES + sum(_DATA_BYTES + size for size in value_sizes)


@dataclass(frozen=True, slots=True)
class Seal:
    """Seal a batch of these messages (ids in order) and report `sealed` or `seal_failed`."""

    processor: ProcessorKey
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Send blobs and payload of a batch and report `prepared` or `failed`."""

    batch: str


@dataclass(frozen=True, slots=True)
class AwaitChain:
    """Look whether earlier batches are on chain; report `on_chain`, or `failed` if not.

    Asked before the first pin by another key: earlier batches of the processor by other keys count.
    """

    batch: str


@dataclass(frozen=True, slots=True)
class SendPin:
    """Hand the pin to the connector, with the batch's own key; report `journaled` or `failed`.

    For a batch without pin: nothing is left to send, report `journaled`.
    """

    batch: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Record that the batch is dispatched, and report `finished` or `failed`."""

    batch: str


Action = Seal | Prepare | AwaitChain | SendPin | Finish


class Stage(Enum):
    """How far a sealed batch is."""

    SEALED = auto()
    PREPARED = auto()
    JOURNALED = auto()


@dataclass(slots=True)
class BatchStatus:
    """A batch under way, as `/status/batchmanager` shows it."""

    id: str
    txtype: str
    key: str
    messages: int = 0
    """How many it has; 0 when it was sealed before a restart."""
    stage: Stage = Stage.SEALED
    clear: bool = False
    """Nothing before it is off chain."""
    again: bool = False
    """Its pin went out once, in vain."""
    decided: bool = False
    """Agreement here has decided it: its pin is back from the chain."""
    busy: bool = False
    """An action for it is out."""
    held: bool = False
    """It is to be cancelled: no action begins."""
    attempts: int = 0
    """Failures in a row."""
    due: int = 0
    """When it may be tried again, in nanoseconds."""
    error: str = ""


class _Processor:
    __slots__ = (
        "in_flight",
        "seal_attempts",
        "seal_busy",
        "seal_due",
        "seal_error",
        "sealing",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting: list[Ready] = []
        self.in_flight: list[BatchStatus] = []
        self.sealing: list[Ready] = []
        """Messages that were cut; after a failure the same ones, in case it was none."""
        self.seal_busy = False
        """A seal is out."""
        self.seal_attempts = 0
        self.seal_due = 0
        self.seal_error = ""


class _Collecting(NamedTuple):
    """For how long a processor collects.

    Until a batch is decided (empty: it is) and enough messages wait, or until this moment.
    """

    batch: str
    enough: int
    until: int


class Batching:
    """Assembles and paces the batches of one namespace."""

    def __init__(
        self,
        *,
        messages_max: int = BATCH_MESSAGES_MAX,
        bytes_max: int = BATCH_BYTES_MAX,
        in_flight_max: int = IN_FLIGHT_MAX,
        collect_max_ns: int = COLLECT_MAX_NS,
    ) -> None:
        self._collect_max_ns = collect_max_ns
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._in_flight_max = in_flight_max
        self._processors: dict[ProcessorKey, _Processor] = {}
        self._known: set[str] = set()
        """Messages taken and not yet sealed."""
        self._sealed_meanwhile: set[str] = set()
        """Messages sealed since the reading of the last page began, which may have them still."""
        self._batches: dict[str, tuple[_Processor, ProcessorKey, BatchStatus]] = {}
        self._pinned_by: dict[ProcessorKey, str] = {}
        """Key of the last pin that was handed over, where one was."""
        self._collecting: dict[ProcessorKey, _Collecting] = {}
        """What processors wait for while they collect, by their last pinned batch."""
        self._active: dict[ProcessorKey, None] = {}
        """Processors in which something may be due."""

    # Inputs

    def reading(self) -> None:
        """A page of messages that wait to be sent is going to be read; `ready` takes it."""
        self._sealed_meanwhile.clear()

    def ready(self, messages: Iterable[Ready]) -> None:
        """Takes messages that wait to be sent; known ones are ignored, and those sealed since `reading`."""
        for message in messages:
            if message.id in self._known or message.id in self._sealed_meanwhile:
                continue
            self._known.add(message.id)
            processor = self._processors.setdefault(message.processor, _Processor())
            insort(processor.waiting, message, key=lambda ready: ready.sequence)
            self._active[message.processor] = None

    def pinned_before(self, processor: ProcessorKey, key: str) -> None:
        """At start: a pin by this key was handed over and is not on chain yet; in seal order."""
        self._pinned_by[processor] = key

    def resume(
        self,
        processor: ProcessorKey,
        batch: str,
        txtype: str,
        *,
        key: str = "",
        prepared: bool = False,
        again: bool = False,
    ) -> None:
        """Takes up a batch that was sealed before a restart; call in seal order.

        It is sent again, never rebuilt.

        Args:
            processor: Its stream.
            batch: Its id.
            txtype: Type of its transaction.
            key: The key that signs its pin.
            prepared: Payload and blobs are where receivers find them.
            again: Its pin went out once, in vain (hard case 7): it goes before those that wait for
                their first, which may wait for it.
        """
        stage = Stage.PREPARED if prepared else Stage.SEALED
        status = BatchStatus(batch, txtype, key, stage=stage, again=again)
        state = self._processors.setdefault(processor, _Processor())
        place = len(state.in_flight)
        if again:
            first = (s.stage is not Stage.JOURNALED and not s.again for s in state.in_flight)
            place = next((place for place, is_first in enumerate(first) if is_first), place)
        state.in_flight.insert(place, status)
        self._batches[batch] = (state, processor, status)
        self._active[processor] = None

    def sealed(self, seal: Seal, batch: str) -> None:
        """A batch was sealed for these messages."""
        state = self._processors[seal.processor]
        assert state.sealing, "nothing is being sealed"
        first, messages = state.sealing[0], len(state.sealing)
        status = BatchStatus(batch, first.txtype, first.key, messages)
        done = {ready.id for ready in state.sealing}
        self._known -= done
        self._sealed_meanwhile |= done
        state.sealing, state.seal_busy = [], False
        state.seal_attempts, state.seal_due, state.seal_error = 0, 0, ""
        state.in_flight.append(status)
        self._batches[batch] = (state, seal.processor, status)
        self._active[seal.processor] = None

    def seal_failed(self, seal: Seal, error: str, now: int) -> None:
        """Sealing failed, as far as can be told; the very same messages are tried again later."""
        state = self._processors[seal.processor]
        state.seal_busy = False
        state.seal_due = now + _delay(state.seal_attempts)
        state.seal_attempts += 1
        state.seal_error = error
        self._active[seal.processor] = None

    def prepared(self, batch: str) -> None:
        """Payload and blobs are where receivers find them."""
        self._progress(batch, Stage.PREPARED)

    def on_chain(self, batch: str) -> None:
        """All that was pinned before the batch is on chain."""
        self._batches[batch][2].clear = True
        self._progress(batch, Stage.PREPARED)

    def journaled(self, batch: str, now: int) -> None:
        """The connector holds the pin durably: it will reach the chain, and the next may follow.

        The next is collected from now on.
        """
        _, processor, status = self._batches[batch]
        if status.txtype != UNPINNED:
            self._pinned_by[processor] = status.key
            self._forget_collected(now)
            enough = ceil(COLLECT_SHARE * status.messages)
            self._collect(processor, "" if status.decided else batch, enough, now)
        self._progress(batch, Stage.JOURNALED)

    def decided(self, batches: Iterable[str], now: int) -> None:
        """Agreement decided these, own or others': who collects for one of them soon has enough."""
        done = set(batches)
        for batch in done & self._batches.keys():
            self._batches[batch][2].decided = True
        for key, waits in list(self._collecting.items()):
            if waits.batch in done:
                self._collect(key, "", waits.enough, now)
                if key in self._processors:
                    self._active[key] = None

    def failed(self, batch: str, error: str, now: int) -> None:
        """An action for the batch failed and had no effect, or one that its key makes repeatable."""
        _, processor, status = self._batches[batch]
        status.busy = False
        status.error = error
        status.due = now + _delay(status.attempts)
        status.attempts += 1
        self._active[processor] = None

    def finished(self, batch: str) -> None:
        """The batch is recorded as dispatched: it is out of the pipe."""
        self._remove(batch)

    def hold(self, batch: str) -> str:
        """Lets nothing more begin for a batch that is to be cancelled; later pins go on waiting.

        Ends with `cancelled` or `release`. What is out for it comes to its end.

        Returns:
            Why it cannot be cancelled; empty when it is held: it fails, and its pin was not handed
            over.
        """
        reason = self._not_failing(batch)
        if not reason:
            status = self._batches[batch][2]
            if status.held:
                return "the batch is being cancelled already"
            status.held = True
        return reason

    def may_cancel(self, batch: str) -> str:
        """Why a batch that is held cannot be cancelled now; empty if it can."""
        reason = self._not_failing(batch)
        if not reason and self._batches[batch][2].busy:
            return "the batch is being sent right now"
        return reason

    def release(self, batch: str) -> None:
        """A batch that was held is not cancelled: it goes on."""
        if batch in self._batches:
            _, processor, status = self._batches[batch]
            status.held = False
            self._active[processor] = None

    def cancelled(self, batch: str) -> None:
        """The batch's key is tombstoned and its gap fill stored: later pins go on."""
        self._remove(batch)

    def _not_failing(self, batch: str) -> str:
        if batch not in self._batches:
            return "the batch is not being sent"
        status = self._batches[batch][2]
        if not status.error or status.stage is Stage.JOURNALED:
            return "the batch is not failing"
        return ""

    # Decisions

    def poll(self, now: int) -> list[Action]:
        """What to do now; each action is out until its outcome is reported."""
        actions: list[Action] = []
        for key in list(self._active):
            state = self._processors[key]
            self._forget_past(key, state, now)
            later = self._poll_batches(key, state, now, actions)
            if (seal := self._cut(key, state)) is not None:
                actions.append(seal)
            elif self._opens(key, state):
                later = True
            if not later:
                del self._active[key]
            if not (state.waiting or state.in_flight or state.sealing):
                del self._processors[key]
        return actions

    def next_due(self) -> int | None:
        """When to poll again if nothing happens before, in nanoseconds; None = never."""
        due: list[int] = []
        for key in self._active:
            state = self._processors[key]
            due += _due_in_flight(state)
            if opens := self._opens(key, state):
                due.append(opens)
        return min(due, default=None)

    def status(self) -> dict[ProcessorKey, list[BatchStatus]]:
        """Batches under way by processor, in seal order."""
        return {key: list(state.in_flight) for key, state in self._processors.items()}

    def _poll_batches(
        self, key: ProcessorKey, state: _Processor, now: int, actions: list[Action]
    ) -> bool:
        """Adds what is due for batches under way; tells whether something becomes due by time."""
        later = False
        pins_may_go = True
        for status in state.in_flight:
            if not status.busy and not status.held:
                action: Action | None
                match status.stage:
                    case Stage.SEALED:
                        action = Prepare(status.id)
                    case Stage.PREPARED:
                        action = self._pin(key, status) if pins_may_go else None
                    case Stage.JOURNALED:
                        action = Finish(status.id)
                if action is not None and status.due > now:
                    later = True
                elif action is not None:
                    status.busy = True
                    actions.append(action)
            if status.stage is not Stage.JOURNALED:
                pins_may_go = False
        return later

    def _pin(self, processor: ProcessorKey, status: BatchStatus) -> Action:
        before = self._pinned_by.get(processor, status.key)
        if status.clear or before == status.key or status.txtype == UNPINNED:
            return SendPin(status.id)
        return AwaitChain(status.id)

    def _cut(self, key: ProcessorKey, state: _Processor) -> Seal | None:
        if state.seal_busy or state.seal_due:
            return None
        if state.sealing:
            return self._seal(key, state)
        if not state.waiting:
            return None
        if len(state.in_flight) >= self._in_flight_max:
            return None
        taken, full = self._assemble(state.waiting)
        if not full and any(status.stage is not Stage.JOURNALED for status in state.in_flight):
            return None
        collecting = self._collecting.get(key)
        if not full and collecting is not None:
            if collecting.batch or len(state.waiting) < collecting.enough:
                return None
            del self._collecting[key]
        state.sealing = state.waiting[:taken]
        del state.waiting[:taken]
        return self._seal(key, state)

    @staticmethod
    def _seal(key: ProcessorKey, state: _Processor) -> Seal:
        state.seal_busy = True
        return Seal(key, tuple(ready.id for ready in state.sealing))

    def _collect(self, processor: ProcessorKey, batch: str, enough: int, now: int) -> None:
        self._collecting[processor] = _Collecting(batch, enough, now + self._collect_max_ns)

    def _forget_collected(self, now: int) -> None:
        """Drops what nobody waits for any more, also of processors that are gone."""
        for key in [key for key, waits in self._collecting.items() if waits.until <= now]:
            del self._collecting[key]

    def _opens(self, key: ProcessorKey, state: _Processor) -> int:
        """Until when no batch is cut for the lack of time alone; 0 = nothing holds it up."""
        if state.seal_busy or not (state.sealing or state.waiting):
            return 0
        if state.sealing:
            return state.seal_due
        collecting = self._collecting.get(key)
        return max(state.seal_due, collecting.until if collecting else 0)

    def _forget_past(self, key: ProcessorKey, state: _Processor, now: int) -> None:
        """Clears moments that have come, so that nobody waits for them again."""
        if state.seal_due <= now:
            state.seal_due = 0
        collecting = self._collecting.get(key)
        if collecting is not None and collecting.until <= now:
            del self._collecting[key]

    def _assemble(self, waiting: list[Ready]) -> tuple[int, bool]:
        """How many messages from the front make a batch, and whether no later one could join."""
        first, size = waiting[0], _BATCH_BYTES
        for taken, ready in enumerate(waiting):
            alone = CONTRACT_INVOKE_PIN in (ready.txtype, first.txtype)
            other = (ready.txtype, ready.key) != (first.txtype, first.key)
            if taken and (alone or other or size + ready.size > self._bytes_max):
                return taken, True
            size += ready.size
            if taken + 1 == self._messages_max or size >= self._bytes_max:
                return taken + 1, True
        return len(waiting), first.txtype == CONTRACT_INVOKE_PIN

    def _progress(self, batch: str, stage: Stage) -> None:
        _, processor, status = self._batches[batch]
        status.stage = stage
        status.busy = False
        status.attempts, status.due, status.error = 0, 0, ""
        self._active[processor] = None

    def _remove(self, batch: str) -> None:
        state, processor, status = self._batches.pop(batch)
        state.in_flight.remove(status)
        self._active[processor] = None


def _due_in_flight(state: _Processor) -> Iterator[int]:
    """When failed batches may go on; not those whose pin has to wait for another one anyway."""
    pins_may_go = True
    for status in state.in_flight:
        waits = status.stage is Stage.PREPARED and not pins_may_go
        if status.due and not status.busy and not status.held and not waits:
            yield status.due
        if status.stage is not Stage.JOURNALED:
            pins_may_go = False


def _delay(attempts: int) -> int:
    # Bounded before it is raised: attempts grow for as long as a connector is away.
    delay: int = RETRY_FIRST_NS * RETRY_FACTOR ** min(attempts, 16)
    return min(delay, RETRY_LAST_NS)
