"""FireFly's JSON for the messages of the typed API, by their options.

One of two walkers: the gateway has the other (Go). What a field is called, what stands for its zero
value and which text is copied as it is stands in the protos (`photinus.options.v1`); nothing here
knows a message by name. Webhooks send what `encode` writes; the golden tests hold both walkers to
FireFly's own answers and to each other.

Maps, groups and 32-bit floats are not used by the API and not supported.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from photinus.options.v1 import json_pb2

from photinus_core.model.canonical_json import (
    InvalidJsonError,
    InvalidTimeError,
    compact,
    format_time,
    parse_time,
    quote,
)
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Nanoseconds

_SECOND: Final = 1_000_000_000
_TIMESTAMP: Final = "google.protobuf.Timestamp"
_WIDE: Final = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True, slots=True)
class _Field:
    """What the walker needs to know of one field."""

    descriptor: FieldDescriptor
    name: str
    key: str
    options: json_pb2.JsonField
    write: Callable[[Any], str]

    @property
    def is_message(self) -> bool:
        return self.descriptor.message_type is not None and not self.is_time

    @property
    def is_time(self) -> bool:
        message = self.descriptor.message_type
        return message is not None and message.full_name == _TIMESTAMP


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the walker needs to know of one message."""

    fields: tuple[_Field, ...]
    by_name: dict[str, _Field]
    list_of: str
    raw_body: str


def encode(message: Message) -> str:
    """FireFly's JSON of a message: compact, keys in declared order, no newline at the end."""
    plan = _plan(message.DESCRIPTOR)
    if plan.raw_body:
        return _write_raw(getattr(message, plan.raw_body)) or "null"
    if plan.list_of:
        rows = getattr(message, plan.list_of)
        items = ",".join(encode(row) if isinstance(row, Message) else quote(row) for row in rows)
        if not message.HasField("total"):
            return f"[{items}]"
        total: int = message.total  # type: ignore[attr-defined]  # every list response has it
        return f'{{"count":{len(rows)},"total":{total},"items":[{items}]}}'
    return "{" + ",".join(_members(message, plan)) + "}"


def _members(message: Message, plan: _Plan) -> Iterator[str]:
    for field in plan.fields:
        options, descriptor = field.options, field.descriptor
        if options.hidden:
            continue
        value = getattr(message, descriptor.name)
        if options.inline:
            if options.raw:
                if inner := _write_raw(value)[1:-1]:
                    yield inner
            else:
                yield from _members(value, _plan(value.DESCRIPTOR))
        elif (text := _value(message, field, value)) is not None:
            yield f"{field.key}{text}"


def _value(message: Message, field: _Field, value: Any) -> str | None:
    """The text of a field's value, or None when its key is left out."""
    descriptor = field.descriptor
    if descriptor.is_repeated:
        if len(value) > 0:
            return f"[{','.join(map(field.write, value))}]"
        zero = "[]"
    elif descriptor.has_presence:
        if message.HasField(descriptor.name):
            return field.write(value)
        zero = "null" if field.is_time else field.write(value)
    else:
        if value:
            return field.write(value)
        zero = field.write(value) or '""'
    match field.options.empty:
        case json_pb2.EMPTY_KEEP:
            return zero
        case json_pb2.EMPTY_NULL:
            return "null"
        case _:
            return None


def decode(text: str | bytes, message: Message) -> None:
    """Reads FireFly's JSON into a message that is empty.

    Keys are matched as Go does, exactly or else without regard to case; unknown keys are ignored
    unless a field collects them; `null` leaves a field unset, but for raw ones, which hold it.

    Raises:
        Rejected: FF19001 not JSON; FF19002 a value that does not fit its field.
    """
    try:
        canonical = compact(text)
    except InvalidJsonError as failure:
        raise Rejected("FF19001", failure) from failure
    _read_body(canonical.encode(), message)


