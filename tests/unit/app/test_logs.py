"""Goal: the core logs where it is told to, and its files stay within bounds.

Method: write records through `set_up_logs` into a temporary folder; the root logger is put back.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from photinus_core.app.config import LogSettings
from photinus_core.app.logs import set_up_logs


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers = handlers
    root.setLevel(level)


def test_files_are_put_aside_at_their_size(tmp_path: Path) -> None:
    settings = LogSettings(filename="logs/core.log", file_bytes_max=200, files_kept=2)
    set_up_logs(settings, tmp_path)
    for number in range(20):
        logging.getLogger("x").info("a line of some length, number %d", number)
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["core.log", "core.log.1", "core.log.2"]
    assert all(path.stat().st_size <= 200 for path in (tmp_path / "logs").iterdir())
    assert "number 19" in (tmp_path / "logs" / "core.log").read_text(encoding="utf-8")


def test_json_lines_and_level(tmp_path: Path) -> None:
    set_up_logs(LogSettings(level="warn", json=True, filename="core.log"), tmp_path)
    logging.getLogger("x").info("too quiet")
    logging.getLogger("x").warning("two\nlines, é")
    (line,) = (tmp_path / "core.log").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("warning", "x", "two\nlines, é")
