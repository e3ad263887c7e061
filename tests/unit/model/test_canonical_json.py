"""Goal: user JSON, strings and times come out byte for byte as Go's encoding/json writes them.

Method: tables of tricky texts with Go's answer, and properties: compaction is idempotent, keeps
what it means, and the slow parser agrees with the fast one about what is JSON.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.model.canonical_json import (
    NESTING_MAX,
    InvalidJsonError,
    InvalidTimeError,
    _validate,
    compact,
    format_time,
    parse_time,
    quote,
)
from photinus_core.model.ids import Nanoseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"b": 1.0, "a": 1, "a": 1e5}', '{"b":1.0,"a":1,"a":1e5}'),
        (" [ 1 ,\t2,\r\n 3 ] ", "[1,2,3]"),
        ('"a  b"', '"a  b"'),
        ('{"a b" : "c \\" d  ", "e":" "}', '{"a b":"c \\" d  ","e":" "}'),
        ("\"<a href='x'>&\"", "\"\\u003ca href='x'\\u003e\\u0026\""),
        ('"\\u003C"', '"\\u003C"'),
        ('"\\/ \\u00e9 é"', '"\\/ \\u00e9 é"'),
        ('"\u2028\u2029"', '"\\u2028\\u2029"'),
        ('"\\ud800"', '"\\ud800"'),
        ('"\\ud83d\\ude00 😀"', '"\\ud83d\\ude00 😀"'),
        ('"\x7f"', '"\x7f"'),
        ("-0", "-0"),
        ("1e999", "1e999"),
        ("1" * 5000, "1" * 5000),
        ("null", "null"),
        ("  true\n", "true"),
        ("[[],{}]", "[[],{}]"),
        ('["\\\\", " "]', '["\\\\"," "]'),
    ],
)
def test_compact_keeps_what_go_keeps(text: str, expected: str) -> None:
    assert compact(text) == expected
    assert compact(text.encode()) == expected
    assert compact(expected) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"\xff"', '"\ufffd"'),
        (b'"a\xe2\x80b"', '"a\ufffd\ufffdb"'),
        (b'"\xed\xa0\x80"', '"\ufffd\ufffd\ufffd"'),
        (b'"\xc3\xa9"', '"é"'),
    ],
)
def test_each_byte_that_is_not_utf8_becomes_one_replacement(raw: bytes, expected: str) -> None:
    assert compact(raw) == expected


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0),
        ("  ", 2),
        ("{", 1),
        ("[1,]", 3),
        ('{"a":1,}', 7),
        ('{"a"}', 4),
        ('{"a" 1}', 5),
        ("{1:2}", 1),
        ("[1 2]", 3),
        ("1 2", 2),
        ("[1]x", 3),
        ("[1]]", 3),
        ("[1}", 2),
        ("01", 1),
        ("1.", 1),
        ("-", 1),
        ("+1", 0),
        (".5", 0),
        ("NaN", 0),
        ("tru", 3),
        ("['a']", 1),
        ('"\t"', 1),
        ('"a', 2),
        ('"\\x"', 1),
        ('"\\u12"', 1),
        ("\ufeff1", 0),
        ("1\x0b", 1),
        ("[,1]", 1),
        (":", 0),
        ("[" * (NESTING_MAX + 1) + "]" * (NESTING_MAX + 1), NESTING_MAX),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(InvalidJsonError) as caught:
        compact(text)
    assert caught.value.offset == offset
    assert f"offset {offset}" in str(caught.value)


def test_deep_nesting_up_to_the_limit_is_json() -> None:
    text = "[" * NESTING_MAX + "]" * NESTING_MAX
    assert compact(text) == text


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_values, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_compact_is_idempotent_and_keeps_the_value(
    value: object, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    once = compact(text)
    assert json.loads(once) == value
    assert compact(once) == once
    assert not set("<>&\u2028\u2029") & set(once)
    tight = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    assert once == compact(tight)


@given(st.text(alphabet='[]{},:"\\ 019.-eEtruefalsn\nu\x01<é', max_size=12))
def test_fast_and_slow_parser_agree(text: str) -> None:
    try:
        compact(text)
    except InvalidJsonError:
        with pytest.raises(InvalidJsonError):
            _validate(text)
    else:
        _validate(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 😀", '"plain é 😀"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\n\r\t\b\f", '"\\n\\r\\t\\b\\f"'),
        ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ("<>&", '"\\u003c\\u003e\\u0026"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("\ud800", '"\ufffd"'),
    ],
)
def test_quote_escapes_what_go_escapes(text: str, expected: str) -> None:
    assert quote(text) == expected


@given(st.text())
def test_quote_is_compact_json_of_the_text(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text
    assert compact(quoted) == quoted


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2021-05-04T04:55:03.123456789Z", 1620104103123456789),
        ("2021-05-04T04:55:03.1Z", 1620104103100000000),
        ("2021-05-04T04:55:03Z", 1620104103000000000),
        ("1969-12-31T23:59:59.5Z", -500000000),
        ("2262-04-11T23:47:16.854775807Z", 2**63 - 1),
    ],
)
def test_times_both_ways(text: str, nanoseconds: int) -> None:
    assert format_time(Nanoseconds(nanoseconds)) == text
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2021-05-04T06:55:03.1234567899+02:00", 1620104103123456789),
        ("2021-05-04T00:25:03-04:30", 1620104103000000000),
        ("1620104103", 1620104103000000000),
        ("1620104103123", 1620104103123000000),
        ("1620104103123456789", 1620104103123456789),
        ("0", 0),
    ],
)
def test_other_spellings_of_times(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2021-13-04T04:55:03Z",
        "2021-05-04 04:55:03Z",
        "2021-05-04T04:55:03",
        "1.5",
        "1e5",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidTimeError):
        parse_time(text)


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_every_time_survives(nanoseconds: int) -> None:
    assert parse_time(format_time(Nanoseconds(nanoseconds))) == nanoseconds
