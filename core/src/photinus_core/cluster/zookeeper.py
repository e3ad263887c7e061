"""The elector of a core with several replicas, over a ZooKeeper ensemble.

It holds one session at a time. While the connection is in doubt all leader work rests; when the session is over, by the
ensemble's word or by this replica's own clock, all leases are lost, and everything stands again in a new session.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Final, Self

from photinus_core.cluster.candidacy import ROLES, Candidacy, Footing, candidates, role_of
from photinus_core.cluster.ensemble import EnsembleAway, EnsembleSession, EnsembleSettings
from photinus_core.cluster.identity import check_identity
from photinus_core.cluster.registry import Registry
from photinus_core.model.errors import Conflict, PhotinusError, Rejected
from photinus_core.model.ids import Epoch
from photinus_core.ports.elector import Cluster, Lease, Replica, RoleStanding
from photinus_core.ports.store import Store
from photinus_core.ports.tasks import Background, Backoff, Wake
from photinus_core.sequencing.session_time import SessionTime

log: Final = logging.getLogger(__name__)

SESSION_MIN_S: Final = 1.0
SESSION_MAX_S: Final = 60.0
QUIET_S: Final = 20.0
AGAIN_FIRST_S: Final = 0.1
AGAIN_CAP_S: Final = 5.0
UNREACHABLE_SAY_S: Final = 1.0
"""After this long without an ensemble `trouble` says so."""
UNREACHABLE_LOG_S: Final = 30.0
RESIGN_WAIT_S: Final = 0.5
MISSED_S: Final = 0.001
"""Differences between what was asked and agreed that are none."""
FORMER_MAX: Final = 8
SPREAD: Final = "namespace/"
"""Roles that are spread over the replicas; others stay with whoever asked first."""


def boot_s() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class ElectionRules:
    """How elections are held.

    Attributes:
        session_min_s: Shortest session taken: what a leader's transaction may last must end within it.
        session_max_s: Longest session taken.
        quiet_s: How long a leader waits, with a replica standing by that is preferred, before it hands over.
    """

    session_min_s: float = SESSION_MIN_S
    session_max_s: float = SESSION_MAX_S
    quiet_s: float = QUIET_S


class ZooKeeperElector:
    """Elects with the help of an ensemble. Used as a context: leaving it resigns everything."""

    def __init__(
        self,
        settings: EnsembleSettings,
        store: Store,
        replica: Replica,
        rules: ElectionRules | None = None,
        clock: Callable[[], float] = boot_s,
    ) -> None:
        self._settings = settings
        self._store = store
        self._replica = replica
        self._rules = rules or ElectionRules()
        self._clock = clock
        self._candidacies: dict[str, Candidacy] = {}
        self._background = Background("elector")
        self._running: asyncio.Task[None] | None = None
        self._session: EnsembleSession | None = None
        self._registry: Registry | None = None
        self._work: Background | None = None
        self._footing: Footing | None = None
        self._former: list[str] = []
        self._numbers = itertools.count(1)
        self._standing_tasks: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        self._closed = False
        self._trouble = ""
        _check_timeout(settings.session_timeout_s, self._rules)

    async def __aenter__(self) -> Self:
        await self._background.__aenter__()
        self._running = self._background.start("sessions", self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
        await self._background.__aexit__(kind, failure, trace)

    @property
    def is_local(self) -> bool:
        """False: other replicas may lead."""
        return False

    @property
    def trouble(self) -> str:
        """Why no election can be won now. See `ports.Elector`."""
        if self._trouble:
            return self._trouble
        return next((c.trouble for c in self._candidacies.values() if c.trouble), "")

    async def campaign(self, role: str) -> Lease:
        """Waits until this replica leads the role. See `ports.Elector`."""
        candidacy = self._candidacies.get(role) or self._new_candidacy(role)
        if candidacy.is_wanted:
            raise Conflict("FF19121", role, candidacy.lease.epoch if candidacy.lease else 0)
        if self._draining:
            await asyncio.Event().wait()
        won = candidacy.start()
        try:
            return await won
        except asyncio.CancelledError:
            candidacy.stop()
            candidacy.ended()
            await self._withdrawn(candidacy)
            raise

    async def resign(self, lease: Lease) -> None:
        """Gives a leadership back. See `ports.Elector`."""
        lease.running.clear()
        lease.lost.set()
        candidacy = self._candidacies.get(lease.role)
        if candidacy is None or candidacy.lease is not lease:
            return
        candidacy.stop()
        candidacy.ended()
        await self._withdrawn(candidacy)

    async def drain(self) -> None:
        """Stands in no election any more. See `ports.Elector`."""
        if self._draining:
            return
        self._draining = True
        for candidacy in self._candidacies.values():
            candidacy.stop()
        if self._registry is not None:
            await self._registry.drain()

    async def redescribe(self, fingerprint: str) -> None:
        """Shows the digest of another configuration. See `ports.Elector`."""
        self._replica = replace(self._replica, fingerprint=fingerprint)
        if self._registry is not None:
            await self._registry.redescribe(self._replica)

    async def members(self) -> Cluster:
        """The replicas and leaders as they are now. See `ports.Elector`."""
        session, registry = self._session, self._registry
        if session is None or registry is None:
            raise EnsembleAway(
                "FF19150", self._settings.hosts, self._trouble or "there is no session yet"
            )
        replicas, problems = await registry.survey()
        folders = sorted(await session.children(ROLES))
        looks: list[asyncio.Task[RoleStanding]] = []
        failed: PhotinusError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                looks += [group.create_task(_standing(session, folder)) for folder in folders]
        except* PhotinusError as failures:
            failed = next(f for f in failures.exceptions if isinstance(f, PhotinusError))
        if failed is not None:
            raise failed
        roles = tuple(look.result() for look in looks)
        return Cluster(replicas, roles, (*problems, *self._session_problems(session)))

    async def aclose(self) -> None:
        """Resigns everything and disconnects. See `ports.Elector`."""
        if self._closed:
            return
        self._closed = self._draining = True
        standing = list(self._candidacies.values())
        for candidacy in standing:
            candidacy.stop()
            candidacy.ended()
        try:
            async with asyncio.timeout(RESIGN_WAIT_S):
                for candidacy in standing:
                    await candidacy.withdrawn()
        except TimeoutError:
            log.info("the session's end will withdraw what is left")
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    # Sessions

    async def _run(self) -> None:
        pauses = Backoff(AGAIN_FIRST_S, AGAIN_CAP_S)
        while True:
            began_s = self._clock()
            async with EnsembleSession(self._settings) as session:
                try:
                    await self._hold(session)
                except* PhotinusError as failures:
                    self._say(str(failures.exceptions[0]))
                except* Exception:
                    log.exception("a session with ZooKeeper failed")
                finally:
                    self._lose(session)
            if self._clock() - began_s > AGAIN_CAP_S:
                pauses.reset()
            await asyncio.sleep(pauses.next_s())

    async def _hold(self, session: EnsembleSession) -> None:
        await self._connect(session)
        asked_s = self._clock()
        await session.make_path("")
        await session.confirm()
        session_time = SessionTime(session.timeout_s, asked_s)
        _check_timeout(session.timeout_s, self._rules)
        await check_identity(session, self._store)
        registry = Registry(session, self._replica)
        await registry.register(self._former, draining=self._draining)
        for problem in self._session_problems(session):
            log.warning("%s", problem)
        self._trouble = ""
        log.info("session %s with ZooKeeper begins, %.1f s", session.id, session.timeout_s)
        self._session, self._registry = session, registry
        self._footing = Footing(
            session, partial(self._is_certain, session, session_time), frozenset(self._former)
        )
        async with Background("session") as work:
            self._work = work
            work.start("registry", registry.run())
            work.start("questions", self._ask(session, session_time))
            for candidacy in self._candidacies.values():
                self._begin_standing(candidacy)
            await self._watch(session, session_time)
            self._work = None

    async def _connect(self, session: EnsembleSession) -> None:
        session.start()
        said_s = -UNREACHABLE_LOG_S
        while True:
            try:
                async with asyncio.timeout(UNREACHABLE_SAY_S):
                    await session.answered()
                return
            except TimeoutError:
                text = str(
                    EnsembleAway("FF19150", self._settings.hosts, session.failure or "no answer")
                )
                self._trouble = text
                if self._clock() - said_s >= UNREACHABLE_LOG_S:
                    said_s = self._clock()
                    log.warning("%s", text)

    async def _ask(self, session: EnsembleSession, session_time: SessionTime) -> None:
        """Asks the ensemble again and again whether the session lives."""
        while True:
            await session.connected.wait()
            asked_s = self._clock()
            try:
                async with asyncio.timeout(session_time.timeout_s):
                    await session.confirm()
            except (TimeoutError, EnsembleAway):
                await asyncio.sleep(AGAIN_FIRST_S)
                continue
            session_time.confirmed(asked_s)
            if self._is_certain(session, session_time):
                for candidacy in self._candidacies.values():
                    candidacy.confirmed()
            await asyncio.sleep(max(0.0, asked_s + session_time.question_every_s - self._clock()))

    async def _watch(self, session: EnsembleSession, session_time: SessionTime) -> None:
        """Pauses leader work while in doubt; returns when the session is over."""
        changed = Wake()
        session.state_changed = changed.set
        while not session.over.is_set():
            now_s = self._clock()
            session_time.timeout_s = session.timeout_s
            if session_time.is_over(now_s):
                log.warning("no word from ZooKeeper for %.1f s: leading ends", session.timeout_s)
                return
            if not self._is_certain(session, session_time):
                for candidacy in self._candidacies.values():
                    candidacy.suspended()
            await changed.wait(session_time.question_every_s / 2)
        log.warning("the session with ZooKeeper is over")

    def _is_certain(self, session: EnsembleSession, session_time: SessionTime) -> bool:
        return session.is_connected and session_time.is_certain(self._clock())

    # Candidacies

    def _new_candidacy(self, role: str) -> Candidacy:
        quiet_s = self._rules.quiet_s if role.startswith(SPREAD) else None
        made = Candidacy(role, self._replica.name, self._store, quiet_s, self._clock)
        self._candidacies[role] = made
        self._begin_standing(made)
        return made

    def _begin_standing(self, candidacy: Candidacy) -> None:
        if self._work is not None and self._footing is not None:
            name = f"{candidacy.role} {next(self._numbers)}"
            self._standing_tasks[candidacy.role] = self._work.start(
                name, candidacy.stand(self._footing)
            )

    def _forget_idle(self, candidacy: Candidacy) -> None:
        """Roles without preference come and go by the thousand; nothing is kept of them."""
        role = candidacy.role
        if candidacy.is_idle and not role.startswith(SPREAD):
            self._candidacies.pop(role, None)
            task = self._standing_tasks.pop(role, None)
            if task is not None:
                task.cancel()

    def _lose(self, session: EnsembleSession) -> None:
        self._session = self._registry = self._work = self._footing = None
        if session.id:
            self._former = [*self._former, session.id][-FORMER_MAX:]
        self._standing_tasks.clear()
        for candidacy in list(self._candidacies.values()):
            candidacy.session_lost()
            self._forget_idle(candidacy)

    async def _withdrawn(self, candidacy: Candidacy) -> None:
        try:
            async with asyncio.timeout(RESIGN_WAIT_S):
                await candidacy.withdrawn()
        except TimeoutError:
            log.info("%s is withdrawn when ZooKeeper answers again", candidacy.role)
        self._forget_idle(candidacy)

    # What is said

    def _say(self, text: str) -> None:
        if text != self._trouble:
            log.error("this replica can lead nothing: %s", text)
        self._trouble = text

    def _session_problems(self, session: EnsembleSession) -> list[str]:
        asked_s = self._settings.session_timeout_s
        if abs(session.timeout_s - asked_s) <= MISSED_S:
            return []
        return [str(Rejected("FF19156", session.timeout_s, asked_s))]


def _check_timeout(session_s: float, rules: ElectionRules) -> None:
    """Refuses a session that is too short for the database, or too long to wait for.

    Raises:
        Rejected: FF19155.
    """
    if not rules.session_min_s <= session_s <= rules.session_max_s:
        raise Rejected("FF19155", session_s, rules.session_min_s, rules.session_max_s)


async def _standing(session: EnsembleSession, folder: str) -> RoleStanding:
    role = role_of(folder)
    queue = candidates(await session.children(f"{ROLES}/{folder}"))
    names = tuple(c.replica for c in queue)
    epoch: Epoch | None = None
    if queue:
        node = await session.read(f"{ROLES}/{folder}/{queue[0].node}")
        base = await session.read(f"{ROLES}/{folder}")
        if node is not None and base is not None and base.data:
            epoch = Epoch(int(base.data) + node.czxid)
    return RoleStanding(role, names[0] if epoch is not None else "", epoch, names[1:])
