"""FireFly interfaces from ABI documents, event signatures, locations: the descriptive side of contracts."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from photinus_sdk.errors import Rejected

from photinus_ethereum import abi_types
from photinus_ethereum.abi_types import AbiEvent, AbiType
from photinus_ethereum.hexes import Address, parse_address

Document = dict[str, Any]
"""A JSON object in the making."""

ABI_ENTRIES_MAX = 5_000
_DESCRIPTIONS = {
    "integer": "An integer. You are recommended to use a JSON string. "
    "A JSON number can be used for values up to the safe maximum.",
    "boolean": "A boolean. You can use a boolean or a string true/false as input",
    "bytes": "A hex encoded set of bytes, with an optional '0x' prefix",
}
_METHOD_DETAILS = ("payable", "stateMutability", "constant")

PARAM_SCHEMA: Document = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$ref": "#/$defs/param",
    "$defs": {
        "param": {
            "anyOf": [
                {"$ref": "#/$defs/elementary"},
                {"$ref": "#/$defs/array"},
                {"$ref": "#/$defs/struct"},
            ]
        },
        "details": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "internalType": {"type": "string"},
                "indexed": {"type": "boolean"},
                "index": {"type": "integer", "minimum": 0},
            },
            "required": ["type"],
        },
        "elementary": {
            "type": "object",
            "properties": {
                "type": {"enum": ["boolean", "integer", "string", "number"]},
                "oneOf": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": {"enum": ["boolean", "integer", "string"]}},
                        "required": ["type"],
                    },
                },
                "details": {"$ref": "#/$defs/details"},
                "description": {"type": "string"},
            },
            "required": ["details"],
            "not": {"properties": {"type": {"enum": ["array", "object"]}}, "required": ["type"]},
        },
        "array": {
            "type": "object",
            "properties": {
                "type": {"const": "array"},
                "details": {"$ref": "#/$defs/details"},
                "items": {"type": "object"},
            },
            "required": ["type", "details", "items"],
        },
        "struct": {
            "type": "object",
            "properties": {
                "type": {"const": "object"},
                "details": {"$ref": "#/$defs/details"},
                "properties": {
                    "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/param"},
                },
            },
            "required": ["type", "details", "properties"],
        },
    },
}
"""What the schema of an interface's parameter must look like on Ethereum."""


def generate(
    abi: Sequence[object], *, namespace: str, name: str, version: str, description: str
) -> Document:
    """A FireFly interface for an ABI.

    FireFly keeps only the last of several functions with one name; here it keeps the plain path, and the
    earlier ones are added as `name_1`, `name_2`, ….
    """
    if not abi:
        raise Rejected("FF10346: Error generating smart contract interface: ABI is empty")
    if len(abi) > ABI_ENTRIES_MAX:
        raise Rejected(f"the ABI has more than {ABI_ENTRIES_MAX} entries")
    entries = [abi_types.mapping(entry, f"abi[{at}]") for at, entry in enumerate(abi)]
    return {
        "namespace": namespace,
        "name": name or "generated",
        "description": description,
        "version": version or "0.0.1",
        "methods": [_method(entry, path, namespace) for path, entry in _paths(entries, "function")],
        "events": [_event(entry, path, namespace) for path, entry in _paths(entries, "event")],
        "errors": [_error(entry, path, namespace) for path, entry in _paths(entries, "error")],
        "published": False,
    }


def signature_with_location(event: AbiEvent, location: Address | None) -> str:
    """FireFly's filter signature: `<address or *>:<signature> [i=<indexed positions>]`."""
    indexed = ",".join(str(at) for at in event.indexed_positions)
    suffix = f" [i={indexed}]" if indexed else ""
    return f"{location or '*'}:{event.signature}{suffix}"


