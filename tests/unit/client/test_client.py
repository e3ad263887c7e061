"""Goal: the client gives typed answers and coded errors, streams blobs, and loses no event when its connection breaks.

Method: a real gRPC server in this process, on a socket in a temporary folder, plays the core as each test says.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from photinus.api.v1 import (
    data_pb2,
    data_service_pb2,
    event_pb2,
    event_service_pb2,
    message_pb2,
    message_service_pb2,
    subscription_pb2,
)
from photinus_client import Client, PhotinusError

Handlers = dict[str, Any]
Serve = Callable[[Handlers], Awaitable[Client]]
WAIT_S = 10.0


class FakeCore(grpc.GenericRpcHandler):
    """Serves the handlers of a test, by full name of the call."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self.handlers.get(handler_call_details.method)


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    server, clients = grpc.aio.server(), []

    async def start(handlers: Handlers) -> Client:
        address = f"unix:{tmp_path}/core.sock"
        server.add_generic_rpc_handlers((FakeCore(handlers),))
        server.add_insecure_port(address)
        await server.start()
        client = Client(address)
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.aclose()
    await server.stop(None)


async def fail(context: Any, text: str, http_status: int) -> None:
    info = error_details_pb2.ErrorInfo(
        reason=text[:7], domain="photinus", metadata={"http_status": str(http_status)}
    )
    packed = AnyMessage()
    packed.Pack(info)
    code = grpc.StatusCode.NOT_FOUND
    status = status_pb2.Status(code=code.value[0], message=text, details=[packed])
    await context.abort(code, text, (("grpc-status-details-bin", status.SerializeToString()),))


def unary(behaviour: Any, request: Any, response: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request.FromString, response.SerializeToString
    )


GET_MESSAGE = "/photinus.api.v1.MessageService/GetMessage"
UPLOAD = "/photinus.api.v1.DataService/UploadData"
DOWNLOAD = "/photinus.api.v1.DataService/DownloadBlob"
SUBSCRIBE = "/photinus.api.v1.EventService/Subscribe"


async def test_answers_are_typed_and_errors_coded(serve: Serve) -> None:
    async def get(request: message_service_pb2.GetMessageRequest, context: Any) -> Any:
        if request.id == "m1":
            return message_service_pb2.GetMessageResponse(message=message_pb2.Message(hash="h"))
        return await fail(context, "FF10109: Not found", 404)

    types = (message_service_pb2.GetMessageRequest, message_service_pb2.GetMessageResponse)
    client = await serve({GET_MESSAGE: unary(get, *types)})
    answer = await client.messages.GetMessage(message_service_pb2.GetMessageRequest(id="m1"))
    assert answer.message.hash == "h"
    with pytest.raises(PhotinusError) as caught:
        await client.messages.GetMessage(message_service_pb2.GetMessageRequest(id="m2"))
    failure = caught.value
    assert (failure.code, failure.text, failure.http_status) == ("FF10109", "Not found", 404)
    assert str(failure) == "FF10109: Not found"
    assert failure.grpc_status is grpc.StatusCode.NOT_FOUND
    assert not failure.is_unavailable


async def test_no_core(tmp_path: Path) -> None:
    async with Client(f"unix:{tmp_path}/absent.sock") as client:
        with pytest.raises(PhotinusError) as caught:
            await client.messages.GetMessage(message_service_pb2.GetMessageRequest(id="m1"))
        assert caught.value.is_unavailable
        assert caught.value.code == ""
        with pytest.raises(PhotinusError, match=r"no core answered within 0\.05 s"):
            await client.wait_ready(0.05)


class Uploads:
    """Takes uploads; notes how each ended."""

    def __init__(self, refuse_at: int = -1) -> None:
        self.refuse_at = refuse_at
        self.header = data_pb2.UploadHeader()
        self.content = b""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def take(
        self, requests: AsyncIterator[data_service_pb2.UploadDataRequest], context: Any
    ) -> Any:
        try:
            async for request in requests:
                if request.HasField("header"):
                    self.header.CopyFrom(request.header)
                    continue
                if request.HasField("end"):
                    assert request.end.size == len(self.content)
                    self.ended.set_result("complete")
                    return data_service_pb2.UploadDataResponse(data=data_pb2.Data(id="d1"))
                self.content += request.chunk
                if 0 <= self.refuse_at <= len(self.content):
                    await fail(context, "FF10328: too large", 400)
        finally:
            if not self.ended.done():
                self.ended.set_result("broken off")
        return await fail(context, "FF19007: The upload broke off", 400)

    def handler(self) -> Any:
        return grpc.stream_unary_rpc_method_handler(
            self.take,
            data_service_pb2.UploadDataRequest.FromString,
            data_service_pb2.UploadDataResponse.SerializeToString,
        )


