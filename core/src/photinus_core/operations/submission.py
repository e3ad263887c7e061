"""Carries out operations that are stored and not submitted yet, on the leader.

Three kinds wait for it: copies that a retry made and publications of data, on whichever replica, and
what a replica left behind when it ended between storing an operation and sending it. Each goes out
under its own key, so that one that was sent after all has no second effect. One whose connector is away
stays as it is and is tried again. Batches look after their operations themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from photinus_core.model.errors import Deposed, PhotinusError, Retry
from photinus_core.model.ids import Uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType
from photinus_core.ports.connectors import ConnectorFailure, Disposition
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, Notification, OperationChange
from photinus_core.ports.tasks import Background, Wake

log: Final = logging.getLogger(__name__)

Runner = Callable[[Operation], Awaitable[OperationChange]]
"""Carries out an operation once more, under its own key; says how it stands then."""

AWAY: Final = "FF19200"
UPLOADS: Final = frozenset(
    {
        OperationType.SHAREDSTORAGE_UPLOAD_BATCH,
        OperationType.SHAREDSTORAGE_UPLOAD_BLOB,
        OperationType.SHAREDSTORAGE_UPLOAD_VALUE,
    }
)
"""These end with their call: no update of the connector tells of one whose answer was lost. So they are repeated."""
POLL_S: Final = 5.0
"""How often the database is looked at without a notification."""
RETRY_S: Final = 2.0
"""How soon an operation is tried again whose connector was away."""
AT_ONCE_MAX: Final = 8
"""Most operations that are carried out at a time."""


class Submissions:
    """The unsubmitted operations of one namespace.

    Args:
        runners: How operations are carried out, by type; others are left alone.
        is_under_way: Whether a transaction is a batch's that is being sent.
    """

    def __init__(
        self,
        scope: Scope,
        fence: Fence,
        runners: Mapping[OperationType, Runner],
        is_under_way: Callable[[Uuid], bool],
    ) -> None:
        self._scope = scope
        self._fence = fence
        self._runners = runners
        self._is_under_way = is_under_way
        self._wake = Wake()
        self._running: set[Uuid] = set()
        self._rest_until_s: dict[Uuid, float] = {}

    async def run(self) -> None:
        """Carries out what is found, until cancelled.

        Raises:
            Deposed: this replica leads no more.
        """
        unsubscribe = self._scope.store.subscribe(self._on_commit)
        try:
            async with Background(f"{self._scope.namespace}/submissions") as work:
                while True:
                    await self._look(work)
                    await self._wake.wait(RETRY_S if self._rest_until_s else POLL_S)
        finally:
            unsubscribe()

    def reserve(self, operation: Uuid) -> bool:
        """Keeps an operation, also one that is about to be stored, for `carry_out`.

        False when it is being carried out.
        """
        if operation in self._running:
            return False
        self._running.add(operation)
        return True

    def release(self, operation: Uuid) -> None:
        """Gives a reserved operation up that was not stored."""
        self._running.discard(operation)

    async def carry_out(self, operation: Operation) -> Operation:
        """Carries out one operation now; when its connector is away, later: it stays initialized.

        Raises:
            PhotinusError: why it failed; the operation says so, too.
            ConnectorFailure: the same; work that may have been taken on stays pending.
            Deposed: this replica leads no more.
        """
        self._running.add(operation.id)
        self._rest_until_s.pop(operation.id, None)
        try:
            change = await self._runners[operation.type](operation)
        except Deposed:
            raise
        except (PhotinusError, ConnectorFailure) as failure:
            is_upload = operation.type in UPLOADS
            if is_away(failure) or (is_upload and _passes(failure)):
                return await self._put_off(operation, str(failure))
            # Work that may have been taken on ends by the connector's update, not here.
            sent = (
                isinstance(failure, ConnectorFailure)
                and failure.disposition is not Disposition.NOT_SENT
                and not is_upload
            )
            status = OperationStatus.PENDING if sent else OperationStatus.FAILED
            now = self._scope.clock.now()
            await self._change(OperationChange(operation.id, status, now, error=str(failure)))
            raise
        else:
            return await self._change(change) or operation
        finally:
            self._running.discard(operation.id)

    async def _put_off(self, operation: Operation, error: str) -> Operation:
        self._rest_until_s[operation.id] = self._scope.clock.monotonic_s() + RETRY_S
        if operation.error == error:
            return operation
        log.info("%s waits: %s", operation.id, error)
        waiting = OperationStatus.INITIALIZED
        change = OperationChange(operation.id, waiting, self._scope.clock.now(), error=error)
        return await self._change(change) or operation

    def _on_commit(self, notification: Notification) -> None:
        namespace, topic, _ = notification
        if namespace == self._scope.namespace and topic == "submissions":
            self._wake.set()

    async def _look(self, work: Background) -> None:
        room = AT_ONCE_MAX - len(work.running())
        if room <= 0:
            return
        async with self._scope.store.read(self._scope.namespace) as reader:
            found = await reader.unsubmitted_operations(AT_ONCE_MAX * 4)
        now, waiting = self._scope.clock.monotonic_s(), {o.id for o in found}
        self._rest_until_s = {
            each: until for each, until in self._rest_until_s.items() if each in waiting
        }
        due = [
            o
            for o in found
            if o.type in self._runners
            and o.id not in self._running
            and self._rest_until_s.get(o.id, now) <= now
            and not self._is_under_way(o.tx)
        ]
        for operation in due[:room]:
            self._running.add(operation.id)
            work.start(operation.id, self._take_up(operation))

    async def _take_up(self, operation: Operation) -> None:
        log.info("%s: takes up %s %s", self._scope.namespace, operation.type, operation.id)
        try:
            if not (operation.error and await self._is_needless(operation)):
                await self.carry_out(operation)
        except Deposed:
            raise
        except (PhotinusError, ConnectorFailure) as failure:
            log.warning("operation %s: %s", operation.id, failure)
        finally:
            self._running.discard(operation.id)
            self._wake.set()

    async def _is_needless(self, operation: Operation) -> bool:
        """Whether what an operation repeats has gone out by itself, while it was put off."""
        async with self._scope.store.read(self._scope.namespace) as reader:
            found = await reader.operations_of(operation.tx)
        former = next((o for o in found if o.retry == operation.id), None)
        if former is None or former.status in (OperationStatus.INITIALIZED, OperationStatus.FAILED):
            return False
        if former.status is OperationStatus.PENDING:
            self._rest_until_s[operation.id] = self._scope.clock.monotonic_s() + RETRY_S
            return True
        self._rest_until_s.pop(operation.id, None)
        now = self._scope.clock.now()
        await self._change(
            OperationChange(operation.id, former.status, now, output=former.output, error="")
        )
        return True

    async def _change(self, change: OperationChange) -> Operation | None:
        async with self._scope.store.write(self._scope.namespace, self._fence) as tx:
            changed = await tx.change_operations([change])
        return changed[0] if changed else None


def _passes(failure: PhotinusError | ConnectorFailure) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(failure, ConnectorFailure):
        return failure.retry_after_s is not None
    return failure.retry is not Retry.NEVER


def is_away(failure: Exception) -> bool:
    """Whether nothing was sent because a connector, or what is behind it, is not there for now."""
    if isinstance(failure, ConnectorFailure):
        passes = failure.retry_after_s is not None
        return failure.disposition is Disposition.NOT_SENT and passes
    return isinstance(failure, PhotinusError) and failure.code == AWAY
