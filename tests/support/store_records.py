"""Makes records for tests of the store: full ones, with every field set, and plain ones."""

from __future__ import annotations

import hashlib
import json
from itertools import count

from photinus_core.model.events import (
    DeadLetter,
    DeadLetterState,
    EventType,
    NewEvent,
    Subscription,
    SubscriptionFilter,
)
from photinus_core.model.ids import Did, Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import (
    BlockchainEvent,
    Operation,
    OperationStatus,
    OperationType,
    Transaction,
    TransactionType,
)
from photinus_core.model.messages import (
    Batch,
    BatchType,
    Blob,
    BlobRef,
    Data,
    DataRef,
    DatatypeRef,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    Pin,
    TransactionRef,
    Validator,
)
from photinus_core.model.network import (
    Identity,
    IdentityBase,
    IdentityType,
    Position,
    Verifier,
    VerifierType,
)
from photinus_core.ports.store import MessageWrite

NS = Namespace("alpha")
_numbers = count(1)


def new_hash(seed: str | None = None) -> Hash32:
    return Hash32(hashlib.sha256((seed or str(next(_numbers))).encode()).hexdigest())


def make_data(
    value: str | None = '{"a":1}', *, blob: bool = False, data_id: Uuid | None = None
) -> Data:
    return Data(
        id=data_id or new_uuid(),
        validator=Validator.JSON,
        namespace=NS,
        hash=new_hash(),
        created=Nanoseconds(next(_numbers)),
        value=value,
        datatype=DatatypeRef("widget", "1.0"),
        blob=BlobRef(new_hash(), 12, "a.txt", "/p", "Qm1") if blob else None,
        public="Qm2",
    )


def make_message(
    *data: Data,
    state: MessageState = MessageState.READY,
    message_id: Uuid | None = None,
    topics: tuple[str, ...] = ("topic1",),
    tag: str = "",
    key: str = "",
    group: Hash32 | None = None,
) -> Message:
    header = MessageHeader(
        id=message_id or new_uuid(),
        type=MessageType.BROADCAST if group is None else MessageType.PRIVATE,
        txtype=TransactionType.BATCH_PIN,
        author="did:firefly:org/org0",
        key="0xabc",
        created=Nanoseconds(next(_numbers)),
        namespace="network",
        topics=topics,
        datahash=new_hash(),
        tag=tag,
        group=group,
    )
    refs = tuple(DataRef(item.id, item.hash) for item in data)
    return Message(header, new_hash(), refs, NS, state, idempotency_key=key)


def full_message() -> Message:
    header = MessageHeader(
        id=new_uuid(),
        type=MessageType.PRIVATE,
        txtype=TransactionType.CONTRACT_INVOKE_PIN,
        author="did:firefly:org/org0",
        key="0xabc",
        created=Nanoseconds(1_620_104_103_123_456_789),
        namespace="network",
        topics=("a", "b,c", "", "d\\e"),
        datahash=new_hash(),
        cid=new_uuid(),
        group=new_hash(),
        tag="tag1",
        txparent=TransactionRef(TransactionType.TOKEN_TRANSFER, new_uuid()),
    )
    return Message(
        header=header,
        hash=new_hash(),
        data=(DataRef(new_uuid(), new_hash()), DataRef(new_uuid(), new_hash())),
        namespace=NS,
        state=MessageState.REJECTED,
        batch=new_uuid(),
        txid=new_uuid(),
        confirmed=Nanoseconds(5),
        reject_reason="because ü",
        pins=("p1:0000000000000001", "p2:0000000000000002"),
        idempotency_key="key ü",
    )


def write(*data: Data, **options: object) -> MessageWrite:
    return MessageWrite(make_message(*data, **options), tuple(data))  # type: ignore[arg-type]  # fields by name


def make_manifest(batch: Uuid, messages: tuple[Message, ...]) -> str:
    entries = [
        {"id": m.header.id, "hash": m.hash, "topics": len(m.header.topics)} for m in messages
    ]
    return json.dumps({"version": 1, "id": batch, "messages": entries, "data": []})


def make_batch(
    *messages: Message,
    batch_id: Uuid | None = None,
    kind: TransactionType = TransactionType.BATCH_PIN,
    dispatched: bool = False,
) -> Batch:
    batch = batch_id or new_uuid()
    manifest = make_manifest(batch, messages)
    return Batch(
        id=batch,
        type=BatchType.BROADCAST,
        namespace=NS,
        author="did:firefly:org/org0",
        key="0xabc",
        created=Nanoseconds(next(_numbers)),
        hash=new_hash(manifest),
        manifest=manifest,
        tx=TransactionRef(kind, new_uuid()),
        node=new_uuid(),
        group=new_hash(),
        payload_ref="",
        dispatched=dispatched,
    )


