"""Takes the events of the ledger: pins, network actions, events of smart contracts.

Everything that is on chain is kept, also what is malformed: all members see the same bytes and
ignore them alike. Pins are stored in chain order with the position that orders them everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from photinus_core.events.downloads import batch_download
from photinus_core.events.intake import HaltedError, IntakeContext, StreamIntake
from photinus_core.events.wakeups import WakeupKind
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import (
    Nanoseconds,
    Uuid,
    is_uuid,
    new_uuid,
    parse_hash,
    parse_uuid,
)
from photinus_core.model.ledger import (
    BlockchainEvent,
    Operation,
    ReceivedBatchKey,
    Transaction,
    TransactionType,
)
from photinus_core.model.messages import Pin, Record
from photinus_core.ports.connectors import (
    BatchPinned,
    ChainEvent,
    ConnectorEvent,
    ContractEventSeen,
    NetworkActionSeen,
)
from photinus_core.ports.store import Wakeup, WriteTransaction

PIN_EVENT_TOPIC: Final = "ff_batch_pin"
PAYLOAD_REF_CHARS_MAX: Final = 1024
LISTENER_PREFIX: Final = "multiparty/"
TERMINATE: Final = "terminate"
ACTION_NOTES: Final = "network_action"
"""Notes of network actions that agreement has not decided, by protocol id."""


def contract_listener(index: int) -> str:
    """Id of the listener for one of the namespace's contracts."""
    return f"{LISTENER_PREFIX}{index}"


def contract_index(listener: str) -> int:
    """Which contract a listener listens to."""
    return int(listener.removeprefix(LISTENER_PREFIX))


class ActionNote(Record, frozen=True):
    """A network action that waits for its decision."""

    contract: int
    block: int
    transaction_index: int
    log_index: int
    signer: str
    action: str
    protocol_id: str


@dataclass(slots=True)
class _Found:
    """What the events of one batch come to."""

    events: list[BlockchainEvent] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    transactions: dict[Uuid, Transaction] = field(default_factory=dict)
    chain_ids: dict[Uuid, str] = field(default_factory=dict)
    tx_of: dict[str, Uuid] = field(default_factory=dict)
    """FireFly transactions by protocol id."""
    actions: dict[str, str] = field(default_factory=dict)
    removed: list[ConnectorEvent] = field(default_factory=list)


