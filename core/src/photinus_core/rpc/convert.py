"""Records of the core as messages of the public API. One direction, no decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from photinus.api.v1 import (
    batch_pb2,
    blockchain_event_pb2,
    common_pb2,
    data_pb2,
    datatype_pb2,
    event_pb2,
    group_pb2,
    identity_pb2,
    message_pb2,
    operation_pb2,
    pin_pb2,
    subscription_pb2,
    transaction_pb2,
)

from photinus_core.events.subscriptions import CORE_OPTIONS
from photinus_core.model.events import DeadLetter, Event, NewEvent, Subscription
from photinus_core.model.ids import Nanoseconds, Uuid
from photinus_core.model.ledger import BlockchainEvent, Operation, Transaction
from photinus_core.model.messages import (
    Batch,
    BlobRef,
    Data,
    DatatypeRef,
    Group,
    Message,
    MessageHeader,
    NextPin,
    Pin,
    TransactionRef,
)
from photinus_core.model.network import Datatype, Identity, Verifier
from photinus_core.operations.service import StatusDetail

_NS: Final = 1_000_000_000


def timestamp(time: Nanoseconds | None) -> Timestamp | None:
    """A time; None and zero are absent."""
    if not time:
        return None
    seconds, nanos = divmod(time, _NS)
    return Timestamp(seconds=seconds, nanos=nanos)


def _set_time(target: Timestamp, time: Nanoseconds | None) -> None:
    if time:
        target.seconds, target.nanos = divmod(time, _NS)


def header(record: MessageHeader) -> message_pb2.MessageHeader:
    """The header of a message."""
    made = message_pb2.MessageHeader()
    _fill_header(made, record)
    return made


def message(record: Message, data: Mapping[Uuid, Data] | None = None) -> message_pb2.Message:
    """A message; with `data` its items are given in full where they are known."""
    made = message_pb2.Message()
    fill_message(made, record, data)
    return made


def fill_message(
    target: message_pb2.Message, record: Message, data: Mapping[Uuid, Data] | None = None
) -> None:
    """`message` into an empty one that is part of a larger answer, which saves a copy."""
    _fill_header(target.header, record.header)
    target.local_namespace = record.namespace
    target.hash = record.hash
    if record.batch:
        target.batch = record.batch
    if record.txid:
        target.txid = record.txid
    target.state = record.state
    _set_time(target.confirmed, record.confirmed)
    if record.reject_reason:
        target.reject_reason = record.reject_reason
    for ref in record.data:
        if data is not None and ref.id in data:
            target.data.append(inline_data(data[ref.id]))
        else:
            target.data.add(id=ref.id, hash=ref.hash)
    if record.pins:
        target.pins.extend(record.pins)
    if record.idempotency_key:
        target.idempotency_key = record.idempotency_key


def _fill_header(target: message_pb2.MessageHeader, record: MessageHeader) -> None:
    target.id = record.id
    if record.cid:
        target.cid = record.cid
    target.type = record.type
    target.txtype = record.txtype
    target.author = record.author
    target.key = record.key
    _set_time(target.created, record.created)
    target.namespace = record.namespace
    if record.group:
        target.group = record.group
    target.topics.extend(record.topics)
    if record.tag:
        target.tag = record.tag
    target.datahash = record.datahash
    if record.txparent is not None:
        target.txparent.type, target.txparent.id = record.txparent.type, record.txparent.id


def inline_data(record: Data) -> data_pb2.DataRefOrValue:
    """A data item inside a message."""
    return data_pb2.DataRefOrValue(
        id=record.id,
        hash=record.hash,
        validator=record.validator,
        datatype=_datatype_ref(record.datatype),
        value=record.value or "",
        blob=_blob_ref(record.blob),
    )


def data_item(record: Data) -> data_pb2.Data:
    """A data item."""
    return data_pb2.Data(
        id=record.id,
        validator=record.validator,
        namespace=record.namespace,
        hash=record.hash,
        created=timestamp(record.created),
        datatype=_datatype_ref(record.datatype),
        value=record.value or "",
        public=record.public,
        blob=_blob_ref(record.blob),
    )


def _blob_ref(blob: BlobRef | None) -> data_pb2.BlobRef | None:
    if blob is None:
        return None
    return data_pb2.BlobRef(
        hash=blob.hash, size=blob.size, name=blob.name, path=blob.path, public=blob.public
    )


def _datatype_ref(ref: DatatypeRef | None) -> data_pb2.DatatypeRef | None:
    return None if ref is None else data_pb2.DatatypeRef(name=ref.name, version=ref.version)


def _transaction_ref(ref: TransactionRef | None) -> common_pb2.TransactionRef | None:
    return None if ref is None else common_pb2.TransactionRef(type=ref.type, id=ref.id)


def batch(record: Batch) -> batch_pb2.Batch:
    """A batch."""
    return batch_pb2.Batch(
        id=record.id,
        type=record.type,
        namespace=record.namespace,
        node=record.node or "",
        group=record.group or "",
        created=timestamp(record.created),
        author=record.author,
        key=record.key,
        hash=record.hash,
        manifest=record.manifest,
        tx=_transaction_ref(record.tx),
        confirmed=timestamp(record.confirmed),
    )


def pin(record: Pin) -> pin_pb2.Pin:
    """A pin."""
    return pin_pb2.Pin(
        sequence=record.sequence,
        namespace=record.namespace,
        masked=record.masked,
        hash=record.hash,
        batch=record.batch,
        batch_hash=record.batch_hash,
        index=record.index,
        dispatched=record.dispatched,
        signer=record.signer,
        created=timestamp(record.created),
    )


def next_pin(record: NextPin) -> pin_pb2.NextPin:
    """An expected pin."""
    return pin_pb2.NextPin(
        namespace=record.namespace,
        context=record.context,
        identity=record.identity,
        hash=record.hash,
        nonce=record.nonce,
    )


def group(record: Group) -> group_pb2.Group:
    """A group."""
    return group_pb2.Group(
        namespace=record.network_namespace,
        name=record.name,
        members=[group_pb2.Member(identity=m.identity, node=m.node) for m in record.members],
        local_namespace=record.namespace,
        message=record.message or "",
        hash=record.hash,
        created=timestamp(record.created),
    )


def transaction(record: Transaction) -> transaction_pb2.Transaction:
    """A transaction."""
    return transaction_pb2.Transaction(
        id=record.id,
        namespace=record.namespace,
        type=record.type,
        created=timestamp(record.created),
        idempotency_key=record.idempotency_key,
        blockchain_ids=record.blockchain_ids,
    )


def status_detail(record: StatusDetail) -> transaction_pb2.TransactionStatusDetail:
    """One line of a transaction's status."""
    return transaction_pb2.TransactionStatusDetail(
        type=record.type,
        subtype=record.subtype,
        status=record.status,
        timestamp=timestamp(record.timestamp),
        id=record.id or "",
        error=record.error,
        info=record.info,
    )


