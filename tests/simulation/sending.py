"""Drives batch assembly as `photinus_core.messaging.assembly` does, over the simulated database."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from photinus_core.sequencing.batching import (
    Action,
    AwaitChain,
    Finish,
    Prepare,
    ProcessorKey,
    Ready,
    Seal,
    SendPin,
    estimated_bytes,
)
from photinus_core.sequencing.nonces import Pinned, nonce_keys, seal_pins

from tests.simulation.connectors import TakenError, WithdrawnError
from tests.simulation.content import Body, SimBatch, SimMessage
from tests.simulation.database import OwnBatch, Rows
from tests.simulation.process import Step, TroubleError, Wake

if TYPE_CHECKING:
    from tests.simulation.leader import Leader


CANCEL_RATE: Final = 0.1
"""How often somebody gives up a private batch that has just failed."""
LOOK_AGAIN_RATE: Final = 0.1
"""How often all waiting messages are read again, known ones too."""


@dataclass
class _Journey:
    """A batch on its way, as this leader knows it."""

    own: OwnBatch
    operations: list[str]
    handed_over: set[str] = field(default_factory=set)
    is_pinned: bool = False


class Sending:
    """The batches of one leader."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.clock = leader.clock
        self.holes = leader.member.holes
        self.wake = Wake()
        tuning = leader.member.tuning
        self.batching = self.holes.batching(
            messages_max=tuning.batch_messages_max, collect_max_ns=tuning.collect_max_ns
        )
        self._under: dict[str, _Journey] = {}
        self._pins_were_renewed = False
        self._after = 0
        self._timer = 0

    def run(self) -> Step:
        yield from self.leader.moment()
        rows = self.leader.rows
        for own in rows.own_batches_off_chain():
            if own.dispatched:
                self.batching.pinned_before(own.processor, own.signer)
                self._resume_lost_pin(own)
        for own in rows.own.values():
            if not own.dispatched:
                self._resume(own).is_pinned = rows.is_pinned(own)
        while True:
            if self._pins_were_renewed:
                self._pins_were_renewed = False
                yield from self.leader.moment()
                self._resume_renewed()
            yield from self._read_ready()
            for action in self.batching.poll(self.clock.now):
                self.leader.spawn(self._carry_out(action))
            self._wait_until(self.batching.next_due())
            yield self.wake

    def _read_ready(self) -> Step:
        rows = self.leader.rows
        if self.clock.rng.random() < LOOK_AGAIN_RATE:
            self._after = 0
        self.batching.reading()
        page = [(n, rows.messages[m]) for m, n in rows.outbox.items() if n > self._after]
        # What is sealed from here on is in the page all the same.
        yield from self.leader.moment()
        self.batching.ready(_ready(number, message) for number, message in page)
        self._after = max([self._after, *(number for number, _ in page)])

    def _wait_until(self, due: int | None) -> None:
        if due is not None and not self.clock.now < self._timer <= due:
            self._timer = due
            self.clock.at(due, self.wake.set)

    def decided(self, batches: Collection[str]) -> None:
        """Agreement has decided these."""
        self.batching.decided(batches, self.clock.now)
        self.wake.set()

    def contract_changed(self) -> Step:
        """A contract ended, and with it what was pinned there in vain got new operations."""
        if self.holes.renews_pins_apart:
            yield from self.leader.write(renew_pins)
        self._pins_were_renewed = True
        self.wake.set()

    def _resume_renewed(self) -> None:
        for own in self.leader.rows.own_batches_off_chain():
            journey = self._under.get(own.batch.id)
            if journey is not None:
                # Also one whose pin had been found: it lies beyond the end.
                journey.operations, journey.is_pinned = list(own.operations), False
            elif own.dispatched:
                self._resume_lost_pin(own)

    def _resume_lost_pin(self, own: OwnBatch) -> None:
        """Takes up a dispatched batch whose pin operation was replaced and not sent."""
        if own.operations[-1] not in own.handed_over:
            self._resume(own, again=True)

    def _resume(self, own: OwnBatch, *, again: bool = False) -> _Journey:
        if self.holes.makes_keys_anew:
            own.operations[-1] += "'"
        journey = self._under[own.batch.id] = _Journey(own, list(own.operations))
        self.batching.resume(
            own.processor,
            own.batch.id,
            "batch_pin",
            key=own.signer,
            prepared=own.dispatched,
            again=again,
        )
        return journey

    def _carry_out(self, action: Action) -> Step:
        batching = self.batching
        try:
            match action:
                case Seal():
                    own = yield from self._seal(action)
                    self._under[own.batch.id] = _Journey(own, list(own.operations))
                    batching.sealed(action, own.batch.id)
                case Prepare(batch):
                    yield from self._prepare(self._under[batch])
                    batching.prepared(batch)
                case AwaitChain(batch):
                    yield from self._await_chain(self._under[batch].own)
                case SendPin(batch):
                    try:
                        yield from self._send_pin(self._under[batch])
                    except WithdrawnError:
                        # Its cancellation began, and a crash kept it from its end.
                        if not (yield from self._give_up(batch)):
                            batching.journaled(batch, self.clock.now)
                    else:
                        batching.journaled(batch, self.clock.now)
                case Finish(batch):
                    yield from self._finish(self._under[batch])
                    batching.finished(batch)
                    self._finished(self._under.pop(batch))
        except TroubleError:
            if isinstance(action, Seal):
                batching.seal_failed(action, "no answer", self.clock.now)
            else:
                batching.failed(action.batch, "no answer", self.clock.now)
                is_private = self._under[action.batch].own.batch.group is not None
                if is_private and self.clock.rng.random() < CANCEL_RATE:
                    self.leader.spawn(self._cancel(action.batch))
        self.wake.set()

    def _cancel(self, batch: str) -> Step:
        """An operator gives a batch up, if that is still possible."""
        yield from self.leader.moment()
        if self.batching.hold(batch):
            return
        try:
            if not self.batching.may_cancel(batch):
                yield from self._give_up(batch)
        except (TroubleError, TakenError):
            pass
        self.batching.release(batch)
        self.wake.set()

    def _give_up(self, batch: str) -> Step:
        member, epoch, journey = self.leader.member, self.leader.epoch, self._under[batch]
        for key in journey.own.operations:
            yield from self.leader.call(partial(member.connectors.withdraw, epoch, key))
        if not (yield from self.leader.write(partial(_fill_gap, journey.own, member.new_id))):
            journey.is_pinned = True
            return False
        del self._under[batch]
        self.batching.cancelled(batch)
        return True

    def _seal(self, seal: Seal) -> Step:
        rows = self.leader.rows
        messages = tuple(rows.messages[m] for m in seal.messages)
        pinned = [
            Pinned(m.topics, m.group, m.author, rows.gap_pins.get(m.id, ())) for m in messages
        ]
        stored = {key: rows.nonces[key] for key in nonce_keys(pinned) if key in rows.nonces}
        sealed = seal_pins(pinned, stored)
        name = self.leader.member.new_id()
        batch = SimBatch(f"batch-{name}", messages, messages[0].group)
        own = OwnBatch(batch, seal.processor, messages[0].key, sealed.contexts, [f"{batch.id}:0"])

        def write(rows: Rows) -> OwnBatch:
            before = {rows.sealed.get(message.id) for message in messages}
            if before != {None} and not self.holes.seals_again:
                # An earlier try was committed though its answer was lost.
                assert len(before) == 1, "a message is to be sealed twice"
                return rows.own[rows.sealed[messages[0].id]]
            rows.nonces.update(sealed.nonces)
            for message in messages:
                rows.outbox.pop(message.id, None)
                rows.sealed[message.id] = batch.id
            rows.own[batch.id] = own
            rows.batches[batch.key] = batch
            rows.blobs.update(m.body.blob for m in batch.messages)
            return own

        return (yield from self.leader.write(write))

    def _prepare(self, journey: _Journey) -> Step:
        member, epoch, batch = self.leader.member, self.leader.epoch, journey.own.batch
        yield 0.5
        if self.clock.lost():
            raise TroubleError
        if batch.group is None:
            yield from self.leader.call(lambda: member.connectors.upload(epoch, batch))
            return
        for did in self.leader.rows.groups[batch.group]:
            if did != member.did:
                send = partial(
                    member.connectors.send, epoch, f"{batch.id}>{did}", member.peers[did], batch
                )
                yield from self.leader.call(send)

    def _await_chain(self, own: OwnBatch) -> Step:
        yield from self.leader.moment()
        off_chain = self.leader.rows.own_batches_off_chain()
        before = off_chain[: off_chain.index(own)] if own in off_chain else []
        for other in before:
            if other.processor == own.processor and other.signer != own.signer:
                why = "another key's pin is not on chain"
                self.batching.failed(own.batch.id, why, self.clock.now)
                return
        self.batching.on_chain(own.batch.id)

    def _send_pin(self, journey: _Journey) -> Step:
        if journey.is_pinned:
            return
        if self.clock.lost():
            raise TroubleError
        operation, own = journey.operations[-1], journey.own
        # In this order: an operation that was renewed goes to no older contract.
        yield from self.leader.moment()
        contract = self.leader.rows.contract
        connectors, epoch = self.leader.member.connectors, self.leader.epoch
        yield from self.leader.call(lambda: connectors.submit_pin(epoch, operation, contract, own))
        journey.handed_over.add(operation)

    def _finish(self, journey: _Journey) -> Step:
        def write(rows: Rows) -> None:
            own = rows.own[journey.own.batch.id]
            own.dispatched = True
            own.handed_over |= journey.handed_over

        yield from self.leader.write(write)

    def _finished(self, journey: _Journey) -> None:
        if journey.operations[-1] not in journey.handed_over and not journey.is_pinned:
            # The contract changed while its pin for the former one was under way.
            self._resume(journey.own, again=True)


