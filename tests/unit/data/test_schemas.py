"""Values against JSON Schemas: what fits, what does not, and what hostile schemas may cost.

Method: a table of schemas and values; schemas that would take for ever are bounded by counted
steps, so no test needs a clock.
"""

import json
import socket
import sys

import pytest
from photinus_core.data.schemas import (
    JSON_DEPTH_MAX,
    STEPS_MAX,
    DatatypeSchemas,
    compile_schema,
)
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, new_uuid
from photinus_core.model.network import Datatype

WIDGET = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["id"],
    "additionalProperties": False,
}


def datatype(schema: object) -> Datatype:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return Datatype(
        new_uuid(), Namespace("n"), "widget", "1", Hash32("0" * 64), Nanoseconds(1), text
    )


def check(schema: object, value: str) -> None:
    DatatypeSchemas().check(datatype(schema), value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (WIDGET, '{"id":"w1","count":3}'),
        (True, "null"),
        ({}, "[1]"),
        ({"pattern": "^\\pL+$"}, '"äb"'),
        ({"patternProperties": {"^a": {"type": "number"}}}, '{"ab":1,"b":"x"}'),
        ({"patternProperties": {"^a": {}}, "additionalProperties": {"type": "string"}}, '{"a":1}'),
        ({"uniqueItems": True}, '[1,true,"1",[1],{"a":1},null]'),
        ({"uniqueItems": False}, "[1,1]"),
        ({"uniqueItems": True}, '"no list"'),
        ({"pattern": "a"}, "1"),
        ({"patternProperties": {"a": False}}, "[1]"),
        ({"additionalProperties": False}, "[1]"),
        ({"const": {"pattern": "("}}, '{"pattern":"("}'),
        ({"properties": {"pattern": {"type": "string"}}}, '{"pattern":"("}'),
        ({"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"}, '"x"'),
        ({"format": "email"}, '"no mail"'),
        ({"type": "string"}, json.dumps("[" * (JSON_DEPTH_MAX + 50))),
        ({}, "[" * JSON_DEPTH_MAX + "]" * JSON_DEPTH_MAX),
        ({"items": {"type": "integer", "minimum": 0}}, json.dumps(list(range(5_000)))),
    ],
)
def test_what_fits(schema: object, value: str) -> None:
    check(schema, value)


@pytest.mark.parametrize(
    ("schema", "value", "why"),
    [
        (WIDGET, '{"count":3}', "'' 'id' is a required property"),
        (WIDGET, '{"id":1}', "'/id' 1 is not of type 'string'"),
        (WIDGET, '{"id":"w","count":0}', "'/count' 0 is less than the minimum of 1"),
        (WIDGET, '{"id":"w","x":0}', "additionalProperties 'x' not allowed"),
        (False, "1", "False schema"),
        ({"pattern": "^a$"}, '"b"', "does not match pattern '^a$'"),
        ({"patternProperties": {"^a": {"type": "number"}}}, '{"ab":"x"}', "'/ab' 'x' is not of"),
        ({"additionalProperties": {"type": "string"}}, '{"b":1}', "'/b' 1 is not of type"),
        ({"patternProperties": {"^a": {}}, "additionalProperties": False}, '{"b":1}', "'b' not"),
        ({"uniqueItems": True}, "[1,1.0]", "non-unique"),
        ({"uniqueItems": True}, '[{"a":[1]},{"a":[1]}]', "non-unique"),
        ({"multipleOf": 0.01}, "1" + "0" * 400, "too large"),
        ({"multipleOf": 0.01}, "1e400", "nfinity"),
        ({"minimum": 5}, "1" * 5_000, "4300 digits"),
        ({}, "{", "Expecting"),
        ({}, "[" * 100_000, ""),
        ({}, "[" * 101 + "]" * 101, "nested deeper than 100"),
        ({}, '{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100"),
    ],
)
def test_what_does_not_fit(schema: object, value: str, why: str) -> None:
    with pytest.raises(Rejected) as caught:
        check(schema, value)
    assert caught.value.code == "FF10198"
    assert "datatype 'widget/1'" in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        "{",
        "[]",
        "1",
        '"text"',
        "null",
        '{"type":"nonsense"}',
        '{"properties":5}',
        '{"required":"id"}',
        '{"$schema":1}',
        '{"$schema":["http://json-schema.org/draft-07/schema#"]}',
        '{"pattern":"("}',
        '{"pattern":"(?=lookahead)"}',
        '{"pattern":"(a)\\\\1"}',
        '{"patternProperties":{"(?!x)":true}}',
        '{"properties":{"a":{"items":[{"pattern":"(?=x)"}]}}}',
        '{"allOf":[{"anyOf":[{"pattern":"(?=x)"}]}]}',
        '{"patternProperties":{"a":true},"allOf":[{"unevaluatedProperties":false}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_schema(schema: str) -> None:
    with pytest.raises(Rejected) as caught:
        compile_schema("widget", "1", schema)
    assert caught.value.code == "FF10196"
    with pytest.raises(Rejected) as again:
        check(schema, "1")
    assert again.value.code == "FF10196"


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*a){20}$"])
def test_patterns_that_backtrack_elsewhere_are_linear_here(pattern: str) -> None:
    text = "a" * 5_000 + "!"
    with pytest.raises(Rejected):
        check({"pattern": pattern}, json.dumps(text))
    named = {"patternProperties": {pattern: True}, "additionalProperties": False}
    with pytest.raises(Rejected):
        check(named, json.dumps({text: 1}))
    with pytest.raises(Rejected):
        check({"propertyNames": {"pattern": pattern}}, json.dumps({text: 1}))


