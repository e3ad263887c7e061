"""A query finds the same rows on both databases, and the same as plain Python, in whichever form it was sent.

Method: Hypothesis makes messages and queries; a query is written as a query string and as JSON, both are read by
the core's parsers and run; the oracle below knows neither the parsers' types nor SQL. Texts hold what is special to
LIKE, to URLs and to letter case; numbers and times reach to the ends of what is stored; times are sent in all forms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any, Final
from urllib.parse import quote

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photinus_core.model.ids import Namespace, Nanoseconds, new_uuid
from photinus_core.model.json_query import parse_json_query
from photinus_core.model.messages import BlobRef, Data, DatatypeRef, Message
from photinus_core.model.query import Page, Query
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import MessageWrite, Table

from tests.integration.store.conftest import OpenStore
from tests.support.query_rows import MESSAGE_FIELDS, messages
from tests.support.store_records import make_data, make_message, new_hash

INTEGER_MAX: Final = 2**63 - 1
SECOND: Final = 10**9
BEGIN: Final = 1_700_000_000 * SECOND
ALPHABET: Final = "aBb%_\\*?[\"' +&=;,<>!:^$@\n~Üüİiıß\u1e9eΣσςﬁ\u0301Ж中🙂𐐀𐐨"

# Mostly of few letters, so that a value is found, or nearly.
TEXTS = st.one_of(
    st.text("aA%_\\", max_size=3), st.text("aAÜüΣσ", max_size=2), st.text(ALPHABET, max_size=4)
)
MOMENTS = st.sampled_from(
    [0, 1, BEGIN, BEGIN + 1, BEGIN + 10**6, BEGIN + SECOND, BEGIN + 2 * SECOND, INTEGER_MAX]
)
NUMBERS = st.sampled_from([-INTEGER_MAX - 1, -1, 0, 1, 2, 10, 2**53 + 1, INTEGER_MAX])

MESSAGES = messages(TEXTS, st.sampled_from(["a", "B", "ü%"]), MOMENTS)

Row = Any
"""A message or a data item."""

READ: Final[dict[str, Mapping[str, Callable[[Row], Any]]]] = {
    "messages": MESSAGE_FIELDS,
    "data": {
        "datatype.name": lambda d: d.datatype.name if d.datatype else "",
        "blob.name": lambda d: d.blob.name if d.blob else "",
        "blob.size": lambda d: d.blob.size if d.blob else 0,
        "public": lambda d: d.public,
        "value": lambda d: d.value,
        "created": lambda d: d.created,
    },
}
"""Fields of all kinds, and what a row has there; '' and None are nothing."""
TIMES: Final = frozenset({"created", "confirmed"})
INTEGERS: Final = frozenset({"sequence", "blob.size"})

ORDER_TESTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": lambda actual, value: actual > value,
    ">=": lambda actual, value: actual >= value,
    "<": lambda actual, value: actual < value,
    "<=": lambda actual, value: actual <= value,
}
TEXT_TESTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "@": lambda actual, value: value in actual,
    "^": lambda actual, value: actual.startswith(value),
    "$": lambda actual, value: actual.endswith(value),
}
JSON_NAMES: Final = {
    "=": ("equal", "eq"),
    "@": ("contains",),
    "^": ("startsWith",),
    "$": ("endsWith",),
    ">": ("greaterThan", "gt"),
    ">=": ("greaterThanOrEqual", "gte"),
    "<": ("lessThan", "lt"),
    "<=": ("lessThanOrEqual", "lte"),
    "?": ("null",),
}


@dataclass(frozen=True)
class Asked:
    """One condition: what it means, and how its value is spelt."""

    collection: str
    field: str
    operator: str
    value: Any
    spelling: str
    negated: bool = False
    ignore_case: bool = False
    long_name: bool = False

    def holds(self, row: Row) -> bool:
        actual = READ[self.collection][self.field](row)
        return self._compare(actual) is not self.negated

    def _compare(self, actual: Any) -> bool:
        absent = actual is None or actual == ""
        if self.operator == "?" or (self.operator == "=" and self.value == ""):
            return absent
        if absent:
            return False
        value = self.value
        if self.ignore_case:
            actual, value = actual.lower(), value.lower()
        if self.operator == "=":
            return bool(actual == value)
        if self.operator in TEXT_TESTS:
            return TEXT_TESTS[self.operator](actual, value)
        if isinstance(actual, str):  # byte by byte, not UTF-16 or by a language's rules
            actual, value = actual.encode(), value.encode()
        return ORDER_TESTS[self.operator](actual, value)

    @property
    def parameter(self) -> str:
        """What stands behind `field=`, before its encoding."""
        modifiers = "!" * self.negated + ":" * self.ignore_case
        if self.operator == "?":
            return f"{modifiers}?"
        # Doubled, so that a value which begins with = or > is none of the operator's.
        operator = self.operator * 2 if self.operator in ("<", ">") else self.operator
        return f"{modifiers}{operator}{self.spelling}"

    @property
    def json(self) -> tuple[str, dict[str, Any]]:
        """The operator's name, and the condition."""
        names = JSON_NAMES[self.operator]
        made: dict[str, Any] = {"field": self.field}
        if self.operator != "?":
            made["value"] = self.value if isinstance(self.value, str) else self.spelling
        if self.negated:
            made["not"] = True
        if self.ignore_case:
            made["caseInsensitive"] = True
        return names[0 if self.long_name else -1], made


