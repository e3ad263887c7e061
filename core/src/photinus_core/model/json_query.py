"""Reads list queries in the JSON form of FireFly's libraries: conditions by operator, `or`, paging.

    {"equal": [{"field": "tag", "value": "a"}],
     "or": [{"gt": [{"field": "sequence", "value": 7}]}, {"null": [{"field": "batch"}]}],
     "sort": ["-created"], "limit": 10, "count": true}

Everything of one object must hold; of the objects in `or`, one. FireFly ignores what it does not know: a
misspelt operator would find everything, so here it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from photinus_core.model.errors import Rejected
from photinus_core.model.fields import fields_of
from photinus_core.model.query import (
    CONDITIONS_MAX,
    DEFAULT_LIMITS,
    ORDER,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    FilterBuilder,
    Operator,
    Query,
    QueryLimits,
    Value,
    make_condition,
)
from photinus_core.model.query_string import parse_value

NESTING_MAX: Final = 16
"""Most levels of `or`."""
JSON_CHARS_MAX: Final = 1024 * 1024
"""Longest JSON query: as much as its conditions can hold, with room for their spelling."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What stands behind the name of an operator."""

    operator: Operator
    negated: bool = False
    several: bool = False


_EQUAL: Final = _Kind(Operator.EQUAL)
_LESS: Final = _Kind(Operator.LESS)
_LESS_OR_EQUAL: Final = _Kind(Operator.LESS_OR_EQUAL)
_GREATER: Final = _Kind(Operator.GREATER)
_GREATER_OR_EQUAL: Final = _Kind(Operator.GREATER_OR_EQUAL)
_KINDS: Final = {
    "equal": _EQUAL,
    "eq": _EQUAL,
    "neq": _Kind(Operator.EQUAL, negated=True),
    "contains": _Kind(Operator.CONTAINS),
    "startsWith": _Kind(Operator.STARTS_WITH),
    "endsWith": _Kind(Operator.ENDS_WITH),
    "lessThan": _LESS,
    "lt": _LESS,
    "lessThanOrEqual": _LESS_OR_EQUAL,
    "lte": _LESS_OR_EQUAL,
    "greaterThan": _GREATER,
    "gt": _GREATER,
    "greaterThanOrEqual": _GREATER_OR_EQUAL,
    "gte": _GREATER_OR_EQUAL,
    "in": _Kind(Operator.EQUAL, several=True),
    "nin": _Kind(Operator.EQUAL, negated=True, several=True),
    "null": _Kind(Operator.ABSENT),
}
JSON_OPERATORS: Final = tuple(_KINDS)
"""Names of the operators."""


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    """One condition as it was sent."""

    field: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    values: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    negated: bool = msgspec.field(default=False, name="not")
    ignore_case: bool = msgspec.field(default=False, name="caseInsensitive")


class _Paging(msgspec.Struct):
    """What is not conditions."""

    sort: list[str] = []
    skip: int = 0
    limit: int | None = None
    count: bool = False


_PAGING: Final = frozenset(_Paging.__struct_fields__)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PAGING_DECODER: Final = msgspec.json.Decoder(_Paging)
_CONDITIONS: Final = msgspec.json.Decoder(list[_Given])
_BRANCHES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(str | bool | int | float | None)


def parse_json_query(collection: str, text: str, limits: QueryLimits = DEFAULT_LIMITS) -> Query:
    """Reads a JSON query.

    Args:
        collection: Which list is asked for; the value of `ports.store.Table`.
        text: One JSON object.
        limits: Limits of paging.

    Raises:
        Rejected: FF19001 no JSON; FF19002 an unknown key, or one of the wrong type; FF00142 unknown
            field; FF00143, FF00145, FF00240, FF00241 a condition is wrong; FF00191, FF00192 paging
            is; FF19012 too many conditions; FF00135 too long.
    """
    if len(text) > JSON_CHARS_MAX:
        raise Rejected("FF00135", "query", JSON_CHARS_MAX)
    members = _decode(_OBJECT, text, "query")
    where = _Reader(collection).read(members, "", 0)
    paging: _Paging = _decode(_PAGING_DECODER, text, "query")
    for name, value in (("skip", paging.skip), ("limit", paging.limit or 0)):
        if value < 0:
            raise Rejected("FF19002", name, "must not be negative")
    sort = tuple(_lower(name) for name in paging.sort)
    return FilterBuilder(collection, limits).query(
        where, sort=sort, skip=paging.skip, limit=paging.limit, count=paging.count
    )


