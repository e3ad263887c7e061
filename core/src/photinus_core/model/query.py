"""What a client asks of a list: filter, order, paging and count, as plain values.

`query_string` reads them from a URL; `FilterBuilder` makes them in code. Both check fields,
operators and values, so that whoever turns a `Query` into SQL can trust it.

An absent value and an empty text are the same thing; absent matches only "is absent" and negations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from photinus_core.model.errors import Rejected
from photinus_core.model.fields import FieldType, fields_of
from photinus_core.model.ids import INTEGER_MAX
from photinus_core.model.names import check_text

Value = str | int | bool
"""A filter's value in the type of its field; times are nanoseconds."""

T = TypeVar("T")

CONDITIONS_MAX: Final = 100
"""Most conditions in one filter."""
VALUE_CHARS_MAX: Final = 8192
"""Longest text in a condition; below what databases take as a LIKE pattern."""


class Operator(StrEnum):
    """How a field is compared. The value is FireFly's spelling in query strings."""

    EQUAL = "="
    CONTAINS = "@"
    STARTS_WITH = "^"
    ENDS_WITH = "$"
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    ABSENT = "?"


PARTIAL: Final = frozenset({Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH})
ORDER: Final = frozenset(
    {Operator.GREATER, Operator.GREATER_OR_EQUAL, Operator.LESS, Operator.LESS_OR_EQUAL}
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. Absent fields satisfy only `ABSENT` and negated comparisons."""

    field: str
    operator: Operator
    value: Value = ""
    negated: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when all parts are; true without parts."""

    parts: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when one part is; false without parts."""

    parts: tuple[Filter, ...] = ()


Filter = Condition | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class SortKey:
    """One field of an order."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Limits of lists, FireFly's defaults (`api.defaultFilterLimit`, `api.maxFilterLimit`)."""

    default_limit: int = 25
    limit_max: int = 1000
    skip_max: int = 1000


DEFAULT_LIMITS: Final = QueryLimits()


@dataclass(frozen=True, slots=True)
class Query:
    """A checked question to one collection.

    Attributes:
        collection: Which collection; the value of `ports.store.Table`.
        where: The filter.
        sort: Order; empty means newest first. Ties go newest first.
        skip: How many to leave out at the start.
        limit: How many to give at most, at least 1.
        count: Whether the total without paging is wanted.
    """

    collection: str
    where: Filter = field(default_factory=AllOf)
    sort: tuple[SortKey, ...] = ()
    skip: int = 0
    limit: int = DEFAULT_LIMITS.default_limit
    count: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; the total only when it was asked for."""

    items: list[T]
    total: int | None = None


def check_paging(skip: int, limit: int, limits: QueryLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Checks skip and limit; a limit of 0 or less means as many as allowed.

    Raises:
        Rejected: FF00191 skip too high, FF00192 limit too high.
    """
    if skip > limits.skip_max:
        raise Rejected("FF00191", limits.skip_max)
    if limit > limits.limit_max:
        raise Rejected("FF00192", limits.limit_max)
    return max(skip, 0), limit if limit > 0 else limits.limit_max


def count_conditions(where: Filter) -> int:
    """Counts the conditions of a filter."""
    if isinstance(where, Condition):
        return 1
    return sum(map(count_conditions, where.parts))


def make_condition(
    collection: str,
    name: str,
    operator: Operator,
    value: Value | None,
    *,
    negated: bool = False,
    ignore_case: bool = False,
) -> Condition:
    """Makes a condition whose value already has the type of the field; None asks for absence.

    Raises:
        Rejected: FF00142 unknown field, FF00143 value of the wrong type, FF00144 order or part of
            an absent value, FF00145 partial or case-insensitive match of something that is no text,
            FF00193 negated or case-insensitive order, FF00135 or FF19008 unusable text.
    """
    kind = fields_of(collection).get(name)
    if kind is None:
        raise Rejected("FF00142", name)
    if operator in ORDER and (negated or ignore_case):
        raise Rejected("FF00193", operator, name)
    if value is None or operator is Operator.ABSENT:
        if operator in ORDER or operator in PARTIAL:
            raise Rejected("FF00144", name)
        return Condition(name, Operator.ABSENT, negated=negated)
    if value == "" and operator is Operator.EQUAL and kind.is_text:
        return Condition(name, Operator.ABSENT, negated=negated)
    if not kind.is_text and (operator in PARTIAL or ignore_case):
        raise Rejected("FF00145", name, kind)
    _check_value(name, kind, value)
    return Condition(name, operator, value, negated, ignore_case)


def _check_value(name: str, kind: FieldType, value: Value) -> None:
    if kind is FieldType.BOOLEAN:
        if not isinstance(value, bool):
            raise Rejected("FF00143", name, "not a boolean")
    elif kind.is_text:
        if not isinstance(value, str):
            raise Rejected("FF00143", name, "not a string")
        check_text(value, name, VALUE_CHARS_MAX)
    else:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Rejected("FF00143", name, "not a number")
        if kind is not FieldType.BIG_INTEGER and not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
            raise Rejected("FF00143", name, f"{value} is out of range")


class FilterBuilder:
    """Makes filters and queries of one collection in code.

    All methods raise `Rejected` as `make_condition` does.

        f = FilterBuilder("messages")
        query = f.query(f.all(f.equal("state", "ready"), f.greater("sequence", 7)), limit=50)
    """

    def __init__(self, collection: str, limits: QueryLimits = DEFAULT_LIMITS) -> None:
        self._collection = collection
        self._limits = limits

    def equal(self, name: str, value: Value | None, *, ignore_case: bool = False) -> Condition:
        return self._make(name, Operator.EQUAL, value, ignore_case=ignore_case)

    def not_equal(self, name: str, value: Value | None, *, ignore_case: bool = False) -> Condition:
        return self._make(name, Operator.EQUAL, value, negated=True, ignore_case=ignore_case)

    def contains(
        self, name: str, value: str, *, negated: bool = False, ignore_case: bool = False
    ) -> Condition:
        return self._make(name, Operator.CONTAINS, value, negated=negated, ignore_case=ignore_case)

    def starts_with(
        self, name: str, value: str, *, negated: bool = False, ignore_case: bool = False
    ) -> Condition:
        return self._make(
            name, Operator.STARTS_WITH, value, negated=negated, ignore_case=ignore_case
        )

    def ends_with(
        self, name: str, value: str, *, negated: bool = False, ignore_case: bool = False
    ) -> Condition:
        return self._make(name, Operator.ENDS_WITH, value, negated=negated, ignore_case=ignore_case)

    def greater(self, name: str, value: Value, *, or_equal: bool = False) -> Condition:
        return self._make(name, Operator.GREATER_OR_EQUAL if or_equal else Operator.GREATER, value)

    def less(self, name: str, value: Value, *, or_equal: bool = False) -> Condition:
        return self._make(name, Operator.LESS_OR_EQUAL if or_equal else Operator.LESS, value)

    def one_of(self, name: str, values: Iterable[Value]) -> AnyOf:
        """Equal to one of the values; matches nothing when there are none."""
        return AnyOf(tuple(self.equal(name, value) for value in values))

    @staticmethod
    def all(*parts: Filter) -> AllOf:
        return AllOf(parts)

    @staticmethod
    def any(*parts: Filter) -> AnyOf:
        return AnyOf(parts)

    def query(
        self,
        where: Filter | None = None,
        *,
        sort: Sequence[str] = (),
        skip: int = 0,
        limit: int | None = None,
        count: bool = False,
    ) -> Query:
        """Makes a query; `-` before a field of `sort` makes it descending.

        Of a field that is named twice in `sort` the first counts.

        Raises:
            Rejected: FF00142 unknown sort field, FF00191, FF00192, FF19012 too many conditions.
        """
        where = where if where is not None else AllOf()
        if count_conditions(where) > CONDITIONS_MAX:
            raise Rejected("FF19012", CONDITIONS_MAX)
        known = fields_of(self._collection)
        keys: dict[str, SortKey] = {}
        for name in sort:
            key = SortKey(name.removeprefix("-"), name.startswith("-"))
            if key.field not in known:
                raise Rejected("FF00142", key.field)
            keys.setdefault(key.field, key)
        skip, limit = check_paging(
            skip, self._limits.default_limit if limit is None else limit, self._limits
        )
        return Query(self._collection, where, tuple(keys.values()), skip, limit, count)

    def _make(
        self,
        name: str,
        operator: Operator,
        value: Value | None,
        *,
        negated: bool = False,
        ignore_case: bool = False,
    ) -> Condition:
        return make_condition(
            self._collection, name, operator, value, negated=negated, ignore_case=ignore_case
        )
