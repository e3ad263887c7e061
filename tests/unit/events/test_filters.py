"""Subscription filters: FireFly's JSON in, RE2 semantics, types left to the database.

Method: table of filters against events; the set of types is compared with what each expression
finds in every type's name.
"""

import re

import pytest
from photinus_core.events.filters import FilterSubject, compile_filter, parse_filter
from photinus_core.model.errors import Rejected
from photinus_core.model.events import Event, EventType, SubscriptionFilter
from photinus_core.model.ids import Namespace, Nanoseconds, new_uuid


def event(topic: str = "t") -> Event:
    return Event(
        new_uuid(),
        1,
        EventType.MESSAGE_CONFIRMED,
        Namespace("a"),
        new_uuid(),
        Nanoseconds(1),
        topic=topic,
    )


@pytest.mark.parametrize(
    "expression",
    [
        "message_.*",
        "^message_confirmed$",
        "message_confirmed|identity_confirmed",
        "a",
        "^$",
        "op_(f|s)",
    ],
)
def test_types_are_those_the_expression_finds(expression: str) -> None:
    compiled = compile_filter(SubscriptionFilter(events=expression))
    assert compiled.types is not None
    assert set(compiled.types) == {str(k) for k in EventType if re.search(expression, k)}


@pytest.mark.parametrize("expression", ["", ".*", "_"])
def test_all_types_need_no_choice(expression: str) -> None:
    assert compile_filter(SubscriptionFilter(events=expression)).types is None


def test_topics_are_unanchored_expressions() -> None:
    assert compile_filter(SubscriptionFilter(topic="ab")).wants_event(event("xaby"))
    assert not compile_filter(SubscriptionFilter(topic="^ab")).wants_event(event("xaby"))
    assert compile_filter(SubscriptionFilter()).wants_event(event(""))


@pytest.mark.parametrize(
    ("filters", "subject", "wanted"),
    [
        ({"tag": "^x$"}, FilterSubject(tag="x"), True),
        ({"tag": "^x$"}, FilterSubject(), False),
        ({"tag": "^$"}, FilterSubject(), True),
        ({"tag": "x", "author": "org_1"}, FilterSubject(tag="x", author="did:org_1"), True),
        ({"tag": "x", "author": "org_1"}, FilterSubject(tag="x", author="did:org_2"), False),
        ({"group": "07e5"}, FilterSubject(group="07e5ee"), True),
        ({"transaction_type": "invoke"}, FilterSubject(transaction_type="contract_invoke"), True),
        ({"blockchain_name": "Changed"}, FilterSubject(blockchain_name="Other"), False),
        ({"blockchain_listener": "."}, FilterSubject(blockchain_listener="id"), True),
    ],
)
def test_parts_about_references_must_all_match(
    filters: dict[str, str], subject: FilterSubject, wanted: bool
) -> None:
    compiled = compile_filter(SubscriptionFilter(**filters))
    assert compiled.looks_at_references
    assert compiled.wants_subject(subject) is wanted


@pytest.mark.parametrize("expression", ["(", "a{2,1}", "(?=x)", "\\1", "x" * 2000])
def test_expressions_that_are_none_are_refused(expression: str) -> None:
    with pytest.raises(Rejected, match=r"FF10171|FF00135"):
        compile_filter(SubscriptionFilter(tag=expression))


def test_an_evil_expression_takes_linear_time() -> None:
    compiled = compile_filter(SubscriptionFilter(topic="^(a+)+$"))
    assert not compiled.wants_event(event("a" * 50_000 + "b"))


def test_deprecated_members_count_and_are_shown_where_they_were() -> None:
    filters, shown = parse_filter('{"tag":"t","group":"g","author":"a","topics":"x"}')
    assert filters == SubscriptionFilter(topic="x", tag="t", group="g", author="a")
    assert shown == (
        '{"message":{},"transaction":{},"blockchainevent":{},"topics":"x","tag":"t","group":"g",'
        '"author":"a"}'
    )
    newer, _ = parse_filter('{"tag":"old","message":{"tag":"new"}}')
    assert newer.tag == "new"


@pytest.mark.parametrize("text", ["[]", "{", '{"events":1}', '{"message":[]}', "[" * 5000])
def test_filters_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(Rejected, match="FF10103"):
        parse_filter(text)