def operation(record: Operation, detail: str = "") -> operation_pb2.Operation:
    """An operation, with the connector's own view of it where it was asked for."""
    return operation_pb2.Operation(
        id=record.id,
        namespace=record.namespace,
        tx=record.tx,
        type=record.type,
        status=record.status,
        plugin=record.plugin,
        input=record.input,
        output=record.output,
        error=record.error,
        created=timestamp(record.created),
        updated=timestamp(record.updated),
        retry=record.retry or "",
        detail=detail,
    )


def blockchain_event(record: BlockchainEvent) -> blockchain_event_pb2.BlockchainEvent:
    """An event of a ledger."""
    return blockchain_event_pb2.BlockchainEvent(
        id=record.id,
        source=record.source,
        namespace=record.namespace,
        name=record.name,
        listener=record.listener or "",
        protocol_id=record.protocol_id,
        output=record.output,
        info=record.info,
        timestamp=timestamp(record.timestamp),
        tx=blockchain_event_pb2.BlockchainTransactionRef(
            type=record.tx_type or "", id=record.tx_id or "", blockchain_id=record.tx_blockchain_id
        ),
    )


def identity(record: Identity, verifiers: Sequence[Verifier] = ()) -> identity_pb2.Identity:
    """An identity, with its verifiers where they were asked for."""
    base = record.base
    return identity_pb2.Identity(
        id=base.id,
        did=base.did,
        type=base.type,
        parent=base.parent or "",
        namespace=record.namespace,
        name=base.name,
        description=record.description,
        profile=record.profile,
        messages=identity_pb2.IdentityMessages(
            claim=record.claim or "",
            verification=record.verification or "",
            update=record.update or "",
        ),
        created=timestamp(record.created),
        updated=timestamp(record.updated),
        verifiers=[identity_pb2.VerifierRef(type=v.type, value=v.value) for v in verifiers],
    )


