"""Goal: the documents tell the truth where a machine can check it: links lead somewhere, tests that are named exist.

Method: read them as text; names of tests are looked for in the files that are named, or in all of them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "connectors").glob("*/README.md"),
    ROOT / "gateway/README.md",
]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
FILE = re.compile(r"[`/]((?:test_\w+\.py|\w+_test\.go))")
TEST = re.compile(r"::(?:…)?(test_\w+|Test\w+|_\w+)|\(`(test_\w+)`")
FENCE = re.compile(r"```.*?```", re.DOTALL)


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


@cache
def files_with_tests() -> dict[Path, str]:
    """The text of every file with tests."""
    python = (ROOT / "tests").rglob("test_*.py")
    go = (ROOT / "gateway/internal").rglob("*_test.go")
    return {path: path.read_text() for path in (*python, *go)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(prose(path)) if not link.startswith("http")]
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_are_named_exist(path: Path) -> None:
    text = prose(path)
    names = {a or b for a, b in TEST.findall(text)}
    assert set(FILE.findall(text)) <= {path.name for path in files_with_tests()}
    everything = "\n".join(files_with_tests().values())
    assert not {name for name in names if name not in everything}


def test_divergences_name_their_tests() -> None:
    rows = [
        row
        for row in (ROOT / "docs/divergences.md").read_text().splitlines()
        if row.startswith("| ") and "---" not in row and not row.startswith("| FireFly |")
    ]
    assert len(rows) > 30
    assert not [row for row in rows if "`" not in row.rsplit(" | ", 1)[-1]]
