"""Reads FireFly's list queries from a URL: `field=[modifiers][operator]value`, sort, paging, count.

Parameters that are no fields are ignored, as FireFly does: clients send some.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from photinus_core.model.canonical_json import InvalidTimeError, parse_time
from photinus_core.model.errors import Rejected
from photinus_core.model.fields import FieldType, fields_of
from photinus_core.model.query import (
    CONDITIONS_MAX,
    DEFAULT_LIMITS,
    ORDER,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Operator,
    Query,
    QueryLimits,
    SortKey,
    Value,
    check_paging,
    count_conditions,
    make_condition,
)

PARAMETERS_MAX: Final = 200
"""Most parameters in one query string."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,80}")
_FALSE: Final = frozenset({"false", "0", "f"})
_TRUE: Final = frozenset({"true", "1", "t"})
_PLAIN_OPERATORS: Final = {
    "=": Operator.EQUAL,
    "@": Operator.CONTAINS,
    "^": Operator.STARTS_WITH,
    "$": Operator.ENDS_WITH,
}
_ORDER_OPERATORS: Final = {
    ">": (Operator.GREATER, Operator.GREATER_OR_EQUAL),
    "<": (Operator.LESS, Operator.LESS_OR_EQUAL),
}


@dataclass(slots=True)
class _Prefix:
    """What stands before the value of one parameter."""

    operator: Operator = Operator.EQUAL
    negated: bool = False
    ignore_case: bool = False
    empty_is_absent: bool = False
    joins_with_and: bool = False


def parse_query_string(
    collection: str, raw_query: str, limits: QueryLimits = DEFAULT_LIMITS
) -> Query:
    """Reads the query part of a URL, without the question mark.

    Args:
        collection: Which list is asked for; the value of `ports.store.Table`.
        raw_query: The query as it was sent, percent-encoded.
        limits: Limits of paging.

    Raises:
        Rejected: FF00143, FF00144, FF00145, FF00193 a condition is wrong; FF00191, FF00192 paging
            is; FF19012 too many conditions.
    """
    known = fields_of(collection)
    conditions: dict[str, list[tuple[Condition, bool]]] = {}
    controls: dict[str, list[str]] = {}
    try:
        parameters = parse_qsl(raw_query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError as failure:
        raise Rejected("FF19012", PARAMETERS_MAX) from failure
    for name, text in parameters:
        lower = name.lower()
        if lower in known:
            made = _condition(collection, lower, known[lower], text)
            conditions.setdefault(lower, []).append(made)
        else:
            controls.setdefault(lower, []).append(text)
    where = AllOf(tuple(_combine(found) for found in conditions.values()))
    if count_conditions(where) > CONDITIONS_MAX:
        raise Rejected("FF19012", CONDITIONS_MAX)
    skip, limit = check_paging(
        _number(controls, "skip", 0), _number(controls, "limit", limits.default_limit), limits
    )
    return Query(collection, where, _sort(controls, known), skip, limit, _is_on(controls, "count"))


def _combine(found: list[tuple[Condition, bool]]) -> Filter:
    parts = tuple(condition for condition, _ in found)
    if len(parts) == 1:
        return parts[0]
    return AllOf(parts) if any(joins for _, joins in found) else AnyOf(parts)


def _condition(collection: str, name: str, kind: FieldType, text: str) -> tuple[Condition, bool]:
    prefix, rest = _scan(text)
    if prefix.operator in ORDER and (
        prefix.negated or prefix.ignore_case or prefix.empty_is_absent
    ):
        raise Rejected("FF00193", prefix.operator, name)
    value: Value | None
    if prefix.empty_is_absent and not rest:
        value = None
    elif not kind.is_text and (prefix.ignore_case or prefix.operator in _NEEDS_TEXT):
        raise Rejected("FF00145", name, kind)
    else:
        value = parse_value(name, kind, rest)
    made = make_condition(
        collection,
        name,
        prefix.operator,
        value,
        negated=prefix.negated,
        ignore_case=prefix.ignore_case,
    )
    return made, prefix.joins_with_and


_NEEDS_TEXT: Final = frozenset({Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH})


def _scan(text: str) -> tuple[_Prefix, str]:
    """Splits modifiers and operator from the value. The operator ends the scan."""
    prefix = _Prefix()
    for at, character in enumerate(text):
        if character in _PLAIN_OPERATORS:
            prefix.operator = _PLAIN_OPERATORS[character]
            return prefix, text[at + 1 :]
        if character in _ORDER_OPERATORS:
            following = text[at + 1 : at + 2]
            strict, or_equal = _ORDER_OPERATORS[character]
            prefix.operator = or_equal if following == "=" else strict
            # `>>` is `>`; `><` is `>` and a value that begins with `<`.
            return prefix, text[at + (2 if following in ("=", character) else 1) :]
        match character:
            case "!":
                prefix.negated = True
            case ":":
                prefix.ignore_case = True
            case "?":
                prefix.empty_is_absent = True
            case "[":
                prefix.joins_with_and = True
            case "]":
                pass
            case _:
                return prefix, text[at:]
    return prefix, ""


def parse_value(name: str, kind: FieldType, text: str) -> Value:
    """Reads the value of a condition as the type of its field.

    Raises:
        Rejected: FF00143, it is none.
    """
    match kind:
        case FieldType.TEXT | FieldType.TEXT_LIST | FieldType.JSON:
            return text
        case FieldType.INTEGER | FieldType.BIG_INTEGER:
            if _INTEGER.fullmatch(text) is None:
                reason = f"{Rejected('FF00105', 'string', 'int64')}: '{text}' is not a whole number"
                raise Rejected("FF00143", name, reason)
            return int(text)
        case FieldType.TIME:
            try:
                return parse_time(text)
            except InvalidTimeError as failure:
                reason = str(Rejected("FF00136", text))
                raise Rejected("FF00143", name, reason) from failure
        case FieldType.BOOLEAN:
            if text.lower() in _TRUE:
                return True
            if text.lower() in _FALSE:
                return False
            raise Rejected("FF00143", name, f"'{text}' is neither true nor false")


def _sort(controls: dict[str, list[str]], known: Collection[str]) -> tuple[SortKey, ...]:
    keys: list[SortKey] = []
    for text in controls.get("sort", ()):
        for part in text.split(","):
            key = SortKey(part.strip().removeprefix("-"), part.strip().startswith("-"))
            if key.field in known and all(key.field != other.field for other in keys):
                keys.append(key)
    if _is_on(controls, "descending"):
        return tuple(SortKey(key.field, descending=True) for key in keys)
    if _is_on(controls, "ascending"):
        return tuple(SortKey(key.field) for key in keys)
    return tuple(keys)


def _number(controls: dict[str, list[str]], name: str, default: int) -> int:
    values = controls.get(name)
    if not values or not values[0]:
        return default
    if _INTEGER.fullmatch(values[0]) is None:
        raise Rejected("FF00143", name, f"'{values[0]}' is not a whole number")
    return int(values[0])


def _is_on(controls: dict[str, list[str]], name: str) -> bool:
    """Reads a flag as FireFly does, and as the gateway does those of calls: no value, or `true`."""
    values = controls.get(name)
    return values is not None and values[0].lower() in ("", "true")
