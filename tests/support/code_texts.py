"""Which error codes stand in the texts of our sources, docstrings and comments apart."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CODE: Final = re.compile(r"FF\d{5}")
LISTS: Final = {"_firefly_errors.py", "_photinus_errors.py"}


def codes_in(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Code -> the files that have it in a text; the catalogue's own lists do not count."""
    found: dict[str, set[str]] = {}
    for path in paths:
        if path.name in LISTS:
            continue
        texts = _texts(path) if path.suffix == ".py" else [_without_comments(path.read_text())]
        for code in {code for text in texts for code in CODE.findall(text)}:
            found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return found


def python_sources() -> list[Path]:
    return [path for part in ("core", "connectors", "client") for path in _files(part, "py")]


def go_sources() -> list[Path]:
    """The gateway's, without its tests."""
    return [path for path in _files("gateway", "go") if not path.name.endswith("_test.go")]


def go_tests() -> list[Path]:
    return [path for path in _files("gateway", "go") if path.name.endswith("_test.go")]


def _files(folder: str, suffix: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}")):
        if not {"gen", "node_modules", "build", "dist"} & set(path.parts):
            yield path


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


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
