"""Files as IPFS stores them: UnixFS in dag-pb nodes, laid out as Kubo does by default. Pure.

256 KiB chunks, leaves that are dag-pb nodes too, balanced trees of at most 174 links, version 0 identifiers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from photinus_ipfs.cid import RAW, BadCid, Cid, read_varint, varint

CHUNK_BYTES = 262_144
LINKS_PER_NODE = 174
KIND_RAW = 0
KIND_FILE = 2

_SHA256_MULTIHASH_HEAD = b"\x12\x20"


class BadDag(Exception):
    """A block that is no part of a file, or contradicts the node above it."""


@dataclass(frozen=True)
class Link:
    """A child of a node: its identifier and how many bytes of the file are below it."""

    cid: Cid
    file_size: int


@dataclass(frozen=True)
class Node:
    """One node of a file: its own bytes first, then those of its children in order."""

    data: bytes
    links: tuple[Link, ...]

    @property
    def file_size(self) -> int:
        """Bytes of the file at and below this node."""
        return len(self.data) + sum(link.file_size for link in self.links)


def leaf_block(chunk: bytes) -> bytes:
    """The dag-pb block of one chunk of a file."""
    content = _unixfs(chunk, len(chunk), ())
    return b"\x0a" + varint(len(content)) + content


def read_node(cid: Cid, block: bytes) -> Node:
    """Read a block that fits its identifier.

    Raises:
        BadDag: it is no part of a file.
    """
    if cid.codec == RAW:
        return Node(block, ())
    try:
        return _read_dag_pb(block)
    except BadCid as error:
        raise BadDag(f"{cid} cannot be read: {error}") from error


class DagBuilder:
    """Computes the identifier of a file while it streams by, holding only a list of links.

    Args:
        keep: called with each interior node, children first; leaves are not told, they follow from the file.
    """

    def __init__(self, keep: Callable[[bytes], None] = lambda _block: None) -> None:
        self._keep = keep
        self._rest = bytearray()
        # Per level the finished nodes that have no parent yet: identifier, block size with all below, bytes of file.
        self._levels: list[list[tuple[bytes, int, int]]] = [[]]
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        self.size += len(data)
        view = memoryview(data)
        if self._rest:
            wanted = CHUNK_BYTES - len(self._rest)
            self._rest += view[:wanted]
            view = view[wanted:]
            if len(self._rest) == CHUNK_BYTES:
                self._leaf(bytes(self._rest))
                self._rest.clear()
        while len(view) >= CHUNK_BYTES:
            self._leaf(bytes(view[:CHUNK_BYTES]))
            view = view[CHUNK_BYTES:]
        self._rest += view

    def finish(self) -> Cid:
        """The identifier of the whole file."""
        if self._rest or not self.size:
            self._leaf(bytes(self._rest))
            self._rest.clear()
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close(level)
            level += 1
        ((digest, _, _),) = self._levels[level]
        return Cid.v0(digest)

    def _leaf(self, chunk: bytes) -> None:
        block = leaf_block(chunk)
        self._put(0, (hashlib.sha256(block).digest(), len(block), len(chunk)))

    def _put(self, level: int, node: tuple[bytes, int, int]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        if len(self._levels[level]) == LINKS_PER_NODE:
            self._close(level)
        self._levels[level].append(node)

    def _close(self, level: int) -> None:
        """Put a parent above the nodes of a level."""
        children = self._levels[level]
        self._levels[level] = []
        block = bytearray()
        for digest, total, _ in children:
            link = b"\x0a\x22" + _SHA256_MULTIHASH_HEAD + digest + b"\x12\x00\x18" + varint(total)
            block += b"\x12" + varint(len(link)) + link
        sizes = tuple(size for _, _, size in children)
        content = _unixfs(b"", sum(sizes), sizes)
        block += b"\x0a" + varint(len(content)) + content
        encoded = bytes(block)
        self._keep(encoded)
        total = len(encoded) + sum(total for _, total, _ in children)
        self._put(level + 1, (hashlib.sha256(encoded).digest(), total, sum(sizes)))


def _unixfs(data: bytes, file_size: int, block_sizes: tuple[int, ...]) -> bytes:
    parts = [b"\x08\x02"]
    if data:
        parts += (b"\x12", varint(len(data)), data)
    parts += (b"\x18", varint(file_size))
    for size in block_sizes:
        parts += (b"\x20", varint(size))
    return b"".join(parts)


def _read_dag_pb(block: bytes) -> Node:
    cids: list[Cid] = []
    content = b""
    for number, value in _fields(block):
        match number, value:
            case 2, bytes():
                cids.append(_read_link(value))
            case 1, bytes():
                content = value
            case _:
                pass
    kind, data = KIND_FILE, b""
    file_size: int | None = None
    sizes: list[int] = []
    for number, value in _fields(content):
        match number, value:
            case 1, int():
                kind = value
            case 2, bytes():
                data = value
            case 3, int():
                file_size = value
            case 4, int():
                sizes.append(value)
            case 4, bytes():
                sizes += _packed(value)
            case _:
                pass
    if kind not in {KIND_RAW, KIND_FILE}:
        raise BadDag("it is a directory or link, not a file")
    if len(sizes) != len(cids) or any(size <= 0 for size in sizes):
        raise BadDag("it does not say how large its parts are")
    node = Node(data, tuple(Link(cid, size) for cid, size in zip(cids, sizes, strict=True)))
    if file_size is not None and file_size != node.file_size:
        raise BadDag("its parts do not add up to its size")
    return node


def _read_link(encoded: bytes) -> Cid:
    for number, value in _fields(encoded):
        if number == 1 and isinstance(value, bytes):
            return Cid.from_bytes(value)
    raise BadCid("a link names nothing")


def _packed(encoded: bytes) -> list[int]:
    place, values = 0, []
    while place < len(encoded):
        value, place = read_varint(encoded, place)
        values.append(value)
    return values


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a protobuf message: varints and length-delimited ones, which is all that UnixFS has."""
    fields: list[tuple[int, int | bytes]] = []
    place = 0
    while place < len(message):
        tag, place = read_varint(message, place)
        number, wire_type = tag >> 3, tag & 7
        value, place = read_varint(message, place)
        if wire_type == 0:
            fields.append((number, value))
        elif wire_type == 2 and place + value <= len(message):
            fields.append((number, message[place : place + value]))
            place += value
        else:
            raise BadCid("a field of it cannot be read")
    return fields
