"""How the core logs: lines for people, or JSON; to standard error, or a file that is rotated.

Lines written for a request carry its id, and the ids of its trace where there are any.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Final

from photinus_core.ports.tracing import origin, tracer

if TYPE_CHECKING:
    from photinus_core.app.config import LogSettings

LINE_FORM: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
TRACE: Final = 5
REQUEST_FIELD: Final = "httpreq"
"""Field of the request's id, as FireFly calls it."""
_LEVELS: Final = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_LAYOUT: Final = {
    "2006": "%Y",
    "01": "%m",
    "02": "%d",
    "15": "%H",
    "03": "%I",
    "04": "%M",
    "05": "%S",
    "Jan": "%b",
    "January": "%B",
    "Mon": "%a",
    "Monday": "%A",
    "PM": "%p",
    "MST": "%Z",
    "06": "%y",
}
"""Parts of Go's layouts of times; those of fractions and zones are written by `_Times`."""
_PART: Final = re.compile(
    r"[.,]0{1,9}|Z07:00|-07:00|Z0700|-0700|2006|January|Monday|Jan|Mon|MST|PM|0[1-6]|15|%"
)


def context_fields() -> dict[str, str]:
    """What a line says of the request and the trace it is written for."""
    found: dict[str, str] = {}
    if request_id := origin().request_id:
        found[REQUEST_FIELD] = request_id
    trace_id, span_id = tracer().present()
    if trace_id:
        found["trace_id"], found["span_id"] = trace_id, span_id
    return found


class _Times:
    """Writes times by a layout of Go's; by ISO 8601 with milliseconds without one."""

    def __init__(self, layout: str, *, utc: bool) -> None:
        self._layout = layout
        self._zone = UTC if utc else None

    def write(self, seconds: float) -> str:
        moment = datetime.fromtimestamp(seconds, UTC).astimezone(self._zone)
        if not self._layout:
            return moment.isoformat(timespec="milliseconds")
        return _PART.sub(lambda part: self._part(part[0], moment), self._layout)

    def _part(self, part: str, moment: datetime) -> str:
        if part in _LAYOUT:
            return moment.strftime(_LAYOUT[part])
        if part[0] in ".,":
            return part[0] + f"{moment.microsecond * 1000:09d}"[: len(part) - 1]
        if part == "%":
            return part
        offset = moment.strftime("%z")
        if part[0] == "Z" and not moment.utcoffset():
            return "Z"
        return f"{offset[:3]}:{offset[3:5]}" if ":" in part else offset[:5]


class LineFormatter(logging.Formatter):
    """One line for people."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__(LINE_FORM)
        self._times = _Times(settings.time_format, utc=settings.utc)
        self._code_info = settings.code_info

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's
        """Writes when."""
        return self._times.write(record.created)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """Writes a line, without a traceback."""
        line = super().formatMessage(record)
        if self._code_info:
            line += f" ({record.filename}:{record.lineno} {record.funcName})"
        fields = " ".join(f"{key}={value}" for key, value in context_fields().items())
        return f"{line} {fields}" if fields else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, its fields called as configured."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._times = _Times(settings.time_format, utc=settings.utc)
        self._fields = settings.fields
        self._code_info = settings.code_info

    def format(self, record: logging.LogRecord) -> str:
        """Writes a record."""
        names = self._fields
        line: dict[str, object] = {
            names.timestamp: self._times.write(record.created),
            names.level: record.levelname.lower(),
            "logger": record.name,
            names.message: record.getMessage(),
            **context_fields(),
        }
        given = vars(record).items()
        line.update((key, value) for key, value in given if key not in _STANDARD)
        if self._code_info:
            line[names.func] = record.funcName
            line[names.file] = f"{record.filename}:{record.lineno}"
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _RotatedFile(RotatingFileHandler):
    """A file that is put aside at its size; those put aside are compressed and removed as configured."""

    def __init__(self, path: Path, settings: LogSettings) -> None:
        super().__init__(
            path,
            maxBytes=settings.file_bytes_max,
            backupCount=settings.files_kept,
            encoding="utf-8",
        )
        self._age_max_s = settings.file_age_max_s
        if settings.compress:
            self.namer = lambda name: f"{name}.gz"
            self.rotator = _compress

    def doRollover(self) -> None:  # noqa: N802 - logging's
        """Puts the file aside."""
        super().doRollover()
        if not self._age_max_s:
            return
        oldest = time.time() - self._age_max_s
        for number in range(1, self.backupCount + 1):
            aside = Path(self.rotation_filename(f"{self.baseFilename}.{number}"))
            if aside.exists() and aside.stat().st_mtime < oldest:
                aside.unlink()


def _compress(source: str, target: str) -> None:
    modified = Path(source).stat()
    with Path(source).open("rb") as plain, gzip.open(target, "wb") as packed:
        shutil.copyfileobj(plain, packed)
    os.utime(target, (modified.st_atime, modified.st_mtime))
    Path(source).unlink()


def set_up_logs(settings: LogSettings, directory: Path) -> None:
    """Directs all logging of the process as configured."""
    handler: logging.Handler = logging.StreamHandler()
    if settings.filename:
        path = directory / settings.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _RotatedFile(path, settings)
    handler.setFormatter(JsonFormatter(settings) if settings.json else LineFormatter(settings))
    root = logging.getLogger()
    root.handlers = [handler]
    logging.addLevelName(TRACE, "TRACE")
    set_level(settings)


def set_level(settings: LogSettings) -> None:
    """Logs from now on what the level says."""
    logging.getLogger().setLevel(_LEVELS[settings.level])
