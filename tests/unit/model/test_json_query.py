"""Goal: queries in FireFly's JSON form become the right conditions, wrong ones the right errors.

Method: tables after FireFly's form; every operator beside the query string that means the same; a
property that the parser reads or refuses any JSON, and nothing else.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.model.errors import Rejected
from photinus_core.model.json_query import (
    JSON_CHARS_MAX,
    JSON_OPERATORS,
    NESTING_MAX,
    parse_json_query,
)
from photinus_core.model.query import (
    CONDITIONS_MAX,
    AllOf,
    AnyOf,
    Condition,
    Operator,
    Query,
    QueryLimits,
    SortKey,
)
from photinus_core.model.query_string import parse_query_string

from scripts import json_query as documented

TAG_A = Condition("tag", Operator.EQUAL, "a")


def read(query: Any, collection: str = "messages") -> Query:
    return parse_json_query(collection, json.dumps(query))


@pytest.mark.parametrize(
    ("operator", "sent"),
    [
        ("equal", "=a"),
        ("eq", "=a"),
        ("neq", "!=a"),
        ("contains", "@a"),
        ("startsWith", "^a"),
        ("endsWith", "$a"),
        ("lessThan", "<a"),
        ("lt", "<a"),
        ("lessThanOrEqual", "<=a"),
        ("lte", "<=a"),
        ("greaterThan", ">a"),
        ("gt", ">a"),
        ("greaterThanOrEqual", ">=a"),
        ("gte", ">=a"),
    ],
)
def test_an_operator_means_what_its_twin_in_a_query_string_means(operator: str, sent: str) -> None:
    assert (
        read({operator: [{"field": "tag", "value": "a"}]}).where
        == parse_query_string("messages", f"tag={sent}").where
    )


@pytest.mark.parametrize(
    ("given_", "where"),
    [
        ({}, AllOf()),
        ({"null": [{"field": "tag"}]}, AllOf((Condition("tag", Operator.ABSENT),))),
        (
            {"null": [{"field": "tag", "not": True}]},
            AllOf((Condition("tag", Operator.ABSENT, negated=True),)),
        ),
        ({"in": [{"field": "tag", "values": ["a"]}]}, AllOf((AnyOf((TAG_A,)),))),
        ({"in": [{"field": "tag", "values": []}]}, AllOf((AnyOf(),))),
        ({"nin": [{"field": "tag", "values": []}]}, AllOf((AllOf(),))),
        (
            {"nin": [{"field": "tag", "values": ["a"]}]},
            AllOf((AllOf((Condition("tag", Operator.EQUAL, "a", negated=True),)),)),
        ),
        (
            {"neq": [{"field": "tag", "value": "a", "not": True}]},
            AllOf((TAG_A,)),
        ),
        (
            {"equal": [{"field": "TAG", "value": "a", "caseInsensitive": True, "not": True}]},
            AllOf((Condition("tag", Operator.EQUAL, "a", negated=True, ignore_case=True),)),
        ),
        (
            {
                "eq": [{"field": "tag", "value": "a"}],
                "or": [{"eq": [{"field": "cid", "value": "b"}]}],
            },
            AllOf((TAG_A, AnyOf((AllOf((Condition("cid", Operator.EQUAL, "b"),)),)))),
        ),
        ({"or": []}, AllOf()),
        (
            {"eq": [{"field": "sequence", "value": 5}]},
            AllOf((Condition("sequence", Operator.EQUAL, 5),)),
        ),
        (
            {"eq": [{"field": "sequence", "value": "5"}]},
            AllOf((Condition("sequence", Operator.EQUAL, 5),)),
        ),
        (
            {"eq": [{"field": "tag", "value": True}]},
            AllOf((Condition("tag", Operator.EQUAL, "true"),)),
        ),
        (
            {"gt": [{"field": "created", "value": 1795250104000}]},
            AllOf((Condition("created", Operator.GREATER, 1795250104 * 10**9),)),
        ),
    ],
)
def test_conditions(given_: Any, where: AllOf) -> None:
    assert read(given_).where == where


def test_a_number_keeps_its_spelling() -> None:
    query = parse_json_query("messages", '{"eq":[{"field":"tag","value":12345678901234567890.10}]}')
    assert query.where == AllOf((Condition("tag", Operator.EQUAL, "12345678901234567890.10"),))


def test_booleans() -> None:
    query = read({"eq": [{"field": "masked", "value": True}]}, "pins")
    assert query.where == AllOf((Condition("masked", Operator.EQUAL, value=True),))


def test_paging_sorting_and_count() -> None:
    usual = read({})
    assert (usual.skip, usual.limit, usual.count, usual.sort) == (0, 25, False, ())
    asked = read({"skip": 3, "limit": 4, "count": True, "sort": ["-created", "Tag", "tag"]})
    assert (asked.skip, asked.limit, asked.count) == (3, 4, True)
    assert asked.sort == (SortKey("created", descending=True), SortKey("tag"))
    assert parse_json_query("messages", '{"limit":0}', QueryLimits(limit_max=50)).limit == 50


def nested(levels: int) -> Any:
    query: Any = {}
    for _ in range(levels):
        query = {"or": [query]}
    return query


def test_nesting_has_an_end() -> None:
    assert read(nested(NESTING_MAX)).where != AllOf()
    with pytest.raises(Rejected, match="FF19005"):
        read(nested(NESTING_MAX + 1))


def on_tag(operator: str, **more: Any) -> dict[str, Any]:
    return {operator: [{"field": "tag", "value": "a", **more}]}


WRONG: list[tuple[Any, str]] = [
    ([], "FF19002"),
    (None, "FF19002"),
    ("tag=a", "FF19002"),
    ({"equals": []}, "FF19002: Field 'equals'"),
    ({"eq": {"field": "tag", "value": "a"}}, "FF19002: Field 'eq'"),
    ({"eq": [5]}, "FF19002: Field 'eq'"),
    ({"eq": [{"value": "a"}]}, "FF19002"),
    ({"eq": [{"field": 5, "value": "a"}]}, "FF19002"),
    (on_tag("eq", nott=True), "FF19002"),
    ({"eq": [{"field": "tag", "value": "a", "not": "yes"}]}, "FF19002"),
    ({"or": {}}, "FF19002: Field 'or'"),
    ({"or": [[]]}, "FF19002"),
    ({"or": [{"limit": 5}]}, "FF19002: Field 'or[0].limit'"),
    (on_tag("null"), "FF19002: Field 'null.value'"),
    (on_tag("in"), "FF19002: Field 'in.value'"),
    ({"in": [{"field": "tag"}]}, "FF19002: Field 'in.values'"),
    ({"in": [{"field": "tag", "values": "a"}]}, "FF19002"),
    (on_tag("eq", values=["a"]), "FF19002: Field 'eq.values'"),
    ({"eq": [{"field": "nosuch", "value": "a"}]}, "FF00142: Unknown filter 'nosuch'"),
    ({"null": [{"field": "nosuch"}]}, "FF00142"),
    ({"sort": ["nosuch"]}, "FF00142"),
    ({"eq": [{"field": "tag"}]}, "FF00241"),
    ({"eq": [{"field": "tag", "value": None}]}, "FF00241"),
    ({"eq": [{"field": "tag", "value": ["a"]}]}, "FF00241"),
    ({"in": [{"field": "tag", "values": [{}]}]}, "FF00241"),
    ({"eq": [{"field": "sequence", "value": "abc"}]}, "FF00143"),
    ({"eq": [{"field": "sequence", "value": 1.5}]}, "FF00143"),
    ({"eq": [{"field": "sequence", "value": 2**63}]}, "FF00143"),
    ({"eq": [{"field": "sequence", "value": True}]}, "FF00143"),
    ({"gt": [{"field": "created", "value": "yesterday"}]}, "FF00143"),
    ({"contains": [{"field": "created", "value": 5}]}, "FF00145"),
    ({"eq": [{"field": "sequence", "value": 5, "caseInsensitive": True}]}, "FF00145"),
    *((on_tag(name, **{"not": True}), "FF00240") for name in documented.ORDERED),
    *((on_tag(name, caseInsensitive=True), "FF00240") for name in documented.ORDERED),
    ({"in": [{"field": "tag", "values": ["a"], "caseInsensitive": True}]}, "FF00240"),
    ({"null": [{"field": "tag", "caseInsensitive": True}]}, "FF00240"),
    ({"skip": 1001}, "FF00191"),
    ({"limit": 1001}, "FF00192"),
    ({"limit": -1}, "FF19002: Field 'limit'"),
    ({"skip": -1}, "FF19002: Field 'skip'"),
    ({"limit": "5"}, "FF19002"),
    ({"limit": 1.5}, "FF19002"),
    ({"count": 1}, "FF19002"),
    ({"sort": "tag"}, "FF19002"),
    (on_tag("eq", value="a\0b"), "FF19008"),
    (on_tag("eq", value="x" * 8193), "FF00135"),
    ({"in": [{"field": "tag", "values": ["a"] * (CONDITIONS_MAX + 1)}]}, "FF19012"),
    ({"or": [{}] * (CONDITIONS_MAX + 1)}, "FF19012"),
    ({"or": [on_tag("eq")] * (CONDITIONS_MAX // 2 + 1)}, "FF19012"),
]


@pytest.mark.parametrize(("query", "text"), WRONG, ids=lambda each: str(each)[:60])
def test_wrong_queries(query: Any, text: str) -> None:
    with pytest.raises(Rejected) as caught:
        read(query)
    assert str(caught.value).startswith(text)
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "FF19001"),
        ("{", "FF19001"),
        ("{} {}", "FF19001"),
        ('{"eq":' + "[" * 100_000, "FF19001"),
        ('{"eq":[{"field":"tag","value":"\\ud800"}]}', "FF19001"),
        ('{"eq":[{"field":"sequence","value":' + "9" * 5000 + "}]}", "FF00241"),
        (" " * (JSON_CHARS_MAX + 1), "FF00135"),
    ],
    ids=lambda each: each[:30],
)
def test_what_is_no_json_query(text: str, code: str) -> None:
    with pytest.raises(Rejected, match=code):
        parse_json_query("messages", text)


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["tag", "sequence", "created", "a", "7", ""]),
    ),
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [*JSON_OPERATORS, "or", "field", "value", "values", "not", "limit", "sort", "skip"]
            ),
            parts,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*JSON_OPERATORS, "or", "limit", "sort"]), ANYTHING))
def test_any_json_is_read_or_refused(query: dict[str, Any]) -> None:
    try:
        outcome: Query | Rejected = read(query)
    except Rejected as failure:
        outcome = failure
    assert isinstance(outcome, Query) or outcome.http_status == 400


def test_the_document_names_every_operator() -> None:
    listed = {*documented.MODIFIED, *documented.ORDERED, *documented.OF_SEVERAL, documented.NULL}
    assert listed == set(JSON_OPERATORS)
