"""A member whose data exchange is a process that can be killed, and a core that survives it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import data_exchange_pb2 as pb
from photinus.connector.v1 import data_exchange_pb2_grpc
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import StreamKey

from tests.integration.dx.harness import NETWORK, QUICK, until
from tests.support.wire import Child, Wire, WireStream, child, dialled

MIB = 1 << 20
CALL_S = 60.0


class Member:
    """What a core keeps of its work, over the lives of its data exchange.

    Attributes:
        seen: events by id, each once, in order of their first arrival; a core stores them so.
        again: how often an event came that was there already.
        acking: while false, nothing is acked.
        updates: ends of operations by key.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any] | None = None) -> None:
        self.name, self.node = name, f"node-{name}"
        self.folder = folder
        self.settings = {"organization": name, "delivery": QUICK} | (settings or {})
        self.stream_key = StreamKey(f"cluster-{name}", "default", "core")
        self.seen: dict[str, events.Event] = {}
        self.again = 0
        self.acking = True
        self.updates: dict[str, events.OperationUpdate] = {}
        self.repeated_ends = 0
        self.peer_changes: list[events.PeerChanged] = []
        self.child: Child
        self.wire: Wire
        self.stub: Any
        self.document = ""
        self._life = AsyncExitStack()
        self._core: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin a life: the process, its configuration, the stream."""
        command = ("-m", "photinus_dx", "--data-dir", str(self.folder), "--log-level", "warning")
        self.child = await self._life.enter_async_context(child(*command))
        self.wire = await self._life.enter_async_context(dialled(self.child.address))
        self.stub = data_exchange_pb2_grpc.DataExchangeServiceStub(self.wire.channel)
        await self.wire.configure(self.settings)
        request = pb.GetEndpointRequest(node_name=self.node)
        self.document = (await self.wire.call(self.stub.GetEndpoint, request)).peer_json
        stream = self.wire.stream()
        listener = events.Listener(
            id="inbox",
            destination=events.DestinationFilter(network_namespace=NETWORK, node_name=self.node),
        )
        await stream.open(
            self.stream_key, listener, window_batches=8, window_bytes=16 * MIB, batch_size=50
        )
        self._core = asyncio.create_task(self._take(stream), name=f"core of {self.name}")

    async def kill(self) -> None:
        """End the life as a power cut of the process would: no handler runs."""
        os.kill(self.child.process.pid, signal.SIGKILL)
        await self.child.ended()
        await self.stop()

    async def stop(self) -> None:
        if self._core is not None:
            self._core.cancel()
            await asyncio.gather(self._core, return_exceptions=True)
            self._core = None
        await self._life.aclose()

    @property
    def id(self) -> str:
        return f"{self.name}/{self.node}"

    def context(self, key: str) -> common.MutationContext:
        return common.MutationContext(
            idempotency_key=key, stream=self.stream_key.to_ref(), owner_epoch=1
        )

    async def know(self, other: "Member", key: str = "") -> None:
        request = pb.AddPeerRequest(
            context=self.context(key or f"peer-{other.name}"),
            network_namespace=NETWORK,
            peer_json=other.document,
        )
        await self.wire.call(self.stub.AddPeer, request)

    async def send(self, to: "Member", message: str, key: str) -> common.Submission:
        request = pb.SendMessageRequest(
            context=self.context(key), recipient=to.id, sender=self.id, message=message
        )
        try:
            answer = await self.wire.call(self.stub.SendMessage, request)
        except asyncio.CancelledError as error:
            # What grpc raises when the channel is closed under a call.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ConnectionError("the process was killed") from error
        submission: common.Submission = answer.submission
        return submission

    async def upload(self, content: bytes, data_id: str, key: str) -> pb.UploadBlobResponse:
        async def frames() -> AsyncIterator[pb.UploadBlobRequest]:
            header = pb.UploadBlobHeader(context=self.context(key), data_id=data_id)
            yield pb.UploadBlobRequest(header=header)
            for start in range(0, len(content), MIB):
                yield pb.UploadBlobRequest(chunk=content[start : start + MIB])
            yield pb.UploadBlobRequest(end=common.UploadEnd(size=len(content)))

        answer: pb.UploadBlobResponse = await self.wire.call(
            self.stub.UploadBlob,
            frames(),  # type: ignore[arg-type] # a stream of requests
            CALL_S,
        )
        return answer

    async def send_blob(self, to: "Member", ref: str, data_id: str, key: str) -> None:
        request = pb.SendBlobRequest(
            context=self.context(key),
            recipient=to.id,
            sender=self.id,
            network_namespace=NETWORK,
            data_id=data_id,
            payload_ref=ref,
        )
        await self.wire.call(self.stub.SendBlob, request)

    async def download(self, ref: str, offset: int = 0) -> bytes:
        request = pb.DownloadBlobRequest(payload_ref=ref, offset=offset)
        call = self.stub.DownloadBlob(request, metadata=self.wire.metadata, timeout=CALL_S)
        return b"".join([answer.chunk async for answer in call])

    def messages(self) -> list[str]:
        """Messages in the order in which the core stored them."""
        found = [event.message_received.message for event in self.seen.values()]
        return [message for message in found if message]

    def blobs(self) -> list[events.BlobReceived]:
        found = [event for event in self.seen.values() if event.HasField("blob_received")]
        return [event.blob_received for event in found]

    async def ended(self, count: int, limit_s: float = 60.0) -> None:
        await until(lambda: len(self.updates) >= count, limit_s)

    async def _take(self, stream: WireStream) -> None:
        owed: dict[str, str] = {}
        try:
            while True:
                frame = await stream.read()
                if frame is None:
                    return
                if frame.WhichOneof("frame") == "batch":
                    for event in frame.batch.events:
                        self._store(event)
                    for event in frame.batch.events:
                        owed[event.id] = f"manifest of {event.id}"
                    if self.acking:
                        await stream.ack(frame.batch.seq, **owed)
                        owed = {}
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the process was killed

    def _store(self, event: events.Event) -> None:
        match event.WhichOneof("body"):
            case "operation_update":
                update = event.operation_update
                known = self.updates.get(update.idempotency_key)
                self.repeated_ends += known is not None and known != update
                self.updates[update.idempotency_key] = update
            case "peer_changed":
                self.peer_changes.append(event.peer_changed)
            case _:
                self.again += event.id in self.seen
                self.seen.setdefault(event.id, event)


@asynccontextmanager
async def members(folder: Path, *names: str) -> AsyncIterator[list[Member]]:
    """Running members that know each other."""
    made = [Member(folder / name, name) for name in names]
    try:
        for member in made:
            await member.start()
        for member in made:
            for other in made:
                if other is not member:
                    await member.know(other)
        yield made
    finally:
        for member in made:
            await member.stop()
