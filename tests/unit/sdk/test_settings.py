"""Goal: a settings type gives schema, parser and findings that point at the value, and keeps secrets.

Method: declare a type as an author would, and read what comes out.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import msgspec
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus_sdk import InvalidSettings, Secret, Settings
from photinus_sdk.settings import parse_settings, schema_of


class Node(Settings):
    url: str
    password: Secret | None = None


class Example(Settings):
    root: Path
    nodes: tuple[Node, ...] = ()
    limits: dict[str, int] = msgspec.field(default_factory=dict)
    port: int = 5000


@dataclass
class Plain:
    name: str


GOOD = '{"root":"/srv","nodes":[{"url":"http://n","password":"hunter22"}],"limits":{"a/b":1}}'


def test_good_settings_are_typed() -> None:
    settings = parse_settings(Example, GOOD)
    assert settings.root == Path("/srv")
    assert settings.nodes[0].password == Secret("hunter22")
    assert settings.port == 5000
    assert parse_settings(Plain, '{"name":"n"}') == Plain("n")


def test_schema_is_valid_marks_secrets_and_takes_what_the_parser_takes() -> None:
    schema = json.loads(schema_of(Example))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(GOOD), schema)
    password = schema["$defs"]["Node"]["properties"]["password"]
    assert {"type": "string", "writeOnly": True, "format": "password"} in password["anyOf"]
    assert schema_of(Example) == schema_of(Example)


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        ("{", "", "not JSON"),
        ('{"root":5}', "/root", "Expected `str`"),
        ("{}", "/root", "missing required field"),
        ('{"root":"/","rooot":1}', "/rooot", "unknown field"),
        ('{"root":"/","port":"x"}', "/port", "Expected `int`"),
        ('{"root":"/","nodes":[{"url":"a"},{"url":3}]}', "/nodes/1/url", "Expected `str`"),
        ('{"root":"/","nodes":[{"url":"a","password":7}]}', "/nodes/0/password", "Expected `str`"),
        ('{"root":"/","nodes":[{"url":"a","pasword":"hunter22"}]}', "/nodes/0/pasword", "unknown"),
    ],
)
def test_findings_point_at_the_value_and_do_not_show_it(
    text: str, pointer: str, words: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parse_settings(Example, text)
    (found,) = caught.value.diagnostics
    assert found.severity == common.SEVERITY_ERROR
    assert found.pointer == pointer
    assert words in found.summary
    assert "hunter22" not in found.summary


def test_a_secret_cannot_be_printed_or_pickled() -> None:
    secret = Secret("hunter22")
    assert "hunter22" not in f"{secret} {secret!r} {[secret]} {Node(url='u', password=secret)}"
    assert secret.reveal() == "hunter22"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
