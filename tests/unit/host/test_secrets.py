"""Goal: what a schema marks as secret is taken out of texts, wherever it stands in the configuration.

Method: tables of schemas and configurations.
"""

import json
from typing import Any

import pytest
from photinus_core.host.secrets import LINE_CHARS_MAX, Redactor

SECRET: dict[str, Any] = {"type": "string", "writeOnly": True}


def learnt(config: object, schema: object) -> Redactor:
    redactor = Redactor()
    redactor.learn(json.dumps(config), json.dumps(schema))
    return redactor


@pytest.mark.parametrize(
    ("config", "schema"),
    [
        ({"a": "s3cret"}, {"properties": {"a": SECRET}}),
        ({"a": {"b": ["s3cret"]}}, {"properties": {"a": {"writeOnly": True}}}),
        ({"a": ["s3cret"]}, {"properties": {"a": {"type": "array", "items": SECRET}}}),
        ({"x": "s3cret"}, {"additionalProperties": SECRET}),
        ({"a": "s3cret"}, {"properties": {"a": {"anyOf": [SECRET, {"type": "null"}]}}}),
        ({"a": {"b": "s3cret"}}, {"properties": {"a": {"oneOf": [{"properties": {"b": SECRET}}]}}}),
        ({"a": "s3cret"}, {"allOf": [{"properties": {"a": SECRET}}]}),
        ({"a": "s3cret"}, {"properties": {"a": {"$ref": "#/$defs/k"}}, "$defs": {"k": SECRET}}),
    ],
)
def test_secrets_are_found(config: object, schema: object) -> None:
    redactor = learnt(config, schema)
    assert redactor.clean("it is s3cret, s3cret") == "it is ***, ***"


def test_what_is_no_secret_stays() -> None:
    redactor = learnt(
        {"a": "public", "b": "abc", "c": 5}, {"properties": {"b": SECRET, "c": SECRET}}
    )
    assert redactor.clean("public abc 5") == "public abc 5", "too short to be told from a word"


def test_a_secret_within_another_does_not_hide_it_in_part() -> None:
    redactor = learnt({"a": "secret", "b": "secret-two"}, {"additionalProperties": SECRET})
    assert redactor.clean("secret-two secret") == "*** ***"


def test_former_secrets_are_kept() -> None:
    redactor = learnt({"a": "former"}, {"properties": {"a": SECRET}})
    redactor.learn('{"a": "latter"}', json.dumps({"properties": {"a": SECRET}}))
    assert redactor.clean("former latter") == "*** ***"


@pytest.mark.parametrize("secret", ['qu"ote', "bäck\\slash", "new\nline"])
def test_secrets_are_found_in_json(secret: str) -> None:
    redactor = learnt({"a": secret}, {"properties": {"a": SECRET}})
    for text in (secret, json.dumps({"a": secret}), json.dumps({"a": secret}, ensure_ascii=False)):
        assert secret not in redactor.clean(text)
        assert "***" in redactor.clean(text)


def test_a_schema_that_names_itself_for_ever_has_an_end() -> None:
    schema = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}], "properties": {"a": SECRET}}
    learnt({"a": "s3cret", "b": {"c": [[[]]]}}, schema)


@pytest.mark.parametrize("schema", [{}, {"properties": 5}, {"items": []}, {"anyOf": {}}])
def test_schemas_that_say_nothing(schema: object) -> None:
    assert learnt({"a": ["plain"]}, schema).clean("plain") == "plain"


def test_a_line_fits() -> None:
    redactor = learnt({"a": "s3cret"}, {"properties": {"a": SECRET}})
    line = redactor.line("one\n\ttwo s3cret\r\n" + "x" * 5000)
    assert line.startswith("one two *** xxx")
    assert len(line) == LINE_CHARS_MAX
    assert line.endswith("…")
