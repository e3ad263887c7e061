"""List queries: FireFly's query strings become the right conditions, wrong ones the right errors.

Method: tables after FireFly's grammar and what a real one was seen to answer; a property that the
parser accepts or refuses any text, and nothing else.
"""

from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.fields import FIELDS
from photinus_core.model.query import (
    CONDITIONS_MAX,
    AllOf,
    AnyOf,
    Condition,
    FilterBuilder,
    Operator,
    Query,
    QueryLimits,
    SortKey,
)
from photinus_core.model.query_string import parse_query_string


def only(raw: str, collection: str = "messages") -> object:
    where = parse_query_string(collection, raw).where
    assert isinstance(where, AllOf)
    assert len(where.parts) == 1
    return where.parts[0]


@pytest.mark.parametrize(
    ("value", "operator", "rest"),
    [
        ("tag1", Operator.EQUAL, "tag1"),
        ("=tag1", Operator.EQUAL, "tag1"),
        ("==tag1", Operator.EQUAL, "=tag1"),
        ("@ag", Operator.CONTAINS, "ag"),
        ("^ta", Operator.STARTS_WITH, "ta"),
        ("$1", Operator.ENDS_WITH, "1"),
        (">a", Operator.GREATER, "a"),
        (">>a", Operator.GREATER, "a"),
        (">=a", Operator.GREATER_OR_EQUAL, "a"),
        ("<a", Operator.LESS, "a"),
        ("<<a", Operator.LESS, "a"),
        ("<=a", Operator.LESS_OR_EQUAL, "a"),
        ("><a", Operator.GREATER, "<a"),
        ("<>a", Operator.LESS, ">a"),
        (">=[2", Operator.GREATER_OR_EQUAL, "[2"),
    ],
)
def test_operators(value: str, operator: Operator, rest: str) -> None:
    assert only(f"tag={quote(value)}") == Condition("tag", operator, rest)


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        ("!tag1", Condition("tag", Operator.EQUAL, "tag1", negated=True)),
        (":TAG1", Condition("tag", Operator.EQUAL, "TAG1", ignore_case=True)),
        ("!:@ag", Condition("tag", Operator.CONTAINS, "ag", negated=True, ignore_case=True)),
        (":!!:^ag", Condition("tag", Operator.STARTS_WITH, "ag", negated=True, ignore_case=True)),
        ("?", Condition("tag", Operator.ABSENT)),
        ("?=", Condition("tag", Operator.ABSENT)),
        ("!?", Condition("tag", Operator.ABSENT, negated=True)),
        ("!?=", Condition("tag", Operator.ABSENT, negated=True)),
        ("?tag1", Condition("tag", Operator.EQUAL, "tag1")),
        ("", Condition("tag", Operator.ABSENT)),
        ("!", Condition("tag", Operator.ABSENT, negated=True)),
    ],
)
def test_modifiers(value: str, condition: Condition) -> None:
    assert only(f"tag={quote(value)}") == condition


def test_repeats_of_a_field_are_alternatives_unless_bracketed() -> None:
    one, two = Condition("tag", Operator.EQUAL, "a"), Condition("tag", Operator.EQUAL, "b")
    assert only("tag=a&TAG=b") == AnyOf((one, two))
    assert only("tag=]a&tag=]b") == AnyOf((one, two))
    assert only("tag=[a&tag=b") == AllOf((one, two))


def test_fields_are_conjunctive_and_unknown_ones_ignored() -> None:
    query = parse_query_string("messages", "tag=a&unknown=1&state=ready&fetchdata")
    assert query.where == AllOf(
        (Condition("tag", Operator.EQUAL, "a"), Condition("state", Operator.EQUAL, "ready"))
    )


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("created=>1795246504", 1795246504 * 10**9),
        ("created=>1795250104000", 1795250104 * 10**9),
        ("created=>1795250104000000001", 1795250104000000001),
        ("created=>2021-05-04T04:55:03.123456789Z", 1620104103123456789),
        ("sequence=>-3", -3),
    ],
)
def test_values_have_the_type_of_their_field(raw: str, value: int) -> None:
    condition = only(raw)
    assert isinstance(condition, Condition)
    assert condition.value == value