async def test_upload_of_a_file(serve: Serve, tmp_path: Path) -> None:
    uploads = Uploads()
    client = await serve({UPLOAD: uploads.handler()})
    file = tmp_path / "photo.bin"
    file.write_bytes(bytes(range(256)) * 3000)
    data = await client.upload(file, data_pb2.UploadHeader(namespace="ns", autometa=True))
    assert data.id == "d1"
    assert await uploads.ended == "complete"
    assert uploads.content == file.read_bytes()
    assert uploads.header == data_pb2.UploadHeader(
        namespace="ns", autometa=True, filename="photo.bin"
    )


async def test_upload_that_fails_here_is_broken_off_there(serve: Serve) -> None:
    uploads = Uploads()
    client = await serve({UPLOAD: uploads.handler()})

    async def content() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        await client.upload(content())
    async with asyncio.timeout(WAIT_S):
        assert await uploads.ended == "broken off"


async def test_upload_that_the_core_refuses(serve: Serve, tmp_path: Path) -> None:
    client = await serve({UPLOAD: Uploads(refuse_at=1).handler()})
    file = tmp_path / "large"
    file.write_bytes(bytes(4_000_000))
    with pytest.raises(PhotinusError, match="FF10328: too large"):
        await client.upload(file)


def blob_handler(content: bytes, claimed_hash: str) -> Any:
    async def give(
        request: Any, context: Any
    ) -> AsyncIterator[data_service_pb2.DownloadBlobResponse]:
        if request.id == "absent":
            await fail(context, "FF00164: No result found", 404)
        info = data_pb2.BlobInfo(hash=claimed_hash, size=len(content))
        yield data_service_pb2.DownloadBlobResponse(info=info)
        for start in range(0, len(content), 1000):
            yield data_service_pb2.DownloadBlobResponse(chunk=content[start : start + 1000])

    return grpc.unary_stream_rpc_method_handler(
        give,
        data_service_pb2.DownloadBlobRequest.FromString,
        data_service_pb2.DownloadBlobResponse.SerializeToString,
    )


async def test_download(serve: Serve) -> None:
    content = bytes(range(256)) * 20
    digest = hashlib.sha256(content).hexdigest()
    client = await serve({DOWNLOAD: blob_handler(content, digest)})
    blob = await client.download("d1", "ns")
    assert (blob.hash, blob.size) == (digest, len(content))
    assert b"".join([piece async for piece in blob.content]) == content
    with pytest.raises(PhotinusError, match="FF00164"):
        await client.download("absent")


async def test_download_of_other_bytes(serve: Serve) -> None:
    client = await serve({DOWNLOAD: blob_handler(b"content", "0" * 64)})
    blob = await client.download("d1")
    with pytest.raises(PhotinusError, match="the blob has 7 bytes"):
        assert [piece async for piece in blob.content] == [b"content"]


class EventLog:
    """Delivers numbered events, one at a time, from the first that was not acked; breaks where it is told to."""

    def __init__(
        self, *, breaks_before: tuple[int, ...] = (), batch: int = 1, early_starts: int = 0
    ) -> None:
        self.starts: list[event_pb2.Start] = []
        self.acked = 0
        self.nacked: list[str] = []
        self.breaks_before = set(breaks_before)
        self.batch = batch
        self.early_starts = early_starts

    async def subscribe(
        self, requests: AsyncIterator[event_service_pb2.SubscribeRequest], context: Any
    ) -> AsyncIterator[event_service_pb2.SubscribeResponse]:
        first = await anext(requests)
        self.starts.append(first.start)
        reference = subscription_pb2.SubscriptionRef(id="s", namespace="ns", name=first.start.name)
        if first.start.name == "refused":
            error = event_pb2.ProtocolError(
                error="FF10176: Invalid data: FF10436: Unknown", closes=True
            )
            yield event_service_pb2.SubscribeResponse(protocol_error=error)
            return
        if len(self.starts) > 1 and self.early_starts:
            self.early_starts -= 1
            text = "FF10176: Invalid data: FF10441: Namespace 'ns' is initializing"
            error = event_pb2.ProtocolError(error=text, closes=True)
            yield event_service_pb2.SubscribeResponse(protocol_error=error)
            return
        yield event_service_pb2.SubscribeResponse(started=event_pb2.Started(subscription=reference))
        position = int(first.start.options.first_event) if first.start.ephemeral else self.acked
        while True:
            sequence = position + 1
            if sequence in self.breaks_before:
                self.breaks_before.discard(sequence)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "another replica leads")
            events = [
                event_pb2.EventDelivery(
                    event=event_pb2.Event(id=f"e{number}", sequence=number), subscription=reference
                )
                for number in range(sequence, sequence + self.batch)
            ]
            if self.batch == 1:
                yield event_service_pb2.SubscribeResponse(event=events[0])
            else:
                batch = event_pb2.EventBatch(
                    id=f"b{sequence}", subscription=reference, events=events
                )
                yield event_service_pb2.SubscribeResponse(event_batch=batch)
            answer = await anext(requests)
            if answer.HasField("nack"):
                self.nacked.append(answer.nack.id)
                continue
            assert answer.ack.id == (f"e{sequence}" if self.batch == 1 else f"b{sequence}")
            assert answer.ack.subscription == reference
            position = self.acked = sequence + self.batch - 1

    def handlers(self) -> Handlers:
        handler = grpc.stream_stream_rpc_method_handler(
            self.subscribe,
            event_service_pb2.SubscribeRequest.FromString,
            event_service_pb2.SubscribeResponse.SerializeToString,
        )
        return {SUBSCRIBE: handler}


