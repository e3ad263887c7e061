"""A connector for tests that breaks the protocol in the way a test asks for.

It is written on the raw protos, since the author kit would not let it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import (
    blockchain_pb2_grpc,
    connector_pb2_grpc,
    event_pb2_grpc,
    operation_pb2_grpc,
)
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus_sdk import ConnectorError, NotFound

from tests.support.ledger import chain_event

Script = Callable[["LiarStream"], Awaitable[None]]


class LiarStream:
    """One open stream, in the hands of a test's script."""

    def __init__(self, opening: events.Open, context: Any) -> None:
        self.opening = opening
        self._context = context
        self.heard: list[events.StreamRequest] = []
        self.changed = asyncio.Event()

    async def send(self, **frame: Any) -> None:
        await self._context.write(events.StreamResponse(**frame))

    async def opened(self) -> None:
        opening = self.opening
        await self.send(
            opened=events.Opened(
                window_batches=opening.window_batches,
                window_bytes=opening.window_bytes,
                batch_size=opening.batch_size,
            )
        )

    async def batch(self, seq: int, *numbers: int, listener: str = "a", payload: str = "") -> None:
        found = [chain_event(listener, number, payload) for number in numbers]
        for event in found:
            event.listener_id = listener
        checkpoints = {listener: str(numbers[-1]).encode()} if numbers else {}
        await self.send(batch=events.Batch(seq=seq, events=found, checkpoints=checkpoints))

    async def wait_heard(self, kind: str) -> events.StreamRequest:
        """The last frame of a kind, once there is one."""
        async with asyncio.timeout(10):
            while True:
                found = [frame for frame in self.heard if frame.WhichOneof("frame") == kind]
                if found:
                    return found[-1]
                self.changed.clear()
                await self.changed.wait()


class Liar:
    """What the connector does; set by a test before or while it runs.

    Attributes:
        script: Plays each opened stream; it ends when the script does.
        submit: Answers SubmitBatchPin.
        operation: Answers GetOperation.
        described: Answer of Describe.
        configured: Answer of Configure.
        configure, drain: What those calls do before their answer.
        statuses: What WatchStatus says, one after the other; not offered when empty.
        notified: What the core told the author.
    """

    def __init__(self) -> None:
        self.script: Script = serve_nothing
        self.opens: list[events.Open] = []
        self.submitted: list[str] = []
        self.asked: list[str] = []
        self.submit: Callable[[], Awaitable[blockchain.SubmitBatchPinResponse]] = accepted
        self.operation: Callable[[], Awaitable[operations.GetOperationResponse]] = unknown_key
        self.configure: Callable[[connector.ConfigureRequest], Awaitable[None]] = nothing
        self.drain: Callable[[connector.DrainRequest], Awaitable[None]] = nothing
        self.statuses: list[connector.WatchStatusResponse] = []
        self.notified: list[connector.NotifyRegistrationRequest] = []
        kind = connector.CONTRACT_KIND_BLOCKCHAIN
        contract = connector.Contract(kind=kind)
        self.described = connector.DescribeResponse(
            name="liar", version="1.0.0", protocols=["v1"], contracts=[contract]
        )
        self.configured = connector.ConfigureResponse(contracts=[contract], store_id="store")

    @asynccontextmanager
    async def served(self, directory: Path) -> AsyncIterator[str]:
        """Serves it; yields the address."""
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
        server = grpc.aio.server(options=unlimited)
        # Any: the stubs want every method of a service, the liar brings those it lies with.
        services: list[tuple[Any, Any]] = [
            (connector_pb2_grpc.add_ConnectorServiceServicer_to_server, _Control),
            (operation_pb2_grpc.add_OperationServiceServicer_to_server, _Operations),
            (blockchain_pb2_grpc.add_BlockchainServiceServicer_to_server, _Ledger),
            (event_pb2_grpc.add_EventServiceServicer_to_server, _Events),
        ]
        for add, servicer in services:
            add(servicer(self), server)
        address = f"unix:{directory}/liar.sock"
        server.add_insecure_port(address)
        await server.start()
        try:
            yield address
        finally:
            await server.stop(0)


async def nothing(_: Any) -> None:
    """What a call does that has nothing to do."""


async def serve_nothing(stream: LiarStream) -> None:
    """An honest stream without events."""
    await stream.opened()
    await asyncio.Event().wait()


async def accepted() -> blockchain.SubmitBatchPinResponse:
    submission = common.Submission(state=common.OPERATION_STATE_PENDING, external_id="0x1")
    return blockchain.SubmitBatchPinResponse(submission=submission)


async def unknown_key() -> operations.GetOperationResponse:
    raise NotFound("never heard of it", reason="UNKNOWN_KEY")


class CutError(Exception):
    """Ends a call as if the connection were lost."""


async def _answer(context: Any, act: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await act()
    except CutError:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
    except ConnectorError as error:
        details = (("grpc-status-details-bin", error.to_status().SerializeToString()),)
        await context.abort(error.code, error.headline, details)


class _Control(connector_pb2_grpc.ConnectorServiceServicer):
    def __init__(self, liar: Liar) -> None:
        self._liar = liar

    async def Describe(self, request: Any, context: Any) -> Any:
        return self._liar.described

    async def Validate(self, request: Any, context: Any) -> Any:
        return connector.ValidateResponse()

    async def Configure(self, request: Any, context: Any) -> Any:
        async def configure() -> connector.ConfigureResponse:
            await self._liar.configure(request)
            return self._liar.configured

        return await _answer(context, configure)

    async def NotifyRegistration(self, request: Any, context: Any) -> Any:
        self._liar.notified.append(request)
        return connector.NotifyRegistrationResponse()

    async def WatchStatus(self, request: Any, context: Any) -> Any:  # type: ignore[override] # aio takes coroutines, too
        if not self._liar.statuses:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")
        for status in self._liar.statuses:
            await context.write(status)
        await asyncio.Event().wait()

    async def Drain(self, request: Any, context: Any) -> Any:
        await self._liar.drain(request)
        return connector.DrainResponse()


class _Operations(operation_pb2_grpc.OperationServiceServicer):
    def __init__(self, liar: Liar) -> None:
        self._liar = liar

    async def GetOperation(self, request: Any, context: Any) -> Any:
        self._liar.asked.append(request.idempotency_key)
        return await _answer(context, self._liar.operation)


class _Ledger(blockchain_pb2_grpc.BlockchainServiceServicer):
    def __init__(self, liar: Liar) -> None:
        self._liar = liar

    async def SubmitBatchPin(self, request: Any, context: Any) -> Any:
        self._liar.submitted.append(request.context.idempotency_key)
        return await _answer(context, self._liar.submit)


class _Events(event_pb2_grpc.EventServiceServicer):
    def __init__(self, liar: Liar) -> None:
        self._liar = liar

    async def Stream(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override] # as WatchStatus
        first = await anext(aiter(request_iterator))
        self._liar.opens.append(first.open)
        stream = LiarStream(first.open, context)

        async def listen() -> None:
            async for frame in request_iterator:
                stream.heard.append(frame)
                stream.changed.set()

        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            await _answer(context, lambda: self._liar.script(stream))
            listening.cancel()