def parse_location(text: str) -> Address:
    """The address in a location, `{"address":"0x…"}`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _bad_location(f"FF10310: Failed to validate contract location: {error}") from error
    address = value.get("address") if isinstance(value, dict) else None
    if not isinstance(address, str) or not address:
        raise _bad_location("FF10310: Failed to validate contract location: 'address' not set")
    try:
        return parse_address(address)
    except ValueError as error:
        raise _bad_location("FF10141: Supplied ethereum address is invalid") from error


def location_json(address: Address) -> str:
    """The canonical form of a location."""
    return f'{{"address":"{address}"}}'


def _bad_location(message: str) -> Rejected:
    return Rejected(message, reason="INVALID_LOCATION")


def _paths(
    entries: Sequence[Mapping[str, object]], kind: str
) -> list[tuple[str, Mapping[str, object]]]:
    """The entries of a kind with unique path names, in ABI order."""
    chosen = [entry for entry in entries if entry.get("type", "function") == kind]
    names = [abi_types.text(entry.get("name"), f"{kind} name") for entry in chosen]
    last = {name: at for at, name in enumerate(names)}
    counts: dict[str, int] = {}
    result = []
    for at, (name, entry) in enumerate(zip(names, chosen, strict=True)):
        path = name
        if last[name] != at:
            counts[name] = counts.get(name, 0) + 1
            path = f"{name}_{counts[name]}"
        result.append((path, entry))
    return result


def _method(entry: Mapping[str, object], path: str, namespace: str) -> Document:
    document: Document = {
        "name": entry["name"],
        "namespace": namespace,
        "pathname": path,
        "description": "",
        "params": _params(entry, "inputs"),
        "returns": _params(entry, "outputs"),
    }
    details = {key: entry[key] for key in _METHOD_DETAILS if entry.get(key)}
    return {**document, "details": details} if details else document


def _event(entry: Mapping[str, object], path: str, namespace: str) -> Document:
    document: Document = {
        "namespace": namespace,
        "pathname": path,
        "signature": "",
        "name": entry["name"],
        "description": "",
        "params": _params(entry, "inputs"),
    }
    return {**document, "details": {"anonymous": True}} if entry.get("anonymous") else document


def _error(entry: Mapping[str, object], path: str, namespace: str) -> Document:
    return {
        "namespace": namespace,
        "pathname": path,
        "signature": "",
        "name": entry["name"],
        "description": "",
        "params": _params(entry, "inputs"),
    }


def _params(entry: Mapping[str, object], field: str) -> list[Document]:
    where = f"{entry.get('name')}.{field}"
    return [
        {"name": kind.name, "schema": _schema(kind, None)}
        for kind in abi_types.params_from_abi(entry.get(field), where)
    ]


def _schema(kind: AbiType, index: int | None) -> Document:
    details: Document = {"type": kind.base + kind.suffix}
    if kind.internal_type:
        details["internalType"] = kind.internal_type
    if kind.indexed:
        details["indexed"] = True
    if index is not None:
        details["index"] = index
    if kind.dimensions:
        return {"type": "array", "details": details, "items": _items(kind.element())}
    return _plain(kind, details)


def _items(kind: AbiType) -> Document:
    """Elements of an array carry no details of their own."""
    if kind.dimensions:
        return {"type": "array", "items": _items(kind.element())}
    return _plain(kind, None)


def _plain(kind: AbiType, details: Document | None) -> Document:
    given = {"details": details} if details is not None else {}
    match kind.base:
        case "tuple":
            properties = {part.name: _schema(part, at) for at, part in enumerate(kind.components)}
            ordered = dict(sorted(properties.items()))
            return {"type": "object", **given, "properties": ordered}
        case "string":
            return {"type": "string", **given}
        case "bool":
            choices = [{"type": "string"}, {"type": "boolean"}]
            return {"oneOf": choices, **given, "description": _DESCRIPTIONS["boolean"]}
        case base if base.startswith(("int", "uint")):
            choices = [{"type": "string"}, {"type": "integer"}]
            return {"oneOf": choices, **given, "description": _DESCRIPTIONS["integer"]}
        case _:
            return {"type": "string", **given, "description": _DESCRIPTIONS["bytes"]}