def test_booleans() -> None:
    assert only("masked=true", "pins") == Condition("masked", Operator.EQUAL, value=True)
    assert only("masked=!FALSE", "pins") == Condition(
        "masked", Operator.EQUAL, value=False, negated=True
    )


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            "sequence=abc",
            "FF00143: Unable to parse value for filter 'sequence': FF00105: Failed to restore type",
        ),
        ("sequence=", "FF00143: Unable to parse value for filter 'sequence'"),
        ("sequence=>=[2", "FF00143: Unable to parse value for filter 'sequence'"),
        ("sequence=9223372036854775808", "FF00143: Unable to parse value for filter 'sequence'"),
        (
            "created=>zzz",
            "FF00143: Unable to parse value for filter 'created': FF00136: Cannot parse time as RFC3339",
        ),
        (
            "sequence=^1",
            "FF00145: Field 'sequence' of type 'Integer' does not support partial or case-insensitive string matching",
        ),
        (
            "sequence=:5",
            "FF00145: Field 'sequence' of type 'Integer' does not support partial or case-insensitive string matching",
        ),
        ("tag=!>a", "FF00193: Operation '>' on 'tag' does not support modifiers"),
        ("tag=?<=", "FF00193: Operation '<=' on 'tag' does not support modifiers"),
        ("tag=?^", "FF00144: Comparison operator for field 'tag' cannot accept a null value"),
        ("limit=1001", "FF00192: Your query exceeds the maximum filter limit (1,000)"),
        (
            "skip=1001",
            "FF00191: You have reached the maximum pagination limit for this query (1,000)",
        ),
        ("limit=abc", "FF00143: Unable to parse value for filter 'limit'"),
        ("tag=a%00b", "FF19008: Field 'tag' must be valid Unicode text without NUL"),
        ("tag=" + "x" * 9000, "FF00135: Field 'tag' maximum length is 8192"),
        (
            "&".join(["tag=x"] * (CONDITIONS_MAX + 1)),
            "FF19012: Filters may have at most 100 conditions",
        ),
        ("&".join(["tag=x"] * 300), "FF19012"),
    ],
)
def test_wrong_queries(raw: str, text: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_query_string("messages", raw)
    assert str(caught.value).startswith(text)
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("raw", "sort"),
    [
        ("", ()),
        ("sort=created", (SortKey("created"),)),
        ("sort=-created,tag", (SortKey("created", descending=True), SortKey("tag"))),
        ("sort=created&sort=-tag", (SortKey("created"), SortKey("tag", descending=True))),
        ("sort=Created,nothing,tag,tag", (SortKey("tag"),)),
        (
            "sort=tag,-created&descending",
            (SortKey("tag", descending=True), SortKey("created", descending=True)),
        ),
        ("sort=-tag&ascending", (SortKey("tag"),)),
        ("sort=tag&descending=false", (SortKey("tag"),)),
        ("descending", ()),
    ],
)
def test_sorting(raw: str, sort: tuple[SortKey, ...]) -> None:
    assert parse_query_string("messages", raw).sort == sort


def test_paging_and_count() -> None:
    default = parse_query_string("messages", "")
    assert (default.skip, default.limit, default.count) == (0, 25, False)
    given_ = parse_query_string("messages", "skip=5&limit=7&count")
    assert (given_.skip, given_.limit, given_.count) == (5, 7, True)
    assert parse_query_string("messages", "count=TRUE").count is True
    for other in ("false", "0", "1", "banana"):
        assert parse_query_string("messages", f"count={other}").count is False
    assert parse_query_string("messages", "limit=0").limit == 1000
    assert parse_query_string("messages", "limit=0", QueryLimits(limit_max=50)).limit == 50


@given(
    st.sampled_from(sorted(FIELDS)),
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=6),
)
def test_any_text_is_read_or_refused(collection: str, parameters: list[tuple[str, str]]) -> None:
    fields = sorted(FIELDS[collection])
    named = [(fields[len(name) % len(fields)], value) for name, value in parameters]
    try:
        raw = urlencode(named)
    except UnicodeEncodeError:
        return
    outcome: Query | PhotinusError
    try:
        outcome = parse_query_string(collection, raw)
    except PhotinusError as failure:
        outcome = failure
    assert isinstance(outcome, Query) or (
        isinstance(outcome, Rejected) and outcome.http_status == 400
    )


def test_the_builder_checks_as_the_parser_does() -> None:
    f = FilterBuilder("messages")
    assert f.equal("state", "ready") == Condition("state", Operator.EQUAL, "ready")
    assert f.not_equal("cid", None) == Condition("cid", Operator.ABSENT, negated=True)
    assert f.one_of("id", ["a", "b"]) == AnyOf((f.equal("id", "a"), f.equal("id", "b")))
    query = f.query(
        f.all(f.greater("sequence", 7), f.less("created", 9, or_equal=True)), sort=["-tag"], limit=3
    )
    assert query.sort == (SortKey("tag", descending=True),)
    assert query.limit == 3
    wrongs: list[tuple[Callable[[], object], str]] = [
        (lambda: f.equal("nothing", "x"), "FF00142"),
        (lambda: f.query(sort=["nothing"]), "FF00142"),
        (lambda: f.equal("sequence", "x"), "FF00143"),
        (lambda: f.equal("tag", 5), "FF00143"),
        (lambda: f.equal("sequence", value=True), "FF00143"),
        (lambda: f.contains("created", "x"), "FF00145"),
        (lambda: f.query(limit=5000), "FF00192"),
        (lambda: f.query(f.one_of("tag", ["x"] * 200)), "FF19012"),
    ]
    for wrong, code in wrongs:
        with pytest.raises(Rejected, match=code):
            wrong()
