"""Values of contract parameters: JSON as FireFly's clients write it, to ABI bytes and back.

Inputs are lenient where FireFly is (integers as numbers, decimal or hex text; structs as objects or arrays;
bytes with or without `0x`). Outputs have one form: integers as decimal text, addresses in lower case, bytes
with `0x`, structs as objects.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from photinus_sdk.errors import Rejected

from photinus_ethereum.abi_types import AbiType
from photinus_ethereum.hexes import Address, parse_address

Value = Any
"""A JSON value from outside, or what the ABI coder takes for it."""

DIGITS_MAX = 100


def encode_arguments(types: Sequence[AbiType], values: Sequence[Value]) -> bytes:
    """The ABI encoding of a list of JSON values."""
    if len(types) != len(values):
        raise Rejected(
            f"FF22037: Incorrect array length: expected {len(types)} values, got {len(values)}"
        )
    prepared = [
        _to_abi(kind, value, f".{at}")
        for at, (kind, value) in enumerate(zip(types, values, strict=True))
    ]
    try:
        return encode([kind.canonical for kind in types], prepared)
    except (EncodingError, ValueError, TypeError, OverflowError) as error:
        raise Rejected(f"the inputs cannot be encoded: {error}") from error


def arguments_by_name(types: Sequence[AbiType], given: Mapping[str, Value]) -> list[Value]:
    """The values in the order of the parameters."""
    values = []
    for at, kind in enumerate(types):
        name = kind.name or str(at)
        if name not in given:
            raise Rejected(f"FF10304: Missing required input argument '{name}'")
        values.append(given[name])
    return values


def decode_values(types: Sequence[AbiType], data: bytes) -> dict[str, Value]:
    """ABI bytes as a JSON object by name; an unnamed value is `output`, at position n > 0 `outputn`.

    Raises ValueError when the bytes are not an encoding of these types.
    """
    values = _decode_list(types, data)
    return {kind.name or default_name(at): values[at] for at, kind in enumerate(types)}


def decode_event(
    types: Sequence[AbiType], topics: Sequence[bytes], data: bytes
) -> dict[str, Value]:
    """The arguments of a log. `topics` are those behind the event's own.

    Indexed values of dynamic types are on the chain as hashes only, and are given as that hash. Raises
    ValueError when the log is not of these types, which happens when two events share a signature.
    """
    if sum(kind.indexed for kind in types) != len(topics):
        raise ValueError("the number of indexed parameters differs")
    plain = iter(_decode_list([kind for kind in types if not kind.indexed], data))
    hashed = iter(topics)
    output: dict[str, Value] = {}
    for at, kind in enumerate(types):
        if not kind.indexed:
            value = next(plain)
        elif kind.is_dynamic_word:
            value = "0x" + next(hashed).hex()
        else:
            value = _decode_list([kind], next(hashed))[0]
        output[kind.name or default_name(at)] = value
    return output


def _decode_list(types: Sequence[AbiType], data: bytes) -> list[Value]:
    spelled = [_decoding_type(kind) for kind in types]
    try:
        values = decode(spelled, data, strict=False)
    except (DecodingError, ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"not an encoding of ({','.join(spelled)}): {error}") from error
    return [_to_json(kind, value) for kind, value in zip(types, values, strict=True)]


def default_name(at: int) -> str:
    """FireFly's name for an unnamed value."""
    return "output" if at == 0 else f"output{at}"


def _decoding_type(kind: AbiType) -> str:
    """Strings are taken as bytes: text that is not UTF-8 must not make an event unreadable."""
    if kind.base == "tuple":
        return f"({','.join(_decoding_type(part) for part in kind.components)}){kind.suffix}"
    return ("bytes" if kind.base == "string" else kind.base) + kind.suffix


def _to_json(kind: AbiType, value: Value) -> Value:
    if kind.dimensions:
        element = kind.element()
        return [_to_json(element, part) for part in value]
    match kind.base:
        case "tuple":
            return {
                part.name or default_name(at): _to_json(part, value[at])
                for at, part in enumerate(kind.components)
            }
        case "bool":
            return bool(value)
        case "string":
            return value.decode("utf-8", "replace")
        case "address":
            return str(value).lower()
        case base if base.startswith("bytes"):
            return "0x" + bytes(value).hex()
        case _:
            return str(value)


