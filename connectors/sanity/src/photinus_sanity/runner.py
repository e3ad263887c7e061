"""Runs checks against a target, one after the other; those that mostly wait run beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from photinus_sanity.catalogue import CHECK_TIMEOUT_S, Check, Phase, Profile
from photinus_sanity.checks import all_checks
from photinus_sanity.probe import Probe
from photinus_sanity.session import QUIET_S, Session
from photinus_sanity.setup import Setup
from photinus_sanity.targets import Target, UnreachableError
from photinus_sanity.violations import Violation
from photinus_sanity.wire import Refusal

LAST = ("SEC-001", "SEC-002", "HLT-003", "HLT-006")


class Status(Enum):
    """How a check went."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Outcome:
    """How one check went.

    Attributes:
        check: The check.
        status: The verdict.
        message: What was wrong, or why it does not apply.
        duration_s: How long it took.
    """

    check: Check
    status: Status
    message: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        profile: How much.
        setup: Settings and fixture.
        only: Ids or groups (`EVT`, `EVT-005`); empty for all.
        quiet_s: How long to wait to see that nothing happens.
        repeat: How often every check runs; one failure is a failure.
    """

    profile: Profile = Profile.FULL
    setup: Setup = field(default_factory=Setup)
    only: Sequence[str] = ()
    quiet_s: float = QUIET_S
    repeat: int = 1

    def checks(self) -> list[Check]:
        """The chosen checks, in the order in which they run."""
        chosen = [
            check
            for check in all_checks()
            if check.profile <= self.profile
            and (not self.only or check.id in self.only or check.group in self.only)
        ]
        last = [check_id for check_id in LAST if any(c.id == check_id for c in chosen)]

        def place(check: Check) -> tuple[int, int]:
            return check.phase, last.index(check.id) if check.id in last else 0

        return sorted(chosen, key=place)


async def run_suite(
    target: Target, plan: Plan, told: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Runs a plan; outcomes in the order of the catalogue.

    Args:
        target: The connector; started here, and ended at the end.
        plan: What to run.
        told: Hears of each outcome as it comes.

    Raises:
        UnreachableError: The connector did not start, answer Describe or take its settings.
    """
    async with Session(target, plan.setup, plan.quiet_s) as session:
        outcomes = await run_checks(session, plan, told)
    order = {check.id: at for at, check in enumerate(all_checks())}
    return sorted(outcomes, key=lambda outcome: order[outcome.check.id])


async def run_checks(
    session: Session, plan: Plan, told: Callable[[Outcome], None]
) -> list[Outcome]:
    """Runs a plan in an open session; outcomes in the order in which they came."""
    outcomes: list[Outcome] = []

    async def run(check: Check) -> None:
        outcome = await repeated(session, check, plan.repeat)
        outcomes.append(outcome)
        told(outcome)

    checks = plan.checks()
    async with asyncio.TaskGroup() as waiting:
        for check in _in(checks, Phase.BACKGROUND):
            waiting.create_task(run(check), name=check.id)
        for check in _in(checks, Phase.NORMAL):
            await run(check)
    for phase, gently in ((Phase.TERMINATED, True), (Phase.KILLED, False)):
        for outcome in await _repeated_around_restarts(session, _in(checks, phase), gently, plan):
            outcomes.append(outcome)
            told(outcome)
    for phase in (Phase.DISTURBED, Phase.LAST):
        for check in _in(checks, phase):
            await run(check)
    return outcomes


async def _repeated_around_restarts(
    session: Session, checks: Sequence[Check], gently: bool, plan: Plan
) -> list[Outcome]:
    """As often as planned, each check up to its first failure."""
    worst: dict[str, Outcome] = {}
    for _ in range(plan.repeat):
        good = [c for c in checks if c.id not in worst or worst[c.id].status is not Status.FAILED]
        for outcome in await run_around_restart(session, good, gently=gently):
            worst[outcome.check.id] = outcome
    return list(worst.values())


async def run_around_restart(
    session: Session, checks: Sequence[Check], *, gently: bool
) -> list[Outcome]:
    """Runs checks in two halves: the first of all, one restart, the second of all."""
    outcomes: list[Outcome] = []
    waiting: list[tuple[Check, AsyncGenerator[None, None], float]] = []
    for check in checks:
        begun = time.monotonic()
        if why := check.does_not_apply(session):
            outcomes.append(Outcome(check, Status.NOT_APPLICABLE, why))
            continue
        halves = check.body(Probe(session, check.id))
        assert isinstance(halves, AsyncGenerator), check.id
        problem = await _problem(anext(halves))
        took = time.monotonic() - begun
        if problem:
            outcomes.append(Outcome(check, Status.FAILED, problem, took))
        else:
            waiting.append((check, halves, took))
    if not waiting:
        return outcomes
    gone = await _problem(session.restart(gently=gently))
    for check, halves, took in waiting:
        begun = time.monotonic() - took
        problem = gone or await _problem(_finished(halves))
        status = Status.FAILED if problem else Status.PASSED
        outcomes.append(Outcome(check, status, problem, time.monotonic() - begun))
    return outcomes


async def _finished(halves: AsyncGenerator[None, None]) -> None:
    async for _ in halves:
        raise AssertionError("a check has two halves")


async def repeated(session: Session, check: Check, times: int = 1) -> Outcome:
    """Runs one check so many times, up to its first failure."""
    if why := check.does_not_apply(session):
        return Outcome(check, Status.NOT_APPLICABLE, why)
    outcome = Outcome(check, Status.PASSED)
    begun = time.monotonic()
    for _ in range(1 if check.phase is Phase.LAST else times):
        outcome = await run_check(session, check)
        if outcome.status is not Status.PASSED:
            break
    return replace(outcome, duration_s=time.monotonic() - begun)


async def run_check(session: Session, check: Check) -> Outcome:
    """Runs one check once."""
    if check.phase in (Phase.TERMINATED, Phase.KILLED):
        gently = check.phase is Phase.TERMINATED
        (outcome,) = await run_around_restart(session, [check], gently=gently)
        return outcome
    body = check.body(Probe(session, check.id))
    assert not isinstance(body, AsyncGenerator), check.id
    problem = await _problem(body)
    return Outcome(check, Status.FAILED if problem else Status.PASSED, problem)


async def _problem(work: Awaitable[None]) -> str:
    """Why work failed; empty when it did not. Whatever a connector can cause ends here."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await work
    except Violation as violation:
        return str(violation)
    except Refusal as refusal:
        return f"unexpected error answer: {refusal}"
    except TimeoutError:
        return f"did not end within {CHECK_TIMEOUT_S:.0f} s"
    except UnreachableError as error:
        return f"the connector did not come back: {error}"
    except (LookupError, TypeError, ValueError) as error:
        # An answer, or a fixture, that is not of the form the check reads.
        return f"unreadable: {type(error).__name__}: {error}"
    return ""


def _in(checks: Iterable[Check], phase: Phase) -> list[Check]:
    return [check for check in checks if check.phase is phase]
