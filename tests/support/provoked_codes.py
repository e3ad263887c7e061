"""Asks, at the end of a whole run of the tests, whether every code of the catalogue was provoked.

A code counts when code of ours makes an error with it in the process of the tests: one of the core's, or one of a
connector whose text begins with it. What a test makes itself does not count. Codes that no Python gives come from the
gateway, a process of its own: those count when one of its Go tests, which run before, has them in its code.

A run is whole when it had every test of unit and integration, and each came to its end. Of any other (one file, `-k`,
`-x` that stopped it, one of several workers) nothing is asked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from photinus_core.model.catalogue import CATALOGUE
from photinus_core.model.errors import PhotinusError
from photinus_sdk.errors import ConnectorError

from tests.support.code_texts import codes_in, go_sources, go_tests, python_sources

SUITES: Final = ("unit", "integration")
OURS: Final = "photinus_"
"""How the names of our packages begin."""
CODE: Final = re.compile(r"FF\d{5}\b")


def wanted_codes() -> set[str]:
    """Those of the catalogue, without what the tests of the gateway provoke."""
    gateways = codes_in(go_sources()).keys() - codes_in(python_sources()).keys()
    return set(CATALOGUE) - (gateways & codes_in(go_tests()).keys())


class Recorder:
    """Collects the codes of the errors that our code makes, from `start` to `stop`."""

    def __init__(self) -> None:
        self.codes: set[str] = set()
        self._replaced: list[tuple[type, Any]] = []

    def start(self) -> None:
        for root in (PhotinusError, ConnectorError):
            self._watch(root)

    def stop(self) -> None:
        for root, made in self._replaced:
            root.__init__ = made  # type: ignore[misc] # as it was
        self._replaced.clear()

    def _watch(self, root: type) -> None:
        made = root.__init__  # type: ignore[misc] # only put back, on the same class
        self._replaced.append((root, made))

        def recorded(error: object, *args: Any, **named: Any) -> None:
            made(error, *args, **named)
            found = CODE.match(str(args[0] if args else named.get("message", "")))
            if found and found[0] not in self.codes and _is_ours(sys._getframe(1), error):
                self.codes.add(found[0])

        root.__init__ = recorded  # type: ignore[misc] # until `stop`


def _is_ours(frame: FrameType, error: object) -> bool:
    """Whether who made an error is code of ours; what an error's own class does is not asked."""
    maker: FrameType | None = frame
    while maker and maker.f_code.co_name == "__init__" and maker.f_locals.get("self") is error:
        maker = maker.f_back
    return maker is not None and str(maker.f_globals.get("__name__")).startswith(OURS)


class ProvokedCodes:
    """The plugin of pytest.

    Args:
        tests: The folder with the suites.
        wanted: Gives all codes that must be provoked; asked at the end of a whole run.
    """

    def __init__(self, tests: Path, wanted: Callable[[], Collection[str]]) -> None:
        self._tests = tests
        self._wanted = wanted
        self._recorder = Recorder()
        self._left_out = False
        self._to_run = 0
        self._ran = 0
        self._missing: list[str] = []

    def pytest_configure(self) -> None:
        self._recorder.start()

    def pytest_unconfigure(self) -> None:
        self._recorder.stop()

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self._left_out |= any(True for _ in items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._left_out |= any("::" in asked for asked in session.config.args)
        self._to_run = len(session.items)
        files = {path for suite in SUITES for path in (self._tests / suite).rglob("test_*.py")}
        self._left_out |= not files <= {item.path for item in session.items}

    def pytest_runtest_logfinish(self) -> None:
        self._ran += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._was_whole():
            self._missing = sorted(set(self._wanted()) - self._recorder.codes)
        if self._missing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._missing:
            terminalreporter.section("codes that no test provoked", red=True)
            terminalreporter.write_line(", ".join(self._missing), red=True)
            terminalreporter.write_line("see tests/support/provoked_codes.py")

    def _was_whole(self) -> bool:
        return not self._left_out and self._ran == self._to_run
