"""The checks as pytest tests: one per check, over one session with the connector.

A test that takes the argument `sanity_outcome` becomes one test per check:

    def test_keeps_the_protocol(sanity_outcome):
        sanity_outcome.verify()

The connector comes from the options (`--sanity-launch "my-connector"` or `--sanity-address`,
`--sanity-settings`, `--sanity-fixture`, `--sanity-profile`), or from a project's own fixtures
`sanity_target` (a `Target`) and `sanity_setup` (a `Setup`). A check that does not apply is
skipped with the reason; a SHOULD that fails is shown as an expected failure.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:  # gRPC is loaded only where the plugin is used
    from photinus_sanity.catalogue import Check
    from photinus_sanity.runner import Outcome
    from photinus_sanity.session import Session
    from photinus_sanity.setup import Setup
    from photinus_sanity.targets import Target

ARGUMENT = "sanity_outcome"


class RunningSession:
    """A session with an event loop of its own, so that tests of any kind can use it."""

    def __init__(self, target: Target, setup: Setup) -> None:
        from photinus_sanity.session import Session  # noqa: PLC0415 - see above

        self._runner = asyncio.Runner()
        self._session = Session(target, setup)

    def __enter__(self) -> Self:
        self._runner.run(self._session.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._session.__aexit__())
        self._runner.close()

    @property
    def session(self) -> Session:
        return self._session

    def run(self, check: Check) -> Outcome:
        """Runs one check."""
        from photinus_sanity.runner import repeated  # noqa: PLC0415 - see above

        return self._runner.run(repeated(self._session, check))


class CheckedConnector:
    """What a test gets: the check it stands for, and the way to run it."""

    def __init__(self, running: RunningSession, check: Check) -> None:
        self.check, self._running = check, running

    def verify(self) -> Outcome:
        """Runs the check; fails the test when a MUST does not hold."""
        from photinus_sanity.catalogue import Level  # noqa: PLC0415 - see above
        from photinus_sanity.runner import Status  # noqa: PLC0415 - see above

        outcome = self._running.run(self.check)
        if outcome.status is Status.FAILED:
            text = f"{outcome.message}\nrule: {self.check.rule}\nfix: {self.check.fix}"
            if self.check.level is Level.MUST:
                pytest.fail(f"{self.check.id}: {text}", pytrace=False)
            pytest.xfail(f"SHOULD: {text}")
        if outcome.status is Status.NOT_APPLICABLE:
            pytest.skip(f"{self.check.id} does not apply: {outcome.message}")
        return outcome


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("connector-sanity", "conformance of Photinus connectors")
    group.addoption("--sanity-launch", help="command that starts the connector")
    group.addoption("--sanity-address", help="address of a running connector")
    group.addoption("--sanity-settings", help="JSON file with its configuration")
    group.addoption("--sanity-fixture", help="JSON file that says what the checks may use")
    group.addoption("--sanity-profile", default="quick", help="quick, full or chaos")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per check of the profile."""
    if ARGUMENT not in metafunc.fixturenames:
        return
    from photinus_sanity.catalogue import Profile  # noqa: PLC0415 - see above
    from photinus_sanity.runner import Plan  # noqa: PLC0415 - see above

    profile = Profile[metafunc.config.getoption("--sanity-profile").upper()]
    checks = Plan(profile=profile).checks()
    metafunc.parametrize(ARGUMENT, checks, ids=[check.id for check in checks], indirect=True)


@pytest.fixture(scope="module")
def sanity_target(request: pytest.FixtureRequest) -> Target:
    """The connector under test; override it for one that needs more than a command."""
    from photinus_sanity.targets import Attached, Launched  # noqa: PLC0415 - see above

    launch = request.config.getoption("--sanity-launch")
    address = request.config.getoption("--sanity-address")
    if launch:
        return Launched(shlex.split(launch))
    if address:
        return Attached(address)
    raise pytest.UsageError("give --sanity-launch or --sanity-address, or a fixture sanity_target")


@pytest.fixture(scope="module")
def sanity_setup(request: pytest.FixtureRequest) -> Setup:
    """Settings and fixture; override it for ones that are made by the tests."""
    from photinus_sanity.setup import read_setup  # noqa: PLC0415 - see above

    files = [request.config.getoption(f"--sanity-{name}") for name in ("settings", "fixture")]
    settings, fixture = (Path(name) if name else None for name in files)
    return read_setup(settings, fixture)


@pytest.fixture(scope="module")
def sanity_session(sanity_target: Target, sanity_setup: Setup) -> Iterator[RunningSession]:
    """One session for all checks of a module."""
    with RunningSession(sanity_target, sanity_setup) as running:
        yield running


@pytest.fixture
def sanity_outcome(
    request: pytest.FixtureRequest, sanity_session: RunningSession
) -> CheckedConnector:
    """One check, ready to run."""
    return CheckedConnector(sanity_session, request.param)
