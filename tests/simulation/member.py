"""One member in one namespace: a database, and the driver of the production machines around it.

The driver is as thin as the core's: write, tell the machine, decide, write. A crash can happen
before and after each write; what survives is the database (`Store`) and what connectors keep.
After a restart everything is rebuilt from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from photinus_core.model.ids import Hash32
from photinus_core.sequencing.agreement import Agreement
from photinus_core.sequencing.batching import (
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
from photinus_core.sequencing.decisions import (
    ActionDecision,
    BatchVoided,
    Decision,
    MessageDecision,
    Outcome,
)
from photinus_core.sequencing.facts import (
    BatchKey,
    ChainEvent,
    ChainState,
    ContextState,
    NetworkAction,
    PinEvent,
    blob_need,
)
from photinus_core.sequencing.nonces import Pinned, nonce_keys, seal_pins
from photinus_core.sequencing.position import Position

from tests.simulation.content import Change, Definitions, SimBatch, SimMessage, facts_of_batch
from tests.simulation.world import Clock, CrashError, Ledger, Storage

CRASHES_MAX: Final = 6


@dataclass
class OwnBatch:
    """A batch this member sealed."""

    batch: SimBatch
    processor: ProcessorKey
    signer: str
    contexts: tuple[str, ...]
    prepared: bool = False
    sent_to: int | None = None
    """Contract to which its pin was handed."""
    finished: bool = False


@dataclass
class Store:
    """The database of one member in one namespace."""

    outbox: dict[str, tuple[int, SimMessage]] = field(default_factory=dict)
    """Messages that wait for a batch, with their sequence."""
    sequence: int = 0
    nonces: dict[Hash32, int] = field(default_factory=dict)
    own: dict[str, OwnBatch] = field(default_factory=dict)
    contract: int = 0
    read: dict[int, int] = field(default_factory=dict)
    """Checkpoint: events read, by contract."""
    pins: dict[Position, tuple[PinEvent, set[int]]] = field(default_factory=dict)
    """Pin events with the indexes that are decided."""
    actions: dict[Position, NetworkAction] = field(default_factory=dict)
    """Undecided network actions."""
    final_events: dict[int, Position] = field(default_factory=dict)
    batches: dict[BatchKey, SimBatch] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    next_pins: dict[tuple[str, str], dict[str, ChainState]] = field(default_factory=dict)
    decided: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Message id and outcome, by message hash."""
    log: list[tuple[SimMessage, str]] = field(default_factory=list)
    """The event log: each decision."""
    definitions: Definitions = field(default_factory=Definitions)


@dataclass(frozen=True)
class Tuning:
    """Limits of the machines, small enough to matter."""

    decisions_max: int = 1000
    load_all_masked: bool = True
    masked_events_max: int = 1000
    private_contexts_max: int = 1000
    batch_messages_max: int = 5


