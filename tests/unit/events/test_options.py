"""Subscription options: Go durations, first events, unknown members kept. Table-driven."""

import pytest
from photinus_core.events.subscriptions import (
    SubscriptionSettings,
    parse_first_event,
    parse_options,
    show_options,
)
from photinus_core.model.errors import Rejected


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("{}", 50),
        ('{"batchTimeout":"100ms"}', 100),
        ('{"batchTimeout":"1.5s"}', 1500),
        ('{"batchTimeout":"1m30s"}', 90_000),
        ('{"batchTimeout":"250"}', 250),
        ('{"batchTimeout":250}', 250),
        ('{"batchTimeout":"900us"}', 1),
        ('{"batchTimeout":"0"}', 0),
        ('{"batchTimeout":null}', 50),
    ],
)
def test_batch_timeouts(text: str, milliseconds: int) -> None:
    assert parse_options(text).batch_timeout_ms == milliseconds


@pytest.mark.parametrize(
    ("value", "want"),
    [(None, "newest"), ("", "newest"), ("oldest", "oldest"), (7, "7"), ("007", "7"), ("-1", "-1")],
)
def test_first_events(value: object, want: str) -> None:
    assert parse_first_event(value) == want


@pytest.mark.parametrize("value", ["junk", "1.5", "٣", "1" * 30, True, [1]])
def test_first_events_that_are_none(value: object) -> None:
    with pytest.raises(Rejected, match="FF10191"):
        parse_first_event(value)


@pytest.mark.parametrize(
    ("text", "window"), [("{}", 0), ('{"batch":true}', 50), ('{"readAhead":0}', 0)]
)
def test_windows_have_fireflys_defaults(text: str, window: int) -> None:
    assert parse_options(text).read_ahead == window


@pytest.mark.parametrize("value", ["-1", "65536", "1.5", '"3"', "true"])
def test_windows_out_of_range(value: str) -> None:
    with pytest.raises(Rejected, match="FF19010"):
        parse_options(f'{{"readAhead":{value}}}')


def test_options_are_shown_sorted_with_their_unknown_members() -> None:
    options = parse_options(
        '{"url":"http://x","batch":true,"readAhead":9,"headers":{"b":1, "a":2}}'
    )
    assert show_options(options, 112) == (
        '{"batch":true,"batchTimeout":"50ms","firstEvent":"112","headers":{"b":1,"a":2},"readAhead":9,"url":"http://x",'
        '"withData":false}'
    )


def test_a_subscription_that_says_nothing_takes_the_configured_size_and_time() -> None:
    settings = SubscriptionSettings(batch_size=7, batch_timeout_ms=90)
    options = parse_options('{"batch":true}', settings)
    assert (options.read_ahead, options.batch_timeout_ms) == (7, 90)
    shown = show_options(options, 1)
    assert shown.startswith('{"batch":true,"batchTimeout":"90ms"')
    assert parse_options("{}", settings).read_ahead == 0
    said = parse_options('{"batch":true,"readAhead":2,"batchTimeout":"1s"}', settings)
    assert (said.read_ahead, said.batch_timeout_ms) == (2, 1_000)
