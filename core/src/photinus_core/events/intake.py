"""What all intake has in common: one transaction per connector batch, and the halt of a namespace.

The leader of a namespace takes the streams of its connectors. `handle` returns, and with it the
stream is acked, only after the transaction that holds the batch's effect, its checkpoints and the
wake-ups for agreement has committed. What a batch contains can be refused or parked, never stop the
stream; only a failing database, a lost leadership or a halted namespace makes `handle` raise.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from photinus_core.events.refusals import Refusal, Refusals
from photinus_core.events.updates import apply_updates
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Namespace
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import (
    ConnectorEvent,
    EventBatch,
    StreamProgress,
    WorkUpdate,
)
from photinus_core.ports.meter import UNMETERED, Meter
from photinus_core.ports.store import Fence, Store, WriteTransaction

log: Final = logging.getLogger(__name__)


class HaltedError(Exception):
    """Something happened that only an operator can decide: intake of the namespace must stop."""


@dataclass(frozen=True, slots=True)
class IntakeContext:
    """What the intakes of one namespace share.

    Attributes:
        store: The database.
        namespace: Local name.
        network_name: Name on the wire.
        fence: Leadership under which rows are written.
        clock: For times that people read.
        refusals: Where refused input is noted.
        meter: Counts for the namespace.
    """

    store: Store
    namespace: Namespace
    network_name: str
    fence: Fence
    clock: Clock
    refusals: Refusals = field(default_factory=Refusals)
    meter: Meter = UNMETERED

    def refuse(self, source: str, subject: str, reason: object) -> None:
        """Notes an input that is refused."""
        self.refusals.add(Refusal(self.clock.now(), source, subject, str(reason)))


class StreamIntake(ABC):
    """Consumer of one connector's stream; implements `ports.connectors.EventHandler`."""

    def __init__(self, context: IntakeContext, consumer: str) -> None:
        self._context = context
        self._consumer = consumer
        self._troubles: dict[str, str] = {}
        self._catching_up = True

    async def resume(self) -> Mapping[str, bytes]:
        """Gives the stored checkpoints, by listener id."""
        async with self._context.store.read(self._context.namespace) as reader:
            return await reader.checkpoints(self._consumer)

    async def handle(self, batch: EventBatch) -> Mapping[str, str]:
        """Stores a batch; idempotent, since everything it stores is.

        Returns:
            Manifests of stored batches by event id.

        Raises:
            Deposed: this replica leads no more.
            Unavailable: FF19404 the namespace is halted, or the database cannot be used.
        """
        context = self._context
        try:
            async with context.store.write(context.namespace, context.fence) as tx:
                await self._check_running(tx)
                receipts = await self._take(tx, batch.events)
                updates = [e.body for e in batch.events if isinstance(e.body, WorkUpdate)]
                await apply_updates(tx, context.namespace, updates, context.clock.now())
                if batch.checkpoints:
                    await tx.set_checkpoints(self._consumer, batch.checkpoints)
        except HaltedError as halt:
            await self.halt(str(halt))
            raise Unavailable("FF19404", context.namespace, halt) from halt
        self._committed()
        for event in batch.events:
            self._troubles.pop(event.listener, None)
        return receipts

    async def progress(self, progress: StreamProgress) -> None:
        """Stores positions without events, so that a restart does not read them again."""
        self._catching_up = progress.catching_up
        if not progress.checkpoints:
            return
        context = self._context
        async with context.store.write(context.namespace, context.fence) as tx:
            await tx.set_checkpoints(self._consumer, progress.checkpoints)

    async def trouble(self, listener: str, reason: str, *, fatal: bool) -> None:
        """Notes that a listener does not work; a fatal trouble halts the namespace."""
        log.warning("%s: listener %s: %s", self._context.namespace, listener, reason)
        self._troubles[listener] = reason
        if fatal:
            await self.halt(f"listener {listener}: {reason}")

    def is_catching_up(self) -> bool:
        """Whether the connector is still far behind its head; True until it has said otherwise."""
        return self._catching_up

    def troubles(self) -> Mapping[str, str]:
        """Listeners that do not work, with the reason; for status."""
        return dict(self._troubles)

    async def halt(self, reason: str) -> None:
        """Stops the intake of the namespace, visibly, until an operator clears the row."""
        context = self._context
        log.error("%s: intake halted: %s", context.namespace, reason)
        async with context.store.write(context.namespace, context.fence) as tx:
            row = await tx.namespace_row()
            if row is not None and not row.halted:
                await tx.save_namespace_row(msgspec.structs.replace(row, halted=reason))

    async def _check_running(self, tx: WriteTransaction) -> None:
        row = await tx.namespace_row()
        if row is not None and row.halted:
            raise Unavailable("FF19404", self._context.namespace, row.halted)

    def _committed(self) -> None:
        """Called after the transaction of a batch has committed."""
        return

    @abstractmethod
    async def _take(
        self, tx: WriteTransaction, events: tuple[ConnectorEvent, ...]
    ) -> Mapping[str, str]:
        """Stores what the events say; gives manifests by event id."""
