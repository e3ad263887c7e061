"""Calls to one connector: which may wait for it, which fail at once, and what is sent again.

Submissions wait a while for a connector that is away, or fail at once where its configuration says
so; everything else always fails at once. When it is not known whether a submission arrived, the
connector is asked by its key before the call is sent again with the same key; a call without a key
is never sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as wire
from photinus.connector.v1 import data_exchange_pb2 as exchange
from photinus.connector.v1 import operation_pb2 as operations
from photinus.connector.v1 import operation_pb2_grpc

from photinus_core.host.connection import Connection
from photinus_core.host.convert import submission, submission_of
from photinus_core.host.failures import CONNECTOR_LOST, TIMEOUT
from photinus_core.model.errors import Unavailable
from photinus_core.ports.connectors import ConnectorFailure, Disposition, Submission

log: Final = logging.getLogger(__name__)

QUERY_S: Final = 10.0
CHANGE_S: Final = 30.0
SUBMIT_S: Final = 30.0
SUBMIT_WITH_WAITING_S: Final = 60.0
"""Longest time of a submission, with waiting for the connector and asking for its outcome."""
TRANSFER_S: Final = 3600.0
RECONCILE_S: Final = 5.0
SENDS_MAX: Final = 3
ROOM_WAIT_S: Final = 60.0
IN_FLIGHT_MAX: Final = 256
UNKNOWN_KEY: Final = "UNKNOWN_KEY"

Pick = Callable[[Connection], Any]
"""Picks a method of a stub for a connection."""

Submitting = (
    blockchain.SubmitBatchPinRequest
    | blockchain.SubmitNetworkActionRequest
    | blockchain.InvokeContractRequest
    | blockchain.DeployContractRequest
    | exchange.SendMessageRequest
    | exchange.SendBlobRequest
)
"""Requests whose answer is a submission."""


class Reach(Protocol):
    """What calls need of a supervisor."""

    @property
    def max_in_flight(self) -> int:
        """Changing calls the connector takes at once; 0 when it set no limit."""
        ...

    @property
    def queues(self) -> bool:
        """Whether submissions wait for it while it is away."""
        ...

    def connection(self) -> Connection:
        """The connection in use. Raises Unavailable FF19200 when there is none."""
        ...

    async def wait_connection(self, wait_s: float) -> Connection:
        """As `connection`, but waits so long for one."""
        ...


class Calls:
    """Carries calls to one connector."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._room_for = IN_FLIGHT_MAX
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def ask(self, pick: Pick, request: Message, wait_s: float = QUERY_S) -> Any:
        """A question.

        Raises:
            ConnectorFailure: the connector's answer, or its loss.
            Unavailable: FF19200, the connector is away.
        """
        connection = self._reach.connection()
        return await connection.unary(pick(connection), request, wait_s)

    async def change(self, pick: Pick, request: Message) -> Any:
        """A change that is done when it is answered. Errors as `ask`."""
        connection = self._reach.connection()
        async with self._taken():
            return await connection.unary(pick(connection), request, CHANGE_S)

    async def upload(self, pick: Pick, frames: AsyncIterator[Any]) -> Any:
        """Sends a header and bytes. Errors as `ask`, and those of the source of bytes."""
        connection = self._reach.connection()
        async with self._taken():
            return await connection.upload(pick(connection), frames, TRANSFER_S)

    async def download(self, pick: Pick, request: Message) -> AsyncIterator[Any]:
        """Frames with bytes. Errors as `ask`."""
        connection = self._reach.connection()
        async for frame in connection.frames(pick(connection), request):
            yield frame

    async def submit(self, pick: Pick, request: Submitting) -> Submission:
        """Hands over a piece of work; safe to repeat with the same key.

        Raises:
            ConnectorFailure: the connector refused it; or, with MAYBE_SENT, nothing could be
                learned in time.
            Unavailable: FF19200, the connector stayed away; nothing was sent.
        """
        loop, context = asyncio.get_running_loop(), request.context
        until = loop.time() + SUBMIT_WITH_WAITING_S
        async with self._taken():
            connection = await self._reached(SUBMIT_S)
            for sends in range(1, SENDS_MAX + 1):
                try:
                    answer = await connection.unary(pick(connection), request, SUBMIT_S)
                    return submission(answer.submission)
                except ConnectorFailure as failure:
                    if failure.disposition is not Disposition.MAYBE_SENT:
                        raise
                    log.info("%s: outcome unknown: %s", context.idempotency_key, failure)
                    found = await self._reconcile(context, failure, until)
                    if found is not None:
                        return found
                    if sends == SENDS_MAX or loop.time() >= until:
                        raise
                connection = await self._reached(until - loop.time())
        raise AssertionError("the loop returns or raises")

    async def _reached(self, wait_s: float) -> Connection:
        """A connection for a submission. Raises Unavailable FF19200."""
        if self._reach.queues:
            return await self._reach.wait_connection(wait_s)
        return self._reach.connection()

    @contextlib.asynccontextmanager
    async def _taken(self) -> AsyncIterator[None]:
        """Room for a changing call: as many at once as the connector takes, first come first served."""
        limit = self._reach.max_in_flight or IN_FLIGHT_MAX
        if limit != self._room_for:
            self._room_for, self._room = limit, asyncio.Semaphore(limit)
        room = self._room
        try:
            async with asyncio.timeout(ROOM_WAIT_S):
                await room.acquire()
        except TimeoutError:
            raise ConnectorFailure(
                "TOO_MANY_IN_FLIGHT",
                f"{limit} calls are open already and none ended within {ROOM_WAIT_S:.0f} s",
                Disposition.NOT_SENT,
                retry_after_s=1.0,
            ) from None
        try:
            yield
        finally:
            room.release()

    async def _reconcile(
        self, context: wire.MutationContext, failure: ConnectorFailure, until: float
    ) -> Submission | None:
        """What the connector knows of a key; None when nothing, so that sending again is right.

        Raises:
            ConnectorFailure: `failure`, when it cannot be learned in time.
        """
        request = operations.GetOperationRequest(
            stream=context.stream, idempotency_key=context.idempotency_key
        )
        loop = asyncio.get_running_loop()
        while True:
            left_s = until - loop.time()
            if left_s <= 0:
                raise failure
            try:
                connection = await self._reached(left_s)
            except Unavailable:
                raise failure from None
            stub = connection.stub(operation_pb2_grpc.OperationServiceStub)
            try:
                answer = await connection.unary(stub.GetOperation, request, RECONCILE_S)
            except ConnectorFailure as unknown:
                if unknown.reason == UNKNOWN_KEY:
                    return None
                if unknown.reason not in {CONNECTOR_LOST, TIMEOUT}:
                    raise failure from unknown
                # Gives the supervisor a turn to notice that this connection is over.
                await asyncio.sleep(0.05)
                continue
            return submission_of(answer.operation)
