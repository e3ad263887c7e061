"""What a check has in its hands: the session, names of its own, and small questions."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sanity.session import Session
from photinus_sanity.streams import Stream
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import Refusal, Wire

TERMINAL = (
    common.OPERATION_STATE_SUCCEEDED,
    common.OPERATION_STATE_FAILED,
    common.OPERATION_STATE_CANCELLED,
)
SUBMIT_EPOCH = 1


class Probe:
    """One check's view of a session: streams, keys and names that no other check uses.

    Attributes:
        session: The run.
        name: Unique; part of every name the check makes.
    """

    def __init__(self, session: Session, check_id: str) -> None:
        self.session = session
        self.name = f"{check_id.lower()}-{next(session.numbers)}"
        self.ref = self.stream_ref("core")
        self.submit_ref = self.stream_ref("submit")

    @property
    def wire(self) -> Wire:
        return self.session.wire

    @property
    def described(self) -> connector.DescribeResponse:
        return self.session.described

    @property
    def network(self) -> str:
        """Network name of this check's namespace."""
        return f"net-{self.name}"

    def get(self, path: str, default: Any = None) -> Any:
        """A part of the author's fixture."""
        return self.session.setup.get(path, default)

    def stream_ref(self, consumer: str) -> common.StreamRef:
        return common.StreamRef(
            cluster_id=self.session.cluster_id, namespace=self.name, consumer=consumer
        )

    def key(self, label: str = "k") -> str:
        """An idempotency key nobody used."""
        return f"{self.name}:{label}-{next(self.session.numbers)}"

    def uuid(self, label: str) -> str:
        """A UUID that is always the same for a label."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.session.cluster_id}/{label}"))

    def context(
        self, key: str, *, epoch: int = SUBMIT_EPOCH, ref: common.StreamRef | None = None
    ) -> common.MutationContext:
        return common.MutationContext(
            idempotency_key=key, stream=ref or self.submit_ref, owner_epoch=epoch
        )

    @asynccontextmanager
    async def stream(self, wire: Wire | None = None) -> AsyncIterator[Stream]:
        """An event stream, not yet opened."""
        async with Stream(wire or self.wire) as stream:
            yield stream

    async def operation(self, key: str, ref: common.StreamRef | None = None) -> Any:
        """What GetOperation knows of a key."""
        request = operations.GetOperationRequest(stream=ref or self.submit_ref, idempotency_key=key)
        answer = await self.wire.call("OperationService.GetOperation", request)
        return answer.operation

    async def cancel(self, key: str) -> common.OperationState.ValueType:
        request = operations.CancelRequest(context=self.context(key))
        answer = await self.wire.call("OperationService.Cancel", request)
        state: common.OperationState.ValueType = answer.state
        return state

    async def ends(self, *keys: str, ref: common.StreamRef | None = None) -> dict[str, Any]:
        """Terminal updates of keys, read from their stream and acked."""
        async with self.stream() as stream:
            await stream.open(ref or self.submit_ref, epoch=SUBMIT_EPOCH)
            found = await stream.collect(
                lambda seen: set(keys) <= set(ends_in(seen)), what=f"the end of {', '.join(keys)}"
            )
        return ends_in(found)


def updates_in(found: list[events.Event]) -> list[events.OperationUpdate]:
    """Operation updates among events, in order."""
    return [e.operation_update for e in found if e.WhichOneof("body") == "operation_update"]


def ends_in(found: Any) -> dict[str, events.OperationUpdate]:
    """Terminal updates among events, by key."""
    return {u.idempotency_key: u for u in updates_in(list(found)) if u.state in TERMINAL}


async def refused(
    attempt: Awaitable[Any],
    codes: grpc.StatusCode | tuple[grpc.StatusCode, ...],
    reason: str = "",
    *,
    what: str,
) -> Refusal:
    """The refusal that `attempt` must end with. `what` names the attempt in the violation."""
    wanted = codes if isinstance(codes, tuple) else (codes,)
    names = " or ".join(code.name for code in wanted) + (f" / {reason}" if reason else "")
    try:
        await attempt
    except Refusal as refusal:
        require(
            refusal.code in wanted and (not reason or refusal.reason == reason),
            f"{what} must be {names}, but is {refusal}",
        )
        return refusal
    raise Violation(f"{what} must be refused with {names}, but is accepted")


Attempt = Callable[[], Awaitable[Any]]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
DATA_LOSS = grpc.StatusCode.DATA_LOSS
NOT_SENT = common.DISPOSITION_NOT_SENT
