"""What webhooks are asked and how they are replied to: FireFly's requests, and no surprise in strange data.

Method: requests recorded from a real FireFly; a table of options and data; Hypothesis for what holds for any data.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.events.webhook_options import (
    WEBHOOK_DEFAULTS,
    WebhookOptions,
    WebhookSettings,
    read_webhook_options,
)
from photinus_core.events.webhook_requests import (
    Answer,
    CannotCallError,
    Payload,
    build_request,
    failed_result,
    is_failure,
    is_reply,
    make_reply,
    result_of,
    values_of,
)
from photinus_core.model import canonical
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import Message, MessageHeader, MessageState, MessageType

EVENT = '{"id":"e1","type":"message_confirmed"}'
JSON_ANSWER = (("Content-Type", "application/json"), ("x-sample", "s1"))


def options(
    settings: WebhookSettings = WEBHOOK_DEFAULTS, url: str = "http://h/in", **given: object
) -> WebhookOptions:
    members = {name: json.dumps(value) for name, value in {"url": url, **given}.items()}
    return read_webhook_options(members, settings)


def body(*values: str, **given: object) -> str | None:
    return build_request(options(**given), [Payload(EVENT, values)], batch=False).body  # type: ignore[arg-type]  # options as they are written


def test_recorded_requests() -> None:
    """Lines a00514 to a00521 of the recording."""
    static = options(headers={"X-Custom": "c1"}, query={"q": "1"}, method="POST", withData=True)
    one = build_request(static, [Payload(EVENT, ('{"k":"v"}',))], batch=False)
    assert (one.method, one.url, one.body) == ("POST", "http://h/in?q=1", '{"k":"v"}')
    assert dict(one.headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Custom": "c1",
    }
    two = build_request(static, [Payload(EVENT, ("5", '{"two":2}'))], batch=False)
    assert two.body == '[5,{"two":2}]'
    names = {"query": "q", "headers": "h", "body": "b", "path": "p"}
    mapped = options(url="http://h/reply", reply=True, replytx="none", input=names)
    value = '{"q":{"x":"1"},"h":{"x-in":"2"},"b":{"body":true},"p":"/sub"}'
    made = build_request(mapped, [Payload(EVENT, (value,))], batch=False)
    assert (made.url, made.body) == ("http://h/reply/sub?x=1", '{"body":true}')
    assert ("x-in", "2") in made.headers
    batch = build_request(options(batch=True), [Payload(EVENT), Payload("{}")], batch=True)
    assert batch.body == f"[{EVENT},{{}}]"


@pytest.mark.parametrize(
    ("values", "given", "want"),
    [
        ((), {}, EVENT),
        (("5",), {}, '{"value":5}'),
        (('"text"',), {}, '{"value":"text"}'),
        (("[1]",), {}, '{"value":[1]}'),
        (('{"n":12345678901234567890}',), {}, '{"n":12345678901234567890}'),
        (('{"b":1}',), {"input": {"body": "b"}}, "1"),
        (('{"b":null}',), {"input": {"body": "b"}}, "null"),
        (('{"c":1}',), {"input": {"body": "b"}}, '{"c":1}'),
        (("5",), {"input": {"body": "value"}}, "5"),
        (('{"b":1}', '{"b":2}'), {"input": {"body": "b"}}, "1"),
        (('{"b":1}',), {"method": "get"}, None),
        (('{"b":1}',), {"method": "PUT"}, '{"b":1}'),
    ],
)
def test_bodies(values: tuple[str, ...], given: dict[str, object], want: str | None) -> None:
    assert body(*values, **given) == want


def test_a_batch_is_an_array_also_of_one() -> None:
    made = build_request(options(), [Payload(EVENT, ("1", "2"))], batch=True)
    assert made.body == "[[1,2]]"


@pytest.mark.parametrize(
    ("url", "path", "want"),
    [
        ("http://h", "/a", "http://h/a"),
        ("http://h/x/", "a b/ü?c", "http://h/x/a%20b/%C3%BC%3Fc"),
        ("http://h/x?own=1#part", "a", "http://h/x/a?own=1"),
        ("http://h/x", "//", "http://h/x"),
        ("http://h/x", "%2e%2e/y", "http://h/x/%252e%252e/y"),
        ("http://h/x", None, "http://h/x"),
        ("http://h/x", 7, "http://h/x/7"),
    ],
)
def test_paths_are_escaped(url: str, path: object, want: str) -> None:
    value = json.dumps({"p": path})
    made = build_request(
        options(url=url, input={"path": "p"}), [Payload(EVENT, (value,))], batch=False
    )
    assert made.url == want


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('{"p":"../admin"}', "leaves"),
        ('{"p":"a/./b"}', "leaves"),
        ('{"p":"\\ud800"}', "the data"),
        ('{"h":{"a b":"1"}}', "no header"),
        ('{"h":{"x":"1\\r\\nHost: y"}}', "no header"),
        ('{"h":"x"}', "no object"),
        ('{"q":[1]}', "no object"),
        ('{"r":"gold"}', "no way to pin"),
        (json.dumps({"p": "x" * 10_000}), "characters"),
        ('{"\\ud800":1}', "taken apart"),
    ],
)
def test_data_that_make_no_request(value: str, text: str) -> None:
    names = {"query": "q", "headers": "h", "path": "p", "replytx": "r"}
    with pytest.raises(CannotCallError, match=text):
        build_request(options(input=names), [Payload(EVENT, (value,))], batch=False)


def test_headers_of_the_data_replace_those_of_the_options_and_those_the_configurations() -> None:
    settings = WebhookSettings(headers=(("A", "config"), ("B", "config"), ("C", "config")))
    mapped = options(
        settings, headers={"b": "option", "c": "option"}, input={"headers": "h"}, method="POST"
    )
    value = '{"h":{"C":"data","content-type":"text/x","n":1.50,"t":true,"z":null}}'
    made = build_request(mapped, [Payload(EVENT, (value,))], batch=False)
    assert dict(made.headers) == {
        "A": "config",
        "Accept": "application/json",
        "C": "data",
        "b": "option",
        "content-type": "text/x",
        "n": "1.50",
        "t": "true",
        "z": "",
    }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON_VALUES, max_size=3), st.booleans())
def test_any_data_make_a_request_or_are_refused(values: list[object], batch: bool) -> None:
    """What a stranger puts into a message ends no server, and the body is JSON."""
    names = {"query": "a", "headers": "b", "body": "c", "path": "d", "replytx": "e"}
    made = values_of(canonical.compact(json.dumps(value)) for value in values)
    for mapped in (options(), options(input=names)):
        try:
            request = build_request(mapped, [Payload(EVENT, made)], batch=batch)
        except CannotCallError:
            assert mapped.input.query, "without a mapping everything can be sent"
            continue
        assert urlsplit(request.url).hostname == "h"
        assert request.body is not None
        assert isinstance(json.loads(request.body), list) or not batch


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
)
def test_queries_arrive_as_they_were(query: dict[str, str]) -> None:
    value = canonical.compact(json.dumps({"q": query}))
    made = build_request(
        options(url="http://h/?own=1", input={"query": "q"}),
        [Payload(EVENT, (value,))],
        batch=False,
    )
    wanted = [("own", "1"), *sorted(query.items())]
    assert parse_qsl(urlsplit(made.url).query, keep_blank_values=True) == wanted


# Results and replies


def test_the_recorded_result() -> None:
    """Line a00522."""
    answer = Answer(200, (*JSON_ANSWER, ("content-length", "11")), b'{"ok":true}')
    assert result_of(answer, force_json=False) == (
        '{"status":200,"headers":{"Content-Length":"11","Content-Type":"application/json",'
        '"X-Sample":"s1"},"body":{"ok":true}}'
    )


@pytest.mark.parametrize(
    ("answer", "force", "want"),
    [
        (Answer(404, (("Content-Type", "text/plain"),), b"no"), False, ("text/plain", '"bm8="')),
        (Answer(200, (), b""), False, ("", '""')),
        (Answer(200, (), b" [1] "), True, ("application/json", "[1]")),
        (
            Answer(200, (("Content-Type", "application/json; charset=utf-8"),), b'{"a": 1}'),
            False,
            ("application/json; charset=utf-8", '{"a":1}'),
        ),
    ],
)
def test_bodies_of_results(answer: Answer, force: bool, want: tuple[str, str]) -> None:
    made = json.loads(result_of(answer, force_json=force))
    assert made["headers"]["Content-Type"] == want[0]
    assert made["body"] == json.loads(want[1])
    assert made["status"] == answer.status


def test_json_that_is_none_is_no_result() -> None:
    with pytest.raises(CannotCallError, match="not JSON"):
        result_of(Answer(200, JSON_ANSWER, b"<html>"), force_json=False)


def test_of_headers_that_come_twice_the_first_counts() -> None:
    made = json.loads(result_of(Answer(200, (("a", "1"), ("A", "2")), b""), force_json=False))
    assert made["headers"]["A"] == "1"


def test_a_call_without_an_answer_is_a_bad_gateway() -> None:
    assert failed_result('no "host"') == (
        '{"status":502,"headers":{"Content-Type":"application/json"},'
        '"body":{"error":"no \\"host\\""}}'
    )


@pytest.mark.parametrize(
    ("status", "errors", "want"),
    [(200, "", False), (204, ".", False), (302, "", True), (500, "", True), (400, "5..", False)],
)
def test_what_is_worth_another_call(status: int, errors: str, want: bool) -> None:
    assert is_failure(Answer(status, (), b""), errors) is want


def message(group: str | None = None, cid: Uuid | None = None) -> Message:
    header = MessageHeader(
        id=new_uuid(),
        type=MessageType.PRIVATE if group else MessageType.BROADCAST,
        txtype=TransactionType.BATCH_PIN,
        author="did:a",
        key="0x1",
        created=Nanoseconds(1),
        namespace="ns",
        topics=("t1", "t2"),
        datahash=Hash32("0" * 64),
        cid=cid,
        group=None if group is None else Hash32(group),
        tag="ask",
    )
    return Message(header, Hash32("1" * 64), (), Namespace("ns"), MessageState.CONFIRMED)


@pytest.mark.parametrize(
    ("group", "given", "tx", "want"),
    [
        (None, {}, "", ("ask", "")),
        (None, {"replytag": "re", "replytx": "none"}, "", ("re", "")),
        ("a" * 64, {}, "", ("ask", "")),
        ("a" * 64, {"replytx": "none"}, "", ("ask", "unpinned")),
        ("a" * 64, {"replytx": "none"}, "batch_pin", ("ask", "batch_pin")),
        ("a" * 64, {"replytx": "batch_pin"}, "unpinned", ("ask", "unpinned")),
    ],
)
def test_replies_inherit_what_is_left_open(
    group: str | None, given: dict[str, object], tx: str, want: tuple[str, str]
) -> None:
    asked, subscription, event = message(group), new_uuid(), new_uuid()
    reply = make_reply(options(reply=True, **given), subscription, event, asked, "{}", tx)  # type: ignore[arg-type]  # options as they are written
    assert (reply.tag, reply.txtype) == want
    assert (reply.cid, reply.topics, reply.group) == (asked.header.id, ("t1", "t2"), group)
    assert str(subscription) in reply.key
    assert str(event) in reply.key
    assert len(reply.key) <= 256


def test_replies_are_told_from_questions() -> None:
    assert is_reply(message(cid=new_uuid()))
    assert not is_reply(message())
    assert not is_reply(None)
