"""Goal: years below 1000 are written with four digits, as Go writes them. Found by comparing the two JSON walkers."""

from __future__ import annotations

from photinus_core.model.canonical_json import format_time, parse_time


def test_early_years_keep_four_digits() -> None:
    text = "0026-11-21T08:34:54.05877402Z"
    assert format_time(parse_time(text)) == text
