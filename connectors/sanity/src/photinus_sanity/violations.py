"""What a check raises when the connector breaks its rule."""

from __future__ import annotations


class Violation(Exception):
    """The connector breaks the rule of the check that raises this; the text says how."""


def require(holds: object, message: str) -> None:
    """Raises `Violation(message)` unless `holds`."""
    if not holds:
        raise Violation(message)