def verifier(record: Verifier) -> identity_pb2.Verifier:
    """A verifier."""
    return identity_pb2.Verifier(
        hash=record.hash,
        identity=record.identity,
        namespace=record.namespace,
        type=record.type,
        value=record.value,
        created=timestamp(record.created),
    )


def datatype(record: Datatype) -> datatype_pb2.Datatype:
    """A datatype."""
    return datatype_pb2.Datatype(
        id=record.id,
        message=record.message or "",
        validator="json",
        namespace=record.namespace,
        name=record.name,
        version=record.version,
        hash=record.hash,
        created=timestamp(record.created),
        value=record.value,
    )


def event(record: Event | NewEvent) -> event_pb2.Event:
    """An event without the object it refers to."""
    made = event_pb2.Event()
    fill_event(made, record)
    return made


def fill_event(target: event_pb2.Event, record: Event | NewEvent) -> None:
    """`event` into an empty one that is part of a larger answer, which saves a copy."""
    target.id = record.id
    if isinstance(record, Event):
        target.sequence = record.sequence
    target.type = record.type
    target.namespace = record.namespace
    target.reference = record.reference
    if record.correlator:
        target.correlator = record.correlator
    if record.tx:
        target.tx = record.tx
    target.topic = record.topic
    _set_time(target.created, record.created)


class _Filter(msgspec.Struct):
    """The shape of a stored filter."""

    events: str = ""
    message: dict[str, str] = {}
    transaction: dict[str, str] = {}
    blockchainevent: dict[str, str] = {}
    topic: str = ""
    topics: str = ""
    tag: str = ""
    group: str = ""
    author: str = ""


def dead_letter(record: DeadLetter) -> subscription_pb2.DeadLetter:
    """A dead letter."""
    return subscription_pb2.DeadLetter(
        id=record.id,
        namespace=record.namespace,
        subscription=record.subscription,
        event=record.event,
        event_sequence=record.event_sequence,
        event_type=record.event_type,
        state=record.state,
        attempts=record.attempts,
        status=record.status,
        error=record.error,
        created=timestamp(record.created),
        updated=timestamp(record.updated),
    )


def subscription(record: Subscription) -> subscription_pb2.Subscription:
    """A subscription."""
    return subscription_pb2.Subscription(
        id=record.id,
        namespace=record.namespace,
        name=record.name,
        transport=record.transport,
        filter=_subscription_filter(record.filter_json),
        options=_subscription_options(record.options_json),
        created=timestamp(record.created),
        updated=timestamp(record.updated),
    )


def _subscription_filter(text: str) -> subscription_pb2.SubscriptionFilter:
    stored = msgspec.json.decode(text or "{}", type=_Filter)
    return subscription_pb2.SubscriptionFilter(
        events=stored.events,
        message=subscription_pb2.MessageFilter(
            tag=stored.message.get("tag", ""),
            group=stored.message.get("group", ""),
            author=stored.message.get("author", ""),
        ),
        transaction=subscription_pb2.TransactionFilter(type=stored.transaction.get("type", "")),
        blockchain_event=subscription_pb2.BlockchainEventFilter(
            name=stored.blockchainevent.get("name", ""),
            listener=stored.blockchainevent.get("listener", ""),
        ),
        topic=stored.topic,
        topics=stored.topics,
        tag=stored.tag,
        group=stored.group,
        author=stored.author,
    )


def _subscription_options(text: str) -> subscription_pb2.SubscriptionOptions:
    stored: dict[str, msgspec.Raw] = msgspec.json.decode(text or "{}", type=dict[str, msgspec.Raw])
    options = subscription_pb2.SubscriptionOptions()
    if "firstEvent" in stored:
        options.first_event = msgspec.json.decode(stored["firstEvent"], type=str)
    if "readAhead" in stored:
        options.read_ahead = msgspec.json.decode(stored["readAhead"], type=int)
    if "withData" in stored:
        options.with_data = msgspec.json.decode(stored["withData"], type=bool)
    if "batch" in stored:
        options.batch = msgspec.json.decode(stored["batch"], type=bool)
    if "batchTimeout" in stored:
        options.batch_timeout = msgspec.json.decode(stored["batchTimeout"], type=str)
    other = {key: value for key, value in stored.items() if key not in CORE_OPTIONS}
    if other:
        options.other = msgspec.json.encode(other).decode()
    return options
