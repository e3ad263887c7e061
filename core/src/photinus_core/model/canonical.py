"""The bytes that are hashed, and their hashes: FireFly's, so that members of both kinds agree.

Every SHA-256 is over what Go's `encoding/json` would write (`canonical_json`), in the key order
of the reference notes, or over plain concatenations without separators. Hashes are returned as
64 lower-case hex digits. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from photinus_core.model.canonical_json import (
    InvalidJsonError,
    InvalidTimeError,
    compact,
    cut_values,
    decode_utf8,
    format_time,
    parse_time,
    quote,
)
from photinus_core.model.ids import Hash32
from photinus_core.model.messages import MessageHeader

__all__ = [
    "InvalidJsonError",
    "InvalidTimeError",
    "batch_hash",
    "broadcast_context",
    "compact",
    "cut_values",
    "data_hash",
    "data_refs_hash",
    "data_refs_json",
    "decode_utf8",
    "definition_topic",
    "format_time",
    "group_hash",
    "group_json",
    "hash_text",
    "identity_topic",
    "manifest_json",
    "message_hash",
    "message_header_json",
    "nonce_key",
    "parse_time",
    "private_context",
    "private_pin",
    "private_pins",
    "quote",
    "verifier_hash",
]

_MANIFEST_VERSION: Final = 1


def hash_text(text: str) -> Hash32:
    """SHA-256 of text in UTF-8."""
    return Hash32(sha256(text.encode()).hexdigest())


def message_header_json(header: MessageHeader) -> str:
    """Writes a message header; empty fields are left out, except `id` and `type`."""
    parts = [f'{{"id":"{header.id}"']
    if header.cid:
        parts.append(f'"cid":"{header.cid}"')
    parts.append(f'"type":"{header.type}"')
    if header.txtype:
        parts.append(f'"txtype":"{header.txtype}"')
    if header.author:
        parts.append(f'"author":{quote(header.author)}')
    if header.key:
        parts.append(f'"key":{quote(header.key)}')
    if header.created:
        parts.append(f'"created":"{format_time(header.created)}"')
    if header.namespace:
        parts.append(f'"namespace":{quote(header.namespace)}')
    if header.group:
        parts.append(f'"group":"{header.group}"')
    if header.topics:
        parts.append(f'"topics":[{",".join(map(quote, header.topics))}]')
    if header.tag:
        parts.append(f'"tag":{quote(header.tag)}')
    if header.datahash:
        parts.append(f'"datahash":"{header.datahash}"')
    if header.txparent:
        parts.append(f'"txparent":{{"type":"{header.txparent.type}","id":"{header.txparent.id}"}}')
    return ",".join(parts) + "}"


def message_hash(header: MessageHeader) -> Hash32:
    """The hash of a message: its header's, which contains the hash of its data references."""
    return hash_text(message_header_json(header))


def data_refs_json(refs: Iterable[tuple[str, str]]) -> str:
    """Writes data references, (id, hash) in message order."""
    listed = ",".join([f'{{"id":"{i}","hash":"{h}"}}' for i, h in refs])
    return f"[{listed}]"


def data_refs_hash(refs: Iterable[tuple[str, str]]) -> Hash32:
    """The `datahash` of a message with these (id, hash) in this order."""
    return hash_text(data_refs_json(refs))


def data_hash(value: str | None, blob_hash: str | None = None) -> Hash32:
    """The hash of a data item.

    Args:
        value: JSON text as `compact` left it; None or `null` when there is none.
        blob_hash: SHA-256 of the blob's bytes, if it has one.

    Raises:
        ValueError: It has neither value nor blob.
    """
    if value is None or value == "null":
        if not blob_hash:
            raise ValueError("a data item needs a value or a blob")
        return Hash32(blob_hash)
    value_hash = hash_text(value)
    return hash_text(value_hash + blob_hash) if blob_hash else value_hash


def manifest_json(
    batch: str,
    tx_type: str,
    tx: str,
    messages: Iterable[tuple[str, str, int]],
    data: Iterable[tuple[str, str]],
) -> str:
    """Writes a batch's manifest: messages as (id, hash, number of topics), data as (id, hash).

    FireFly's manifest has room for author and key but never fills it.
    """
    listed = ",".join([f'{{"id":"{i}","hash":"{h}","topics":{n}}}' for i, h, n in messages])
    return (
        f'{{"version":{_MANIFEST_VERSION},"id":"{batch}","tx":{{"type":"{tx_type}","id":"{tx}"}},'
        f'"messages":[{listed}],"data":{data_refs_json(data)}}}'
    )


def batch_hash(manifest: str) -> Hash32:
    """The hash of a batch, the one on chain."""
    return hash_text(manifest)


def group_json(namespace: str, name: str, members: Iterable[tuple[str, str]]) -> str:
    """Writes what identifies a group: network namespace, name, members (DID, node) sorted by DID.

    Members with one DID keep their order here; callers sort by node as well to be stable.
    """
    ordered = sorted(members, key=lambda member: member[0].encode())
    listed = ",".join([f'{{"identity":{quote(did)},"node":"{node}"}}' for did, node in ordered])
    head = f'"namespace":{quote(namespace)},' if namespace else ""
    return f'{{{head}"name":{quote(name)},"members":[{listed}]}}'


def group_hash(namespace: str, name: str, members: Iterable[tuple[str, str]]) -> Hash32:
    """The hash that names a group."""
    return hash_text(group_json(namespace, name, members))


def broadcast_context(topic: str) -> Hash32:
    """What a broadcast message puts on chain for a topic."""
    return hash_text(topic)


def private_context(topic: str, group: str) -> Hash32:
    """The context of a topic within a group; never on chain."""
    return Hash32(sha256(topic.encode() + bytes.fromhex(group)).hexdigest())


def nonce_key(topic: str, group: str, author: str) -> Hash32:
    """Under this key an author counts nonces for a topic within a group."""
    return Hash32(sha256(topic.encode() + bytes.fromhex(group) + author.encode()).hexdigest())


def private_pin(topic: str, group: str, author: str, nonce: int) -> Hash32:
    """What a private message puts on chain for a topic: its context, masked by author and nonce."""
    masked = topic.encode() + bytes.fromhex(group) + author.encode() + nonce.to_bytes(8, "big")
    return Hash32(sha256(masked).hexdigest())


def private_pins(topic: str, group: str, author: str, count: int) -> list[Hash32]:
    """The pins of an author's nonces from 0 up to `count`, in order."""
    shared = sha256(topic.encode() + bytes.fromhex(group) + author.encode())
    pins = []
    for nonce in range(count):
        digest = shared.copy()
        digest.update(nonce.to_bytes(8, "big"))
        pins.append(Hash32(digest.hexdigest()))
    return pins


def definition_topic(kind: str, name: str, namespace: str = "") -> Hash32:
    """The one topic of all definitions of a thing; the namespace is blank on the wire."""
    return hash_text(kind + namespace + name)


def identity_topic(did: str) -> Hash32:
    """The one topic of an identity's claim, verification and updates."""
    return hash_text(did)


def verifier_hash(namespace: str, kind: str, value: str) -> Hash32:
    """The hash that names a verifier."""
    return hash_text(namespace + kind + value)
