"""How the core logs: lines for people, or JSON; to standard error, or a file that is rotated."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from photinus_core.app.config import LogSettings

LINE_FORM: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
TRACE: Final = 5
_LEVELS: Final = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logs(settings: LogSettings, directory: Path) -> None:
    """Directs all logging of the process as configured."""
    handler: logging.Handler = logging.StreamHandler()
    if settings.filename:
        path = directory / settings.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            path,
            maxBytes=settings.file_bytes_max,
            backupCount=settings.files_kept,
            encoding="utf-8",
        )
    plain = logging.Formatter(LINE_FORM)
    handler.setFormatter(JsonFormatter() if settings.json else plain)
    root = logging.getLogger()
    root.handlers = [handler]
    set_level(settings)


def set_level(settings: LogSettings) -> None:
    """Logs from now on what the level says."""
    logging.getLogger().setLevel(_LEVELS[settings.level])
