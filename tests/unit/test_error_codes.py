"""Every error code that the code base can give is in the catalogue and named by a test; no entry is unused.

Method: codes are the `FFnnnnn` in texts of the sources (docstrings apart), Python and Go; a test names a
code when it stands in a test or in what was recorded of FireFly and is replayed.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from photinus_core.model.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"FF\d{5}")
LISTS = {"_firefly_errors.py", "_photinus_errors.py"}
CONNECTORS_OWN = ("FF22", "FF23")
"""Codes of FireFly's connectors, which ours keep in their texts; the core passes them on."""

PASSED_ON = {"FF10304", "FF10346"}
"""Codes of FireFly's that connectors give themselves, and that the core only passes on."""

UNUSED: dict[str, str] = {}
"""Entries that nothing gives, and why they stay."""


def _texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation
        ):
            yield node.value


def _given() -> dict[str, set[str]]:
    """Code -> the files that give it."""
    found: dict[str, set[str]] = {}
    python = [path for part in ("core", "connectors", "client") for path in _sources(part, "py")]
    go = [path for path in _sources("gateway", "go") if not path.name.endswith("_test.go")]
    for path in (*python, *go):
        if path.name in LISTS:
            continue
        texts = _texts(path) if path.suffix == ".py" else [_without_comments(path.read_text())]
        for code in {code for text in texts for code in CODE.findall(text)}:
            found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return found


def _sources(folder: str, suffix: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}")):
        if not {"gen", "node_modules", "build", "dist"} & set(path.parts):
            yield path


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def _named() -> set[str]:
    places = [
        *(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)),
        *(ROOT / "gateway").rglob("*_test.go"),
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
    given = _given()
    assert sorted(set(CATALOGUE) - set(given) - set(UNUSED)) == []
    assert not set(UNUSED) & set(given)
