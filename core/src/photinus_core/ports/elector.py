"""Leadership across the replicas of one core, and which replicas there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from photinus_core.model.ids import Epoch, Nanoseconds


def _always() -> bool:
    return True


class Running(asyncio.Event):
    """Set while leader work may go on.

    Beyond being set and cleared it asks the elector's clock whenever somebody looks: a process that was frozen finds
    it not set the moment it wakes, before anything had the time to clear it.
    """

    def __init__(self, certain: Callable[[], bool] = _always) -> None:
        super().__init__()
        self._certain = certain

    def is_set(self) -> bool:
        """Whether work may go on at this very moment."""
        return super().is_set() and self._certain()

    async def wait(self) -> bool:  # type: ignore[override]  # typeshed says Literal[True], which nobody relies on
        """Waits until work may go on. Not for ever only: `Lease.lost` may come instead."""
        while True:
            await super().wait()
            if self._certain():
                return True
            self.clear()


@dataclass(slots=True)
class Lease:
    """Leadership of one role, as long as it lasts.

    Attributes:
        role: What is led, `namespace/<name>`.
        epoch: Fencing number of this leadership; the store refuses writes under an older one.
        running: Set while work may go on; not set while the connection to the ensemble is in doubt.
            Look at it before each step that is not fenced by the database.
        lost: Set once, when the leadership is over for good: stop the work, then `resign`.
    """

    role: str
    epoch: Epoch
    running: Running = field(default_factory=Running)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of this core, as it registered itself.

    Attributes:
        name: What the operator calls it; decides which roles it prefers.
        address: Where it serves gRPC.
        version: Version of its program.
        fingerprint: Digest of its configuration, of what must be alike in all replicas.
        draining: Whether it stands in no election any more.
        is_self: Whether it is the one that answers.
        since: When its process started.
    """

    name: str
    address: str
    version: str
    fingerprint: str
    draining: bool = False
    is_self: bool = False
    since: Nanoseconds = Nanoseconds(0)


@dataclass(frozen=True, slots=True)
class RoleStanding:
    """Who leads a role, and who stands by, the next one first."""

    role: str
    leader: str
    """Name of the replica; empty while nobody leads."""
    epoch: Epoch | None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The replicas, the roles, and what an operator should look at.

    Attributes:
        replicas: Those with a live session, by name.
        roles: By name.
        problems: Coded texts (`FF191nn: …`): replicas with different configurations, a name taken twice, a
            session timeout the ensemble changed.
    """

    replicas: tuple[Replica, ...]
    roles: tuple[RoleStanding, ...]
    problems: tuple[str, ...] = ()


class Elector(Protocol):
    """Elects one leader per role."""

    @property
    def is_local(self) -> bool:
        """True when there can be no other replica."""
        ...

    @property
    def trouble(self) -> str:
        """Why no election can be won now, as a coded text; empty when all is well."""
        ...

    async def campaign(self, role: str) -> Lease:
        """Waits until this replica leads the role.

        The store's lease row has been raised to the lease's epoch by then.

        Cancelling the call withdraws the candidacy. Does not end while the ensemble or the database cannot be
        reached or refuses this replica, nor after `drain`; `trouble` says why.

        Raises:
            Conflict: FF19121, this replica stands for the role already.
        """
        ...

    async def resign(self, lease: Lease) -> None:
        """Gives a leadership back, after its work has ended. Idempotent; `lease.lost` is set."""
        ...

    async def drain(self) -> None:
        """Stands in no election any more.

        Every lease is lost; each role goes to another replica as soon as its work here has ended and `resign` was
        called. The replica stays listed. Idempotent.
        """
        ...

    async def redescribe(self, fingerprint: str) -> None:
        """Shows the digest of another configuration, which took effect while this replica runs.

        Returns at once when the ensemble is away; it learns of it later. Idempotent.
        """
        ...

    async def members(self) -> Cluster:
        """The replicas and leaders as they are now.

        Raises:
            Unavailable: FF19150, the ensemble cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """Resigns everything and disconnects. Idempotent."""
        ...