class ChainIntake(StreamIntake):
    """Consumer of the ledger's stream.

    Args:
        shared_storage: Name of the plugin that downloads are made from.
        queued: Hears of downloads that have been stored.
    """

    def __init__(
        self,
        context: IntakeContext,
        shared_storage: str,
        queued: Callable[[Sequence[Operation]], None],
        consumer: str = "blockchain",
    ) -> None:
        super().__init__(context, consumer)
        self._shared_storage = shared_storage
        self._queued = queued
        self._downloads: list[Operation] = []
        self._new = Counter[tuple[str, str]]()

    def _committed(self) -> None:
        self._queued(self._downloads)
        self._context.meter.ledger_events(self._new)

    async def _take(
        self, tx: WriteTransaction, events: tuple[ConnectorEvent, ...]
    ) -> Mapping[str, str]:
        now = self._context.clock.now()
        found = _Found()
        self._downloads, self._new = [], Counter()
        for event in events:
            self._sort(event, found, now)
        wakeups = set[WakeupKind]()
        if found.removed:
            await self._take_back(tx, found.removed)
            wakeups.add(WakeupKind.REMOVED)
        if found.chain_ids:
            await tx.add_blockchain_ids(found.chain_ids, list(found.transactions.values()))
        if found.events:
            new_events = await tx.insert_blockchain_events(found.events)
            tx.append_events([self._log_entry(e, now) for e in new_events])
            self._new.update((e.location, e.signature) for e in new_events)
        if found.pins:
            new_pins = await tx.insert_pins(found.pins)
            await self._queue_downloads(tx, new_pins, found.tx_of)
            wakeups.add(WakeupKind.PINS)
        if found.actions:
            await tx.set_notes(ACTION_NOTES, found.actions)
            wakeups.add(WakeupKind.PINS)
        if wakeups:
            await tx.insert_wakeups([Wakeup(kind, "") for kind in sorted(wakeups)])
        return {}

    def _sort(self, event: ConnectorEvent, found: _Found, now: Nanoseconds) -> None:
        body = event.body
        if not isinstance(body, BatchPinned | NetworkActionSeen | ContractEventSeen):
            return
        if event.removed:
            found.removed.append(event)
            _forget(found, body.chain.protocol_id)
            return
        try:
            self._sort_new(event, body, found, now)
        except (PhotinusError, ValueError) as failure:
            # On chain for all to see, and ignored by all alike.
            self._context.refuse("chain", body.chain.protocol_id, Rejected("FF19400", failure))
            found.events.append(self._blockchain_event(body.chain))

    def _sort_new(
        self,
        event: ConnectorEvent,
        body: BatchPinned | NetworkActionSeen | ContractEventSeen,
        found: _Found,
        now: Nanoseconds,
    ) -> None:
        match body:
            case BatchPinned():
                if body.network_namespace and body.network_namespace != self._context.network_name:
                    return
                self._sort_pins(event, body, found, now)
            case NetworkActionSeen():
                if body.action == TERMINATE:
                    note = self._action_note(event, body)
                    found.actions[note.protocol_id] = msgspec.json.encode(note).decode()
                found.events.append(self._blockchain_event(body.chain))
            case ContractEventSeen():
                listener = Uuid(event.listener) if is_uuid(event.listener) else None
                found.events.append(self._blockchain_event(body.chain, listener=listener))

    def _sort_pins(
        self, event: ConnectorEvent, body: BatchPinned, found: _Found, now: Nanoseconds
    ) -> None:
        kind = (
            TransactionType.CONTRACT_INVOKE_PIN
            if body.contract_invoke
            else TransactionType.BATCH_PIN
        )
        transaction = parse_uuid(body.transaction)
        pins = self._pins(event, body, now)
        found.events.append(self._blockchain_event(body.chain, transaction=(kind, transaction)))
        found.pins.extend(pins)
        found.tx_of[body.chain.protocol_id] = transaction
        found.transactions[transaction] = Transaction(
            id=transaction, namespace=self._context.namespace, type=kind, created=now
        )
        if body.chain.transaction_id:
            found.chain_ids[transaction] = body.chain.transaction_id.lower()

    def _pins(self, event: ConnectorEvent, body: BatchPinned, now: Nanoseconds) -> list[Pin]:
        if len(body.payload_ref) > PAYLOAD_REF_CHARS_MAX or "\0" in body.payload_ref:
            raise Rejected("FF00135", "payloadRef", PAYLOAD_REF_CHARS_MAX)
        batch, batch_hash = parse_uuid(body.batch), parse_hash(body.batch_hash)
        chain = body.chain
        return [
            Pin(
                namespace=self._context.namespace,
                hash=parse_hash(context),
                batch=batch,
                batch_hash=batch_hash,
                index=index,
                signer=chain.signer,
                masked=not body.payload_ref,
                created=now,
                contract_index=contract_index(event.listener),
                block=chain.block,
                transaction_index=chain.transaction_index,
                log_index=chain.log_index,
                protocol_id=chain.protocol_id,
                payload_ref=body.payload_ref,
            )
            for index, context in enumerate(body.contexts)
        ]

    def _action_note(self, event: ConnectorEvent, body: NetworkActionSeen) -> ActionNote:
        chain = body.chain
        return ActionNote(
            contract=contract_index(event.listener),
            block=chain.block,
            transaction_index=chain.transaction_index,
            log_index=chain.log_index,
            signer=chain.signer,
            action=body.action,
            protocol_id=chain.protocol_id,
        )

    def _blockchain_event(
        self,
        chain: ChainEvent,
        transaction: tuple[TransactionType, Uuid] | None = None,
        listener: Uuid | None = None,
    ) -> BlockchainEvent:
        return BlockchainEvent(
            id=new_uuid(),
            namespace=self._context.namespace,
            source=chain.source,
            name=chain.name,
            protocol_id=chain.protocol_id,
            output=chain.output or "{}",
            info=chain.info or "{}",
            timestamp=chain.timestamp,
            listener=listener,
            tx_type=transaction[0] if transaction else None,
            tx_id=transaction[1] if transaction else None,
            tx_blockchain_id=chain.transaction_id.lower(),
            location=chain.location,
            signature=chain.signature,
        )

    def _log_entry(self, event: BlockchainEvent, now: Nanoseconds) -> NewEvent:
        return NewEvent(
            id=new_uuid(),
            type=EventType.BLOCKCHAIN_EVENT_RECEIVED,
            namespace=self._context.namespace,
            reference=event.id,
            created=now,
            tx=event.tx_id,
            topic=event.listener or PIN_EVENT_TOPIC,
        )

    async def _queue_downloads(
        self, tx: WriteTransaction, new_pins: Sequence[Pin], tx_of: Mapping[str, Uuid]
    ) -> None:
        """Has broadcast batches fetched that are not here."""
        wanted: dict[tuple[ReceivedBatchKey, str], Pin] = {}
        for pin in new_pins:
            if not pin.masked:
                wanted.setdefault(
                    (ReceivedBatchKey(pin.batch, pin.batch_hash), pin.payload_ref), pin
                )
        if not wanted:
            return
        stored = await tx.received_batches(list({key for key, _ in wanted}))
        self._downloads = [
            batch_download(
                self._context.namespace, self._shared_storage, pin, tx_of[pin.protocol_id]
            )
            for (key, _), pin in wanted.items()
            if key not in stored
        ]
        if self._downloads:
            await tx.insert_operations(self._downloads)

    async def _take_back(self, tx: WriteTransaction, removed: Sequence[ConnectorEvent]) -> None:
        """Undoes what a reorganisation removed, as long as nothing was decided on it."""
        blocks = {
            event.body.chain.protocol_id: event.body.chain.block
            for event in removed
            if isinstance(event.body, BatchPinned | NetworkActionSeen)
        }
        batches = [
            Uuid(e.body.batch.strip().lower()) for e in removed if isinstance(e.body, BatchPinned)
        ]
        pins = [p for p in await tx.pins_of_batches(batches) if p.protocol_id in blocks]
        decided = {pin.protocol_id for pin in pins if pin.dispatched}
        row = await tx.namespace_row()
        contracts = row.contracts if row else ()
        decided |= {c.final_event for c in contracts if c.final_event in blocks}
        if decided:
            block = min(blocks[protocol_id] for protocol_id in decided)
            raise HaltedError(
                f"the ledger took back block {block} after its events had been decided; the chain "
                "was reorganised deeper than the configured confirmations"
            )
        await tx.delete_pins(list(blocks))
        await tx.delete_notes(ACTION_NOTES, list(blocks))


def _forget(found: _Found, protocol_id: str) -> None:
    found.pins = [pin for pin in found.pins if pin.protocol_id != protocol_id]
    found.actions.pop(protocol_id, None)
