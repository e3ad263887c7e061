"""Turns configuration as written (all scalars text) into what a connector's JSON Schema expects.

`0x123456` stays text where the schema says string and becomes a number nowhere; keys are found in
any case. What does not fit stays as written, so that the connector's own finding names it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from photinus_core.host.instances import Plain

DEPTH_MAX: Final = 32
_TRUE: Final = frozenset({"true", "yes", "on"})
_FALSE: Final = frozenset({"false", "no", "off"})


def typed_config(plain: Plain, schema_json: str) -> str:
    """The configuration as a JSON object for `Configure`.

    Raises:
        ValueError: the schema is no JSON object.
    """
    schema = json.loads(schema_json or "{}")
    if not isinstance(schema, dict):
        raise ValueError("the configuration schema is no JSON object")
    typed = _typed({} if plain is None else plain, schema, schema, 0)
    return json.dumps(typed, ensure_ascii=False, sort_keys=True)


def _typed(value: Plain, schema: Any, root: dict[str, Any], depth: int) -> Any:
    schema = follow(schema, root)
    if depth > DEPTH_MAX or not isinstance(schema, dict):
        return value
    if isinstance(value, dict):
        return _typed_object(value, schema, root, depth)
    if isinstance(value, list):
        items = _first(schema, root, "array").get("items")
        return [_typed(item, items, root, depth + 1) for item in value]
    types = _types(schema, root)
    if value is None:
        return None if "null" in types or not types else {} if "object" in types else ""
    return _typed_scalar(value, types)


def _typed_object(
    value: dict[str, Plain], schema: dict[str, Any], root: dict[str, Any], depth: int
) -> dict[str, Any]:
    schema = _first(schema, root, "object")
    properties = schema.get("properties", {})
    names = {name.lower(): name for name in properties}
    typed = {}
    for written, inner in value.items():
        name = written if written in properties else names.get(written.lower(), written)
        typed[name] = _typed(
            inner, properties.get(name, schema.get("additionalProperties")), root, depth + 1
        )
    return typed


def _typed_scalar(text: str, types: set[str]) -> Any:
    if "string" in types or not types:
        return text
    if "boolean" in types and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if "integer" in types:
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdecimal():
            return int(text)
    if "number" in types:
        try:
            number = float(text)
        except ValueError:
            return text
        return int(number) if number.is_integer() and "." not in text else number
    return text


def follow(schema: Any, root: dict[str, Any]) -> Any:
    """A schema with its references followed, as far as there are any."""
    for _ in range(DEPTH_MAX):
        if not isinstance(schema, dict) or "$ref" not in schema:
            break
        target: Any = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        schema = target
    return schema


def _branches(schema: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    """The schema, or the alternatives it offers."""
    found = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(found, list):
        return [schema]
    resolved = [follow(branch, root) for branch in found]
    return [branch for branch in resolved if isinstance(branch, dict)]


def _types(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    types: set[str] = set()
    for branch in _branches(schema, root):
        named = branch.get("type", [])
        types.update([named] if isinstance(named, str) else named)
        if "enum" in branch and any(isinstance(option, str) for option in branch["enum"]):
            types.add("string")
    return types


def _first(schema: dict[str, Any], root: dict[str, Any], kind: str) -> dict[str, Any]:
    """The alternative that describes values of this kind."""
    branches = _branches(schema, root)
    return next((b for b in branches if b.get("type") == kind), branches[0] if branches else {})
