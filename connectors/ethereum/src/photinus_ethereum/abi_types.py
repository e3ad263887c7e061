"""Types of contract parameters: FireFly's interface JSON and Solidity's ABI JSON, read into one form.

Reading is strict and gives Rejected with the place that is wrong. Values are the business of
`abi_values`, whole interfaces of `interfaces`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak
from photinus_sdk.errors import Rejected

from photinus_ethereum.hexes import hexed

NESTING_MAX = 16
_ARRAY = re.compile(r"^(.*)\[([0-9]*)\]$")
_ALIASES = {"uint": "uint256", "int": "int256", "byte": "bytes1", "function": "bytes24"}
_INTEGER = re.compile(r"^(u?int)([0-9]+)$")
_FIXED_BYTES = re.compile(r"^bytes([0-9]+)$")


@dataclass(frozen=True, slots=True)
class AbiType:
    """A parameter or a component: its name and its type.

    `base` is elementary (`uint256`, `bool`, …) or `tuple`; `dimensions` are the array suffixes from the inside
    out, None for a dynamic one: `uint256[2][]` is (2, None).
    """

    name: str
    base: str
    dimensions: tuple[int | None, ...] = ()
    components: tuple["AbiType", ...] = ()
    indexed: bool = False
    internal_type: str = ""

    @property
    def suffix(self) -> str:
        """The array part of the type's spelling."""
        return "".join("[]" if size is None else f"[{size}]" for size in self.dimensions)

    @property
    def canonical(self) -> str:
        """The type as it stands in a signature."""
        if self.base == "tuple":
            return f"({','.join(part.canonical for part in self.components)}){self.suffix}"
        return self.base + self.suffix

    @property
    def is_dynamic_word(self) -> bool:
        """True when an indexed parameter of this type stands in the topics as a hash only."""
        return bool(self.dimensions) or self.base in {"string", "bytes", "tuple"}

    def element(self) -> "AbiType":
        """The type of an element of this array."""
        return AbiType(self.name, self.base, self.dimensions[:-1], self.components)


@dataclass(frozen=True, slots=True)
class AbiMethod:
    """A method: enough to encode a call and decode its answer."""

    name: str
    inputs: tuple[AbiType, ...]
    outputs: tuple[AbiType, ...]
    signature: str
    selector: bytes

    @property
    def accepts_pin(self) -> bool:
        """True when the last parameter can take an encoded pin."""
        return bool(self.inputs) and self.inputs[-1].canonical == "bytes"


@dataclass(frozen=True, slots=True)
class AbiEvent:
    """An event: enough to ask for it and to decode it."""

    name: str
    inputs: tuple[AbiType, ...]
    signature: str
    topic: str

    @property
    def indexed_positions(self) -> tuple[int, ...]:
        return tuple(at for at, part in enumerate(self.inputs) if part.indexed)


@dataclass(frozen=True, slots=True)
class AbiError:
    """A custom error a method may revert with."""

    name: str
    inputs: tuple[AbiType, ...]
    signature: str
    selector: bytes


def method(name: str, inputs: Sequence[AbiType], outputs: Sequence[AbiType]) -> AbiMethod:
    """A method with its signature and selector worked out."""
    signature = signature_of(name, inputs)
    selector = keccak(signature.encode())[:4]
    return AbiMethod(name, tuple(inputs), tuple(outputs), signature, selector)


def event(name: str, inputs: Sequence[AbiType]) -> AbiEvent:
    """An event with its signature and topic worked out."""
    signature = signature_of(name, inputs)
    return AbiEvent(name, tuple(inputs), signature, hexed(keccak(signature.encode())))


def error(name: str, inputs: Sequence[AbiType]) -> AbiError:
    """A custom error with its signature and selector worked out."""
    signature = signature_of(name, inputs)
    return AbiError(name, tuple(inputs), signature, keccak(signature.encode())[:4])


def signature_of(name: str, inputs: Sequence[AbiType]) -> str:
    """`Changed(address,uint256)`."""
    return f"{name}({','.join(part.canonical for part in inputs)})"


def method_from_ffi(value: object) -> AbiMethod:
    """Reads a method of a FireFly interface."""
    given = mapping(value, "method")
    inputs = _ffi_params(given.get("params"), "params")
    return method(
        text(given.get("name"), "method name"), inputs, _ffi_params(given.get("returns"), "returns")
    )


def event_from_ffi(value: object) -> AbiEvent:
    """Reads an event of a FireFly interface."""
    given = mapping(value, "event")
    return event(text(given.get("name"), "event name"), _ffi_params(given.get("params"), "params"))


def error_from_ffi(value: object) -> AbiError:
    """Reads an error of a FireFly interface."""
    given = mapping(value, "error")
    return error(text(given.get("name"), "error name"), _ffi_params(given.get("params"), "params"))


