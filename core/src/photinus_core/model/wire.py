"""What members send each other: batches, and the wrapper in which private ones travel.

FireFly's JSON, with its key order. The payload is not hashed as a whole (the manifest is), so only
what the manifest, the message headers and the data values cover is compared byte for byte; those
parts are written and read without change. Parsing checks shapes only. Whether hashes, authors and
references agree is `verify_batch`'s question.
"""

from __future__ import annotations

from typing import Final

import msgspec

from photinus_core.model import canonical
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, parse_hash, parse_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import (
    Batch,
    BatchType,
    BlobRef,
    Data,
    DataRef,
    DatatypeRef,
    Group,
    GroupMember,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    TransactionRef,
    Validator,
)


class WireBatch(msgspec.Struct, frozen=True):
    """A batch with its payload, sent or received."""

    batch: Batch
    messages: tuple[Message, ...]
    data: tuple[Data, ...]
    network_namespace: str


def batch_manifest(
    batch: Uuid, tx: TransactionRef, messages: list[Message], data: list[DataRef]
) -> str:
    """Writes the manifest whose SHA-256 is the batch's hash."""
    return canonical.manifest_json(
        batch,
        tx.type,
        tx.id,
        [(m.header.id, m.hash, len(m.header.topics)) for m in messages],
        [(d.id, d.hash) for d in data],
    )


def encode_batch(wire: WireBatch) -> str:
    """Writes a batch for shared storage or a private wrapper.

    Private batches leave out where blobs were published.
    """
    batch, quote = wire.batch, canonical.quote
    public = batch.type is BatchType.BROADCAST
    head = [f'"id":"{batch.id}","type":"{batch.type}","namespace":{quote(wire.network_namespace)}']
    if batch.node:
        head.append(f'"node":"{batch.node}"')
    if batch.group:
        head.append(f'"group":"{batch.group}"')
    head.append(f'"created":"{canonical.format_time(batch.created)}"')
    if batch.author:
        head.append(f'"author":{quote(batch.author)}')
    if batch.key:
        head.append(f'"key":{quote(batch.key)}')
    head.append(f'"hash":"{batch.hash}"')
    messages = ",".join(_encode_message(m, batch.tx.id) for m in wire.messages)
    data = ",".join(_encode_data(d, public=public) for d in wire.data)
    tx = f'{{"type":"{batch.tx.type}","id":"{batch.tx.id}"}}'
    return f'{{{",".join(head)},"payload":{{"tx":{tx},"messages":[{messages}],"data":[{data}]}}}}'


def encode_wrapper(wire: WireBatch, group: Group | None) -> str:
    """Writes what the data exchange carries.

    The batch, and, where no groupinit message travels, the group.
    """
    batch = encode_batch(wire)
    if group is None:
        return f'{{"batch":{batch}}}'
    return f'{{"group":{encode_group(group)},"batch":{batch}}}'


def encode_group(group: Group) -> str:
    """Writes a group as FireFly's wrapper and groupinit message hold it."""
    members = ",".join(
        f'{{"identity":{canonical.quote(m.identity)},"node":"{m.node}"}}' for m in group.members
    )
    message = f'"message":"{group.message}",' if group.message else ""
    return (
        f'{{"namespace":{canonical.quote(group.network_namespace)},"name":{canonical.quote(group.name)},'
        f'"members":[{members}],{message}"hash":"{group.hash}","created":"{canonical.format_time(group.created)}"}}'
    )


def _encode_message(message: Message, txid: Uuid) -> str:
    refs = ",".join(f'{{"id":"{d.id}","hash":"{d.hash}"}}' for d in message.data)
    pins = f',"pins":[{",".join(canonical.quote(p) for p in message.pins)}]' if message.pins else ""
    header = canonical.message_header_json(message.header)
    return f'{{"header":{header},"hash":"{message.hash}","txid":"{txid}","data":[{refs}]{pins}}}'


def _encode_data(data: Data, *, public: bool) -> str:
    quote = canonical.quote
    parts = [
        f'"id":"{data.id}","validator":"{data.validator}","hash":"{data.hash}"',
        f'"created":"{canonical.format_time(data.created)}"',
    ]
    if data.datatype:
        parts.append(
            f'"datatype":{{"name":{quote(data.datatype.name)},"version":{quote(data.datatype.version)}}}'
        )
    parts.append(f'"value":{data.value if data.value is not None else "null"}')
    if data.blob:
        blob = data.blob
        where = f',"public":{quote(blob.public)}' if public and blob.public else ""
        path = f',"path":{quote(blob.path)}' if public and blob.path else ""
        parts.append(
            f'"blob":{{"hash":"{blob.hash}","size":{blob.size},"name":{quote(blob.name)}{path}{where}}}'
        )
    return f"{{{','.join(parts)}}}"


