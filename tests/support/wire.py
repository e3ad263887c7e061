"""A connector seen from its wire: raw stubs, for tests that play the core or look from outside."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from photinus.connector.v1 import (
    blockchain_pb2_grpc,
    connector_pb2,
    connector_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    operation_pb2_grpc,
    shared_storage_pb2_grpc,
)
from photinus.connector.v1 import common_pb2 as common
from photinus_sdk import StreamKey

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 10.0
FRAMES_MAX = 10_000


@dataclass
class Wire:
    """Stubs of every service, on one channel; `metadata` names the instance."""

    channel: grpc.aio.Channel
    instance: str = "i1"

    def __post_init__(self) -> None:
        self.metadata = (("x-connector-instance", self.instance),)
        self.connector = connector_pb2_grpc.ConnectorServiceStub(self.channel)
        self.operations = operation_pb2_grpc.OperationServiceStub(self.channel)
        self.blockchain = blockchain_pb2_grpc.BlockchainServiceStub(self.channel)
        self.storage = shared_storage_pb2_grpc.SharedStorageServiceStub(self.channel)

    async def configure(
        self, settings: Mapping[str, object] | None = None, revision: int = 1
    ) -> connector_pb2.ConfigureResponse:
        request = connector_pb2.ConfigureRequest(
            instance=self.instance, config_json=json.dumps(settings or {}), revision=revision
        )
        answer: connector_pb2.ConfigureResponse = await self.connector.Configure(
            request, timeout=WAIT_S
        )
        return answer

    async def call(self, method: Any, request: Message, limit_s: float | None = WAIT_S) -> Any:
        """One call for the instance."""
        return await method(request, metadata=self.metadata, timeout=limit_s)

    def watch_status(self) -> "StatusWatch":
        stub: Any = self.connector
        request = connector_pb2.WatchStatusRequest()
        return StatusWatch(stub.WatchStatus(request, metadata=self.metadata, timeout=WAIT_S))

    def stream(self) -> "WireStream":
        stub = event_pb2_grpc.EventServiceStub(self.channel)
        return WireStream(stub.Stream(metadata=self.metadata))


class StatusWatch:
    """A running WatchStatus."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def read(self) -> connector_pb2.WatchStatusResponse:
        status: connector_pb2.WatchStatusResponse = await self.call.read()
        return status


class WireStream:
    """The event stream as a core sees it, frame by frame."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._frames: asyncio.Queue[event_pb2.StreamResponse | Exception | None] = asyncio.Queue(
            FRAMES_MAX
        )
        # Reads on its own: giving up on a read of the call would cancel the whole stream.
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="wire stream")

    async def _read(self) -> None:
        try:
            while (frame := await self.call.read()) is not grpc.aio.EOF:
                await self._frames.put(frame)
            await self._frames.put(None)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            await self._frames.put(error)
        except asyncio.CancelledError:
            await self._frames.put(None)

    async def open(
        self, stream: StreamKey, *listeners: event_pb2.Listener, epoch: int = 1, **fields: Any
    ) -> event_pb2.Opened:
        """Opens and waits for Opened; `fields` replace the usual window."""
        window = {"window_batches": 8, "window_bytes": 1 << 20, "batch_size": 10}
        opening = event_pb2.Open(
            stream=stream.to_ref(),
            owner_epoch=epoch,
            network_namespace="net1",
            listeners=listeners,
            **(window | fields),
        )
        await self.send(open=opening)
        return (await self.receive("opened")).opened

    async def send(self, **frame: Any) -> None:
        await self.call.write(event_pb2.StreamRequest(**frame))

    async def ack(self, seq: int, **receipts: str) -> None:
        kept = [event_pb2.EventReceipt(event_id=k, manifest=v) for k, v in receipts.items()]
        await self.send(ack=event_pb2.Ack(through_seq=seq, receipts=kept))

    async def read(self) -> event_pb2.StreamResponse | None:
        """The next frame; None at the end. Raises the call's error."""
        async with asyncio.timeout(WAIT_S):
            frame = await self._frames.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def receive(self, kind: str) -> event_pb2.StreamResponse:
        """The next frame that is no Progress; it must be of this kind."""
        while True:
            frame = await self.read()
            found = frame.WhichOneof("frame") if frame is not None else "the end"
            if found == "progress" != kind:
                continue
            assert found == kind, f"{found} instead of {kind}"
            assert frame is not None
            return frame

    async def batch(self) -> event_pb2.Batch:
        return (await self.receive("batch")).batch


def reason_of(error: grpc.aio.AioRpcError) -> tuple[str, common.Disposition.ValueType]:
    """Reason and disposition in an error's details."""
    metadata = error.trailing_metadata()
    raw = next(value for key, value in metadata or () if key == "grpc-status-details-bin")
    info, detail = error_details_pb2.ErrorInfo(), common.SubmissionDetail()
    for packed in status_pb2.Status.FromString(bytes(raw)).details:  # type: ignore[arg-type] # binary metadata is bytes
        packed.Unpack(info)
        packed.Unpack(detail)
    return info.reason, detail.disposition


@asynccontextmanager
async def dialled(address: str, instance: str = "i1") -> AsyncIterator[Wire]:
    """Stubs for a connector's address."""
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Wire(channel, instance)


class Child:
    """A connector as a child process."""

    def __init__(self, process: asyncio.subprocess.Process, handshake: dict[str, Any]) -> None:
        self.process = process
        self.handshake = handshake
        self.address: str = handshake["address"]

    async def ended(self) -> int:
        async with asyncio.timeout(WAIT_S):
            return await self.process.wait()

    async def log(self) -> str:
        """All of its standard error, once it has ended."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()


@asynccontextmanager
async def child(*command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Child]:
    """Runs a Python connector and waits for its handshake; ends it with its process group."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WAIT_S):
            line = await process.stdout.readline()
        assert line, (await process.stderr.read()).decode() if process.stderr else ""
        yield Child(process, json.loads(line))
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
            await process.wait()
        # Reads the pipes to their end, so that their transports close before the loop does.
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                await pipe.read()
        if process.stdin is not None:
            process.stdin.close()
