"""Records of the core as the public API shows them.

Method: a record of each kind whose every field has a value of its own is converted, and each field of the
message must hold the one of the same name (or the one the table names): a field that was forgotten, or that
holds another's value, shows. A record with nothing but what is required leaves everything else absent.
"""

from __future__ import annotations

import hashlib
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import pytest
from google.protobuf.message import Message as Proto
from google.protobuf.timestamp_pb2 import Timestamp
from photinus.api.v1 import event_pb2
from photinus_core.model.events import Event, Subscription
from photinus_core.model.ids import Hash32, Nanoseconds, Uuid
from photinus_core.model.ledger import BlockchainEvent, Operation, Transaction
from photinus_core.model.messages import (
    Batch,
    BlobRef,
    Data,
    Group,
    Message,
    MessageHeader,
    NextPin,
    Pin,
)
from photinus_core.model.network import Datatype, Identity, Verifier
from photinus_core.operations.service import StatusDetail
from photinus_core.rpc import convert

R = TypeVar("R")


def filled(kind: Any, name: str) -> Any:
    """A value of a type that no other name has."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    digest = hashlib.sha256(name.encode()).hexdigest()
    if origin in (typing.Union, types.UnionType):
        return filled(next(a for a in args if a is not types.NoneType), name)
    if origin is tuple:
        return tuple(filled(args[0], f"{name}{n}") for n in range(3))
    if kind is Uuid:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    if kind is Hash32:
        return digest
    if kind is Nanoseconds:
        return int(digest[:7], 16) * 1_000_000_000 + int(digest[7:14], 16)
    if isinstance(kind, typing.NewType):
        return filled(kind.__supertype__, name)
    if kind is bool:
        return True
    if kind is int:
        return int(digest[:7], 16)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return list(kind)[-1]
    if kind is str:
        return name
    return full(kind, name)


def full(kind: type[R], name: str = "") -> R:
    """A record whose every field has a value of its own."""
    hints = typing.get_type_hints(kind)
    return kind(**{each: filled(hints[each], f"{name}.{each}") for each in fields_of(kind)})


def bare(kind: type[R]) -> R:
    """A record with nothing but what is required; its texts are empty, its times zero."""
    hints, given = typing.get_type_hints(kind), {}
    for each in fields_of(kind, required=True):
        value = filled(hints[each], each)
        if isinstance(value, msgspec.Struct):
            value = bare(type(value))
        given[each] = value
    return kind(**given)


def fields_of(kind: Any, *, required: bool = False) -> list[str]:
    if issubclass(kind, msgspec.Struct):
        return [f.encode_name for f in msgspec.structs.fields(kind) if not required or f.required]
    return list(kind.__dataclass_fields__)


Names = Mapping[str, str | None]


def check(made: Proto, record: Any, names: Names) -> None:
    """Each field of a message holds what the record has under its name.

    Args:
        names: Paths in the record, by path in the message; None for what is filled elsewhere.
    """
    for field in made.DESCRIPTOR.fields:
        source = names.get(field.name, field.name)
        if source is None:
            continue
        wanted = record
        for part in source.split(".") if source else ():
            wanted = getattr(wanted, part)
        found = getattr(made, field.name)
        if isinstance(found, Timestamp):
            assert found.seconds * 1_000_000_000 + found.nanos == wanted, field.name
        elif isinstance(found, Proto):
            below = {
                path.partition(".")[2]: to
                for path, to in names.items()
                if path.startswith(f"{field.name}.")
            }
            check(found, wanted, below)
        elif isinstance(wanted, tuple):
            assert len(found) == len(wanted), field.name
            for one, other in zip(found, wanted, strict=True):
                if isinstance(one, Proto):
                    check(one, other, {})
                else:
                    assert one == other, field.name
        else:
            assert found == wanted, field.name


# Objects an event refers to, added by those who deliver it.
REFERRED = [
    field.name
    for field in event_pb2.Event.DESCRIPTOR.fields
    if field.message_type is not None and field.name != "created"
]
KINDS: list[tuple[type[Any], Callable[[Any], Proto], Names]] = [
    (MessageHeader, convert.header, {}),
    (
        Message,
        convert.message,
        {
            "local_namespace": "namespace",
            # What is given inline is given by data items; here there are none.
            "data": None,
        },
    ),
    (Data, convert.data_item, {}),
    (Data, convert.inline_data, {}),
    (Batch, convert.batch, {}),
    (Pin, convert.pin, {}),
    (NextPin, convert.next_pin, {}),
    (Group, convert.group, {"namespace": "network_namespace", "local_namespace": "namespace"}),
    (Transaction, convert.transaction, {}),
    (StatusDetail, convert.status_detail, {}),
    (Operation, convert.operation, {"detail": None}),
    (
        BlockchainEvent,
        convert.blockchain_event,
        {"tx": "", "tx.type": "tx_type", "tx.id": "tx_id", "tx.blockchain_id": "tx_blockchain_id"},
    ),
    (
        Identity,
        convert.identity,
        {
            **{name: f"base.{name}" for name in ("id", "did", "type", "parent", "name")},
            "messages": "",
            "verifiers": None,
        },
    ),
    (Verifier, convert.verifier, {}),
    (Datatype, convert.datatype, {"validator": None}),
    (Event, convert.event, dict.fromkeys(REFERRED)),
]
EACH = pytest.mark.parametrize(
    ("kind", "converted", "names"), KINDS, ids=[made.__name__ for _, made, _ in KINDS]
)


@EACH
def test_every_field_is_there(
    kind: type[Any], converted: Callable[[Any], Proto], names: Names
) -> None:
    record = full(kind)
    check(converted(record), record, names)


@EACH
def test_what_is_not_there_is_absent(
    kind: type[Any], converted: Callable[[Any], Proto], names: Names
) -> None:
    made, whole = converted(bare(kind)), converted(full(kind))
    optional = {field.name for field, _ in whole.ListFields()} - {
        field.name for field, _ in made.ListFields()
    }
    defaulted = set(fields_of(kind)) - set(fields_of(kind, required=True))
    for name in optional:
        source = (names.get(name, name) or name).partition(".")[0]
        assert source in defaulted or source in ("base", ""), (
            f"{name} was required, and is not there"
        )


def test_times_are_exact_and_zero_is_absent() -> None:
    assert convert.timestamp(None) is None
    assert convert.timestamp(Nanoseconds(0)) is None
    made = convert.timestamp(Nanoseconds(1_700_000_000_123_456_789))
    assert made == Timestamp(seconds=1_700_000_000, nanos=123_456_789)


def test_data_of_a_message_are_given_in_full_where_they_are_known() -> None:
    message = full(Message)
    first, *others = message.data
    item = msgspec.structs.replace(full(Data), id=first.id, hash=first.hash)
    plain = convert.message(message)
    assert [(d.id, d.hash, d.value) for d in plain.data] == [
        (d.id, d.hash, "") for d in message.data
    ]
    made = convert.message(message, {first.id: item})
    assert made.data[0] == convert.inline_data(item)
    assert [(d.id, d.value) for d in made.data[1:]] == [(d.id, "") for d in others]


def test_a_data_item_without_value_and_blob() -> None:
    item = msgspec.structs.replace(full(Data), value=None, blob=None, datatype=None)
    for made in (convert.data_item(item), convert.inline_data(item)):
        assert made.value == ""
        assert not made.HasField("blob")
        assert not made.HasField("datatype")
    blob = convert.data_item(full(Data)).blob
    check(blob, full(BlobRef, ".blob"), {})


def test_an_identity_shows_its_verifiers_when_asked() -> None:
    record, key = full(Identity), full(Verifier)
    assert not convert.identity(record).verifiers
    (shown,) = convert.identity(record, [key]).verifiers
    assert (shown.type, shown.value) == (key.type, key.value)


def test_an_operation_shows_its_connectors_view_when_asked() -> None:
    assert convert.operation(full(Operation)).detail == ""
    assert convert.operation(full(Operation), '{"a":1}').detail == '{"a":1}'


def test_a_subscription_is_shown_as_it_was_made() -> None:
    filters = (
        '{"events":"e","message":{"tag":"mt","group":"mg","author":"ma"},"transaction":{"type":"tt"},'
        '"blockchainevent":{"name":"bn","listener":"bl"},"topic":"t","topics":"ts","tag":"g","group":"r",'
        '"author":"a"}'
    )
    options = (
        '{"firstEvent":"17","readAhead":5,"withData":true,"batch":true,"batchTimeout":"2s",'
        '"fastack":true,"deep":{"x":[1]}}'
    )
    record = msgspec.structs.replace(full(Subscription), filter_json=filters, options_json=options)
    made = convert.subscription(record)
    others: dict[str, str | None] = dict.fromkeys(f.name for f in made.DESCRIPTOR.fields)
    own: dict[str, str | None] = {
        name: name for name in ("id", "namespace", "name", "transport", "created", "updated")
    }
    check(made, record, others | own)
    shown = made.filter
    assert (shown.events, shown.topic, shown.topics) == ("e", "t", "ts")
    assert (shown.tag, shown.group, shown.author) == ("g", "r", "a")
    assert (shown.message.tag, shown.message.group, shown.message.author) == ("mt", "mg", "ma")
    assert shown.transaction.type == "tt"
    assert (shown.blockchain_event.name, shown.blockchain_event.listener) == ("bn", "bl")
    assert (made.options.first_event, made.options.read_ahead) == ("17", 5)
    assert made.options.with_data
    assert made.options.batch
    assert made.options.batch_timeout == "2s"
    assert '"deep":{"x":[1]}' in made.options.other
    nothing = msgspec.structs.replace(record, filter_json="", options_json="", updated=None)
    made = convert.subscription(nothing)
    assert not made.HasField("updated")
    assert made.options.ListFields() == []