def spellings(moment: int) -> list[str]:
    """A time as nanoseconds, milliseconds, seconds and text, as far as each can say it."""
    found = [str(moment)] if moment >= BEGIN else []
    if moment % 10**6 == 0 and (moment >= BEGIN or moment == 0):
        found.append(str(moment // 10**6) if moment else "0")
    if moment % SECOND == 0:
        found.append(str(moment // SECOND))
    if moment < INTEGER_MAX:
        whole = datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        found += [f"{whole}.{moment % SECOND:09}Z", f"{whole}.{moment % SECOND:09}+00:00"]
    return found


@st.composite
def conditions(draw: st.DrawFn, collection: str) -> Asked:
    field = draw(st.sampled_from(sorted(READ[collection])))
    is_text = field not in TIMES | INTEGERS
    value: Any
    if is_text:
        operator = draw(st.sampled_from([*ORDER_TESTS, *TEXT_TESTS, "=", "=", "?"]))
        value = spelt = draw(TEXTS)
    else:
        operator = draw(st.sampled_from([*ORDER_TESTS, "=", "?"]))
        value = draw(MOMENTS if field in TIMES else NUMBERS)
        spelt = draw(st.sampled_from(spellings(value))) if field in TIMES else str(value)
    asked = Asked(collection, field, operator, value, spelt, long_name=draw(st.booleans()))
    if operator in ORDER_TESTS:
        return asked
    ignore_case = is_text and operator != "?" and draw(st.booleans())
    return replace(asked, negated=draw(st.booleans()), ignore_case=ignore_case)


@dataclass(frozen=True)
class Alternatives:
    """Conditions that all hold, and alternatives of which one does: a JSON query's filter."""

    conditions: tuple[Asked, ...]
    branches: tuple[Alternatives, ...] = ()

    def holds(self, row: Row) -> bool:
        return all(each.holds(row) for each in self.conditions) and (
            not self.branches or any(each.holds(row) for each in self.branches)
        )

    @property
    def json(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, condition in (each.json for each in self.conditions):
            made.setdefault(name, []).append(condition)
        if self.branches:
            made["or"] = [each.json for each in self.branches]
        return made


def filters(collection: str) -> st.SearchStrategy[Alternatives]:
    few = st.lists(conditions(collection), max_size=2).map(tuple)
    return st.recursive(
        st.builds(Alternatives, few),
        lambda inner: st.builds(Alternatives, few, st.lists(inner, max_size=3).map(tuple)),
        max_leaves=5,
    )


@dataclass(frozen=True)
class Repeated:
    """A query string's filter: of each field's conditions one holds, or all."""

    conditions: tuple[Asked, ...]
    all_of: frozenset[str]

    def holds(self, row: Row) -> bool:
        fields: dict[str, list[bool]] = {}
        for each in self.conditions:
            fields.setdefault(each.field, []).append(each.holds(row))
        return all(
            all(found) if field in self.all_of else any(found) for field, found in fields.items()
        )

    @property
    def parameters(self) -> list[str]:
        return [
            f"{each.field}={'[' * (each.field in self.all_of)}{each.parameter}"
            for each in self.conditions
        ]


def query_strings(collection: str) -> st.SearchStrategy[Repeated]:
    return st.builds(
        Repeated,
        st.lists(conditions(collection), max_size=4).map(tuple),
        st.frozensets(st.sampled_from(sorted(READ[collection])), max_size=4),
    )


@dataclass(frozen=True)
class Paging:
    """Order and page."""

    collection: str
    sort: tuple[str, ...]
    skip: int
    limit: int

    def page(self, newest_first: Sequence[Row]) -> list[Row]:
        rows = sorted(newest_first, key=cmp_to_key(self._compare))
        return rows[self.skip : self.skip + self.limit]

    def _compare(self, one: Row, other: Row) -> int:
        read = READ[self.collection]
        seen: set[str] = set()
        for name in self.sort:
            field = name.removeprefix("-")
            if field in seen:
                continue
            seen.add(field)
            a, b = _sortable(read[field](one)), _sortable(read[field](other))
            if a != b:
                return (1 if a > b else -1) * (-1 if name.startswith("-") else 1)
        return 0


def _sortable(value: Any) -> tuple[bool, Any]:
    """Absent times come last, and first when descending, as in PostgreSQL."""
    return (value is None, value.encode() if isinstance(value, str) else value or 0)


def pagings(collection: str) -> st.SearchStrategy[Paging]:
    names = sorted(READ[collection])
    return st.builds(
        Paging,
        st.just(collection),
        st.lists(st.sampled_from([*names, *(f"-{name}" for name in names)]), max_size=3).map(tuple),
        st.integers(0, 3),
        st.integers(1, 6),
    )


@st.composite
def data_items(draw: st.DrawFn) -> Data:
    item = make_data()
    blob = BlobRef(new_hash(), draw(NUMBERS.filter(lambda n: n >= 0)), draw(TEXTS), "", "")
    return msgspec.structs.replace(
        item,
        datatype=draw(st.one_of(st.none(), TEXTS.map(lambda name: DatatypeRef(name, "1")))),
        blob=draw(st.one_of(st.none(), st.just(blob))),
        public=draw(TEXTS),
        value=draw(st.one_of(st.none(), TEXTS.map(json.dumps), st.sampled_from(["null", "{}"]))),
        created=Nanoseconds(draw(MOMENTS)),
    )


def asked_of(
    collection: str,
) -> st.SearchStrategy[list[tuple[Repeated, Alternatives, Paging]]]:
    alone = conditions(collection)
    usual = Paging(collection, (), 0, 100)
    return st.builds(
        lambda conditions, combined: [
            *(
                (Repeated((each,), frozenset()), Alternatives((each,)), usual)
                for each in conditions
            ),
            *combined,
        ],
        # One by one first: of several conditions the others hide what one finds.
        st.lists(alone, min_size=15, max_size=30),
        st.lists(
            st.tuples(query_strings(collection), filters(collection), pagings(collection)),
            max_size=8,
        ),
    )


def sent_as_text(asked: Repeated, paging: Paging) -> Query:
    controls = [f"skip={paging.skip}", f"limit={paging.limit}", "count"]
    controls += [f"sort={','.join(paging.sort)}"] if paging.sort else []
    parts = [*asked.parameters, *controls]
    raw = "&".join(f"{quote(n)}={quote(v)}" for n, _, v in (p.partition("=") for p in parts))
    return parse_query_string(paging.collection, raw)


def sent_as_json(asked: Alternatives, paging: Paging) -> Query:
    body = {"skip": paging.skip, "limit": paging.limit, "sort": list(paging.sort), "count": True}
    return parse_json_query(paging.collection, json.dumps({**asked.json, **body}))


async def compare(
    open_store: OpenStore,
    table: Table,
    writes: Callable[[Namespace], list[MessageWrite]],
    queries: list[tuple[Repeated, Alternatives, Paging]],
) -> None:
    """Stores rows, asks and compares with what plain Python finds among them."""
    store = await open_store()
    namespace = Namespace(new_uuid())  # rows of other examples stay in the same database
    try:
        async with store.write(namespace) as tx:
            await tx.insert_messages(writes(namespace))
        async with store.read(namespace) as reader:
            stored: list[Row] = (await reader.query(table, Query(table, limit=100))).items
            assert stored
            for text, body, paging in queries:
                asked: Repeated | Alternatives
                for asked, query in (
                    (text, sent_as_text(text, paging)),
                    (body, sent_as_json(body, paging)),
                ):
                    found: Page[Row] = await reader.query(table, query)
                    wanted = [row for row in stored if asked.holds(row)]
                    assert found.total == len(wanted), asked
                    assert found.items == paging.page(wanted), (asked, paging)
    finally:
        await store.aclose()


EXAMPLES: Final = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@EXAMPLES
@given(st.lists(MESSAGES, min_size=1, max_size=8), asked_of("messages"))
async def test_messages_are_found_as_asked(
    open_store: OpenStore,
    rows: list[Message],
    queries: list[tuple[Repeated, Alternatives, Paging]],
) -> None:
    def writes(namespace: Namespace) -> list[MessageWrite]:
        return [MessageWrite(msgspec.structs.replace(row, namespace=namespace)) for row in rows]

    await compare(open_store, Table.MESSAGES, writes, queries)


@EXAMPLES
@given(st.lists(data_items(), min_size=1, max_size=8), asked_of("data"))
async def test_data_are_found_as_asked(
    open_store: OpenStore,
    rows: list[Data],
    queries: list[tuple[Repeated, Alternatives, Paging]],
) -> None:
    """Values are JSON texts or absent; sizes reach to the end of what a database stores."""

    def writes(namespace: Namespace) -> list[MessageWrite]:
        items = [msgspec.structs.replace(row, namespace=namespace) for row in rows]
        message = msgspec.structs.replace(make_message(*items), namespace=namespace)
        return [MessageWrite(message, tuple(items))]

    await compare(open_store, Table.DATA, writes, queries)
