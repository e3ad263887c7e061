"""Is a payload the batch that its hash names, and does that batch keep the rules? Pure.

Two different questions. A payload that does not recompute to the hash is not that batch: it is
refused, and the true one is still awaited. One that does, but breaks a rule that only hashed
content decides, is a defective batch: stored, and void for every member alike. Nothing that the
hashes do not cover (the batch's header, a data item's datatype) may decide either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from photinus_core.model import canonical, names
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import INTEGER_MAX, Hash32, Nanoseconds, Uuid
from photinus_core.model.messages import (
    BROADCAST_TYPES,
    Batch,
    Data,
    DataRef,
    Group,
    Message,
    MessageType,
)
from photinus_core.model.wire import WireBatch, decode_group

IDENTITY_BYTES_MAX: Final = 1024
"""Longest identity of a group's member; FireFly's columns hold as much."""


def verify_payload(wire: WireBatch) -> None:
    """Checks that a payload recomputes to its hashes.

    Raises:
        Rejected: FF19401, with what does not fit.
    """
    batch = wire.batch
    check_storable(wire)
    if canonical.batch_hash(batch.manifest) != batch.hash:
        raise Rejected("FF19401", batch.id, "its content has another hash")
    for message in wire.messages:
        refs = [(ref.id, ref.hash) for ref in message.data]
        if canonical.data_refs_hash(refs) != message.header.datahash:
            raise Rejected("FF19401", batch.id, f"data references of message {message.header.id}")
        if canonical.message_hash(message.header) != message.hash:
            raise Rejected("FF19401", batch.id, f"header of message {message.header.id}")
    for item in wire.data:
        if _data_hash(item) != item.hash:
            raise Rejected("FF19401", batch.id, f"data item {item.id}")


def check_storable(wire: WireBatch) -> None:
    """Checks that every database can store what was read: 64 bit numbers, text without NUL.

    Raises:
        Rejected: FF19401.
    """
    batch = wire.batch
    numbers = [batch.created]
    texts = [batch.author, batch.key]
    for message in wire.messages:
        header = message.header
        numbers.append(header.created)
        texts += [header.author, header.key, header.namespace, header.tag, *header.topics]
    for item in wire.data:
        numbers.append(item.created)
        if item.datatype is not None:
            texts += [item.datatype.name, item.datatype.version]
        if item.blob is not None:
            numbers.append(Nanoseconds(item.blob.size))
            texts += [item.blob.name, item.blob.path, item.blob.public]
    if not all(is_storable_number(number) for number in numbers):
        raise Rejected("FF19401", batch.id, "a time or size is out of range")
    if any("\0" in text for text in texts):
        raise Rejected("FF19401", batch.id, "a text holds NUL")


def is_storable_group(group: Group) -> bool:
    """Tells whether every database can store a group."""
    texts = (group.name, group.network_namespace, *(m.identity for m in group.members))
    if not is_storable_number(group.created) or any("\0" in text for text in texts):
        return False
    # Members are a key of the next pins: PostgreSQL refuses keys of more than 2,700 bytes.
    return all(len(m.identity.encode()) <= IDENTITY_BYTES_MAX for m in group.members)


def is_storable_number(number: int) -> bool:
    """Tells whether a number is a 64 bit integer and not negative."""
    return 0 <= number <= INTEGER_MAX


def _data_hash(item: Data) -> str:
    try:
        return canonical.data_hash(item.value, item.blob.hash if item.blob else None)
    except ValueError:
        return ""


class _Ref(msgspec.Struct):
    id: str
    hash: str


class _Manifest(msgspec.Struct):
    data: list[_Ref] = []


_manifest_decoder = msgspec.json.Decoder(_Manifest)


def defect_of(batch: Batch, messages: Sequence[Message], network_name: str) -> str:
    """Says which rule a batch breaks by what its hash covers; empty for a sound one."""
    if not messages:
        return "it has no messages"
    signers = {(message.header.author, message.header.key) for message in messages}
    if len(signers) > 1:
        return "its messages have different authors or keys"
    if len({message.header.id for message in messages}) != len(messages):
        return "it has a message twice"
    for message in messages:
        if flaw := _flaw_of(message, network_name):
            return f"message {message.header.id}: {flaw}"
    listed = {(ref.id, ref.hash) for ref in _manifest_decoder.decode(batch.manifest).data}
    used = {(str(ref.id), str(ref.hash)) for message in messages for ref in message.data}
    if listed != used:
        return "its data are not those its messages refer to"
    return ""


def _flaw_of(message: Message, network_name: str) -> str:
    header = message.header
    if header.namespace != network_name:
        return f"its namespace is '{header.namespace}'"
    if (header.group is None) != (header.type in BROADCAST_TYPES):
        return "its type does not go with its group"
    if not header.topics:
        return "it has no topic"
    if len({ref.id for ref in message.data}) != len(message.data):
        return "it refers to a data item twice"
    try:
        names.check_topics(header.topics)
        names.check_tag(header.tag)
    except PhotinusError as failure:
        return str(failure)
    return ""


def introduced_groups(
    messages: Sequence[Message], data: Mapping[tuple[Uuid, Hash32], Data]
) -> list[Group]:
    """Groups that groupinit messages prove: those whose content has the hash the message names."""
    found = []
    for message in messages:
        if message.header.type is not MessageType.GROUP_INIT or len(message.data) != 1:
            continue
        ref: DataRef = message.data[0]
        item = data.get((ref.id, ref.hash))
        if item is None or item.value is None:
            continue
        try:
            group = decode_group(item.value, message.namespace)
        except PhotinusError:
            continue
        if group.hash == message.header.group and is_storable_group(group):
            found.append(msgspec.structs.replace(group, message=message.header.id))
    return found
