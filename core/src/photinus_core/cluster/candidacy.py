"""One replica's standing for one role, over all sessions with the ensemble.

The queue for a role is a folder of ephemeral sequential nodes; the first one leads. Nodes are named
`<replica>;<session>;<sequence>`, so that one look at the folder tells everything, and a node whose creation was not
answered is found again. `sequencing.Leadership` says what to do, `sequencing.spreading` where to stand; here it is
done, level by level: look at the queue, do what the state asks for, wait for a change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import quote, unquote

from photinus_core.cluster.ensemble import EnsembleAway, EnsembleSession
from photinus_core.model.errors import Deposed, PhotinusError
from photinus_core.model.ids import Epoch
from photinus_core.ports.elector import Lease, Running
from photinus_core.ports.store import Store
from photinus_core.ports.tasks import Backoff, Wake
from photinus_core.sequencing.leadership import (
    Begin,
    End,
    LeaderAction,
    Leadership,
    LeaderState,
    Pause,
    Resume,
)
from photinus_core.sequencing.spreading import Calm, Candidate, lets_pass

log: Final = logging.getLogger(__name__)

ROLES: Final = "/roles"
LOOK_AGAIN_S: Final = 15.0
"""How often the queue is looked at without a change, in case a watch was lost."""
REFUSED_FIRST_S: Final = 0.2
REFUSED_CAP_S: Final = 10.0
"""Waits before standing again after the database did not take the epoch."""
END_WAIT_S: Final = 10.0
"""How long leader work may take to end before the next leader is let in; the fence protects the database."""
AT_ONCE_S: Final = 0.0


@dataclass(frozen=True, slots=True)
class Footing:
    """What a candidacy stands on for the time of one session.

    Attributes:
        session: The session.
        is_certain: Whether the session surely lives, by this replica's clock.
        former: Earlier sessions of this process; their nodes may linger.
    """

    session: EnsembleSession
    is_certain: Callable[[], bool]
    former: frozenset[str]


class Candidacy:
    """Stands for a role while somebody waits for it or leads.

    Args:
        role: What is stood for.
        replica: Name of this replica.
        store: The database that has the role's epoch.
        quiet_s: How long all must be quiet before a leader hands over to a replica that is preferred; None for a
            role without preference, whose queue moves only when somebody leaves it.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        role: str,
        replica: str,
        store: Store,
        quiet_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.role = role
        self.folder = folder_of(role)
        self.lease: Lease | None = None
        self.is_wanted = False
        self.trouble = ""
        self._replica = replica
        self._store = store
        self._clock = clock
        self._won: asyncio.Future[Lease] | None = None
        self._machine = Leadership()
        self._seen = self._machine.state
        self._calm = None if quiet_s is None else Calm(role, replica, quiet_s)
        self._footing: Footing | None = None
        self._wake = Wake()
        self._idle = asyncio.Event()
        self._idle.set()
        self._refused = Backoff(REFUSED_FIRST_S, REFUSED_CAP_S)
        self._stand_at_s = 0.0
        self._led_since_s = 0.0
        self._end_by_s = 0.0

    # Asked by the elector

    def start(self) -> asyncio.Future[Lease]:
        """Stands; the future gives the lease."""
        self.is_wanted = True
        self._won = asyncio.get_running_loop().create_future()
        self._do(self._machine.start())
        return self._won

    def stop(self) -> None:
        """Stands no more; a lease is lost."""
        self._do(self._machine.stop())

    def ended(self) -> None:
        """The work under the lease has ended, or never began."""
        self.is_wanted = False
        self.lease = None
        self.trouble = ""
        self._do(self._machine.ended())

    @property
    def is_idle(self) -> bool:
        """Whether the ensemble holds no node for it and nobody waits."""
        return self._idle.is_set() and not self.is_wanted

    async def withdrawn(self) -> None:
        """Waits until the ensemble holds no node for this candidacy any more."""
        await self._idle.wait()

    # Told by the elector

    def suspended(self) -> None:
        """The connection is in doubt."""
        self._do(self._machine.suspended())

    def confirmed(self) -> None:
        """The session lives."""
        self._do(self._machine.reconnected())
        if self.lease is not None and self._machine.state is LeaderState.LEADING:
            self.lease.running.set()

    def session_lost(self) -> None:
        """The session is over, and with it the node."""
        self._footing = None
        self._do(self._machine.session_lost())

    async def stand(self, footing: Footing) -> None:
        """Does what the state asks for; cancelled when the session ends."""
        self._footing = footing
        while True:
            try:
                wait_s = await self._step(footing)
            except EnsembleAway:
                await footing.session.connected.wait()
                wait_s = REFUSED_FIRST_S
            except PhotinusError as failure:
                self.trouble = str(failure)
                log.warning("%s: %s", self.role, failure)
                wait_s = self._refused.next_s()
            if wait_s > 0:
                await self._wake.wait(wait_s)

    # Steps. Each gives the time after which the next is due without a change.

    async def _step(self, footing: Footing) -> float:
        session = footing.session
        match self._machine.state:
            case LeaderState.IDLE:
                return LOOK_AGAIN_S
            case LeaderState.CAMPAIGNING:
                return await self._wait_in_queue(footing)
            case LeaderState.FENCING:
                await self._raise_epoch()
                return AT_ONCE_S
            case LeaderState.LEADING | LeaderState.PAUSED:
                return await self._watch_queue(session)
            case LeaderState.ENDING:
                left_s = self._end_by_s - self._clock()
                if left_s <= 0:
                    log.warning("%s: its work does not end; the next leader is let in", self.role)
                    await self._leave_queue(session)
                    return LOOK_AGAIN_S
                return left_s
            case LeaderState.WITHDRAWING:
                await self._leave_queue(session)
                if self._calm is None:  # such roles come and go; their folders go with the last
                    await session.delete(self.folder)
                self._do(self._machine.withdrawn())
                return AT_ONCE_S
            case unknown:
                assert_never(unknown)

    async def _wait_in_queue(self, footing: Footing) -> float:
        session = footing.session
        early_s = self._stand_at_s - self._clock()
        if early_s > 0:
            return early_s
        queue = await self._look(session)
        # What a former session of this process left: its work has ended, or nobody would stand again.
        for left in (c for c in queue if session_of(c) in footing.former):
            await session.delete(f"{self.folder}/{left.node}")
        queue = [c for c in queue if session_of(c) not in footing.former]
        mine = [c for c in queue if session_of(c) == session.id]
        if not mine:
            await self._join_queue(session)
            return AT_ONCE_S
        for surplus in mine[1:]:
            await session.delete(f"{self.folder}/{surplus.node}")
        if queue[0] == mine[0]:
            await self._elected(footing, mine[0])
            return REFUSED_FIRST_S  # a new state wakes at once
        self.trouble = ""
        if self._calm is not None and lets_pass(self.role, queue, mine[0]):
            await self._join_queue(session)
            await session.delete(f"{self.folder}/{mine[0].node}")
            return AT_ONCE_S
        return LOOK_AGAIN_S

    async def _elected(self, footing: Footing, own: Candidate) -> None:
        node = await footing.session.read(f"{self.folder}/{own.node}")
        if node is None:
            return
        base = await self._epoch_base(footing, node.czxid)
        if base is None:
            return
        self._do(self._machine.elected(Epoch(base + node.czxid)))

    async def _raise_epoch(self) -> None:
        epoch = self._machine.epoch
        assert epoch is not None
        try:
            await self._store.raise_epoch(self.role, epoch)
        except PhotinusError as failure:
            # Behind the others, so that a replica that reaches the database gets its turn.
            self.trouble = str(failure)
            log.warning("%s with epoch %d was not begun: %s", self.role, epoch, failure)
            self._stand_at_s = self._clock() + self._refused.next_s()
            if isinstance(failure, Deposed) and self._footing is not None:
                await self._footing.session.write(self.folder, b"")
            self._do(self._machine.epoch_refused(epoch))
            return
        self.trouble = ""
        self._refused.reset()
        self._do(self._machine.epoch_raised(epoch))

    async def _watch_queue(self, session: EnsembleSession) -> float:
        queue = await self._look(session)
        if self._machine.state not in (LeaderState.LEADING, LeaderState.PAUSED):
            return AT_ONCE_S
        if not queue or session_of(queue[0]) != session.id:
            log.warning("%s: the own node was removed by somebody else", self.role)
            self._do(self._machine.deposed())
            return AT_ONCE_S
        if self._calm is None or self._machine.state is LeaderState.PAUSED:
            return LOOK_AGAIN_S
        due_s = self._calm.hand_over_at(queue, self._led_since_s)
        if due_s is None:
            return LOOK_AGAIN_S
        left_s = due_s - self._clock()
        if left_s > 0:
            return min(left_s, LOOK_AGAIN_S)
        log.info("%s is handed over to a replica that is preferred for it", self.role)
        self._do(self._machine.hand_over())
        return AT_ONCE_S

    # The queue

    async def _look(self, session: EnsembleSession) -> list[Candidate]:
        queue = candidates(await session.children(self.folder, self._wake.set))
        if self._calm is not None:
            self._calm.seen(queue, self._clock())
        return queue

    async def _join_queue(self, session: EnsembleSession) -> None:
        await session.make_path(self.folder)
        name = f"{quote(self._replica, safe='')};{session.id};"
        await session.create(f"{self.folder}/{name}", b"", ephemeral=True, sequence=True)

    async def _leave_queue(self, session: EnsembleSession) -> None:
        for candidate in candidates(await session.children(self.folder)):
            if session_of(candidate) == session.id:
                await session.delete(f"{self.folder}/{candidate.node}")

    async def _epoch_base(self, footing: Footing, czxid: int) -> int | None:
        """What is added to the ensemble's numbers of this role; None when that cannot be said now.

        Nothing, unless the database had higher epochs when the role was first led through this ensemble: from a local
        elector, or from an ensemble before.
        """
        folder = await footing.session.read(self.folder)
        if folder is None:
            return None
        if folder.data:
            return int(folder.data)
        if not footing.is_certain():  # else who leads by now would be deposed
            return None
        last = await self._store.raise_epoch(self.role, None)
        base = max(0, last + 1 - czxid)
        is_written = await footing.session.write(self.folder, b"%d" % base, folder.version)
        return base if is_written else None

    # What the machine decides, as far as it needs no waiting

    def _do(self, actions: Iterable[LeaderAction]) -> None:
        for action in actions:
            match action:
                case Begin(epoch):
                    self._begin(epoch)
                case Pause() if self.lease is not None:
                    self.lease.running.clear()
                case Resume() if self.lease is not None:
                    self.lease.running.set()
                case End() if self.lease is not None:
                    self.lease.running.clear()
                    self.lease.lost.set()
                    self._end_by_s = self._clock() + END_WAIT_S
                case _:  # done by the next step, as the state says
                    pass
        if self._machine.state is not self._seen:
            self._seen = self._machine.state
            self._wake.set()
        if self._seen is LeaderState.IDLE:
            self._idle.set()
        else:
            self._idle.clear()

    def _begin(self, epoch: Epoch) -> None:
        footing = self._footing
        assert footing is not None
        lease = Lease(self.role, epoch, Running(footing.is_certain))
        lease.running.set()
        self.lease = lease
        self._led_since_s = self._clock()
        if self._won is not None and not self._won.done():
            self._won.set_result(lease)


def folder_of(role: str) -> str:
    """Where the queue for a role is."""
    return f"{ROLES}/{quote(role, safe='')}"


def role_of(folder: str) -> str:
    """The role of a folder below `ROLES`."""
    return unquote(folder)


def candidates(nodes: Iterable[str]) -> list[Candidate]:
    """The queue, first one first; what is no candidate's node is left out."""
    queue = []
    for node in nodes:
        replica, _, rest = node.partition(";")
        _, _, order = rest.partition(";")
        if order.isascii() and order.isdigit():
            queue.append(Candidate(int(order), unquote(replica), node))
    return sorted(queue, key=lambda c: c.order)


def session_of(candidate: Candidate) -> str:
    """The session that a candidate's node belongs to."""
    return candidate.node.split(";")[1]
