"""The client: one connection, a typed stub for each service, and what streams need beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import grpc
from photinus.api.v1 import data_pb2, event_pb2
from photinus.api.v1.batch_service_pb2_grpc import BatchServiceStub
from photinus.api.v1.blockchain_event_service_pb2_grpc import BlockchainEventServiceStub
from photinus.api.v1.chart_service_pb2_grpc import ChartServiceStub
from photinus.api.v1.data_service_pb2_grpc import DataServiceStub
from photinus.api.v1.datatype_service_pb2_grpc import DatatypeServiceStub
from photinus.api.v1.event_service_pb2_grpc import EventServiceStub
from photinus.api.v1.explain_service_pb2_grpc import ExplainServiceStub
from photinus.api.v1.group_service_pb2_grpc import GroupServiceStub
from photinus.api.v1.identity_service_pb2_grpc import IdentityServiceStub
from photinus.api.v1.message_service_pb2_grpc import MessageServiceStub
from photinus.api.v1.namespace_service_pb2_grpc import NamespaceServiceStub
from photinus.api.v1.network_service_pb2_grpc import NetworkServiceStub
from photinus.api.v1.node_service_pb2_grpc import NodeServiceStub
from photinus.api.v1.operation_service_pb2_grpc import OperationServiceStub
from photinus.api.v1.pin_service_pb2_grpc import PinServiceStub
from photinus.api.v1.spi_service_pb2_grpc import SpiServiceStub
from photinus.api.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from photinus.api.v1.transaction_service_pb2_grpc import TransactionServiceStub

from photinus_client import blobs
from photinus_client.authorization import Authorization, authorizing
from photinus_client.errors import PhotinusError, TranslatingInterceptor
from photinus_client.events import EventStream

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest answer: a list of a thousand messages with their data."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    # A proxy of the environment is for the web, not for a node on a socket or beside us.
    ("grpc.enable_http_proxy", 0),
)


class Client:
    """Speaks to one core, or to the replicas behind one name.

    The stubs take and give the messages of `photinus.api.v1`; their calls raise PhotinusError:

        async with Client("unix:/run/photinus/core.sock") as client:
            sent = await client.messages.BroadcastMessage(BroadcastMessageRequest(...))

    Connections are made when a call needs them. Close it, or use it as a context manager.

    Args:
        address: `unix:<path>`, `host:port` or `dns:///name:port`.
        credentials: For TLS; without, plain text.
        authorization: Who calls, where the core asks: `basic(user, password)` or `bearer(token)`; or
            what gives it, asked at each call, for tokens that are renewed.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        authorization: Authorization = "",
    ) -> None:
        # The first is the outermost.
        interceptors = [TranslatingInterceptor(), *authorizing(authorization)]
        if credentials is None:
            channel = grpc.aio.insecure_channel(
                address, options=_OPTIONS, interceptors=interceptors
            )
        else:
            channel = grpc.aio.secure_channel(
                address, credentials, options=_OPTIONS, interceptors=interceptors
            )
        self._channel = channel
        self.namespaces = NamespaceServiceStub(channel)
        self.node = NodeServiceStub(channel)
        self.explain = ExplainServiceStub(channel)
        self.network = NetworkServiceStub(channel)
        self.identities = IdentityServiceStub(channel)
        self.messages = MessageServiceStub(channel)
        self.charts = ChartServiceStub(channel)
        self.data = DataServiceStub(channel)
        self.datatypes = DatatypeServiceStub(channel)
        self.groups = GroupServiceStub(channel)
        self.batches = BatchServiceStub(channel)
        self.pins = PinServiceStub(channel)
        self.events = EventServiceStub(channel)
        self.subscriptions = SubscriptionServiceStub(channel)
        self.transactions = TransactionServiceStub(channel)
        self.operations = OperationServiceStub(channel)
        self.blockchain_events = BlockchainEventServiceStub(channel)
        self.spi = SpiServiceStub(channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the connection and all calls on it."""
        await self._channel.close()

    async def wait_ready(self, timeout_s: float) -> None:
        """Waits until a core can be reached.

        Raises:
            PhotinusError: it could not within the time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._channel.channel_ready()
        except TimeoutError as failure:
            text = f"no core answered within {timeout_s} s"
            raise PhotinusError("", text, 0, grpc.StatusCode.UNAVAILABLE) from failure

    async def upload(
        self,
        content: Path | AsyncIterable[bytes],
        header: data_pb2.UploadHeader | None = None,
    ) -> data_pb2.Data:
        """Stores a blob, read from a file or as it comes; nothing is kept when it fails.

        Args:
            content: The file, or the bytes in pieces.
            header: Namespace, value and names of the blob; of a file, its name is filled in.

        Raises:
            PhotinusError: as `DataService.UploadData`.
        """
        sent = data_pb2.UploadHeader()
        if header is not None:
            sent.CopyFrom(header)
        if not isinstance(content, Path):
            return await blobs.upload(self.data, sent, content)
        sent.filename = sent.filename or content.name
        with await asyncio.to_thread(content.open, "rb") as file:
            return await blobs.upload(self.data, sent, _pieces(file))

    async def download(self, data_id: str, namespace: str = "") -> blobs.Download:
        """Begins to read the blob of a data item; its bytes are checked against its hash.

        Raises:
            PhotinusError: as `DataService.DownloadBlob`.
        """
        return await blobs.download(self.data, namespace, data_id)

    def subscribe(self, start: event_pb2.Start, *, manual_ack: bool = False) -> EventStream:
        """Events of a durable or ephemeral subscription.

            async with client.subscribe(Start(namespace="default", name="app")) as deliveries:
                async for delivery in deliveries:
                    handle(delivery.event)

        See EventStream for acks and reconnects.
        """
        copied = event_pb2.Start()
        copied.CopyFrom(start)
        return EventStream(self.events, copied, manual_ack=manual_ack)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, blobs.CHUNK_BYTES):
        yield piece
