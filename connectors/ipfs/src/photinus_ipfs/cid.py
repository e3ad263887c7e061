"""Content identifiers: parsing, printing, checking bytes against them. Pure.

Only what a shared-storage reference can be: version 0 (base58) and version 1 (base32, base58, base16), of UnixFS nodes
or raw bytes, hashed by SHA-256 or inlined by the identity hash.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

RAW: Final = 0x55
DAG_PB: Final = 0x70
SHA2_256: Final = 0x12
IDENTITY: Final = 0x00
CID_CHARS_MAX: Final = 512

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUES = {char: value for value, char in enumerate(_BASE58)}


class BadCid(ValueError):
    """Text or bytes that are no content identifier, or of a kind that shared storage does not use."""


@dataclass(frozen=True)
class Cid:
    """A content identifier.

    Attributes:
        version: 0 or 1.
        codec: `DAG_PB` or `RAW`.
        hash_kind: `SHA2_256` or `IDENTITY`.
        digest: the hash, or the bytes themselves for the identity hash.
    """

    version: int
    codec: int
    hash_kind: int
    digest: bytes

    @classmethod
    def v0(cls, digest: bytes) -> Cid:
        """The version 0 identifier of a dag-pb block."""
        return cls(0, DAG_PB, SHA2_256, digest)

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read an identifier from text.

        Raises:
            BadCid: with the reason.
        """
        if len(text) > CID_CHARS_MAX:
            raise BadCid("it is too long")
        if len(text) == 46 and text.startswith("Qm"):
            return cls.from_bytes(_base58_decode(text))
        match text[:1]:
            case "b":
                padded = text[1:].upper() + "=" * (-len(text[1:]) % 8)
                try:
                    data = base64.b32decode(padded)
                except ValueError as error:
                    raise BadCid("it is no base32") from error
                if text != text.lower():
                    raise BadCid("base32 is lower-case here")
            case "z":
                data = _base58_decode(text[1:])
            case "f":
                try:
                    data = bytes.fromhex(text[1:])
                except ValueError as error:
                    raise BadCid("it is no base16") from error
            case _:
                raise BadCid("its encoding is not known")
        if data[:1] != b"\x01":
            raise BadCid("its version is not known")
        return cls.from_bytes(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Cid:
        """Read an identifier from its binary form.

        Raises:
            BadCid: with the reason.
        """
        if len(data) == 34 and data[:2] == b"\x12\x20":
            return cls.v0(data[2:])
        version, place = read_varint(data, 0)
        codec, place = read_varint(data, place)
        kind, place = read_varint(data, place)
        size, place = read_varint(data, place)
        digest = data[place:]
        if version != 1 or len(digest) != size:
            raise BadCid("it is malformed")
        if codec not in {RAW, DAG_PB}:
            raise BadCid(f"codec {codec:#x} is no file")
        if kind != IDENTITY and (kind != SHA2_256 or size != 32):
            raise BadCid(f"hash function {kind:#x} is not supported")
        return cls(1, codec, kind, digest)

    def to_bytes(self) -> bytes:
        """The binary form, as links hold it."""
        multihash = varint(self.hash_kind) + varint(len(self.digest)) + self.digest
        return multihash if self.version == 0 else b"\x01" + varint(self.codec) + multihash

    def __str__(self) -> str:
        if self.version == 0:
            return _base58_encode(self.to_bytes())
        return "b" + base64.b32encode(self.to_bytes()).decode().rstrip("=").lower()

    def fits(self, block: bytes) -> bool:
        """Whether a block is what the identifier names."""
        if self.hash_kind == IDENTITY:
            return block == self.digest
        return hashlib.sha256(block).digest() == self.digest


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """A varint at a place, and the place behind it.

    Raises:
        BadCid: it breaks off or is longer than 64 bits.
    """
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise BadCid("a number in it breaks off")


def _base58_decode(text: str) -> bytes:
    value = 0
    for char in text:
        if char not in _BASE58_VALUES:
            raise BadCid("it is no base58")
        value = value * 58 + _BASE58_VALUES[char]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")


def _base58_encode(data: bytes) -> str:
    value = int.from_bytes(data, "big")
    chars: list[str] = []
    while value:
        value, digit = divmod(value, 58)
        chars.append(_BASE58[digit])
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + "".join(reversed(chars))
