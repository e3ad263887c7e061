"""Goal: configuration text becomes what the connector's schema expects, and nothing is guessed.

Method: tables of (text, schema, typed), and the schema that the author kit makes of settings.
"""

import json
from typing import Any

import pytest
from photinus_core.host.instances import Plain
from photinus_core.host.schema_typing import typed_config
from photinus_sdk import Secret, Settings
from photinus_sdk.settings import parse_settings, schema_of


def typed(plain: Plain, schema: dict[str, Any]) -> Any:
    return json.loads(typed_config(plain, json.dumps(schema)))


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("0x123456", {"type": "string"}, "0x123456"),
        ("0x123456", {"type": "integer"}, "0x123456"),
        ("007", {"type": "string"}, "007"),
        ("5", {"type": "integer"}, 5),
        ("-5", {"type": "integer"}, -5),
        ("5.5", {"type": "integer"}, "5.5"),
        ("5.5", {"type": "number"}, 5.5),
        ("5", {"type": "number"}, 5),
        ("1e3", {"type": "number"}, 1000),
        ("nan", {"type": "integer"}, "nan"),
        ("true", {"type": "boolean"}, True),
        ("No", {"type": "boolean"}, False),
        ("maybe", {"type": "boolean"}, "maybe"),
        ("true", {"type": "string"}, "true"),
        ("5", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 5),
        (None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None),
        (None, {"type": "string"}, ""),
        (None, {"type": "object"}, {}),
        ("a", {"enum": ["a", "b"]}, "a"),
        ("5", {}, "5"),
        (["1", "2"], {"type": "array", "items": {"type": "integer"}}, [1, 2]),
        (
            {"a": "1"},
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"a": 1},
        ),
    ],
)
def test_a_value_takes_the_type_of_its_schema(
    text: Plain, schema: dict[str, Any], value: Any
) -> None:
    assert typed({"x": text}, {"properties": {"x": schema}})["x"] == value


def test_keys_are_found_in_any_case_and_unknown_ones_stay() -> None:
    schema = {"properties": {"blockInterval": {"type": "integer"}}}
    assert typed({"BLOCKINTERVAL": "5", "Other": "6"}, schema) == {
        "blockInterval": 5,
        "Other": "6",
    }


def test_references_are_followed_and_loops_end() -> None:
    schema = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {"properties": {"n": {"type": "integer"}, "next": {"$ref": "#/$defs/Node"}}}
        },
    }
    assert typed({"n": "1", "next": {"n": "2"}}, schema) == {"n": 1, "next": {"n": 2}}
    assert typed({"a": "1"}, {"$ref": "#"}) == {"a": "1"}


def test_nothing_is_an_empty_object() -> None:
    assert typed_config(None, "") == "{}"


@pytest.mark.parametrize("schema", ["[]", "{", "5"])
def test_a_schema_that_is_none_is_an_error(schema: str) -> None:
    with pytest.raises(ValueError, match=r"schema|Expecting"):
        typed_config({}, schema)


class Node(Settings):
    url: str
    timeout: float = 5.0
    password: Secret | None = None


class Example(Settings):
    nodes: tuple[Node, ...]
    retry: bool = False
    labels: dict[str, int] | None = None


def test_settings_of_the_author_kit_are_read_from_text() -> None:
    plain: Plain = {
        "Nodes": [{"URL": "http://1", "timeout": "2.5", "password": "12345"}],
        "retry": "true",
        "labels": {"a": "1"},
    }
    settings = parse_settings(Example, typed_config(plain, schema_of(Example)))
    assert settings == Example(
        (Node("http://1", 2.5, Secret("12345")),), retry=True, labels={"a": 1}
    )