class _TxRef(msgspec.Struct):
    type: str = ""
    id: str = ""


class _Header(msgspec.Struct):
    id: str
    type: str
    cid: str | None = None
    txtype: str = ""
    author: str = ""
    key: str = ""
    created: str | None = None
    namespace: str = ""
    group: str | None = None
    topics: list[str] = []
    tag: str = ""
    datahash: str = ""
    txparent: _TxRef | None = None


class _Ref(msgspec.Struct):
    id: str
    hash: str


class _Message(msgspec.Struct):
    header: _Header
    hash: str
    data: list[_Ref] | None = None
    txid: str | None = None


class _DatatypeRef(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Blob(msgspec.Struct):
    hash: str
    size: int = 0
    name: str = ""
    path: str = ""
    public: str = ""


class _Data(msgspec.Struct):
    id: str
    hash: str
    validator: str = ""
    created: str | None = None
    datatype: _DatatypeRef | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")
    blob: _Blob | None = None


class _Payload(msgspec.Struct):
    tx: _TxRef
    messages: list[_Message] = []
    data: list[_Data] = []


class _Batch(msgspec.Struct):
    id: str
    type: str
    hash: str
    payload: _Payload
    namespace: str = ""
    node: str | None = None
    group: str | None = None
    created: str | None = None
    author: str = ""
    key: str = ""


class _Member(msgspec.Struct):
    identity: str
    node: str


class _Group(msgspec.Struct):
    members: list[_Member]
    namespace: str = ""
    name: str = ""
    hash: str | None = None
    created: str | None = None
    message: str | None = None


class _Wrapper(msgspec.Struct):
    batch: _Batch
    group: _Group | None = None


_batch_decoder = msgspec.json.Decoder(_Batch)
_wrapper_decoder = msgspec.json.Decoder(_Wrapper)
_VALUES_OF_BATCH: Final = ('"payload"', '"data"', None, '"value"')
_VALUES_OF_WRAPPER: Final = ('"batch"', *_VALUES_OF_BATCH)
_group_decoder = msgspec.json.Decoder(_Group)


def decode_batch(payload: bytes | str, namespace: Namespace) -> WireBatch:
    """Reads a batch from shared storage.

    Raises:
        Rejected: it is no batch.
    """
    try:
        return _batch(_read_batch(payload), namespace)
    except (msgspec.DecodeError, ValueError, RecursionError, PhotinusError) as failure:
        raise Rejected("FF19400", str(failure)) from failure


def decode_wrapper(payload: bytes | str, namespace: Namespace) -> tuple[WireBatch, Group | None]:
    """Reads what a peer's data exchange sent.

    Raises:
        Rejected: it is no wrapper.
    """
    try:
        wrapper = _read_wrapper(payload)
        group = None if wrapper.group is None else _group(wrapper.group, namespace)
        return _batch(wrapper.batch, namespace), group
    except (msgspec.DecodeError, ValueError, RecursionError, PhotinusError) as failure:
        raise Rejected("FF19400", str(failure)) from failure


def decode_group(payload: bytes | str, namespace: Namespace) -> Group:
    """Reads a group out of the data of a groupinit message.

    Raises:
        Rejected: it is none.
    """
    try:
        return _group(_group_decoder.decode(payload), namespace)
    except (msgspec.DecodeError, ValueError, RecursionError, PhotinusError) as failure:
        raise Rejected("FF19400", str(failure)) from failure


def _read_batch(payload: bytes | str) -> _Batch:
    try:
        return _batch_decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        text, values = _without_values(payload, _VALUES_OF_BATCH)
        batch = _batch_decoder.decode(text)
        _put_back(batch, values)
        return batch


def _read_wrapper(payload: bytes | str) -> _Wrapper:
    try:
        return _wrapper_decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        text, values = _without_values(payload, _VALUES_OF_WRAPPER)
        wrapper = _wrapper_decoder.decode(text)
        _put_back(wrapper.batch, values)
        return wrapper


def _without_values(payload: bytes | str, path: tuple[str | None, ...]) -> tuple[str, list[str]]:
    """Lays the users' values aside: the fast parser is stricter with them than Go's.

    It refuses deep nesting and lone surrogate escapes. A sender's own members take such values, so
    a receiver that did not would decide differently.
    """
    text = canonical.decode_utf8(payload) if isinstance(payload, bytes) else payload
    return canonical.cut_values(text, path)


def _put_back(batch: _Batch, values: list[str]) -> None:
    for item in batch.payload.data:
        if (place := bytes(item.value)).isdigit():
            item.value = msgspec.Raw(values[int(place)].encode())


def _time(text: str | None) -> Nanoseconds:
    return canonical.parse_time(text) if text else Nanoseconds(0)


def _uuid_or_none(text: str | None) -> Uuid | None:
    return parse_uuid(text) if text else None


def _hash_or_none(text: str | None) -> Hash32 | None:
    return parse_hash(text) if text else None


def _group(raw: _Group, namespace: Namespace) -> Group:
    members = tuple(GroupMember(identity=m.identity, node=parse_uuid(m.node)) for m in raw.members)
    computed = canonical.group_hash(
        raw.namespace, raw.name, [(m.identity, m.node) for m in members]
    )
    return Group(
        namespace=namespace,
        network_namespace=raw.namespace,
        name=raw.name,
        members=members,
        hash=computed,
        created=_time(raw.created),
        message=_uuid_or_none(raw.message),
    )


def _batch(raw: _Batch, namespace: Namespace) -> WireBatch:
    batch_id, tx = parse_uuid(raw.id), _tx(raw.payload.tx)
    messages = tuple(_message(m, namespace, batch_id, tx.id) for m in raw.payload.messages)
    data = tuple(_data(d, namespace) for d in raw.payload.data)
    manifest = batch_manifest(batch_id, tx, list(messages), [DataRef(d.id, d.hash) for d in data])
    batch = Batch(
        id=batch_id,
        type=BatchType(raw.type),
        namespace=namespace,
        author=raw.author,
        key=raw.key,
        created=_time(raw.created),
        hash=parse_hash(raw.hash),
        manifest=manifest,
        tx=tx,
        node=_uuid_or_none(raw.node),
        group=_hash_or_none(raw.group),
    )
    return WireBatch(batch=batch, messages=messages, data=data, network_namespace=raw.namespace)


def _tx(raw: _TxRef) -> TransactionRef:
    return TransactionRef(type=TransactionType(raw.type), id=parse_uuid(raw.id))


def _message(raw: _Message, namespace: Namespace, batch: Uuid, txid: Uuid) -> Message:
    head = raw.header
    header = MessageHeader(
        id=parse_uuid(head.id),
        type=MessageType(head.type),
        txtype=TransactionType(head.txtype or "batch_pin"),
        author=head.author,
        key=head.key,
        created=_time(head.created),
        namespace=head.namespace,
        topics=tuple(head.topics),
        datahash=parse_hash(head.datahash),
        cid=_uuid_or_none(head.cid),
        group=_hash_or_none(head.group),
        tag=head.tag,
        txparent=None if head.txparent is None else _tx(head.txparent),
    )
    return Message(
        header=header,
        hash=parse_hash(raw.hash),
        data=tuple(DataRef(parse_uuid(d.id), parse_hash(d.hash)) for d in raw.data or ()),
        namespace=namespace,
        state=MessageState.PENDING,
        batch=batch,
        txid=txid,
    )


def _data(raw: _Data, namespace: Namespace) -> Data:
    value = bytes(raw.value)
    return Data(
        id=parse_uuid(raw.id),
        validator=Validator(raw.validator or "json"),
        namespace=namespace,
        hash=parse_hash(raw.hash),
        created=_time(raw.created),
        value=None if value == b"null" else canonical.compact(value),
        datatype=DatatypeRef(raw.datatype.name, raw.datatype.version) if raw.datatype else None,
        blob=None
        if raw.blob is None
        else BlobRef(
            hash=parse_hash(raw.blob.hash),
            size=raw.blob.size,
            name=raw.blob.name,
            path=raw.blob.path,
            public=raw.blob.public,
        ),
    )


def data_ref(data: Data) -> DataRef:
    """Names a data item with its content."""
    return DataRef(data.id, data.hash)
