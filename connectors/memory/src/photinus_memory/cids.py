"""References of files as IPFS makes them: version 0 identifiers of UnixFS files, laid out as Kubo does. Pure.

Only the writing half of what the ipfs connector knows: the bytes themselves are here, whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 262_144
LINKS_PER_NODE: Final = 174
BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SHA256_HEAD: Final = b"\x12\x20"


@dataclass(frozen=True, slots=True)
class _Node:
    """A block of the tree: its hash, its size with all below it, and how much of the file is there."""

    digest: bytes
    total: int
    file_size: int


def reference_of(content: bytes) -> str:
    """The reference of a file, `Qm…`."""
    level = [
        _leaf(content[place : place + CHUNK_BYTES]) for place in range(0, len(content), CHUNK_BYTES)
    ] or [_leaf(b"")]
    while len(level) > 1:
        level = [
            _parent(level[place : place + LINKS_PER_NODE])
            for place in range(0, len(level), LINKS_PER_NODE)
        ]
    return _base58(SHA256_HEAD + level[0].digest)


def _leaf(chunk: bytes) -> _Node:
    data = b"\x12" + _varint(len(chunk)) + chunk if chunk else b""
    return _node(b"", b"\x08\x02" + data + b"\x18" + _varint(len(chunk)), 0, len(chunk))


def _parent(children: list[_Node]) -> _Node:
    links, sizes = bytearray(), bytearray()
    for child in children:
        link = b"\x0a\x22" + SHA256_HEAD + child.digest + b"\x12\x00\x18" + _varint(child.total)
        links += b"\x12" + _varint(len(link)) + link
        sizes += b"\x20" + _varint(child.file_size)
    size = sum(child.file_size for child in children)
    content = b"\x08\x02\x18" + _varint(size) + bytes(sizes)
    return _node(bytes(links), content, sum(child.total for child in children), size)


def _node(links: bytes, content: bytes, below: int, file_size: int) -> _Node:
    block = links + b"\x0a" + _varint(len(content)) + content
    return _Node(hashlib.sha256(block).digest(), below + len(block), file_size)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _base58(data: bytes) -> str:
    value = int.from_bytes(data)
    chars: list[str] = []
    while value:
        value, digit = divmod(value, 58)
        chars.append(BASE58[digit])
    return "".join(reversed(chars))