class Member:
    """One member in one namespace."""

    def __init__(
        self,
        name: str,
        did: str,
        clock: Clock,
        ledger: Ledger,
        storage: Storage,
        tuning: Tuning,
        machine: Callable[..., Agreement] = Agreement,
        *,
        wakeups_in_memory: bool = False,
    ) -> None:
        self.name = name
        self.did = did
        self.clock = clock
        self.ledger = ledger
        self.storage = storage
        self.tuning = tuning
        self.make_machine = machine
        self.wakeups_in_memory = wakeups_in_memory
        self.peers: dict[str, Member] = {}
        """All members of the namespace by DID of their organisation."""
        self.store = Store()
        self.acked: list[SimMessage] = []
        self.crashes = 0
        self.alive = False
        self.life = 0
        self.machine = machine()
        self.batching = Batching()
        self.view = Definitions()
        ledger.listeners.append(lambda: self.later(self.read_chain))

    # Life and death

    def start(self) -> None:
        """Rebuilds everything from the store."""
        self.alive = True
        self.life += 1
        self.run(self._rebuild)

    def later(self, action: Callable[[], None], times: float = 1.0) -> None:
        """Schedules something in this process; it dies with it."""
        life = self.life
        self.clock.soon(lambda: self.run(action) if life == self.life else None, times)

    def run(self, action: Callable[[], None]) -> None:
        if not self.alive:
            return
        try:
            action()
        except CrashError:
            self.alive = False
            self.crashes += 1
            self.clock.soon(self.start, 5)

    def _may_crash(self) -> None:
        if self.crashes < CRASHES_MAX and self.clock.rng.random() < self.clock.weather.crash_rate:
            raise CrashError

    @contextmanager
    def _write(self) -> Iterator[Store]:
        """One transaction. The body must not fail: it is all or nothing."""
        self._may_crash()
        yield self.store
        self._may_crash()

    def _rebuild(self) -> None:
        store, tuning = self.store, self.tuning
        self.machine = self.make_machine(
            final_events=store.final_events,
            masked_complete=tuning.load_all_masked,
            masked_events_max=tuning.masked_events_max,
            private_contexts_max=tuning.private_contexts_max,
        )
        self.view = Definitions()
        for change in self._stored_definitions():
            self.view.apply(change)
        undecided = [
            _with_dispatched(event, dispatched)
            for event, dispatched in store.pins.values()
            if len(dispatched) < len(event.contexts)
            and (not event.masked or tuning.load_all_masked or event.batch in store.batches)
        ]
        events: list[ChainEvent] = [*undecided, *store.actions.values()]
        events.sort(key=lambda event: event.position)
        self.machine.pins_arrived(events, self.clock.now)
        if self.wakeups_in_memory:
            # The hole of internals §3.7: what was stored but not told is not found again.
            self.machine.wanted()
        for group, members in store.groups.items():
            self.machine.group_available(group, members)
        self._rebuild_batching()
        for event, _ in store.pins.values():
            self._fetch(event)
        for batch in store.batches.values():
            self._fetch_blobs(batch)
        for own in store.own.values():
            if own.finished and own.sent_to is not None:
                # The connector knows the key unless the crash came between our write and its.
                self._submit_pin(own, own.sent_to)
        self.later(self.read_chain)
        self._settle()

    def _stored_definitions(self) -> Iterator[Change]:
        stored = self.store.definitions
        for key, owner in stored.owners.items():
            yield Change("owner", key, owner)
        for did, claim in stored.claims.items():
            yield Change("claim", did, claim)
        for did, verifications in stored.verifications.items():
            for claim_hash, position in verifications.items():
                yield Change("verification", did, (claim_hash, position))
        for name, position in stored.datatypes.items():
            yield Change("datatype", name, position)

    def _rebuild_batching(self) -> None:
        self.batching = Batching(messages_max=self.tuning.batch_messages_max)
        for own in self._off_chain():
            if own.finished:
                self.batching.pinned_before(own.processor, own.signer)
        for batch_id, own in self.store.own.items():
            if not own.finished:
                self.batching.resume(
                    own.processor, batch_id, "batch_pin", key=own.signer, prepared=own.prepared
                )
        self.batching.ready(_ready(sequence, m) for sequence, m in self.store.outbox.values())
        self._send()

    # Sending

    def submit(self, *messages: SimMessage) -> None:
        """A client sends messages in one request; they count as acknowledged once it returned."""

        def write() -> None:
            with self._write() as store:
                for message in messages:
                    store.sequence += 1
                    store.outbox[message.id] = (store.sequence, message)
                    if message.body.kind == "group" and message.group:
                        store.groups[message.group] = message.body.members
            self.acked.extend(messages)
            for message in messages:
                if message.body.kind == "group" and message.group:
                    self.machine.group_available(message.group, message.body.members)
            self.batching.ready(_ready(*self.store.outbox[m.id]) for m in messages)
            self._send()

        self.run(write)

    def _send(self) -> None:
        for action in self.batching.poll(self.clock.now):
            match action:
                case Seal():
                    self.later(partial(self._seal, action), 0.1)
                case Prepare(batch):
                    self.later(partial(self._try, batch, self._prepare))
                case AwaitChain(batch):
                    self.later(partial(self._try, batch, self._await_chain), 0.1)
                case SendPin(batch):
                    self.later(partial(self._try, batch, self._send_pin))
                case Finish(batch):
                    self.later(partial(self._try, batch, self._finish), 0.1)
        due = self.batching.next_due()
        if due is not None:
            life = self.life
            self.clock.at(due, lambda: self.run(self._send) if life == self.life else None)

    def _try(self, batch: str, action: Callable[[OwnBatch], None]) -> None:
        if self.clock.lost():
            self.batching.failed(batch, "no connection", self.clock.now)
        else:
            action(self.store.own[batch])
        self._send()

    def _seal(self, seal: Seal) -> None:
        messages = tuple(self.store.outbox[m][1] for m in seal.messages)
        pinned = [Pinned(m.topics, m.group, m.author) for m in messages]
        stored = {
            key: self.store.nonces[key] for key in nonce_keys(pinned) if key in self.store.nonces
        }
        sealed = seal_pins(pinned, stored)
        batch = SimBatch(f"batch-{messages[0].id}", messages, messages[0].group)
        with self._write() as store:
            store.nonces.update(sealed.nonces)
            for message in messages:
                del store.outbox[message.id]
            store.own[batch.id] = OwnBatch(batch, seal.processor, messages[0].key, sealed.contexts)
            store.batches[batch.key] = batch
            store.blobs.update(m.body.blob for m in messages)
        self.batching.sealed(seal, batch.id)
        self._send()

    def _prepare(self, own: OwnBatch) -> None:
        batch = own.batch
        if batch.group is None:
            self.storage.batches[batch.payload_ref] = batch
            self.storage.blobs.update(m.body.blob for m in batch.messages)
        else:
            for did in self.store.groups[batch.group]:
                if did != self.did:
                    self.post(self.peers[did], batch)
        with self._write():
            own.prepared = True
        self.batching.prepared(batch.id)

    def post(self, peer: Member, batch: SimBatch) -> None:
        """The connector's durable outbox: sends until the peer has it, blobs apart from the batch."""
        items: list[Callable[[], None]] = [partial(peer.receive, batch)]
        items += [partial(peer.receive_blob, m.body.blob) for m in batch.messages if m.body.blob]

        def attempt(item: Callable[[], None]) -> None:
            acknowledged = False

            def deliver() -> None:
                nonlocal acknowledged
                item()
                acknowledged = not self.clock.lost()

            if peer.alive and not self.clock.lost():
                peer.run(deliver)
            if not acknowledged:
                self.clock.soon(partial(attempt, item), 3)

        for item in items:
            self.clock.soon(partial(attempt, item))

    def _off_chain(self) -> list[OwnBatch]:
        pinned = {event.batch for event, _ in self.store.pins.values()}
        return [
            o
            for o in self.store.own.values()
            if o.sent_to is not None and o.batch.key not in pinned
        ]

    def _await_chain(self, own: OwnBatch) -> None:
        behind = [
            o for o in self._off_chain() if o.processor == own.processor and o.signer != own.signer
        ]
        if behind:
            self.batching.failed(own.batch.id, "another key's pin is not on chain", self.clock.now)
        else:
            self.batching.on_chain(own.batch.id)

    def _send_pin(self, own: OwnBatch) -> None:
        contract = self.store.contract
        with self._write():
            own.sent_to = contract
        self._submit_pin(own, contract)
        self.batching.journaled(own.batch.id, self.clock.now)

    def _submit_pin(self, own: OwnBatch, contract: int) -> None:
        key = f"{own.batch.id}:{contract}"
        self.ledger.submit_pin(key, contract, own.signer, own.batch.key, own.contexts)

    def _finish(self, own: OwnBatch) -> None:
        with self._write():
            own.finished = True
        self.batching.finished(own.batch.id)

    # Receiving

    def read_chain(self) -> None:
        """Takes some events of the stream, stores them with the checkpoint, then tells the machine."""
        contract = self.store.contract
        begin = self.store.read.get(contract, 0)
        events = self.ledger.events.get(contract, [])[begin:]
        if not events:
            return
        taken = events[: self.clock.rng.randint(1, len(events))]
        with self._write() as store:
            store.read[contract] = begin + len(taken)
            for event in taken:
                if isinstance(event, PinEvent):
                    store.pins[event.position] = (event, set())
                else:
                    store.actions[event.position] = event
        self.machine.pins_arrived(taken, self.clock.now)
        for event in taken:
            if isinstance(event, PinEvent):
                self._fetch(event)
        self._settle()
        if len(taken) < len(events):
            self.later(self.read_chain)

    def _fetch(self, event: PinEvent) -> None:
        """Downloads a broadcast batch until it is here; garbage names batches that never are."""
        key = event.batch
        if event.masked or key in self.store.batches:
            return
        if key.payload_ref not in self.storage.batches:
            return

        def attempt() -> None:
            if key in self.store.batches:
                return
            if self.clock.lost():
                self.later(attempt, 3)
                return
            batch = self.storage.batches[key.payload_ref]
            if batch.key == key:
                self.receive(batch)
                self._fetch_blobs(batch)

        self.later(attempt)

    def _fetch_blobs(self, batch: SimBatch) -> None:
        """Downloads what a broadcast batch refers to; private blobs come by themselves."""
        for message in batch.messages if batch.group is None else ():
            if message.body.blob and message.body.blob not in self.store.blobs:
                self.later(partial(self._fetch_blob, message.body.blob), 2)

    def _fetch_blob(self, blob: str) -> None:
        if self.clock.lost():
            self.later(partial(self._fetch_blob, blob), 2)
        else:
            self.receive_blob(blob)

    def receive(self, batch: SimBatch) -> None:
        """Stores a batch whose content recomputes to its hash."""
        groups = {
            m.group: m.body.members for m in batch.messages if m.body.kind == "group" and m.group
        }
        if batch.key not in self.store.batches:
            with self._write() as store:
                store.batches[batch.key] = batch
                store.groups.update(groups)
        self._hand_over(batch)
        self._settle()

    def _hand_over(self, batch: SimBatch) -> None:
        if batch.group is not None and not self.machine.knows(batch.key):
            self.machine.pins_arrived(
                _with_dispatched(event, dispatched)
                for event, dispatched in sorted(
                    self.store.pins.values(), key=lambda p: p[0].position
                )
                if event.batch == batch.key and len(dispatched) < len(event.contexts)
            )
        facts = facts_of_batch(batch, self.store.blobs, self.store.decided)
        self.machine.batch_available([facts], self.clock.now)

    def receive_blob(self, blob: str) -> None:
        """Stores a blob."""
        with self._write() as store:
            store.blobs.add(blob)
        self.machine.need_met(blob_need(blob, blob), self.clock.now)
        self._settle()

    # Deciding

    def _settle(self) -> None:
        while True:
            while decisions := self.machine.decide(self.view, self.tuning.decisions_max):
                self._commit(decisions)
            wanted = self.machine.wanted()
            if not wanted:
                return
            for key in wanted.batches:
                if key in self.store.batches:
                    self._hand_over(self.store.batches[key])
            self.machine.contexts_loaded(
                ContextState(c, self.store.next_pins.get((c.topic, c.group), {}))
                for c in wanted.contexts
            )
            hashes = set(wanted.pin_hashes)
            self.machine.pins_found(
                wanted.pin_hashes,
                [
                    _with_dispatched(event, dispatched)
                    for event, dispatched in self.store.pins.values()
                    if event.masked
                    and any(
                        h in hashes and i not in dispatched for i, h in enumerate(event.contexts)
                    )
                ],
            )

    def _commit(self, decisions: list[Decision]) -> None:
        changes = self.view.changes
        self.view.changes = []
        again: list[OwnBatch] = []
        with self._write() as store:
            for change in changes:
                store.definitions.apply(change)
            for decision in decisions:
                match decision:
                    case MessageDecision():
                        self._store_message(store, decision)
                    case BatchVoided():
                        event, dispatched = store.pins[decision.position]
                        dispatched.update(range(len(event.contexts)))
                    case ActionDecision():
                        del store.actions[decision.action.position]
                        if decision.applied:
                            again += self._end_contract(store, decision.action.position)
        for own in again:
            self._submit_pin(own, self.store.contract)
        if again:
            self.later(self.read_chain)

    @staticmethod
    def _store_message(store: Store, decision: MessageDecision) -> None:
        dispatched = store.pins[decision.position._replace(pin=0)][1]
        assert not dispatched & set(decision.pins), "decided twice"
        dispatched.update(decision.pins)
        for update in decision.next_pins:
            chains = store.next_pins.setdefault((update.topic, update.group), {})
            chains[update.author] = ChainState(update.nonce, update.last_key)
        if decision.outcome is Outcome.VOID:
            return
        message = decision.message.payload
        assert isinstance(message, SimMessage)
        store.decided[message.hash] = (message.id, decision.outcome)
        store.log.append((message, decision.outcome))

    def _end_contract(self, store: Store, final: Position) -> list[OwnBatch]:
        """Moves to the next contract; own batches that were not pinned in time are pinned there
        (hard case 7).
        """
        store.final_events[final.contract] = final
        store.contract = final.contract + 1
        pinned = {event.batch for event, _ in store.pins.values() if event.position < final}
        again = [
            own
            for own in store.own.values()
            if own.sent_to == final.contract and own.batch.key not in pinned
        ]
        for own in again:
            own.sent_to = store.contract
        self.later(self.read_chain)
        return again


def _ready(sequence: int, message: SimMessage) -> Ready:
    dispatcher = "private" if message.group else "broadcast"
    processor = ProcessorKey(dispatcher, message.author, message.group or "")
    size = estimated_bytes([len(message.body.blob)])
    return Ready(sequence, message.id, processor, "batch_pin", message.key, size)


def _with_dispatched(event: PinEvent, dispatched: set[int]) -> PinEvent:
    if not dispatched:
        return event
    return PinEvent(
        event.position, event.signer, event.batch, event.contexts, frozenset(dispatched)
    )