def _read_body(text: bytes, message: Message) -> None:
    plan = _plan(message.DESCRIPTOR)
    if plan.raw_body:
        setattr(message, plan.raw_body, text.decode())
    elif plan.list_of:
        if text[:1] == b"{":
            counted = _object(text, "body")
            message.total = _read_int(counted["total"], "total")  # type: ignore[attr-defined]  # as in encode
            text = bytes(counted["items"])
        _read_repeated(text, message, plan.by_name[plan.list_of], "")
    else:
        _read_object(text, message, "")


def _read_object(text: bytes, message: Message, path: str) -> None:
    members = _object(text, path or "body")
    rest = _read_members(members, message, path)
    for field in _plan(message.DESCRIPTOR).fields:
        if field.options.inline and field.options.raw and rest:
            pairs = (f"{quote(name)}:{bytes(rest[name]).decode()}" for name in rest)
            setattr(message, field.descriptor.name, "{" + ",".join(pairs) + "}")


def _read_members(
    members: dict[str, msgspec.Raw], message: Message, path: str
) -> dict[str, msgspec.Raw]:
    """Reads what fits the message; gives back what does not."""
    plan = _plan(message.DESCRIPTOR)
    rest: dict[str, msgspec.Raw] = {}
    for name, raw in members.items():
        field = plan.by_name.get(name) or plan.by_name.get(name.lower())
        if field is None:
            rest[name] = raw
        else:
            _read_field(bytes(raw), message, field, f"{path}.{field.name}" if path else field.name)
    for field in plan.fields:
        if field.options.inline and not field.options.raw:
            inner = getattr(message, field.descriptor.name)
            # Even without one member of its own the embedded message is there.
            inner.SetInParent()
            rest = _read_members(rest, inner, path)
    return rest


def _read_field(text: bytes, message: Message, field: _Field, path: str) -> None:
    descriptor = field.descriptor
    if text == b"null" and not field.options.raw:
        return
    if descriptor.is_repeated:
        _read_repeated(text, message, field, path)
    elif field.is_time:
        _set_time(getattr(message, descriptor.name), _read_string(text, path, numbers=True), path)
    elif field.is_message:
        inner = getattr(message, descriptor.name)
        inner.SetInParent()
        _read_object(text, inner, path)
    else:
        setattr(message, descriptor.name, _read_scalar(text, field, path))


def _read_repeated(text: bytes, message: Message, field: _Field, path: str) -> None:
    try:
        items = _raw_list.decode(text)
    except msgspec.DecodeError:
        raise Rejected("FF19002", path or "body", "must be a JSON array") from None
    target = getattr(message, field.descriptor.name)
    for index, raw in enumerate(items):
        place = f"{path}[{index}]"
        if field.is_message:
            _read_object(bytes(raw), target.add(), place)
        else:
            target.append(_read_scalar(bytes(raw), field, place))


def _read_scalar(text: bytes, field: _Field, path: str) -> Any:
    descriptor = field.descriptor
    if field.options.raw:
        return text.decode()
    match descriptor.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            string = _read_string(text, path)
            return (
                string if descriptor.type == FieldDescriptor.TYPE_STRING else _bytes(string, path)
            )
        case FieldDescriptor.CPPTYPE_BOOL:
            if text not in (b"true", b"false"):
                raise Rejected("FF19002", path, "must be true or false")
            return text == b"true"
        case FieldDescriptor.CPPTYPE_DOUBLE:
            if text[:1] not in b"-0123456789" or math.isinf(float(text)):
                raise Rejected("FF19002", path, "must be a number")
            return float(text)
        case FieldDescriptor.CPPTYPE_ENUM:
            assert descriptor.enum_type is not None
            found = descriptor.enum_type.values_by_name.get(_read_string(text, path))
            if found is None:
                raise Rejected("FF19002", path, "is not one of its values")
            return found.number
        case kind:
            if _is_quoted_integer(field):
                text = _read_string(text, path).encode()
            number = _read_int(text, path)
            low, high = _RANGES[kind]
            if not low <= number <= high:
                raise Rejected("FF19002", path, f"must be between {low} and {high}")
            return number


