"""What all tests share: the duration of each suite in the closing lines, Hypothesis' profile, and
that whole runs provoke every error code.

A suite is a folder of tests/: unit, simulation, integration, e2e and so on.
"""

import os
from collections import defaultdict
from pathlib import Path

import hypothesis
import photinus_core.app  # noqa: F401 - turns gRPC's fork handlers off: they hang children of a busy process
import pytest

from tests.support.postgres import (
    postgres_database,
    postgres_new_url,
    postgres_restarting,
    postgres_server,
    postgres_url,
)
from tests.support.provoked_codes import ProvokedCodes, wanted_codes

__all__ = [
    "postgres_database",
    "postgres_new_url",
    "postgres_restarting",
    "postgres_server",
    "postgres_url",
]

# No deadline: how long one example takes says more about the machine than about the code.
# Continuous integration runs the same examples each time; elsewhere chance may find more, and what
# it finds can be replayed from the output.
hypothesis.settings.register_profile(
    "photinus", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("photinus")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ProvokedCodes(Path(__file__).parent, wanted_codes))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tests: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                suite = report.nodeid.removeprefix("tests/").split("/")[0]
                seconds[suite] += report.duration
                tests[suite] += report.when == "call"
    terminalreporter.section("suites")
    for suite in sorted(tests):
        terminalreporter.write_line(f"{suite:<14} {tests[suite]:>6} tests {seconds[suite]:>8.1f} s")
