"""What the kit asks of a journal, and what it gets.

`SqliteJournal` (next door) is the one the kit opens. A connector with tables of its own either adds
them to the same file (`SqliteJournal.write`, one transaction for both) or implements
`OperationJournal` over its own store and returns it from `Connector.open_journal`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

TERMINAL = frozenset(
    {
        common.OPERATION_STATE_SUCCEEDED,
        common.OPERATION_STATE_FAILED,
        common.OPERATION_STATE_CANCELLED,
    }
)


ERROR_BYTES_MAX = 4096
"""What a journal keeps of an operation's error."""


class Scope(Protocol):
    """Whose keys, epochs and updates: the stream they belong to."""

    @property
    def text(self) -> str:
        """One string for it, unique."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    """What `begin` found.

    Attributes:
        answer: Serialised answer to repeat, None when the call is to be carried out.
        retried: True when the key was begun before without an answer.
        operation: The operation as it stands, when it is known.
    """

    answer: bytes | None = None
    retried: bool = False
    operation: operations.Operation | None = None


@dataclass(frozen=True, slots=True)
class StoredUpdate:
    """What waits to be acked, an update or a whole event without listener; `row` orders them."""

    row: int
    update: events.OperationUpdate = field(default_factory=events.OperationUpdate)
    event: events.Event | None = None


class OperationJournal(Protocol):
    """What the kit keeps durably. Every method returns after its commit; all are safe to repeat."""

    @property
    def store_id(self) -> str:
        """UUID made with the store; never changes."""
        ...

    async def open(self) -> None:
        """Called once, before anything else."""
        ...

    async def raise_epoch(self, stream: Scope, epoch: int) -> int:
        """Makes `epoch` the highest seen if it is higher; returns the highest."""
        ...

    async def begin(self, stream: Scope, key: str, method: str, fingerprint: bytes) -> Begun:
        """Takes a key for a call. Another method or fingerprint: KeyReused."""
        ...

    async def accept(self, stream: Scope, key: str, answer: bytes, kept: common.Submission) -> None:
        """Stores the answer of a begun call.

        A terminal state also becomes an update for the stream.
        """
        ...

    async def settle(self, stream: Scope, key: str, answer: bytes) -> None:
        """Stores the answer of a call that is done with it and tells the stream nothing."""
        ...

    async def release(self, stream: Scope, key: str) -> None:
        """Forgets a begun call that had no effect, so that the key may come again."""
        ...

    async def update(self, stream: Scope, update: events.OperationUpdate) -> None:
        """Changes an operation's state and queues the update for the stream until it is acked.

        Once a state is terminal, later updates are dropped.
        """
        ...

    async def get(
        self, stream: Scope, key: str, *, begun: bool = False
    ) -> operations.Operation | None:
        """The operation, None when the key is unknown.

        A key that was begun without coming to an answer counts as unknown unless `begun` is set.
        """
        ...

    async def list_operations(
        self, stream: Scope, state: common.OperationState.ValueType, limit: int, after: int
    ) -> tuple[list[operations.Operation], int]:
        """Operations oldest first, and the position to go on from (0 at the end)."""
        ...

    async def tombstone(self, stream: Scope, key: str) -> common.OperationState.ValueType:
        """Marks a key as cancelled for ever, known or not; tells the stream when it was known.

        Returns the state after it: a terminal one stays as it is.
        """
        ...

    async def updates(self, stream: Scope, after: int, limit: int) -> list[StoredUpdate]:
        """Updates not yet acked behind a row, oldest first."""
        ...

    async def updates_acked(self, stream: Scope, through: int) -> None:
        """Forgets updates up to a row; retention of finished keys begins here."""
        ...

    def changed(self, stream: Scope) -> asyncio.Event:
        """Set when an update was queued for the stream; its reader clears it before it reads."""
        ...

    async def aclose(self) -> None:
        """Finishes what is queued and closes the store."""
        ...


def operation_of(row: Sequence[Any]) -> operations.Operation:
    """An operation from what a store has of it.

    Args:
        row: Key, method, state, external id, output, error, and when it began and changed, in ns.
    """
    key, method, state, external_id, output_json, error, created_ns, updated_ns = row
    operation = operations.Operation(
        idempotency_key=key,
        method=method,
        state=state,
        external_id=external_id,
        output_json=output_json,
        error=error,
    )
    match operation.state:
        case common.OPERATION_STATE_CANCELLED:
            operation.disposition = common.DISPOSITION_NOT_SENT
        case common.OPERATION_STATE_FAILED if not external_id:
            operation.disposition = common.DISPOSITION_MAYBE_SENT
        case _:
            operation.disposition = common.DISPOSITION_SENT
    operation.created.FromNanoseconds(created_ns)
    operation.updated.FromNanoseconds(updated_ns)
    return operation


def cut(text: str, limit: int) -> str:
    """`text`, or as much of it as fits `limit` bytes of UTF-8 and an ellipsis."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode(errors="ignore") + "…"
