"""Every error code that the code base can give is in the catalogue and named by a test; no entry is unused.

Method: codes are the `FFnnnnn` in texts of the sources (docstrings apart), Python and Go; a test names a
code when it stands in a test or in what was recorded of FireFly and is replayed. That a test provokes each code of the
catalogue is asked at the end of whole runs (`tests.support.provoked_codes`).
"""

from functools import cache
from pathlib import Path

from photinus_core.model.catalogue import CATALOGUE

from tests.support.code_texts import CODE, ROOT, codes_in, go_sources, go_tests, python_sources

CONNECTORS_OWN = ("FF22", "FF23")
"""Codes of FireFly's connectors, which ours keep in their texts; the core passes them on."""

PASSED_ON = {"FF10304", "FF10346"}
"""Codes of FireFly's that connectors give themselves, and that the core only passes on."""


@cache
def _given() -> dict[str, set[str]]:
    """Code -> the files that give it."""
    return codes_in([*python_sources(), *go_sources()])


def _named() -> set[str]:
    places = [
        *(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)),
        *go_tests(),
        *(ROOT / "tests" / "data" / "golden").glob("*.jsonl"),
    ]
    return {code for path in places for code in CODE.findall(path.read_text("utf-8"))}


def test_every_code_is_in_the_catalogue() -> None:
    given = _given()
    assert len(given) > 200
    unknown = {
        code: sorted(files)
        for code, files in given.items()
        if code not in CATALOGUE and code not in PASSED_ON and not code.startswith(CONNECTORS_OWN)
    }
    assert unknown == {}


def test_every_code_is_named_by_a_test() -> None:
    named = _named()
    assert {code: sorted(f) for code, f in _given().items() if code not in named} == {}


def test_no_entry_of_the_catalogue_is_unused() -> None:
    assert sorted(set(CATALOGUE) - set(_given())) == []
