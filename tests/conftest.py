"""What all tests share: the number of tests and the duration of each suite, in the closing lines.

A suite is a folder of tests/: unit, simulation, integration, e2e and so on.
"""

from collections import defaultdict

import pytest


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
