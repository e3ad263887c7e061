"""Goal: lists over gRPC take typed filters and the text of REST, and refuse what makes no sense.

Method: read queries of both forms and compare what comes out.
"""

from __future__ import annotations

import pytest
from photinus.api.v1 import common_pb2
from photinus_core.model.errors import Rejected
from photinus_core.model.query import DEFAULT_LIMITS, AllOf, Condition, Filter, SortKey
from photinus_core.ports.store import Table
from photinus_core.rpc.queries import read_query


def typed(field: str, *values: str, **rest: object) -> common_pb2.Query:
    made = common_pb2.Filter(field=field, values=values, **rest)  # type: ignore[arg-type]  # named by each test
    return common_pb2.Query(filters=[made], limit=7)


def test_nothing_asked_is_the_usual_page() -> None:
    assert read_query(Table.MESSAGES, common_pb2.Query(), DEFAULT_LIMITS).limit == 25


def test_paging_of_both_forms_is_the_same() -> None:
    text = common_pb2.Query(raw="limit=3&skip=2&sort=-created&count")
    fields = common_pb2.Query(limit=3, skip=2, sort=["-created"], count=True)
    one = read_query(Table.MESSAGES, text, DEFAULT_LIMITS)
    other = read_query(Table.MESSAGES, fields, DEFAULT_LIMITS)
    assert (one.limit, one.skip, one.count, one.sort) == (3, 2, True, other.sort)
    assert (other.limit, other.skip, other.count) == (3, 2, True)


def test_text_wins_over_fields() -> None:
    both = common_pb2.Query(raw="limit=3", limit=9)
    assert read_query(Table.MESSAGES, both, DEFAULT_LIMITS).limit == 3
    all_three = common_pb2.Query(json='{"limit":5}', raw="limit=3", limit=9)
    assert read_query(Table.MESSAGES, all_three, DEFAULT_LIMITS).limit == 5


def test_the_three_forms_of_one_query_are_one() -> None:
    text = common_pb2.Query(raw="tag=!:@a&sequence=>=7&cid=!?&sort=-created&limit=7")
    fields = typed("tag", "a", operator=common_pb2.OPERATOR_CONTAINS, negate=True, ignore_case=True)
    fields.filters.add(
        field="sequence", operator=common_pb2.OPERATOR_GREATER_OR_EQUAL, values=["7"]
    )
    fields.filters.add(field="cid", operator=common_pb2.OPERATOR_NULL, negate=True)
    fields.sort.append("-created")
    body = common_pb2.Query(
        json='{"contains":[{"field":"tag","value":"a","not":true,"caseInsensitive":true}],'
        '"gte":[{"field":"sequence","value":7}],"null":[{"field":"cid","not":true}],'
        '"sort":["-created"],"limit":7}'
    )
    read = [read_query(Table.MESSAGES, each, DEFAULT_LIMITS) for each in (text, body, fields)]
    assert read[0] == read[1]
    assert conditions(read[0].where) == conditions(read[2].where)
    assert (read[0].sort, read[0].limit) == (read[2].sort, read[2].limit)


def conditions(where: Filter) -> list[Condition]:
    """The conditions of a filter, in order."""
    if isinstance(where, Condition):
        return [where]
    return [each for part in where.parts for each in conditions(part)]


def test_a_field_to_sort_by_counts_once() -> None:
    """Hundreds of thousands of sort keys were given to the database, which failed."""
    query = common_pb2.Query(sort=["tag", "-tag"] * 100_000)
    assert read_query(Table.MESSAGES, query, DEFAULT_LIMITS).sort == (SortKey("tag"),)


@pytest.mark.parametrize("negate", [False, True])
def test_several_values_of_a_typed_filter(negate: bool) -> None:
    read = read_query(Table.MESSAGES, typed("tag", "a", "b", negate=negate), DEFAULT_LIMITS)
    assert isinstance(read.where, AllOf)
    (condition,) = read.where.parts
    assert len(condition.parts) == 2  # type: ignore[union-attr]  # of a list of conditions
    assert isinstance(condition, AllOf) is negate, "none of them, or one of them"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (typed("nosuch", "a"), "FF00142"),
        (typed("sequence", "many"), "FF00143"),
        (typed("created", "yesterday"), "FF00143"),
        (common_pb2.Query(filters=[common_pb2.Filter(field="tag", operator=99)]), "FF19002"),  # type: ignore[arg-type]  # what a newer client may send
        (typed("tag", "a", operator=common_pb2.OPERATOR_NULL), "FF19002"),
        (typed("tag", "a", operator=common_pb2.OPERATOR_LESS, negate=True), "FF00193"),
        (typed("sequence", "1", operator=common_pb2.OPERATOR_CONTAINS), "FF00145"),
        (typed("tag", *["a"] * 101), "FF19012"),
        (common_pb2.Query(filters=[common_pb2.Filter(field="tag")] * 101), "FF19012"),
        (common_pb2.Query(sort=["nosuch"]), "FF00142"),
        (common_pb2.Query(json="{"), "FF19001"),
        (common_pb2.Query(json='{"equals":[]}'), "FF19002"),
        (common_pb2.Query(limit=1_000_000), "FF00192"),
        (common_pb2.Query(skip=1_000_000), "FF00191"),
        (common_pb2.Query(raw="limit=abc"), "FF00143"),
    ],
    ids=lambda each: each if isinstance(each, str) else str(each).replace("\n", " ")[:60],
)
def test_what_makes_no_sense(query: common_pb2.Query, code: str) -> None:
    with pytest.raises(Rejected, match=code):
        read_query(Table.MESSAGES, query, DEFAULT_LIMITS)
