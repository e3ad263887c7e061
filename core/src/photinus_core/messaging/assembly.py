"""The leader's batch manager.

Takes ready messages, and carries out what `sequencing.batching` decides.

State in memory is only what the database can give back: after a take-over open batches are resumed
in seal order, with the operations they were sealed with, and ready messages are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from photinus_core.messaging.cancelling import BatchCanceller
from photinus_core.messaging.dispatch import BatchDispatcher, Journey, PinWithdrawnError
from photinus_core.messaging.sealing import BatchSealer, SealedBatch
from photinus_core.messaging.sender import BatchLimits
from photinus_core.model.errors import Deposed, Rejected, Unavailable
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import OperationStatus, OperationType, TransactionType
from photinus_core.model.messages import BROADCAST_TYPES, Batch, BatchType
from photinus_core.ports import tracing
from photinus_core.ports.connectors import ConnectorFailure
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, Notification, Reader, ReadyMessage, WriteTransaction
from photinus_core.ports.tasks import Background, Wake, run_to_end
from photinus_core.sequencing.batching import (
    Action,
    AwaitChain,
    Batching,
    Finish,
    Prepare,
    ProcessorKey,
    Ready,
    Seal,
    SendPin,
    estimated_bytes,
)

logger = logging.getLogger(__name__)

OWN_KEPT_MAX: Final = 10_000
"""Most own batches of which it is remembered here that they are ours."""
READ_PAGE: Final = 1_000
"""Most ready messages read at once."""
POLL_S: Final = 5.0
"""Longest time without looking; a lost notification costs no more."""
CANCEL_WAIT_S: Final = 3.0
"""Longest time for which a cancellation waits for a step of its batch that is under way."""
STALE_EPOCH: Final = "STALE_EPOCH"
_S_NS: Final = 1_000_000_000

PINNED_BROADCAST: Final = "pinned_broadcast"
PINNED_PRIVATE: Final = "pinned_private"
UNPINNED_PRIVATE: Final = "unpinned_private"


@dataclass(slots=True)
class ProcessorStats:
    """What one processor has done, as `/status/batchmanager` shows it."""

    dispatcher: str
    name: str
    last_flush_start: Nanoseconds | None = None
    flushing: Uuid | None = None
    blocked: bool = False
    last_error: str = ""
    last_error_time: Nanoseconds | None = None
    batches: int = 0
    errors: int = 0
    total_bytes: int = 0
    total_messages: int = 0
    total_data: int = 0
    total_flush_ns: int = 0

    @property
    def average_bytes(self) -> int:
        """Mean size of a batch, by the estimate."""
        return self.total_bytes // self.batches if self.batches else 0

    @property
    def average_messages(self) -> float:
        """Mean number of messages in a batch."""
        return self.total_messages / self.batches if self.batches else 0.0

    @property
    def average_data(self) -> float:
        """Mean number of data items in a batch."""
        return self.total_data / self.batches if self.batches else 0.0

    @property
    def average_flush_ms(self) -> int:
        """Mean time from seal to finish, in milliseconds."""
        return self.total_flush_ns // self.batches // 1_000_000 if self.batches else 0


@dataclass(slots=True)
class _Under:
    """A batch under way, with the processor it belongs to and when its flush began."""

    journey: Journey
    processor: ProcessorKey
    since: float


class BatchManager:
    """Batches and sends the messages of one namespace, on its leader."""

    def __init__(
        self,
        scope: Scope,
        sealer: BatchSealer,
        dispatcher: BatchDispatcher,
        fence: Fence,
        limits: BatchLimits,
    ) -> None:
        self._store = scope.store
        self._namespace = scope.namespace
        self._clock = scope.clock
        self._sealer = sealer
        self._dispatcher = dispatcher
        self._fence = fence
        self._wake = Wake()
        self._after = 0
        self._pins_renewed = False
        self._under: dict[Uuid, _Under] = {}
        self._held: dict[Uuid, Wake] = {}
        """Batches that are to be cancelled; woken when what was out for them has ended."""
        self._canceller = BatchCanceller(scope, dispatcher, fence)
        self._stats: dict[ProcessorKey, ProcessorStats] = {}
        self._own: dict[Uuid, None] = {}
        self._machines = {
            True: Batching(
                messages_max=limits.broadcast_messages_max,
                bytes_max=limits.broadcast_bytes_max,
                in_flight_max=limits.in_flight_max,
                collect_max_ns=limits.broadcast_collect_max_ns,
            ),
            False: Batching(
                messages_max=limits.private_messages_max,
                bytes_max=limits.private_bytes_max,
                in_flight_max=limits.in_flight_max,
                collect_max_ns=limits.private_collect_max_ns,
            ),
        }

    async def run(self) -> None:
        """Works until cancelled.

        Raises:
            Deposed: this replica leads no more.
        """
        unsubscribe = self._store.subscribe(self._notified)
        try:
            async with Background(f"batches/{self._namespace}") as work:
                await self._resume_all()
                while True:
                    if self._pins_renewed:
                        self._pins_renewed = False
                        await self._resume_renewed()
                    await self._read_ready()
                    self._act(work)
                    if not await self._wake.wait(self._wait_s()):
                        self._after = 0
        finally:
            unsubscribe()

    def status(self) -> list[ProcessorStats]:
        """What the processors have done, by name."""
        busy = {key for machine in self._machines.values() for key in machine.status()}
        for machine in self._machines.values():
            for key, batches in machine.status().items():
                stats = self._stats_of(key)
                stats.flushing = Uuid(batches[0].id) if batches else None
                stats.blocked = bool(batches) and bool(batches[0].error)
        for key, stats in self._stats.items():
            if key not in busy:
                stats.flushing, stats.blocked = None, False
        return [self._stats[key] for key in sorted(self._stats)]

    async def renew_pins(self, tx: WriteTransaction) -> None:
        """Gives own batches that an ended contract never took new pin operations (hard case 7).

        The same batch, hash and nonces. For the transaction that ends the contract: nothing may
        come between the two.
        """
        now = self._clock.now()
        for batch in await _off_chain(tx):
            operations = [
                o
                for o in await tx.operations_of(batch.tx.id)
                if o.type is OperationType.BLOCKCHAIN_PIN_BATCH and o.retry is None
            ]
            fresh = [
                msgspec.structs.replace(
                    o,
                    id=new_uuid(),
                    status=OperationStatus.INITIALIZED,
                    created=now,
                    updated=now,
                    output="",
                    error="",
                )
                for o in operations[-1:]
            ]
            await tx.insert_operations(fresh)
            for old, new in zip(operations[-1:], fresh, strict=True):
                await tx.set_operation_retry(old.id, new.id)

    async def cancel(self, batch: Uuid) -> None:
        """Gives up a batch that cannot be sent; see `cancelling`.

        Raises:
            Rejected: FF10468, it is not failing, or its pin may have been sent.
            ConnectorFailure: the ledger's connector cannot say; the batch is tried on.
            Unavailable: the connector is away; likewise.
            Deposed: this replica leads no more.
        """
        under = self._under.get(batch)
        if under is None:
            raise Rejected("FF10468", batch, "the batch is not being sent")
        machine = self._machine_of(under)
        if reason := machine.hold(batch):
            raise Rejected("FF10468", batch, reason)
        ended = self._held[batch] = Wake()
        try:
            if machine.may_cancel(batch):
                await ended.wait(CANCEL_WAIT_S)
            if reason := machine.may_cancel(batch):
                raise Rejected("FF10468", batch, reason)
            if not await run_to_end(self._give_up(machine, batch)):
                raise Rejected("FF10468", batch, "its pin is on the chain")
        finally:
            del self._held[batch]
            machine.release(batch)
            self._wake.set()

    async def _give_up(self, machine: Batching, batch: Uuid) -> bool:
        journey = self._under[batch].journey
        if not await self._canceller.cancel(journey.sealed):
            # The key is marked, so it must not be sent, and need not be.
            journey.is_pinned = True
            return False
        logger.info("%s: batch %s was cancelled", self._namespace, batch)
        del self._under[batch]
        machine.cancelled(batch)
        return True

    def _machine_of(self, under: _Under) -> Batching:
        return self._machines[under.journey.sealed.wire.batch.type is BatchType.BROADCAST]

    def contract_changed(self) -> None:
        """The contract is another: renewed pins go there. Returns at once."""
        self._pins_renewed = True
        self._wake.set()

    def own(self, batches: Collection[Uuid]) -> set[Uuid]:
        """Which of some batches are ours, as far as this leadership has sent or found them."""
        return {batch for batch in batches if batch in self._own}

    def in_flight(self) -> int:
        """Batches between seal and finish."""
        return len(self._under)

    def is_under_way(self, transaction: Uuid) -> bool:
        """Whether a transaction is that of a batch that is being sent."""
        return any(
            under.journey.sealed.wire.batch.tx.id == transaction for under in self._under.values()
        )

    def decided(self, batches: Collection[Uuid]) -> None:
        """Agreement has decided these: messages that were collected meanwhile may go."""
        now = self._now()
        for machine in self._machines.values():
            machine.decided(batches, now)
        for batch in batches:
            self._own.pop(batch, None)
        self._wake.set()

    def _notified(self, notification: Notification) -> None:
        namespace, topic, _ = notification
        if namespace == self._namespace and topic == "messages":
            self._wake.set()

    async def _resume_all(self) -> None:
        async with self._store.read(self._namespace) as reader:
            batches = await reader.open_batches()
            off_chain = await _off_chain(reader)
        for batch in off_chain:
            self._remember(batch.id)
            if batch.dispatched:
                machine = self._machines[batch.type is BatchType.BROADCAST]
                machine.pinned_before(_processor_of(batch), batch.key)
                await self._resume_lost_pin(batch)
        awaited = {batch.id for batch in off_chain}
        for batch in batches:
            await self._resume(batch, prepared=False)
            if batch.tx.type is not TransactionType.UNPINNED and batch.id not in awaited:
                self._under[batch.id].journey.is_pinned = True

    async def _resume_renewed(self) -> None:
        async with self._store.read(self._namespace) as reader:
            off_chain = await _off_chain(reader)
        for batch in off_chain:
            if batch.id in self._under:
                # Also one whose pin had been found: it lies beyond the end.
                self._under[batch.id].journey.is_pinned = False
                await self._resume(batch, prepared=batch.dispatched)
            elif batch.dispatched:
                await self._resume_lost_pin(batch)

    async def _resume_lost_pin(self, batch: Batch) -> None:
        """Takes up a dispatched batch whose pin was replaced, by an operation never sent.

        The former leader ended between the two.
        """
        if Journey(await self._sealer.reload(batch)).lacks_pin:
            await self._resume(batch, prepared=True)

    async def _resume(self, batch: Batch, *, prepared: bool) -> None:
        sealed = await self._sealer.reload(batch)
        known = self._under.get(batch.id)
        if known is not None:
            known.journey.sealed = sealed
            return
        self._take_up(sealed, batch.payload_ref, prepared=prepared)

    def _take_up(self, sealed: SealedBatch, payload_ref: str, *, prepared: bool) -> None:
        batch = sealed.wire.batch
        processor = _processor_of(batch)
        self._remember(batch.id)
        self._under[batch.id] = _Under(
            Journey(sealed, payload_ref), processor, self._clock.monotonic_s()
        )
        machine = self._machines[batch.type is BatchType.BROADCAST]
        machine.resume(
            processor,
            batch.id,
            batch.tx.type,
            key=batch.key,
            prepared=prepared,
            # What was dispatched is taken up only to be pinned again.
            again=prepared,
        )

    async def _read_ready(self) -> None:
        while True:
            for machine in self._machines.values():
                machine.reading()
            async with self._store.read(self._namespace) as reader:
                page = await reader.ready_messages(self._after, READ_PAGE)
            broadcast = [_ready(m) for m in page if m.type in BROADCAST_TYPES]
            private = [_ready(m) for m in page if m.type not in BROADCAST_TYPES]
            self._machines[True].ready(broadcast)
            self._machines[False].ready(private)
            if page:
                self._after = page[-1].sequence
            if len(page) < READ_PAGE:
                return

    def _act(self, work: Background) -> None:
        now = self._now()
        for machine in self._machines.values():
            for action in machine.poll(now):
                work.start(_name(action), self._carry_out(machine, action))

    def _wait_s(self) -> float:
        due = [d for m in self._machines.values() if (d := m.next_due()) is not None]
        if not due:
            return POLL_S
        return min(POLL_S, max(0.0, (min(due) - self._now()) / _S_NS))

    def _now(self) -> int:
        return int(self._clock.monotonic_s() * _S_NS)

    async def _carry_out(self, machine: Batching, action: Action) -> None:
        try:
            match action:
                case Seal():
                    await self._seal(machine, action)
                case Prepare(batch=batch):
                    with tracing.tracer().span("send batch", batch=batch):
                        await self._dispatcher.prepare(self._under[Uuid(batch)].journey)
                    machine.prepared(batch)
                case AwaitChain(batch=batch):
                    await self._await_chain(machine, Uuid(batch))
                case SendPin(batch=batch):
                    with tracing.tracer().span("pin batch", batch=batch):
                        await self._send_pin(machine, Uuid(batch))
                case Finish(batch=batch):
                    await self._dispatcher.finish(self._under[Uuid(batch)].journey)
                    machine.finished(batch)
                    self._finished(Uuid(batch))
        except Deposed:
            raise
        except Exception as failure:
            if isinstance(failure, ConnectorFailure) and failure.reason == STALE_EPOCH:
                raise Deposed("FF19120", self._fence.role, self._fence.epoch) from failure
            await self._record(action, failure)
            self._failed(machine, action, failure)
        finally:
            self._wake.set()
            if not isinstance(action, Seal) and (held := self._held.get(Uuid(action.batch))):
                held.set()

    async def _send_pin(self, machine: Batching, batch: Uuid) -> None:
        try:
            await self._dispatcher.send_pin(self._under[batch].journey)
        except PinWithdrawnError:
            if await self._give_up(machine, batch):
                return
        machine.journaled(batch, self._now())

    async def _await_chain(self, machine: Batching, batch: Uuid) -> None:
        """Lets a batch's pin go once no earlier one by another key is under way to the chain."""
        under = self._under[batch]
        key = under.journey.sealed.wire.batch.key
        async with self._store.read(self._namespace) as reader:
            off_chain = await _off_chain(reader)
        ids = [other.id for other in off_chain]
        # One that is on chain itself has nothing to wait for.
        for other in off_chain[: ids.index(batch)] if batch in ids else ():
            if other.key != key and _processor_of(other) == under.processor:
                error = f"batch {other.id}, pinned by another key, is not on chain yet"
                machine.failed(batch, error, self._now())
                return
        machine.on_chain(batch)

    async def _seal(self, machine: Batching, action: Seal) -> None:
        since = self._clock.monotonic_s()
        sealed = await self._sealer.seal([Uuid(m) for m in action.messages], self._fence)
        tracing.tracer().batch(sealed.id, [m.header.id for m in sealed.wire.messages])
        self._remember(sealed.id)
        self._under[sealed.id] = _Under(Journey(sealed), action.processor, since)
        self._stats_of(action.processor).last_flush_start = self._clock.now()
        machine.sealed(action, sealed.id)

    def _remember(self, batch: Uuid) -> None:
        self._own[batch] = None
        while len(self._own) > OWN_KEPT_MAX:
            del self._own[next(iter(self._own))]

    def _failed(self, machine: Batching, action: Action, failure: Exception) -> None:
        error, now = _error(failure), self._now()
        if isinstance(action, Seal):
            processor = action.processor
            machine.seal_failed(action, error, now)
        else:
            processor = self._under[Uuid(action.batch)].processor
            machine.failed(action.batch, error, now)
        stats = self._stats_of(processor)
        stats.errors += 1
        stats.last_error, stats.last_error_time = error, self._clock.now()
        expected = isinstance(failure, ConnectorFailure) or hasattr(failure, "code")
        logger.warning(
            "%s failed: %s", _name(action), error, exc_info=None if expected else failure
        )

    async def _record(self, action: Action, failure: Exception) -> None:
        """Shows a failure with the operation it is about; that the database is away is no news."""
        if not isinstance(action, Prepare | SendPin):
            return
        under = self._under.get(Uuid(action.batch))
        if under is not None:
            with suppress(Unavailable):
                await self._dispatcher.record_failure(under.journey, _error(failure))

    def _finished(self, batch: Uuid) -> None:
        under = self._under.pop(batch)
        stats = self._stats_of(under.processor)
        wire = under.journey.sealed.wire
        stats.batches += 1
        stats.total_messages += len(wire.messages)
        stats.total_data += len(wire.data)
        stats.total_bytes += sum(d.value_size for d in wire.data)
        stats.total_flush_ns += int((self._clock.monotonic_s() - under.since) * _S_NS)
        if under.journey.lacks_pin:
            # The contract changed while its pin for the former one was under way.
            self._take_up(under.journey.sealed, under.journey.payload_ref, prepared=True)

    def _stats_of(self, key: ProcessorKey) -> ProcessorStats:
        stats = self._stats.get(key)
        if stats is None:
            name = f"{key.author}|{key.group or ''}"
            stats = self._stats[key] = ProcessorStats(key.dispatcher, name)
        return stats


