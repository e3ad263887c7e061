"""Checks values against datatypes (JSON Schema).

Compiled schemas are remembered by datatype id: a datatype never changes. Schemas come from other
members, so none may cost more than a bound, and what is too much must be so on every member: steps
and their nesting are counted, never timed. Patterns are RE2, which is also what FireFly's checker
uses, and references never leave the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
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
PATTERN_CACHE_MAX: Final = 1_000
JSON_DEPTH_MAX: Final = 100
"""Deepest nesting of a schema and of a value that is checked; parser and checker recurse."""
STEPS_MAX: Final = 250_000
"""Most applications of a keyword in one check: references can multiply them without end."""
STEP_DEPTH_MAX: Final = 150
"""Deepest nesting of keywords in one check; well below what Python's stack allows anywhere."""

_BROKEN: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    Unresolvable,
    ValueError,
    re2.error,
)
"""What the library raises for schemas and values it did not expect."""


class DatatypeSchemas:
    """Remembers compiled schemas."""

    def __init__(self) -> None:
        self._compiled: dict[Uuid, CompiledSchema] = {}

    def check(self, datatype: Datatype, value: str) -> None:
        """Checks a value.

        Raises:
            Rejected: FF10198, the value does not fit; FF10196, the schema itself is none.
        """
        schema = self._compiled.get(datatype.id)
        if schema is None:
            if len(self._compiled) >= SCHEMA_CACHE_MAX:
                self._compiled.clear()
            schema = self._compiled[datatype.id] = compile_schema(
                datatype.name, datatype.version, datatype.value
            )
        name = f"{datatype.name}/{datatype.version}"
        try:
            failure = schema.failure(_parse(name, value))
        except _BROKEN as broken:
            raise Rejected("FF10198", name, str(broken)[:500]) from broken
        if failure is not None:
            where = "/" + "/".join(str(part) for part in failure.absolute_path)
            raise Rejected("FF10198", name, f"'{where.rstrip('/')}' {failure.message[:500]}")


class CompiledSchema:
    """A schema that values can be checked against, within bounds."""

    def __init__(self, kind: type[JsonValidator], document: Any) -> None:
        self._steps = _Steps()
        keywords = {name: self._steps.counted(check) for name, check in _keywords(kind).items()}
        bounded = extend(kind, keywords)  # type: ignore[no-untyped-call]  # its stub lacks types
        self._validator: JsonValidator = bounded(document, registry=Registry())

    def failure(self, document: Any) -> jsonschema.ValidationError | None:
        """The first thing that does not fit."""
        self._steps.begin()
        return next(iter(self._validator.iter_errors(document)), None)


Keyword = Callable[[Any, Any, Any, Any], Iterator[jsonschema.ValidationError] | None]


class _Steps:
    """Counts what one check does; raises ValueError when it is too much."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._left = STEPS_MAX
        self._depth = 0

    def counted(self, check: Keyword) -> Keyword:
        """The same keyword, counted: a list of alternatives by its length."""

        def step(
            validator: Any, wanted: Any, value: Any, schema: Any
        ) -> Iterator[jsonschema.ValidationError]:
            size = len(wanted) if isinstance(wanted, list | dict) else 0
            if check is _pattern_properties and isinstance(value, dict):
                size *= len(value)
            self._left -= 1 + size
            if self._left < 0:
                raise ValueError(f"checking it takes more than {STEPS_MAX} steps")
            if self._depth >= STEP_DEPTH_MAX:
                raise ValueError(f"checking it nests deeper than {STEP_DEPTH_MAX} steps")
            self._depth += 1
            try:
                yield from check(validator, wanted, value, schema) or ()
            finally:
                self._depth -= 1

        return step


def compile_schema(name: str, version: str, schema: str) -> CompiledSchema:
    """Compiles a datatype's schema.

    Raises:
        Rejected: FF10196, it is no JSON Schema.
    """
    label = f"{name}/{version}"
    try:
        document = _loads(schema)
        if not isinstance(document, dict | bool):
            raise Rejected("FF10196", label, "not a JSON Schema")
        if isinstance(document, dict) and not isinstance(document.get("$schema", ""), str):
            raise Rejected("FF10196", label, "'/$schema' is no text")
        kind = validator_for(document, default=jsonschema.Draft202012Validator)
        # Without formats: its regular expressions would be Python's; ours are checked here.
        formats = jsonschema.FormatChecker(formats=())
        kind.check_schema(document, formats)  # type: ignore[arg-type,call-arg]  # as its stub has it not
        _check_patterns(document)
        return CompiledSchema(kind, document)
    except (*_BROKEN, jsonschema.SchemaError) as failure:
        text = failure.message if isinstance(failure, jsonschema.SchemaError) else str(failure)
        raise Rejected("FF10196", label, text[:500]) from failure


_NO_SCHEMAS: Final = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data; what looks like a schema in them is none."""
_BY_NAME: Final = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)
"""Keywords whose values are schemas by name; a name is no keyword."""


