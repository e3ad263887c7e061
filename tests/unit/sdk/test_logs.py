"""Goal: a log line is one JSON object, and a registered secret is in none of them.

Method: format records that carry a secret in every place one can hide.
"""

import json
import logging
import sys

from photinus_sdk import Secret
from photinus_sdk.logs import JsonFormatter


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord(
        "x", logging.INFO, "file", 1, message, arguments, None, extra=extra
    )


def test_lines_have_time_level_logger_message_and_extras() -> None:
    line = json.loads(JsonFormatter().format(record("hello %s", "you", instance="i1")))
    assert line.pop("@timestamp").endswith("+00:00")
    assert line == {"level": "info", "logger": "x", "message": "hello you", "instance": "i1"}


def test_a_secret_is_replaced_wherever_it_appears() -> None:
    secret = Secret('pass"word\\1')
    value = secret.reveal()
    try:
        raise ValueError(value)
    except ValueError:
        caught = sys.exc_info()
    hidden = record("with %s", value, url=f"http://user:{value}@host")
    hidden.exc_info = caught
    line = JsonFormatter().format(hidden)
    assert "word" not in line
    assert json.loads(line)["message"] == "with ***"