def make_pin(
    batch: Batch,
    index: int = 0,
    *,
    block: int = 1,
    masked: bool = False,
    hash_: Hash32 | None = None,
) -> Pin:
    return Pin(
        namespace=NS,
        hash=hash_ or new_hash(),
        batch=batch.id,
        batch_hash=batch.hash,
        index=index,
        signer="0xabc",
        masked=masked,
        created=Nanoseconds(3),
        contract_index=0,
        block=block,
        transaction_index=2,
        log_index=3,
        protocol_id=f"{block:012d}/000002/000003",
        payload_ref="" if masked else "Qm3",
    )


def make_blob(data: Data, hash_: Hash32 | None = None) -> Blob:
    assert data.blob is not None
    return Blob(
        NS, data.id, hash_ or data.blob.hash, f"{NS}/{data.id}", 12, Nanoseconds(4), "peer1"
    )


def make_identity(name: str, kind: IdentityType = IdentityType.ORG, **changes: object) -> Identity:
    base = IdentityBase(
        new_uuid(), Did(f"did:firefly:{kind}/{name}"), kind, "network", name, new_uuid()
    )
    fields: dict[str, object] = {
        "description": "d",
        "profile": '{"b":1,"a":2}',
        "claim": new_uuid(),
        "verification": new_uuid(),
        "update": new_uuid(),
        "position": (0, 7, 6, 5, 4),
    }
    return Identity(base, NS, Nanoseconds(1), Nanoseconds(2), **(fields | changes))  # type: ignore[arg-type]  # fields by name


def make_verifier(identity: Uuid, value: str, position: Position | None = None) -> Verifier:
    return Verifier(
        new_hash(), identity, NS, VerifierType.ETHEREUM_ADDRESS, value, Nanoseconds(1), position
    )


def make_transaction(
    key: str = "", kind: TransactionType = TransactionType.BATCH_PIN
) -> Transaction:
    return Transaction(new_uuid(), NS, kind, Nanoseconds(1), key)


def make_operation(tx: Uuid, status: OperationStatus = OperationStatus.INITIALIZED) -> Operation:
    return Operation(
        id=new_uuid(),
        namespace=NS,
        tx=tx,
        type=OperationType.BLOCKCHAIN_PIN_BATCH,
        status=status,
        plugin="blockchain0",
        input='{"z":1,"a":2.0}',
        created=Nanoseconds(1),
        updated=Nanoseconds(2),
    )


def make_blockchain_event(
    protocol_id: str, listener: Uuid | None = None, tx: Uuid | None = None
) -> BlockchainEvent:
    return BlockchainEvent(
        id=new_uuid(),
        namespace=NS,
        source="ethereum",
        name="BatchPin",
        protocol_id=protocol_id,
        output="{}",
        info='{"x":"1"}',
        timestamp=Nanoseconds(9),
        listener=listener,
        tx_type=TransactionType.BATCH_PIN if tx else None,
        tx_id=tx,
        tx_blockchain_id="0xff",
        location='{"address":"0x1"}',
        signature="BatchPin()",
    )


def make_event(
    kind: EventType = EventType.MESSAGE_CONFIRMED, namespace: Namespace = NS
) -> NewEvent:
    return NewEvent(
        new_uuid(), kind, namespace, new_uuid(), Nanoseconds(1), new_uuid(), new_uuid(), "topic1"
    )


def make_dead_letter(subscription: Uuid, event: Uuid) -> DeadLetter:
    return DeadLetter(
        id=new_uuid(),
        namespace=NS,
        subscription=subscription,
        event=event,
        event_sequence=1,
        event_type=EventType.MESSAGE_CONFIRMED,
        state=DeadLetterState.PARKED,
        attempts=1,
        status=500,
        error="it answered 500",
        created=Nanoseconds(1),
        updated=Nanoseconds(1),
    )


def make_subscription(name: str) -> Subscription:
    return Subscription(
        id=new_uuid(),
        namespace=NS,
        name=name,
        transport="websockets",
        filter=SubscriptionFilter(events="message_.*", tag="^a"),
        filter_json='{"events":"message_.*"}',
        options_json='{"readAhead":5,"own":true}',
        first_event="0",
        read_ahead=5,
        with_data=True,
        batch=True,
        batch_timeout_ms=250,
        created=Nanoseconds(1),
        updated=Nanoseconds(2),
    )