async def test_events_come_in_order_and_are_acked_by_the_loop(serve: Serve) -> None:
    log = EventLog()
    client = await serve(log.handlers())
    async with (
        asyncio.timeout(WAIT_S),
        client.subscribe(event_pb2.Start(namespace="ns", name="app")) as deliveries,
    ):
        assert deliveries.subscription is not None
        assert deliveries.subscription.name == "app"
        seen = []
        async for delivery in deliveries:
            seen.append(delivery.event.sequence)
            assert log.acked == delivery.event.sequence - 1
            if len(seen) == 3:
                break
    assert seen == [1, 2, 3]
    assert log.acked == 2, "what the loop did not finish is not acked"


async def test_events_go_on_after_a_lost_connection(serve: Serve) -> None:
    log = EventLog(breaks_before=(2, 4))
    client = await serve(log.handlers())
    seen = []
    async with (
        asyncio.timeout(WAIT_S),
        client.subscribe(event_pb2.Start(namespace="ns", name="app")) as deliveries,
    ):
        async for delivery in deliveries:
            seen.append(delivery.event.sequence)
            if len(seen) == 5:
                break
    assert seen == [1, 2, 3, 4, 5]
    assert len(log.starts) == 3


async def test_events_go_on_after_a_restart_that_takes_its_time(serve: Serve) -> None:
    """A core that has just come up says for a while that the namespace is starting."""
    log = EventLog(breaks_before=(2,), early_starts=2)
    client = await serve(log.handlers())
    seen = []
    async with (
        asyncio.timeout(WAIT_S),
        client.subscribe(event_pb2.Start(namespace="ns", name="app")) as deliveries,
    ):
        async for delivery in deliveries:
            seen.append(delivery.event.sequence)
            if len(seen) == 2:
                break
    assert seen == [1, 2]
    assert len(log.starts) == 4


async def test_an_ephemeral_subscription_goes_on_where_it_was(serve: Serve) -> None:
    log = EventLog(breaks_before=(9,))
    client = await serve(log.handlers())
    start = event_pb2.Start(
        namespace="ns",
        ephemeral=True,
        options=subscription_pb2.SubscriptionOptions(first_event="6"),
    )
    seen = []
    async with asyncio.timeout(WAIT_S), client.subscribe(start) as deliveries:
        async for delivery in deliveries:
            seen.append(delivery.event.sequence)
            if len(seen) == 4:
                break
    assert seen == [7, 8, 9, 10]
    assert [each.options.first_event for each in log.starts] == ["6", "8"]
    assert start.options.first_event == "6", "the caller's request is not touched"


async def test_batches_have_one_ack(serve: Serve) -> None:
    log = EventLog(batch=3)
    client = await serve(log.handlers())
    async with (
        asyncio.timeout(WAIT_S),
        client.subscribe(event_pb2.Start(namespace="ns", name="app")) as deliveries,
    ):
        async for delivery in deliveries:
            if delivery.id == "b4":
                assert [event.sequence for event in delivery.events] == [4, 5, 6]
                break
    assert log.acked == 3


async def test_manual_acks_and_nacks(serve: Serve) -> None:
    log = EventLog()
    client = await serve(log.handlers())
    start = event_pb2.Start(namespace="ns", name="app")
    async with asyncio.timeout(WAIT_S), client.subscribe(start, manual_ack=True) as deliveries:
        seen = []
        async for delivery in deliveries:
            seen.append(delivery.event.sequence)
            if len(seen) == 1:
                await deliveries.nack(delivery)
            elif len(seen) == 2:
                await deliveries.ack(delivery)
            else:
                break
    assert seen == [1, 1, 2]
    assert log.nacked == ["e1"]
    assert log.acked == 1


async def test_a_refused_subscription_is_an_error(serve: Serve) -> None:
    client = await serve(EventLog().handlers())
    with pytest.raises(PhotinusError) as caught:
        async with client.subscribe(event_pb2.Start(namespace="ns", name="refused")):
            pass
    assert caught.value.code == "FF10176"
    assert not caught.value.is_unavailable


async def test_a_subscription_to_nobody_is_unavailable(tmp_path: Path) -> None:
    """Also when the start itself cannot be written: or a stream would not outlive a core that is away."""
    async with Client(f"unix:{tmp_path}/nobody.sock") as client:
        with pytest.raises(PhotinusError) as caught:
            async with client.subscribe(event_pb2.Start(namespace="ns", name="app")):
                pass
    assert caught.value.is_unavailable
