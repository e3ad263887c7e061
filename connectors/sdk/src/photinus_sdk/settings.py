"""Settings of a connector: a type the author writes becomes schema, parser and error messages.

A settings type is a `Settings` subclass (or any msgspec.Struct or dataclass). Field types may be
what msgspec knows, `pathlib.Path`, and `Secret` for what must never be shown.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from photinus.connector.v1 import common_pb2 as common

from photinus_sdk.logs import register_secret

DIALECT = "https://json-schema.org/draft/2020-12/schema"

S = TypeVar("S")


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """Base of settings types: a misspelt key is an error."""


class Secret:
    """A value that cannot be printed; `reveal()` gives it where it is used.

    Constructing one also makes the kit's log formatter replace the value wherever it would appear.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        register_secret(value)

    def reveal(self) -> str:
        """The value itself. Do not store, log or format it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret can be neither copied nor serialised")

    def __getstate__(self) -> object:
        return self.__reduce__()


class InvalidSettings(Exception):
    """A configuration that cannot be used, with its findings."""

    def __init__(self, diagnostics: Iterable[common.Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(f"{d.pointer or '/'}: {d.summary}" for d in self.diagnostics))


def schema_of(kind: type) -> str:
    """JSON Schema 2020-12 of a settings type, the same text every time."""
    document = msgspec.json.schema(kind, schema_hook=_schema_of_own_type)
    parts = document.get("$defs", {})
    name = document.get("$ref", "").removeprefix("#/$defs/")
    if name in parts and f'"#/$defs/{name}"' not in msgspec.json.encode(parts).decode():
        document = parts.pop(name) | ({"$defs": parts} if parts else {})
    return msgspec.json.encode({"$schema": DIALECT, **document}, order="sorted").decode()


def parse_settings(kind: type[S], config_json: str) -> S:
    """The typed settings in `config_json`; empty text counts as `{}`.

    Raises:
        InvalidSettings: with a diagnostic whose pointer names the offending value.
    """
    try:
        return msgspec.json.decode(config_json or "{}", type=kind, dec_hook=_decode_own_type)
    except msgspec.ValidationError as error:
        raise InvalidSettings([_diagnostic(str(error))]) from None
    except msgspec.DecodeError as error:
        raise InvalidSettings([finding(f"The configuration is not JSON: {error}")]) from None


def finding(summary: str, pointer: str = "", *, warning: bool = False) -> common.Diagnostic:
    """A diagnostic for `Connector.validate`: one line, and a JSON Pointer to the value."""
    severity = common.SEVERITY_WARNING if warning else common.SEVERITY_ERROR
    return common.Diagnostic(severity=severity, summary=summary, pointer=pointer)


def _schema_of_own_type(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string", "writeOnly": True, "format": "password"}
    if issubclass(kind, Path):
        return {"type": "string", "format": "path"}
    raise TypeError(f"{kind} has no JSON Schema")


def _decode_own_type(kind: type, value: Any) -> Any:
    assert kind is Secret or issubclass(kind, Path), "schema_of refused it when the connector began"
    if not isinstance(value, str):
        raise TypeError("Expected `str`")
    return kind(value)


def _diagnostic(text: str) -> common.Diagnostic:
    """A finding with a JSON Pointer, from msgspec's own notation of places (`$.nodes[0].url`)."""
    summary, _, place = text.partition(" - at `")
    pointer = "".join(
        "/" + (index or name).replace("~", "~0").replace("/", "~1")
        for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", place)
    )
    named = re.search(r"(?:required|unknown) field `([^`]+)`", summary)
    if named:
        pointer += "/" + named.group(1).replace("~", "~0").replace("/", "~1")
    return finding(summary, pointer)
