"""A query finds the same rows on both databases, and the same as plain Python, in whichever form it was sent.

Method: Hypothesis makes messages and queries; a query is written as a query string and as JSON, both are read by
the core's parsers and run; the oracle below knows neither the parsers' types nor SQL. Texts hold what is special to
LIKE, to URLs and to letter case; numbers and times reach to the ends of what is stored; times are sent in all forms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from photinus_core.model.messages import Message, MessageState
from photinus_core.model.query import Page, Query
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import MessageWrite, Table

from tests.integration.store.conftest import OpenStore
from tests.support.store_records import make_message

INTEGER_MAX: Final = 2**63 - 1
SECOND: Final = 10**9
BEGIN: Final = 1_700_000_000 * SECOND
ALPHABET: Final = "aBb%_\\*?[\"' +&=;,<>!:^$@\n~Üüİiıß\u1e9eΣσςﬁ\u0301Ж中🙂𐐀𐐨"

TEXTS = st.text(ALPHABET, max_size=4)
MOMENTS = st.sampled_from(
    [0, 1, BEGIN, BEGIN + 1, BEGIN + 10**6, BEGIN + SECOND, BEGIN + 2 * SECOND, INTEGER_MAX]
)
NUMBERS = st.sampled_from([-INTEGER_MAX - 1, -1, 0, 1, 2, 10, 2**53 + 1, INTEGER_MAX])

READ: Final[dict[str, Callable[[Message], Any]]] = {
    "tag": lambda m: m.header.tag,
    "author": lambda m: m.header.author,
    "rejectreason": lambda m: m.reject_reason,
    "cid": lambda m: m.header.cid or "",
    "topics": lambda m: ",".join(m.header.topics),
    "state": lambda m: m.state.value,
    "sequence": lambda m: m.sequence,
    "created": lambda m: m.header.created,
    "confirmed": lambda m: m.confirmed,
}
"""Fields of all kinds, and what a message has there; '' and None are nothing."""
TIMES: Final = frozenset({"created", "confirmed"})
OF_TEXT: Final = tuple(sorted(READ.keys() - TIMES - {"sequence"}))

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

    field: str
    operator: str
    value: Any
    spelling: str
    negated: bool = False
    ignore_case: bool = False
    long_name: bool = False

    def holds(self, message: Message) -> bool:
        actual = READ[self.field](message)
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
def conditions(draw: st.DrawFn) -> Asked:
    field = draw(st.sampled_from(sorted(READ)))
    long_name = draw(st.booleans())
    if field in OF_TEXT:
        operator = draw(st.sampled_from([*ORDER_TESTS, *TEXT_TESTS, "=", "=", "?"]))
        value = draw(TEXTS)
        asked = Asked(field, operator, value, value, long_name=long_name)
    else:
        operator = draw(st.sampled_from([*ORDER_TESTS, "=", "?"]))
        number = draw(MOMENTS if field in TIMES else NUMBERS)
        spelt = draw(st.sampled_from(spellings(number))) if field in TIMES else str(number)
        asked = Asked(field, operator, number, spelt, long_name=long_name)
    if operator in ORDER_TESTS:
        return asked
    ignore_case = field in OF_TEXT and operator != "?" and draw(st.booleans())
    return replace(asked, negated=draw(st.booleans()), ignore_case=ignore_case)


@dataclass(frozen=True)
class Alternatives:
    """Conditions that all hold, and alternatives of which one does: a JSON query's filter."""

    conditions: tuple[Asked, ...]
    branches: tuple[Alternatives, ...] = ()

    def holds(self, message: Message) -> bool:
        return all(each.holds(message) for each in self.conditions) and (
            not self.branches or any(each.holds(message) for each in self.branches)
        )

    @property
    def json(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, condition in (each.json for each in self.conditions):
            made.setdefault(name, []).append(condition)
        if self.branches:
            made["or"] = [each.json for each in self.branches]
        return made


FEW = st.lists(conditions(), max_size=2).map(tuple)
FILTERS = st.recursive(
    st.builds(Alternatives, FEW),
    lambda inner: st.builds(Alternatives, FEW, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=5,
)


@dataclass(frozen=True)
class Repeated:
    """A query string's filter: of each field's conditions one holds, or all."""

    conditions: tuple[Asked, ...]
    all_of: frozenset[str]

    def holds(self, message: Message) -> bool:
        fields: dict[str, list[bool]] = {}
        for each in self.conditions:
            fields.setdefault(each.field, []).append(each.holds(message))
        return all(
            all(found) if field in self.all_of else any(found) for field, found in fields.items()
        )

    @property
    def parameters(self) -> list[str]:
        return [
            f"{each.field}={'[' * (each.field in self.all_of)}{each.parameter}"
            for each in self.conditions
        ]


QUERY_STRINGS = st.builds(
    Repeated,
    st.lists(conditions(), max_size=4).map(tuple),
    st.frozensets(st.sampled_from(sorted(READ)), max_size=4),
)


@dataclass(frozen=True)
class Paging:
    """Order and page."""

    sort: tuple[str, ...]
    skip: int
    limit: int

    def page(self, newest_first: Sequence[Message]) -> list[Message]:
        rows = sorted(newest_first, key=cmp_to_key(self._compare))
        return rows[self.skip : self.skip + self.limit]

    def _compare(self, one: Message, other: Message) -> int:
        seen: set[str] = set()
        for name in self.sort:
            field = name.removeprefix("-")
            if field in seen:
                continue
            seen.add(field)
            a, b = _sortable(READ[field](one)), _sortable(READ[field](other))
            if a != b:
                return (1 if a > b else -1) * (-1 if name.startswith("-") else 1)
        return 0


def _sortable(value: Any) -> tuple[bool, Any]:
    """Absent times come last, and first when descending, as in PostgreSQL."""
    return (value is None, value.encode() if isinstance(value, str) else value or 0)


PAGINGS = st.builds(
    Paging,
    st.lists(st.sampled_from([*READ, *(f"-{name}" for name in READ)]), max_size=3).map(tuple),
    st.integers(0, 3),
    st.integers(1, 6),
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message = make_message()
    header = msgspec.structs.replace(
        message.header,
        tag=draw(TEXTS),
        author=draw(TEXTS),
        cid=draw(st.one_of(st.none(), TEXTS.filter(bool))),
        topics=tuple(draw(st.lists(st.sampled_from(["a", "B", "ü%"]), min_size=1, unique=True))),
        created=Nanoseconds(draw(MOMENTS)),
    )
    return msgspec.structs.replace(
        message,
        header=header,
        state=draw(st.sampled_from([MessageState.READY, MessageState.CONFIRMED])),
        reject_reason=draw(TEXTS),
        confirmed=draw(st.one_of(st.none(), MOMENTS.map(Nanoseconds))),
    )


def sent_as_text(asked: Repeated, paging: Paging) -> Query:
    controls = [f"skip={paging.skip}", f"limit={paging.limit}", "count"]
    controls += [f"sort={','.join(paging.sort)}"] if paging.sort else []
    parts = [*asked.parameters, *controls]
    raw = "&".join(f"{quote(n)}={quote(v)}" for n, _, v in (p.partition("=") for p in parts))
    return parse_query_string("messages", raw)


def sent_as_json(asked: Alternatives, paging: Paging) -> Query:
    body = {"skip": paging.skip, "limit": paging.limit, "sort": list(paging.sort), "count": True}
    return parse_json_query("messages", json.dumps({**asked.json, **body}))


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(messages(), min_size=1, max_size=8),
    st.lists(st.tuples(QUERY_STRINGS, FILTERS, PAGINGS), min_size=1, max_size=15),
)
async def test_every_form_finds_what_it_says(
    open_store: OpenStore,
    rows: list[Message],
    queries: list[tuple[Repeated, Alternatives, Paging]],
) -> None:
    store = await open_store()
    namespace = Namespace(new_uuid())  # rows of other examples stay in the same database
    try:
        async with store.write(namespace) as tx:
            await tx.insert_messages(
                [MessageWrite(msgspec.structs.replace(row, namespace=namespace)) for row in rows]
            )
        async with store.read(namespace) as reader:
            stored: list[Message] = (
                await reader.query(Table.MESSAGES, Query("messages", limit=100))
            ).items
            assert len(stored) == len(rows)
            for text, body, paging in queries:
                asked: Repeated | Alternatives
                for asked, query in (
                    (text, sent_as_text(text, paging)),
                    (body, sent_as_json(body, paging)),
                ):
                    found: Page[Message] = await reader.query(Table.MESSAGES, query)
                    wanted = [row for row in stored if asked.holds(row)]
                    assert found.total == len(wanted), asked
                    assert found.items == paging.page(wanted), (asked, paging)
    finally:
        await store.aclose()
