"""Goal: a settings type gives schema, parser and findings that point at the value, and keeps secrets.

Method: declare a type as an author would, and read what comes out.
"""

import copy
import json
import logging
import pickle
import pprint
import reprlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import msgspec
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus_sdk import Rejected, Secret, Settings
from photinus_sdk.logs import JsonFormatter
from photinus_sdk.settings import InvalidSettings, parse_settings, schema_of


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


@dataclass
class Account:
    user: str
    password: Secret


SECRET = Secret("hunter22")
HOLDERS = [SECRET, Node(url="u", password=SECRET), Account("me", SECRET), [SECRET], {"k": SECRET}]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        ascii,
        pprint.pformat,
        reprlib.repr,
        lambda holder: f"{holder} {holder!r} {holder!s} {holder!a}",
        lambda holder: "{} {!r}".format(holder, holder),  # noqa: UP032 - the way that is tested
        lambda holder: "%s %r" % (holder, holder),  # noqa: UP031 - as above
        format,
        lambda holder: json.dumps(holder, default=str),
        lambda holder: JsonFormatter().format(
            logging.LogRecord("x", logging.INFO, "f", 1, "%s %r", (holder, holder), None)
        ),
        lambda holder: logging.Formatter().format(
            logging.LogRecord("x", logging.INFO, "f", 1, "%s", (holder,), None)
        ),
        lambda holder: str(Rejected(f"cannot use {holder}").to_status()),
        lambda holder: "".join(traceback.format_exception(ValueError("refused", holder))),
    ],
)
def test_a_secret_is_not_shown(holder: object, shown: Callable[[object], str]) -> None:
    text = shown(holder)
    assert text
    assert "hunter22" not in text


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
@pytest.mark.parametrize(
    "written",
    [pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.to_builtins],
)
def test_a_secret_is_not_serialised(holder: object, written: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        written(holder)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "misused",
    [
        lambda: f"{SECRET:>20}",
        lambda: vars(SECRET),
        SECRET.__getstate__,
        lambda: copy.copy(SECRET),
        lambda: "url " + SECRET,  # type: ignore[operator] # that it cannot is what is tested
        lambda: iter(SECRET),  # type: ignore[call-overload] # as above
    ],
)
def test_a_secret_is_no_text_and_says_so_without_its_value(misused: Callable[[], object]) -> None:
    with pytest.raises(TypeError) as caught:
        misused()
    assert "hunter22" not in str(caught.value)


def test_a_secret_is_revealed_only_when_asked() -> None:
    assert SECRET.reveal() == "hunter22"
    assert Secret("hunter22") == SECRET
    assert len({Secret("hunter22"), SECRET}) == 1
    assert Secret("other") != SECRET


def test_a_type_that_is_no_setting_is_named() -> None:
    class Odd:
        pass

    made = msgspec.defstruct("Made", [("odd", Odd)])
    with pytest.raises(TypeError, match=r"Odd.* has no JSON Schema"):
        schema_of(made)