def renew_pins(rows: Rows) -> None:
    """Own batches that the former contract did not take are pinned on the new one (hard case 7).

    The same batch, hash and nonces, by a new operation.
    """
    for own in rows.own_batches_off_chain():
        own.operations = [*own.operations, f"{own.batch.id}:{len(own.operations)}"]


def _fill_gap(own: OwnBatch, new_id: Callable[[], str], rows: Rows) -> bool:
    """Cancels a private batch; what uses up its nonces waits to be sent. May be repeated.

    False when its pin is on chain, by whatever way.
    """
    if own.cancelled:
        return True
    if rows.is_pinned(own):
        return False
    own.cancelled = own.dispatched = True
    pins = iter(own.contexts)
    for message in own.batch.messages:
        fill = replace(
            message,
            id=new_id(),
            # A group is introduced all the same.
            body=message.body if message.body.kind == "group" else Body(),
            cancels=None if message.body.kind == "group" else message.cancels or message.id,
        )
        rows.messages[fill.id] = fill
        rows.gap_pins[fill.id] = tuple(f"{next(pins)}:gap" for _ in message.topics)
        rows.message_sequence += 1
        rows.outbox[fill.id] = rows.message_sequence
    rows.touched.add("messages")
    return True


def _ready(number: int, message: SimMessage) -> Ready:
    dispatcher = "private" if message.group else "broadcast"
    processor = ProcessorKey(dispatcher, message.author, message.group or "")
    size = estimated_bytes([len(message.body.blob)])
    return Ready(number, message.id, processor, "batch_pin", message.key, size)