def params_from_abi(value: object, where: str = "inputs") -> tuple[AbiType, ...]:
    """Reads a list of parameters of an ABI document."""
    return tuple(
        _abi_param(part, f"{where}[{at}]", 0) for at, part in enumerate(items(value, where))
    )


def mapping(value: object, where: str) -> Mapping[str, object]:
    """The value as an object, or Rejected."""
    if not isinstance(value, dict):
        raise Rejected(f"{where}: expected an object")
    return value


def items(value: object, where: str) -> Sequence[object]:
    """The value as a list (null counts as empty), or Rejected."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Rejected(f"{where}: expected an array")
    return value


def text(value: object, where: str) -> str:
    """The value as non-empty text, or Rejected."""
    if not isinstance(value, str) or not value:
        raise Rejected(f"{where}: expected text")
    return value


def split_type(spelling: str, where: str) -> tuple[str, tuple[int | None, ...]]:
    """`address[2][]` → (`address`, (2, None)); aliases resolved, elementary types checked."""
    sizes: list[int | None] = []
    while (found := _ARRAY.match(spelling)) is not None:
        spelling = found.group(1)
        sizes.insert(0, int(found.group(2)) if found.group(2) else None)
    base = _ALIASES.get(spelling, spelling)
    if len(sizes) > NESTING_MAX or not _is_known(base):
        raise Rejected(f"FF22025: Unsupported ABI type '{spelling}' at {where}")
    return base, tuple(sizes)


def _is_known(base: str) -> bool:
    if base in {"address", "bool", "string", "bytes", "tuple"}:
        return True
    if (found := _INTEGER.match(base)) is not None:
        return 8 <= int(found.group(2)) <= 256 and int(found.group(2)) % 8 == 0
    if (found := _FIXED_BYTES.match(base)) is not None:
        return 1 <= int(found.group(1)) <= 32
    return False


def _abi_param(value: object, where: str, depth: int) -> AbiType:
    given = mapping(value, where)
    if depth > NESTING_MAX:
        raise Rejected(f"{where}: nested too deeply")
    base, dimensions = split_type(text(given.get("type"), f"{where}.type"), where)
    parts: tuple[AbiType, ...] = ()
    if base == "tuple":
        parts = tuple(
            _abi_param(part, f"{where}.components[{at}]", depth + 1)
            for at, part in enumerate(items(given.get("components"), f"{where}.components"))
        )
    return AbiType(
        str(given.get("name") or ""),
        base,
        dimensions,
        parts,
        indexed=given.get("indexed") is True,
        internal_type=str(given.get("internalType") or ""),
    )


def _ffi_params(value: object, where: str) -> tuple[AbiType, ...]:
    params = []
    for at, part in enumerate(items(value, where)):
        given = mapping(part, f"{where}[{at}]")
        name = str(given.get("name") or "")
        schema = mapping(given.get("schema"), f"{where}[{at}].schema")
        params.append(_ffi_schema(name, schema, f"{where}[{at}].schema", 0))
    return tuple(params)


def _ffi_schema(name: str, schema: Mapping[str, object], where: str, depth: int) -> AbiType:
    if depth > NESTING_MAX:
        raise Rejected(f"{where}: nested too deeply")
    details = mapping(schema.get("details"), f"{where}.details")
    base, dimensions = split_type(text(details.get("type"), f"{where}.details.type"), where)
    parts: tuple[AbiType, ...] = ()
    if base == "tuple":
        parts = _ffi_components(schema, len(dimensions), where, depth)
    return AbiType(
        name,
        base,
        dimensions,
        parts,
        indexed=details.get("indexed") is True,
        internal_type=str(details.get("internalType") or ""),
    )


def _ffi_components(
    schema: Mapping[str, object], levels: int, where: str, depth: int
) -> tuple[AbiType, ...]:
    """A tuple's components are the properties of the innermost items, in the order of `details.index`."""
    for _ in range(levels):
        schema = mapping(schema.get("items"), f"{where}.items")
    placed: dict[int, AbiType] = {}
    for name, part in mapping(schema.get("properties"), f"{where}.properties").items():
        inner = mapping(part, f"{where}.properties.{name}")
        details = mapping(inner.get("details"), f"{where}.properties.{name}.details")
        index = details.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or index in placed:
            raise Rejected(
                f"{where}.properties.{name}.details.index: expected the position in the struct"
            )
        placed[index] = _ffi_schema(name, inner, f"{where}.properties.{name}", depth + 1)
    if sorted(placed) != list(range(len(placed))):
        raise Rejected(f"{where}.properties: the positions in the struct have gaps")
    return tuple(placed[at] for at in range(len(placed)))
