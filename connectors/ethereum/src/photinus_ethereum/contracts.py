"""Contract calls as the protocol gives them, read into what the engine takes: methods, inputs, options."""

import base64
import binascii
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus_sdk.errors import NotFound, Rejected

from photinus_ethereum import abi_types
from photinus_ethereum.abi_types import AbiError, AbiMethod
from photinus_ethereum.abi_values import arguments_by_name, encode_arguments
from photinus_ethereum.hexes import quantity
from photinus_ethereum.pins import Pin, pin_arguments

PARSED_MAX = 1_000
BYTECODE_BYTES_MAX = 256 * 1024
_BLOCK_TAGS = {"latest", "pending", "earliest", "safe", "finalized"}

Document = Any
"""A parsed JSON value, not yet checked."""


@dataclass(frozen=True, slots=True)
class ParsedMethod:
    """A method with the errors it may raise. `errors_json` is their list as text, for the journal."""

    abi: AbiMethod
    errors: tuple[AbiError, ...]
    errors_json: str


class MethodCache:
    """Parsed methods by id; the id is a digest of their text, so the same method has the same id."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[str, ParsedMethod] = OrderedDict()

    def parse(self, ref: blockchain.MethodRef) -> tuple[str, ParsedMethod]:
        """Id and parsed form of a method given in full, or by the id of an earlier one."""
        if ref.parsed_id:
            found = self._parsed.get(ref.parsed_id)
            if found is not None:
                self._parsed.move_to_end(ref.parsed_id)
                return ref.parsed_id, found
            if not ref.method_json:
                raise NotFound(
                    f"the parsed method {ref.parsed_id[:64]} is not known any more; send it in full",
                    reason="UNKNOWN_INTERFACE",
                )
        text = "\0".join((ref.method_json, *ref.errors_json))
        key = hashlib.sha256(text.encode()).hexdigest()
        found = self._parsed.get(key)
        if found is None:
            found = self._parsed[key] = _parse(ref)
            if len(self._parsed) > PARSED_MAX:
                self._parsed.popitem(last=False)
        return key, found


def _parse(ref: blockchain.MethodRef) -> ParsedMethod:
    errors = tuple(abi_types.error_from_ffi(read_json(text, "error")) for text in ref.errors_json)
    return ParsedMethod(
        abi_types.method_from_ffi(read_json(ref.method_json, "method")),
        errors,
        f"[{','.join(ref.errors_json)}]" if errors else "",
    )


def call_data(method: AbiMethod, input_json: str, pin: Pin | None) -> bytes:
    """Selector and arguments of a call; a pin is the last argument."""
    given = read_object(input_json, "input")
    if pin is None:
        values = arguments_by_name(method.inputs, given)
    else:
        if not method.accepts_pin:
            raise Rejected(
                f"the last parameter of {method.signature} is not `bytes`, so it cannot take a pin"
            )
        values = arguments_by_name(method.inputs[:-1], given)
        values.append(pin_arguments(pin).hex())
    return method.selector + encode_arguments(method.inputs, values)


def deploy_data(definition_json: str, contract_json: str, input_json: str) -> bytes:
    """Byte code and encoded constructor arguments."""
    abi = abi_types.items(read_json(definition_json or "[]", "definition"), "definition")
    entries = [abi_types.mapping(entry, "definition") for entry in abi]
    constructor = next((entry for entry in entries if entry.get("type") == "constructor"), {})
    inputs = abi_types.params_from_abi(constructor.get("inputs"), "constructor.inputs")
    values = abi_types.items(read_json(input_json or "[]", "input"), "input")
    return _bytecode(read_json(contract_json, "contract")) + encode_arguments(inputs, values)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of a transaction. A gas of 0 is estimated."""

    gas: int = 0
    value: int = 0


def call_options(options_json: str) -> CallOptions:
    """Reads options; unknown ones are refused rather than silently without effect."""
    options = read_object(options_json, "options")
    unknown = set(options) - {"gas", "value"}
    if unknown:
        raise Rejected(f"unknown option '{min(unknown)}'; there are gas and value")
    return CallOptions(_amount(options, "gas"), _amount(options, "value"))


def query_block(options_json: str) -> str:
    """The block a query looks at, as JSON-RPC spells it."""
    options = read_object(options_json, "options")
    unknown = set(options) - {"blockNumber"}
    if unknown:
        raise Rejected(f"unknown option '{min(unknown)}'; there is blockNumber")
    wanted = options.get("blockNumber", "latest")
    if isinstance(wanted, str) and wanted in _BLOCK_TAGS:
        return wanted
    return quantity(_amount(options, "blockNumber")) if "blockNumber" in options else "latest"


def read_json(text: str, where: str) -> Document:
    """A JSON value, or Rejected. Integers of any size keep their digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"{where} is not JSON: {error}") from error


def read_object(text: str, where: str) -> Mapping[str, Document]:
    """A JSON object; empty text and null count as an empty one."""
    value = read_json(text, where) if text else {}
    return {} if value is None else abi_types.mapping(value, where)


def _amount(options: Mapping[str, Document], name: str) -> int:
    value = options.get(name)
    if value is None:
        return 0
    try:
        if isinstance(value, bool):
            raise ValueError("a boolean")
        number = (
            int(value, 16 if value.lower().startswith("0x") else 10)
            if isinstance(value, str)
            else value
        )
        if not isinstance(number, int) or not 0 <= number < 1 << 256:
            raise ValueError("out of range")
    except (ValueError, AttributeError):
        raise Rejected(f"option '{name}' is not a number") from None
    return number


def _bytecode(value: Document) -> bytes:
    """Hex with or without 0x, or Base64, as FireFly takes them; also an artefact with a `bytecode`."""
    if isinstance(value, dict):
        value = value.get("bytecode")
    raw = b""
    if isinstance(value, str):
        try:
            raw = bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            try:
                raw = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raw = b""
    if not raw or len(raw) > BYTECODE_BYTES_MAX:
        raise Rejected("FF23047: Failed to decode 'bytecode' as hex or Base64")
    return raw