def _to_abi(kind: AbiType, value: Value, where: str) -> Value:
    if kind.dimensions:
        return _array(kind, value, where)
    match kind.base:
        case "tuple":
            return _struct(kind, value, where)
        case "bool":
            return _boolean(value, where)
        case "string":
            if not isinstance(value, str):
                raise _unparsed(value, "string", where)
            return value
        case "address":
            return _address(value, where)
        case base if base.startswith("bytes"):
            return _bytes(base, value, where)
        case base:
            return _integer(base, value, where)


def _array(kind: AbiType, value: Value, where: str) -> list[Value]:
    size = kind.dimensions[-1]
    if not isinstance(value, list) or (size is not None and len(value) != size):
        wanted = "array" if size is None else f"array of {size}"
        raise _unparsed(value, wanted, where)
    element = kind.element()
    return [_to_abi(element, part, f"{where}.{at}") for at, part in enumerate(value)]


def _struct(kind: AbiType, value: Value, where: str) -> tuple[Value, ...]:
    if isinstance(value, dict):
        values = []
        for at, part in enumerate(kind.components):
            name = part.name or str(at)
            if name not in value:
                raise Rejected(f"FF22040: Missing value for '{name}' of component {where}")
            values.append(value[name])
    elif isinstance(value, list) and len(value) == len(kind.components):
        values = value
    else:
        raise _unparsed(value, "tuple", where)
    return tuple(
        _to_abi(part, inner, f"{where}.{at}")
        for at, (part, inner) in enumerate(zip(kind.components, values, strict=True))
    )


def _boolean(value: Value, where: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise _unparsed(value, "boolean", where)


def _address(value: Value, where: str) -> Address:
    if not isinstance(value, str):
        raise _unparsed(value, "address", where)
    try:
        return parse_address(value)
    except ValueError as error:
        raise _unparsed(value, "address", where) from error


def _bytes(base: str, value: Value, where: str) -> bytes:
    if not isinstance(value, str):
        raise _unparsed(value, "bytes", where)
    try:
        raw = bytes.fromhex(value[2:] if value[:2] in {"0x", "0X"} else value)
    except ValueError as error:
        raise _unparsed(value, "bytes", where) from error
    if base == "bytes":
        return raw
    size = int(base[5:])
    if len(raw) > size:
        raise Rejected(
            f"FF22051: Too many bytes for component {where}: {len(raw)}, {base} holds {size}"
        )
    return raw.ljust(size, b"\0")


def _integer(base: str, value: Value, where: str) -> int:
    whole = _whole_number(value, where)
    signed = base.startswith("int")
    bits = int(base[3 if signed else 4 :])
    if whole < 0 and not signed:
        raise Rejected(f"FF22062: Negative numeric value is invalid for component {where}")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= whole <= high:
        raise Rejected(f"FF22055: Numeric value does not fit in {base} of component {where}")
    return whole


def _whole_number(value: Value, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        stripped = value.strip()
        digits = stripped.lstrip("+-")
        if 0 < len(digits) <= DIGITS_MAX and digits.isascii() and "_" not in digits:
            try:
                return int(stripped, 16 if digits[:2].lower() == "0x" else 10)
            except ValueError:
                pass
        raise Rejected(
            f"FF22030: Unable to parse '{value[:DIGITS_MAX]}' of type string as integer for component "
            f"{where}: FF22088: Invalid integer string '{value[:DIGITS_MAX]}'"
        )
    raise _unparsed(value, "integer", where)


def _unparsed(value: Value, wanted: str, where: str) -> Rejected:
    shown = str(value)[:DIGITS_MAX]
    kind = {
        str: "string",
        int: "number",
        float: "number",
        bool: "bool",
        list: "array",
        dict: "object",
    }.get(type(value), "null")
    return Rejected(
        f"FF22030: Unable to parse '{shown}' of type {kind} as {wanted} for component {where}"
    )
