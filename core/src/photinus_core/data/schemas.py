"""Checks values against datatypes (JSON Schema).

Compiled schemas are remembered by datatype id: a datatype never changes. Schemas come from other
members, so nothing in one may cost more than the value is long: patterns are RE2, which is also
what FireFly's checker uses, and references never leave the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import jsonschema
import re2
from jsonschema.protocols import Validator as JsonValidator
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Uuid
from photinus_core.model.network import Datatype

SCHEMA_CACHE_MAX: Final = 1_000
VALUE_DEPTH_MAX: Final = 100
"""Deepest nesting of a value that is checked; the checker recurses."""


class DatatypeSchemas:
    """Remembers compiled schemas."""

    def __init__(self) -> None:
        self._compiled: dict[Uuid, JsonValidator] = {}

    def check(self, datatype: Datatype, value: str) -> None:
        """Checks a value.

        Raises:
            Rejected: FF10198, the value does not fit; FF10196, the schema itself is none.
        """
        validator = self._compiled.get(datatype.id)
        if validator is None:
            if len(self._compiled) >= SCHEMA_CACHE_MAX:
                self._compiled.clear()
            validator = self._compiled[datatype.id] = compile_schema(
                datatype.name, datatype.version, datatype.value
            )
        name = f"{datatype.name}/{datatype.version}"
        document = _parse(name, value)
        try:
            failure = next(iter(validator.iter_errors(document)), None)
        except (RecursionError, re2.error, Unresolvable) as broken:
            raise Rejected("FF10198", name, str(broken)) from broken
        if failure is not None:
            where = "/" + "/".join(str(part) for part in failure.absolute_path)
            raise Rejected("FF10198", name, f"'{where.rstrip('/')}' {failure.message[:500]}")


def compile_schema(name: str, version: str, schema: str) -> JsonValidator:
    """Compiles a datatype's schema.

    Raises:
        Rejected: FF10196, it is no JSON Schema.
    """
    label = f"{name}/{version}"
    try:
        document = json.loads(schema)
        if not isinstance(document, dict | bool):
            raise Rejected("FF10196", label, "not a JSON Schema")
        kind = validator_for(document, default=jsonschema.Draft202012Validator)
        kind.check_schema(document)  # type: ignore[arg-type]  # true and false are schemas too
        linear = extend(kind, _LINEAR)  # type: ignore[no-untyped-call]  # its stub lacks types
        validator: JsonValidator = linear(document, registry=Registry())
    except (ValueError, RecursionError, re2.error, jsonschema.SchemaError) as failure:
        text = failure.message if isinstance(failure, jsonschema.SchemaError) else str(failure)
        raise Rejected("FF10196", label, text[:500]) from failure
    return validator


def _pattern(
    _: JsonValidator, pattern: str, value: object, __: object
) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, str) and re2.search(pattern, value) is None:
        yield jsonschema.ValidationError(f"does not match pattern {pattern!r}")


def _pattern_properties(
    validator: JsonValidator, patterns: dict[str, Any], value: object, _: object
) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for name, item in value.items():
                if re2.search(pattern, name) is not None:
                    yield from validator.descend(item, schema, path=name, schema_path=pattern)  # type: ignore[attr-defined]  # the stubs omit `descend`


def _additional_properties(
    validator: JsonValidator, allowed: object, value: object, schema: dict[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(value, dict):
        return
    patterns = list(schema.get("patternProperties", {}))
    known = schema.get("properties", {})
    for name, item in value.items():
        if name in known or any(re2.search(p, name) is not None for p in patterns):
            continue
        if allowed is False:
            yield jsonschema.ValidationError(f"additionalProperties {name!r} not allowed")
        elif isinstance(allowed, dict):
            yield from validator.descend(item, allowed, path=name)  # type: ignore[attr-defined]  # the stubs omit `descend`


_LINEAR: Final = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}


def _parse(name: str, value: str) -> Any:
    depth = deepest = 0
    for character in value:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > VALUE_DEPTH_MAX:
        raise Rejected("FF10198", name, f"nested deeper than {VALUE_DEPTH_MAX}")
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as failure:
        raise Rejected("FF10198", name, str(failure)) from failure
