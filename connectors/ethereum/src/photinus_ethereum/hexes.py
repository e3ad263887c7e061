"""Conversions between JSON-RPC's hex text and numbers or bytes. Strict: what does not fit raises ValueError."""

from typing import NewType

Address = NewType("Address", str)
"""Canonical form of an account or contract: `0x` and 40 lower-case hex digits."""

TxHash = NewType("TxHash", str)
"""`0x` and 64 lower-case hex digits."""

BlockHash = NewType("BlockHash", str)
"""`0x` and 64 lower-case hex digits."""

ADDRESS_BYTES = 20
WORD_BYTES = 32


def quantity(value: int) -> str:
    """A number as JSON-RPC spells it."""
    return hex(value)


def number(text: object) -> int:
    """The number in a JSON-RPC quantity."""
    if not isinstance(text, str):
        raise ValueError("expected a hex quantity")
    return int(text, 16)


def data(text: object) -> bytes:
    """The bytes in JSON-RPC data."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError("expected 0x data")
    return bytes.fromhex(text[2:])


def hexed(raw: bytes) -> str:
    """Bytes as JSON-RPC spells them."""
    return "0x" + raw.hex()


def parse_address(text: str) -> Address:
    """The canonical form of an address, with or without `0x`, in any case."""
    digits = text[2:] if text[:2] in {"0x", "0X"} else text
    if len(digits) != 2 * ADDRESS_BYTES:
        raise ValueError("an address has 40 hex digits")
    bytes.fromhex(digits)
    return Address("0x" + digits.lower())


def address_bytes(address: Address) -> bytes:
    """The 20 bytes of a canonical address."""
    return bytes.fromhex(address[2:])
