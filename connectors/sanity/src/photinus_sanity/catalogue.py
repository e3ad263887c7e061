"""What a check is, and how it is registered.

A check is an async function with a docstring (what is true of a good connector), registered with its
id, its level, the paragraph it enforces and a sentence that tells an author what to fix. It raises
`Violation` when the connector breaks the rule.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from photinus_sanity.probe import Probe
    from photinus_sanity.session import Session

CHECK_TIMEOUT_S = 60.0

GROUPS = {
    "DSC": "Describe",
    "CFG": "Validate, Configure, instances",
    "IDM": "idempotency keys, operations, Cancel",
    "ERR": "errors",
    "DLN": "deadlines and cancelled calls",
    "EVT": "the event stream",
    "HLT": "health, status, drain, life of the process",
    "LIM": "limits and unknown input",
    "SEC": "secrets and sockets",
    "BLK": "blockchain contract",
    "TOK": "tokens contract",
    "DX": "data exchange contract",
    "STO": "shared storage contract",
}


class Level(Enum):
    """How binding a rule is."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Profile(IntEnum):
    """How much is run; each includes the ones before it."""

    QUICK = 1
    FULL = 2
    CHAOS = 3


class Phase(IntEnum):
    """When a check runs: those that end or drain the connector come last."""

    NORMAL = 1
    BACKGROUND = 2
    """Mostly waits; runs beside the normal ones."""
    TERMINATED = 3
    """In two halves, parted by `yield`: between them the connector ends on SIGTERM and starts again."""
    KILLED = 4
    """The same with kill -9."""
    DISTURBED = 5
    """Kills, freezes or breaks connections by itself."""
    LAST = 6
    """Looks at everything that happened before, or drains or ends the process; in this order."""


Need = Callable[["Session"], str]
"""Says why a check does not apply to a session; empty when it does."""
Body = Callable[["Probe"], Awaitable[None] | AsyncGenerator[None, None]]


@dataclass(frozen=True)
class Check:
    """One rule and how to see that it is kept.

    Attributes:
        id: Stable; `EVT-001` to `EVT-008` are the ids in `event.proto`.
        level: MUST decides the exit code.
        title: What is true of a good connector.
        rule: Paragraph it enforces.
        fix: What an author should look at when it fails.
        profile: Smallest profile that includes it.
        phase: When it runs.
        needs: Why it may not apply.
        body: The check itself.
    """

    id: str
    level: Level
    title: str
    rule: str
    fix: str
    profile: Profile
    phase: Phase
    needs: tuple[Need, ...]
    body: Body

    @property
    def group(self) -> str:
        return self.id.partition("-")[0]

    def does_not_apply(self, session: Session) -> str:
        """Why it does not apply here; empty when it does."""
        return next((why for need in self.needs if (why := need(session))), "")


_registered: dict[str, Check] = {}


def must(check_id: str, **options: object) -> Callable[[Body], Body]:
    """Registers a MUST: `rule`, `fix`, and optionally `profile`, `phase`, `needs`."""
    return _register(check_id, Level.MUST, **options)


def should(check_id: str, **options: object) -> Callable[[Body], Body]:
    """Registers a SHOULD."""
    return _register(check_id, Level.SHOULD, **options)


def _register(check_id: str, level: Level, **options: object) -> Callable[[Body], Body]:
    def add(body: Body) -> Body:
        assert check_id not in _registered, check_id
        assert check_id.partition("-")[0] in GROUPS, check_id
        assert body.__doc__, check_id
        values = {"profile": Profile.QUICK, "phase": Phase.NORMAL, "needs": ()} | options
        title = " ".join(body.__doc__.split())
        _registered[check_id] = Check(id=check_id, level=level, title=title, body=body, **values)  # type: ignore[arg-type] # the decorators' keywords are the fields
        return body

    return add


def registered() -> list[Check]:
    """The checks of all modules imported so far, by group and number."""
    order = list(GROUPS)
    return sorted(_registered.values(), key=lambda check: (order.index(check.group), check.id))
