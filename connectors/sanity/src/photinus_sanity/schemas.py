"""JSON Schemas of settings: which values are secret, and settings that do not fit."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from photinus_sanity.wire import SECRET_CHARACTERS_MIN

DEPTH_MAX = 16
SECRET_NAME = re.compile(r"(password|passphrase|secret|privateKey|apiKey|token)$", re.IGNORECASE)


@dataclass(frozen=True)
class Broken:
    """Settings with one value of a wrong type.

    Attributes:
        settings: The settings.
        pointer: JSON Pointer to the value.
    """

    settings: Any
    pointer: str


def secrets_in(schema: Mapping[str, Any], settings: Any) -> list[tuple[str, str]]:
    """Pointer and text of every secret in settings: what the schema marks `writeOnly`."""
    return [
        (pointer, value)
        for pointer, value, parts in _leaves(schema, settings)
        if isinstance(value, str)
        and len(value) >= SECRET_CHARACTERS_MIN
        and any(part.get("writeOnly") for part in parts)
    ]


def unmarked_secrets(schema: Mapping[str, Any]) -> list[str]:
    """Names of text properties that look secret and are not marked `writeOnly`."""
    return sorted(
        {
            name
            for name, found in _properties(schema, schema, 0)
            if SECRET_NAME.search(name)
            and _takes_text(schema, found)
            and not any(part.get("writeOnly") for part in _alternatives(schema, found))
        }
    )


def broken(schema: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Broken]:
    """Settings that do not fit the schema, each with one value replaced by one of a wrong type."""
    validator = Draft202012Validator(schema)
    for pointer, _, _ in _leaves(schema, settings):
        for wrong in ({"sanity": ["wrong"]}, 12345, "wrong", [["wrong"]]):
            changed = copy.deepcopy(dict(settings))
            _replace(changed, pointer, wrong)
            if not validator.is_valid(changed):
                yield Broken(changed, pointer)
                break
    for name, found in schema.get("properties", {}).items():
        if name not in settings:
            for wrong in ({"sanity": ["wrong"]}, 12345, "wrong"):
                changed = {**settings, name: wrong}
                if found is not True and not validator.is_valid(changed):
                    yield Broken(changed, f"/{_escape(name)}")
                    break


def invalid(text: str) -> str:
    """Why a text is no JSON Schema 2020-12 of an object; empty when it is."""
    try:
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it is the answer
        return f"{type(error).__name__}: {str(error)[:200]}"
    if not isinstance(schema, dict):
        return "it is no object"
    return "" if Draft202012Validator(schema).is_valid({}) or _is_object(schema) else "no object"


def _is_object(schema: Mapping[str, Any]) -> bool:
    return any(
        part.get("type") == "object" or "properties" in part
        for part in _alternatives(schema, schema)
    )


def _leaves(
    schema: Mapping[str, Any], settings: Any
) -> Iterator[tuple[str, Any, list[Mapping[str, Any]]]]:
    """Pointer, value and describing schemas of every value that holds no others."""

    def walk(value: Any, parts: list[Mapping[str, Any]], pointer: str) -> Iterator[Any]:
        if isinstance(value, Mapping) and value:
            for name, inner in value.items():
                found = [
                    alternative
                    for part in parts
                    for alternative in _alternatives(
                        schema,
                        part.get("properties", {}).get(name, part.get("additionalProperties")),
                    )
                ]
                yield from walk(inner, found, f"{pointer}/{_escape(name)}")
        elif isinstance(value, list | tuple) and value:
            found = [a for part in parts for a in _alternatives(schema, part.get("items"))]
            for index, inner in enumerate(value):
                yield from walk(inner, found, f"{pointer}/{index}")
        elif pointer:
            yield pointer, value, parts

    yield from walk(settings, _alternatives(schema, schema), "")


def _properties(
    root: Mapping[str, Any], schema: object, depth: int
) -> Iterator[tuple[str, object]]:
    if depth > DEPTH_MAX:
        return
    for part in _alternatives(root, schema):
        for name, found in part.get("properties", {}).items():
            yield name, found
            yield from _properties(root, found, depth + 1)
        yield from _properties(root, part.get("items"), depth + 1)


def _takes_text(root: Mapping[str, Any], schema: object) -> bool:
    return any(part.get("type") == "string" for part in _alternatives(root, schema))


def _alternatives(
    root: Mapping[str, Any], schema: object, depth: int = 0
) -> list[Mapping[str, Any]]:
    """The schemas a value may have to fit, with references followed."""
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return []
    found: list[Mapping[str, Any]] = [schema]
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = root
        for name in reference[2:].split("/"):
            target = target.get(name, {}) if isinstance(target, Mapping) else {}
        found += _alternatives(root, target, depth + 1)
    for word in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(word, ()):
            found += _alternatives(root, each, depth + 1)
    return found


def _replace(settings: Any, pointer: str, value: Any) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for name in parents:
        settings = settings[int(name)] if isinstance(settings, list) else settings[name]
    settings[int(last) if isinstance(settings, list) else last] = value


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