def _check_patterns(document: object) -> None:
    """Compiles all patterns, so that a bad one is the datatype's error and not a value's."""
    waiting, seen = [document], set[str]()
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += schema
        if not isinstance(schema, dict):
            continue
        if isinstance(schema.get("pattern"), str):
            _compiled(schema["pattern"])
        for pattern in schema.get("patternProperties", ()):
            _compiled(pattern)
        seen.update(schema.keys() & {"patternProperties", "unevaluatedProperties"})
        for keyword, inner in schema.items():
            if keyword in _BY_NAME and isinstance(inner, dict):
                waiting += inner.values()
            elif keyword not in _NO_SCHEMAS:
                waiting.append(inner)
    if len(seen) == 2:
        # The library would match these names with Python's own expressions.
        raise ValueError("unevaluatedProperties does not go with patternProperties")


@lru_cache(maxsize=PATTERN_CACHE_MAX)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as failure:
        raise ValueError(f"pattern {pattern!r}: {failure}") from failure


def _keywords(kind: type[JsonValidator]) -> dict[str, Keyword]:
    known: dict[str, Keyword] = {**kind.VALIDATORS}
    return known | {name: check for name, check in _LINEAR.items() if name in known}


def _pattern(
    _: JsonValidator, pattern: str, value: object, __: object
) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, str) and _compiled(pattern).search(value) is None:
        yield jsonschema.ValidationError(f"does not match pattern {pattern!r}")


def _pattern_properties(
    validator: JsonValidator, patterns: dict[str, Any], value: object, _: object
) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for name, item in value.items():
                if _compiled(pattern).search(name) is not None:
                    yield from validator.descend(item, schema, path=name, schema_path=pattern)  # type: ignore[attr-defined]  # the stubs omit `descend`


def _additional_properties(
    validator: JsonValidator, allowed: object, value: object, schema: dict[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(value, dict):
        return
    patterns = list(schema.get("patternProperties", {}))
    known = schema.get("properties", {})
    for name, item in value.items():
        if name in known or any(_compiled(p).search(name) is not None for p in patterns):
            continue
        if allowed is False:
            yield jsonschema.ValidationError(f"additionalProperties {name!r} not allowed")
        elif isinstance(allowed, dict):
            yield from validator.descend(item, allowed, path=name)  # type: ignore[attr-defined]  # the stubs omit `descend`


def _unique_items(
    _: JsonValidator, wanted: object, value: object, __: object
) -> Iterator[jsonschema.ValidationError]:
    if wanted is True and isinstance(value, list) and len({_key(v) for v in value}) < len(value):
        yield jsonschema.ValidationError("has non-unique elements")


def _key(value: object) -> object:
    """Something equal for equal values: 1 and 1.0 are, 1 and true are not."""
    match value:
        case dict():
            return "object", frozenset((name, _key(item)) for name, item in value.items())
        case list():
            return "array", tuple(map(_key, value))
        case bool():
            return "boolean", value
        case _:
            return value


_LINEAR: Final[dict[str, Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}


def _parse(name: str, value: str) -> Any:
    try:
        return _loads(value)
    except (ValueError, RecursionError) as failure:
        raise Rejected("FF10198", name, str(failure)[:500]) from failure


_MARK: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|[\]}]', re.DOTALL)
"""A text, an opening or a closing bracket."""


def _loads(text: str) -> Any:
    """Parses JSON whose nesting was found bounded before.

    The parser recurses on the C stack, and where a library has raised the interpreter's limit nothing
    else would stop it.
    """
    depth = 0
    for mark in _MARK.finditer(text):
        if mark.group(1):
            depth += 1
            if depth > JSON_DEPTH_MAX:
                raise ValueError(f"nested deeper than {JSON_DEPTH_MAX}")
        elif mark.group() in "]}":
            depth -= 1
    return json.loads(text)
