"""What an author gives beside the connector: its settings, and a fixture that says what can be used.

The fixture is a JSON object; every part is optional, and a check that needs a part that is missing is
reported as not applicable, with the part's name. See docs/connectors/sanity.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SetupError(Exception):
    """A file of the author cannot be used; the text says why."""


@dataclass(frozen=True)
class Setup:
    """Settings and fixture.

    Attributes:
        settings: The configuration, as the core would pass it.
        fixture: What the checks may use.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    fixture: Mapping[str, Any] = field(default_factory=dict)

    @property
    def second_settings(self) -> Mapping[str, Any]:
        """Settings of the second instance, which plays another member."""
        found: Mapping[str, Any] = self.get("second.settings", self.settings)
        return found

    def get(self, path: str, default: Any = None) -> Any:
        """A part of the fixture by its dotted path."""
        found: Any = self.fixture
        for name in path.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return default
            found = found[name]
        return found


def read_setup(settings: Path | None, fixture: Path | None) -> Setup:
    """Reads both files. Raises SetupError."""
    return Setup(_read_object(settings), _read_object(fixture))


def _read_object(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SetupError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise SetupError(f"{path} must hold a JSON object")
    return found
