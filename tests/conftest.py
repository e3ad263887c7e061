"""What all tests share: the duration of each suite in the closing lines, and Hypothesis' profile.

A suite is a folder of tests/: unit, simulation, integration, e2e and so on.
"""

import os
from collections import defaultdict

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
