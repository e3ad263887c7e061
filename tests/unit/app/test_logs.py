"""Goal: the core logs where it is told to, and its files stay within bounds.

Method: write records through `set_up_logs` into a temporary folder; the root logger is put back.
"""

import gzip
import json
import logging
import os
from collections.abc import Iterator
from contextvars import copy_context
from datetime import datetime
from pathlib import Path

import pytest
from photinus_core.app.config import LogFields, LogSettings
from photinus_core.app.logs import set_up_logs
from photinus_core.ports import tracing

from tests.support.logs import bare_root_logger


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    with bare_root_logger():
        yield


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


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_fields_have_the_names_that_are_configured(tmp_path: Path) -> None:
    fields = LogFields("ts", "severity", "msg", "fn", "at")
    set_up_logs(LogSettings(json=True, fields=fields, code_info=True, filename="a.log"), tmp_path)
    logging.getLogger("x").info("hello", extra={"connector": "c"})
    (found,) = lines(tmp_path / "a.log")
    assert datetime.fromisoformat(found.pop("ts")).utcoffset() is not None
    assert found.pop("at").startswith("test_logs.py:")
    assert found == {
        "severity": "info",
        "logger": "x",
        "msg": "hello",
        "connector": "c",
        "fn": "test_fields_have_the_names_that_are_configured",
    }


@pytest.mark.parametrize(
    ("layout", "shown"),
    [
        ("", "2023-11-14T22:13:20.123+00:00"),
        ("2006-01-02T15:04:05.000Z07:00", "2023-11-14T22:13:20.123Z"),
        ("02 Jan 06 03:04 PM -0700", "14 Nov 23 10:13 PM +0000"),
        ("Monday, January 02 15:04:05.000000 100%", "Tuesday, November 14 22:13:20.123456 100%"),
    ],
)
def test_times_are_written_by_a_layout_of_gos(tmp_path: Path, layout: str, shown: str) -> None:
    settings = LogSettings(json=True, time_format=layout, utc=True, filename="a.log")
    set_up_logs(settings, tmp_path)
    record = logging.makeLogRecord({"msg": "x", "created": 1_700_000_000.123456})
    (handler,) = logging.getLogger().handlers
    handler.handle(record)
    (found,) = lines(tmp_path / "a.log")
    assert found["@timestamp"] == shown


def test_plain_lines_name_the_request(tmp_path: Path) -> None:
    set_up_logs(LogSettings(filename="a.log", code_info=True), tmp_path)

    def told() -> None:
        tracing.enter([("x-firefly-request-id", "r1")])
        logging.getLogger("x").info("hello")

    copy_context().run(told)
    logging.getLogger("x").info("of nobody")
    first, second = (tmp_path / "a.log").read_text(encoding="utf-8").splitlines()
    assert first.endswith("told) httpreq=r1")
    assert "of nobody" in second
    assert "httpreq" not in second


def test_what_is_put_aside_is_compressed_and_does_not_stay_for_ever(tmp_path: Path) -> None:
    settings = LogSettings(filename="a.log", file_bytes_max=150, files_kept=5, compress=True)
    set_up_logs(settings, tmp_path)
    for number in range(6):
        logging.getLogger("x").info("a line of some length, number %d", number)
    aside = sorted(path.name for path in tmp_path.iterdir())
    assert aside[1:] == [f"a.log.{n}.gz" for n in range(1, len(aside))]
    assert "number" in gzip.decompress((tmp_path / "a.log.1.gz").read_bytes()).decode()
    for path in tmp_path.glob("*.gz"):
        os.utime(path, (0, 0))
    for number in range(4):
        logging.getLogger("x").info("a line of some length, number %d", number)
    old = [path for path in tmp_path.glob("*.gz") if path.stat().st_mtime == 0]
    assert old == []