class _Reader:
    """Reads the conditions of one query and counts them, so that what is refused costs little."""

    def __init__(self, collection: str) -> None:
        self._collection = collection
        self._fields = fields_of(collection)
        self._count = 0

    def read(self, members: dict[str, msgspec.Raw], path: str, level: int) -> AllOf:
        parts: list[Filter] = []
        for name, raw in members.items():
            here = f"{path}{name}"
            if name in _KINDS:
                given = _decode(_CONDITIONS, raw, here)
                parts += [self._condition(name, each) for each in given]
            elif name == "or":
                parts += self._branches(raw, here, level)
            elif level or name not in _PAGING:
                raise Rejected("FF19002", here, "is not known here")
        return AllOf(tuple(parts))

    def _branches(self, raw: msgspec.Raw, path: str, level: int) -> list[Filter]:
        if level == NESTING_MAX:
            raise Rejected("FF19005", NESTING_MAX)
        branches: list[Filter] = []
        for number, each in enumerate(_decode(_BRANCHES, raw, path)):
            self._counted()
            here = f"{path}[{number}]"
            branches.append(self.read(_decode(_OBJECT, each, here), f"{here}.", level + 1))
        # Without alternatives nothing is asked, as in FireFly.
        return [AnyOf(tuple(branches))] if branches else []

    def _condition(self, name: str, given: _Given) -> Filter:
        kind = _KINDS[name]
        if given.ignore_case and (
            kind.several or kind.operator in ORDER or kind.operator is Operator.ABSENT
        ):
            raise Rejected("FF00240", name, "caseInsensitive")
        if given.negated and kind.operator in ORDER:
            raise Rejected("FF00240", name, "not")
        negated = given.negated is not kind.negated
        field = _lower(given.field)
        if field not in self._fields:
            raise Rejected("FF00142", given.field)
        if kind.operator is Operator.ABSENT:
            self._refuse(name, value=given.value, values=given.values)
            return self._make(field, kind, None, given, negated=negated)
        if not kind.several:
            self._refuse(name, values=given.values)
            return self._make(field, kind, given.value, given, negated=negated)
        self._refuse(name, value=given.value)
        if isinstance(given.values, msgspec.UnsetType):
            raise Rejected("FF19002", f"{name}.values", "is missing")
        made = tuple(
            self._make(field, kind, value, given, negated=negated) for value in given.values
        )
        return AllOf(made) if negated else AnyOf(made)

    def _make(
        self,
        field: str,
        kind: _Kind,
        raw: msgspec.Raw | msgspec.UnsetType | None,
        given: _Given,
        *,
        negated: bool,
    ) -> Condition:
        self._counted()
        value: Value | None = None
        if raw is not None:
            value = parse_value(field, self._fields[field], _text(raw))
        return make_condition(
            self._collection,
            field,
            kind.operator,
            value,
            negated=negated,
            ignore_case=given.ignore_case,
        )

    def _counted(self) -> None:
        self._count += 1
        if self._count > CONDITIONS_MAX:
            raise Rejected("FF19012", CONDITIONS_MAX)

    @staticmethod
    def _refuse(operator: str, **values: object) -> None:
        for name, value in values.items():
            if not isinstance(value, msgspec.UnsetType):
                raise Rejected("FF19002", f"{operator}.{name}", "is not taken by this operator")


def _text(raw: msgspec.Raw | msgspec.UnsetType) -> str:
    """The value of a condition as text; a number in the spelling in which it was sent."""
    try:
        value = None if isinstance(raw, msgspec.UnsetType) else _VALUE.decode(raw)
    except msgspec.MsgspecError as failure:
        raise Rejected("FF00241") from failure
    match value:
        case None:
            raise Rejected("FF00241")
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            assert isinstance(raw, msgspec.Raw)
            return bytes(raw).decode()


def _lower(name: str) -> str:
    """Names of fields are matched as in query strings."""
    return name.lower()


def _decode(decoder: msgspec.json.Decoder[Any], text: str | msgspec.Raw, path: str) -> Any:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as failure:
        raise Rejected("FF19002", path, str(failure)) from failure
    except msgspec.DecodeError as failure:
        raise Rejected("FF19001", str(failure)) from failure
    except (RecursionError, UnicodeEncodeError) as failure:
        raise Rejected("FF19001", type(failure).__name__) from failure