def test_many_unlike_items_are_compared_in_linear_time() -> None:
    items: list[object] = [{"a": n} for n in range(20_000)]
    check({"uniqueItems": True}, json.dumps(items))
    with pytest.raises(Rejected):
        check({"uniqueItems": True}, json.dumps([*items, {"a": 5}]))


@pytest.mark.parametrize(
    "reference",
    [
        "http://127.0.0.1:1/x",
        "https://example.com/schema",
        "file:///etc/passwd",
        "other.json",
        "#/$defs/nobody",
    ],
)
def test_references_never_leave_the_document(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    with pytest.raises(Rejected) as caught:
        check({"$ref": reference}, '"b"')
    assert caught.value.code == "FF10198"


def test_references_that_multiply_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("photinus_core.data.schemas.STEPS_MAX", 1_000)
    assert STEPS_MAX > 1_000
    links = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    doubling = {"$ref": "#/$defs/d0", "$defs": {**links, "d40": {}}}
    with pytest.raises(Rejected, match="takes more than 1000 steps"):
        check(doubling, "1")
    names = {f"p{n}": True for n in range(60)}
    with pytest.raises(Rejected, match="steps"):
        check({"patternProperties": names}, json.dumps({f"x{n}": 1 for n in range(60)}))


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$id": "urn:x", "$ref": "urn:x"}])
def test_a_reference_to_itself_ends(schema: object) -> None:
    with pytest.raises(Rejected, match="nests deeper"):
        check(schema, "1")


def test_one_check_does_not_use_up_the_steps_of_the_next() -> None:
    schemas, known = DatatypeSchemas(), datatype({"items": {"type": "integer"}})
    for _ in range(3):
        schemas.check(known, json.dumps(list(range(50_000))))
    with pytest.raises(Rejected):
        schemas.check(known, '["x"]')
    schemas.check(known, "[1]")


def test_remembered_schemas_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("photinus_core.data.schemas.SCHEMA_CACHE_MAX", 2)
    schemas = DatatypeSchemas()
    for _ in range(5):
        schemas.check(datatype({"type": "integer"}), "1")
    assert len(schemas._compiled) <= 2


@pytest.mark.parametrize("deep", ["[" * 1_000_000, '{"a":' * 1_000_000])
def test_nesting_is_bounded_where_the_interpreter_does_not(deep: str) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(Rejected, match="nested deeper than 100"):
            check({}, deep)
        with pytest.raises(Rejected, match="nested deeper than 100"):
            check(deep, "1")
    finally:
        sys.setrecursionlimit(limit)


def test_brackets_within_texts_do_not_nest() -> None:
    check({}, json.dumps(["[" * 1_000, '\\"' + "{" * 1_000, "\\"]))
