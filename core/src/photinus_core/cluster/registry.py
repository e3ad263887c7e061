"""The list of the replicas with a live session, kept in the ensemble by ephemeral nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from photinus_core.cluster.ensemble import EnsembleAway, EnsembleSession
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.elector import Replica
from photinus_core.ports.tasks import Wake

log: Final = logging.getLogger(__name__)

REPLICAS: Final = "/replicas"
LOOK_AGAIN_S: Final = 10.0


class Registration(msgspec.Struct, frozen=True):
    """What a replica's node holds."""

    name: str
    address: str
    version: str
    fingerprint: str
    draining: bool = False
    since: Nanoseconds = Nanoseconds(0)


class Registry:
    """The list as one session sees it."""

    def __init__(self, session: EnsembleSession, replica: Replica) -> None:
        self._session = session
        self._replica = replica
        self._path = f"{REPLICAS}/{session.id}"
        self._changed = Wake()
        self._draining = False
        self._to_tell = False

    async def register(self, former: Iterable[str], *, draining: bool) -> None:
        """Puts this replica on the list, for as long as the session lives.

        Args:
            former: Earlier sessions of this process, whose nodes may linger.
            draining: Whether it stands in no election.
        """
        await self._session.make_path(REPLICAS)
        for session in former:
            await self._session.delete(f"{REPLICAS}/{session}")
        self._draining = draining
        await self._session.create(self._path, self._own(), ephemeral=True)

    async def drain(self) -> None:
        """Says that this replica stands in no election any more; later, when the connection is lost."""
        self._draining = True
        await self._tell_soon()

    async def redescribe(self, replica: Replica) -> None:
        """Says something else of this replica; later, when the connection is lost."""
        self._replica = replica
        await self._tell_soon()

    async def _tell_soon(self) -> None:
        self._to_tell = True
        try:
            await self._tell()
        except EnsembleAway:
            self._changed.set()

    async def _tell(self) -> None:
        if self._to_tell:
            await self._session.write(self._path, self._own())
            self._to_tell = False

    async def survey(self) -> tuple[tuple[Replica, ...], tuple[str, ...]]:
        """The replicas by name, and what is wrong between them as coded texts."""
        return await self._survey(None)

    async def run(self) -> None:
        """Logs what is wrong between the replicas when it begins; until cancelled."""
        said: tuple[str, ...] = ()
        while True:
            try:
                await self._tell()
                _, problems = await self._survey(self._changed)
            except EnsembleAway:
                await self._session.connected.wait()
                await self._changed.wait(1.0)
                continue
            for problem in problems:
                if problem not in said:
                    log.error("%s", problem)
            said = problems
            await self._changed.wait(LOOK_AGAIN_S)

    async def _survey(self, changed: Wake | None) -> tuple[tuple[Replica, ...], tuple[str, ...]]:
        replicas: list[Replica] = []
        watch = None if changed is None else changed.set
        for node in await self._session.children(REPLICAS, watch):
            facts = await self._session.read(f"{REPLICAS}/{node}")
            if facts is None:
                continue
            try:
                told = msgspec.json.decode(facts.data, type=Registration)
            except msgspec.MsgspecError:
                continue
            replicas.append(
                Replica(
                    **msgspec.structs.asdict(told),
                    is_self=node == self._session.id,
                )
            )
        replicas.sort(key=lambda r: (r.name, r.address))
        return tuple(replicas), tuple(_problems(replicas))

    def _own(self) -> bytes:
        own = self._replica
        return msgspec.json.encode(
            Registration(
                own.name, own.address, own.version, own.fingerprint, self._draining, own.since
            )
        )


def _problems(replicas: Sequence[Replica]) -> Iterable[str]:
    for one, other in pairwise(replicas):
        # The same address is the same replica, restarted: its former session has not ended yet.
        if one.name == other.name and one.address != other.address:
            yield str(Rejected("FF19158", one.name, one.address, other.address))
    first = next((r for r in replicas), None)
    for other in replicas[1:]:
        if first is not None and other.fingerprint != first.fingerprint:
            yield str(Rejected("FF19157", first.name, other.name))
