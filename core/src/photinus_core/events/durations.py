"""Reads durations as Go writes them (`1m30s`), or as a bare number of milliseconds."""

from __future__ import annotations

import re
from typing import Final

from photinus_core.model.errors import Rejected

_DURATION: Final = re.compile(r"(?:\d{1,12}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,12}", re.ASCII)
_UNIT_MS: Final = {
    "ns": 1e-6,
    "us": 1e-3,
    "µs": 1e-3,
    "ms": 1.0,
    "s": 1e3,
    "m": 6e4,
    "h": 3.6e6,
}


def milliseconds_of(text: str) -> float:
    """Reads a duration.

    Raises:
        Rejected: FF00137, it is none.
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(n) * _UNIT_MS[unit] for n, unit in _PART.findall(text))
    raise Rejected("FF00137", text[:100])
