"""Logs of a connector process: one JSON object per line on standard error, secrets replaced.

FireFly's variables name the fields (`FIREFLY_LOG_JSON_FIELDS_TIMESTAMP`, `_LEVEL`, `_MESSAGE`);
`FIREFLY_LOG_JSON_ENABLED=false` gives plain lines. A line written for a call names its request.

Standard output belongs to the handshake. The core reads both and files them under the instance's
name.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime

from photinus_sdk.tracing import log_fields

SECRET_LENGTH_MIN = 4
STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_secrets: set[str] = set()


def register_secret(value: str) -> None:
    """From now on replaces `value` in every log line, unless it is shorter than four characters."""
    if len(value) >= SECRET_LENGTH_MIN:
        _secrets.add(value)
        _secrets.add(json.dumps(value)[1:-1])


def redact(text: str) -> str:
    """`text` with every registered secret replaced."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, "***")
    return text


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and whatever was given as `extra`."""

    def __init__(self) -> None:
        super().__init__()
        names = {"timestamp": "@timestamp", "level": "level", "message": "message"}
        given = {key: os.environ.get(f"FIREFLY_LOG_JSON_FIELDS_{key.upper()}") for key in names}
        self._name = {key: given[key] or name for key, name in names.items()}

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, object] = {
            self._name["timestamp"]: time.isoformat(timespec="milliseconds"),
            self._name["level"]: record.levelname.lower(),
            "logger": record.name,
            self._name["message"]: record.getMessage(),
            **log_fields(),
        }
        given = vars(record).items()
        entry.update((name, value) for name, value in given if name not in STANDARD_ATTRIBUTES)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(entry, default=str, ensure_ascii=False))


class LineFormatter(logging.Formatter):
    """The same as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in log_fields().items())
        return redact(f"{super().format(record)} {fields}".rstrip())


def set_up_logs(level: str) -> None:
    """Sends this process's logs to standard error, as JSON unless the environment says otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    plain = os.environ.get("FIREFLY_LOG_JSON_ENABLED", "").lower() == "false"
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(LineFormatter(form) if plain else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
