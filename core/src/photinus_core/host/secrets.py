"""Keeps a connector's secrets out of what it prints and says: it may do so itself, or not.

Secret is what its schema marks `writeOnly`. Values too short to be told from ordinary text stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from photinus_core.host.schema_typing import follow

SECRET_CHARS_MIN: Final = 4
DEPTH_MAX: Final = 32
STEPS_MAX: Final = 10_000
"""Most places of schema and configuration that are looked at: a schema may name itself for ever."""
HIDDEN: Final = "***"
LINE_CHARS_MAX: Final = 1000


class Redactor:
    """Replaces secrets in texts. It knows none before `learn`."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def learn(self, config_json: str, schema_json: str) -> None:
        """Takes the secrets of a configuration, typed as the schema says, besides those it knows."""
        schema = json.loads(schema_json or "{}")
        found = {*self._secrets}
        for value in _Walk(schema).marked(json.loads(config_json), schema):
            if len(value) >= SECRET_CHARS_MIN:
                # As it is, and as it stands in JSON, of which there are two ways.
                found |= {
                    value,
                    json.dumps(value)[1:-1],
                    json.dumps(value, ensure_ascii=False)[1:-1],
                }
        # Longest first: one may be part of another.
        self._secrets = tuple(sorted(found, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text

    def line(self, text: str) -> str:
        """As `clean`, and on one line that fits a table."""
        shown = " ".join(self.clean(text).split())
        return shown if len(shown) <= LINE_CHARS_MAX else f"{shown[: LINE_CHARS_MAX - 1]}…"


class _Walk:
    """Goes through a configuration along its schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._steps = 0

    def marked(self, value: Any, schema: Any, depth: int = 0) -> Iterator[str]:
        """The texts at and below what is marked."""
        schema = follow(schema, self._root)
        self._steps += 1
        if depth > DEPTH_MAX or self._steps > STEPS_MAX or not isinstance(schema, dict):
            return
        if schema.get("writeOnly") is True:
            yield from _leaves(value, depth)
            return
        for key in ("anyOf", "oneOf", "allOf"):
            branches = schema.get(key)
            for branch in branches if isinstance(branches, list) else ():
                yield from self.marked(value, branch, depth + 1)
        if isinstance(value, dict):
            properties = schema.get("properties")
            for name, inner in value.items():
                known = properties.get(name) if isinstance(properties, dict) else None
                below = schema.get("additionalProperties") if known is None else known
                yield from self.marked(inner, below, depth + 1)
        elif isinstance(value, list):
            for inner in value:
                yield from self.marked(inner, schema.get("items"), depth + 1)


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        return
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, str):
        yield value
