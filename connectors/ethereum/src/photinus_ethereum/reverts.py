"""Why a call reverted, in words: Error(string), Panic(uint256) and the custom errors of the interface."""

from collections.abc import Sequence

import orjson

from photinus_ethereum.abi_types import AbiError
from photinus_ethereum.abi_values import decode_values

ERROR_STRING = bytes.fromhex("08c379a0")
PANIC = bytes.fromhex("4e487b71")
REASON_CHARS_MAX = 1_024
_PANICS = {
    0x00: "generic panic",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division or modulo by zero",
    0x21: "value outside the enumeration",
    0x22: "malformed storage byte array",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "out of memory",
    0x51: "call of an unset function",
}


def describe(data: bytes, errors: Sequence[AbiError], fallback: str = "") -> str:
    """The reason in revert data; `fallback` (the node's own words) when there is none to decode.

    A custom error of the interface is given as `Name({"arg":"value"})`, any other as its raw bytes.
    """
    return _describe(data, errors, fallback)[:REASON_CHARS_MAX]


def _describe(data: bytes, errors: Sequence[AbiError], fallback: str) -> str:
    selector, body = data[:4], data[4:]
    if selector == ERROR_STRING and len(body) >= 64:
        size = int.from_bytes(body[32:64])
        return body[64 : 64 + min(size, REASON_CHARS_MAX)].decode("utf-8", "replace")
    if selector == PANIC and len(body) >= 32:
        number = int.from_bytes(body[:32])
        return f"panic 0x{number:02x}: {_PANICS.get(number, 'unknown')}"
    for error in errors:
        if error.selector == selector:
            try:
                values = decode_values(error.inputs, body)
            except ValueError:
                break
            return f"{error.name}({orjson.dumps(values).decode()})"
    if data:
        return f"0x{data.hex()}"
    return fallback or "execution reverted"