async def _off_chain(reader: Reader) -> list[Batch]:
    """Own batches without a pin that counts."""
    row = await reader.namespace_row()
    ended = [c for c in row.contracts if c.final_position is not None] if row else []
    if not ended or ended[-1].final_position is None:
        return await reader.own_batches_off_chain()
    return await reader.own_batches_off_chain((ended[-1].index, *ended[-1].final_position))


def _error(failure: Exception) -> str:
    return str(failure) or type(failure).__name__


def _name(action: Action) -> str:
    if isinstance(action, Seal):
        return f"seal {action.messages[0]}"
    return f"{type(action).__name__.lower()} {action.batch}"


def _processor(
    is_broadcast: bool, txtype: TransactionType, author: str, group: str | None
) -> ProcessorKey:
    if is_broadcast:
        return ProcessorKey(PINNED_BROADCAST, author)
    dispatcher = UNPINNED_PRIVATE if txtype is TransactionType.UNPINNED else PINNED_PRIVATE
    return ProcessorKey(dispatcher, author, group or "")


def _processor_of(batch: Batch) -> ProcessorKey:
    return _processor(batch.type is BatchType.BROADCAST, batch.tx.type, batch.author, batch.group)


def _ready(message: ReadyMessage) -> Ready:
    return Ready(
        sequence=message.sequence,
        id=message.id,
        processor=_processor(
            message.type in BROADCAST_TYPES, message.txtype, message.author, message.group
        ),
        txtype=message.txtype,
        key=message.key,
        size=estimated_bytes(message.data_sizes),
    )