def _set_time(target: Timestamp, text: str, path: str) -> None:
    try:
        time = parse_time(text)
    except InvalidTimeError as failure:
        raise Rejected("FF19002", path, "must be a time: RFC 3339 or a Unix number") from failure
    target.seconds, target.nanos = divmod(time, _SECOND)


_raw_dict: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_string: Final = msgspec.json.Decoder(str)


def _object(text: bytes, path: str) -> dict[str, msgspec.Raw]:
    try:
        return _raw_dict.decode(text)
    except msgspec.DecodeError:
        raise Rejected("FF19002", path, "must be a JSON object") from None


def _read_string(text: bytes, path: str, *, numbers: bool = False) -> str:
    if numbers and text[:1] != b'"':
        return text.decode()
    try:
        return _string.decode(text)
    except msgspec.DecodeError:
        raise Rejected("FF19002", path, "must be a string") from None


def _read_int(raw: bytes | msgspec.Raw, path: str) -> int:
    text = bytes(raw).decode()
    # int() also takes what JSON does not: underscores, spaces, a plus sign, other digits.
    if text.isascii() and text.removeprefix("-").isdigit():
        return int(text)
    raise Rejected("FF19002", path, "must be a whole number")


def _bytes(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as failure:
        raise Rejected("FF19002", path, "must be base64") from failure


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    options = descriptor.GetOptions().Extensions[json_pb2.json_message]
    fields = tuple(_field(field) for field in descriptor.fields)
    named = [field for field in fields if not (field.options.hidden or field.options.inline)]
    by_name = {field.name.lower(): field for field in named} | {f.name: f for f in named}
    return _Plan(fields, by_name, options.list_of, options.raw_body)


def _field(descriptor: FieldDescriptor) -> _Field:
    options = descriptor.GetOptions().Extensions[json_pb2.json]
    name = options.name or descriptor.camelcase_name
    return _Field(descriptor, name, f"{quote(name)}:", options, _writer(descriptor, options))


def _is_quoted_integer(field: _Field) -> bool:
    return field.descriptor.type in _WIDE and not field.options.number64


def _writer(descriptor: FieldDescriptor, options: json_pb2.JsonField) -> Callable[[Any], str]:
    """Chooses how one value of a field is written."""
    if descriptor.message_type is not None:
        return _write_time if descriptor.message_type.full_name == _TIMESTAMP else encode
    if options.raw:
        return _write_raw
    match descriptor.type:
        case FieldDescriptor.TYPE_STRING:
            return quote
        case FieldDescriptor.TYPE_BYTES:
            return lambda value: f'"{base64.b64encode(value).decode()}"'
        case FieldDescriptor.TYPE_BOOL:
            return lambda value: "true" if value else "false"
        case FieldDescriptor.TYPE_DOUBLE:
            return _write_double
        case FieldDescriptor.TYPE_ENUM:
            assert descriptor.enum_type is not None
            names = {value.number: value.name for value in descriptor.enum_type.values}
            return lambda value: quote(names[value]) if value in names else str(value)
        case kind if kind in _WIDE and not options.number64:
            return lambda value: f'"{value}"'
        case _:
            return str


def _write_raw(text: str) -> str:
    """The text as it stands, with the escapes that Go's encoder puts into what it copies."""
    if "<" in text or ">" in text or "&" in text:
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    if not text.isascii():
        text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text


def _write_time(time: Timestamp) -> str:
    return f'"{format_time(Nanoseconds(time.seconds * _SECOND + time.nanos))}"'


def _write_double(value: float) -> str:
    """As Go: the shortest digits that give it back; an exponent below 1e-6 and from 1e21 on."""
    if not math.isfinite(value):
        return "null"
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    mantissa, exponent = repr(value).split("e")
    sign, digits = exponent[0], exponent[1:].lstrip("0")
    return f"{mantissa.removesuffix('.0')}e{sign}{digits}"
