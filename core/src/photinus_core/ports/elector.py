"""Leadership across the replicas of one core."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from photinus_core.model.ids import Epoch


@dataclass(slots=True)
class Lease:
    """Leadership of one role, as long as it lasts.

    Attributes:
        role: What is led, `namespace/<name>`.
        epoch: Fencing number of this leadership; the store refuses writes under an older one.
        running: Set while work may go on; cleared while the connection to the ensemble is in doubt.
        lost: Set once, when the leadership is over for good.
    """

    role: str
    epoch: Epoch
    running: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Elector(Protocol):
    """Elects one leader per role."""

    @property
    def is_local(self) -> bool:
        """True when there can be no other replica."""
        ...

    async def campaign(self, role: str) -> Lease:
        """Waits until this replica leads the role.

        The store's lease row has been raised to the lease's epoch by then.

        Cancelling the call withdraws the candidacy.
        """
        ...

    async def resign(self, lease: Lease) -> None:
        """Gives a leadership back at once. Idempotent; `lease.lost` is set."""
        ...

    async def aclose(self) -> None:
        """Resigns everything and disconnects."""
        ...
