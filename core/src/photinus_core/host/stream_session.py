"""One opening of an event stream: how it is asked for, and its frames on their way in and out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from photinus.connector.v1 import event_pb2 as events

from photinus_core.host import convert
from photinus_core.host.connection import Connection
from photinus_core.host.stream_rules import StreamRules
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.connectors import Listener

CONSUMER: Final = "core"
WINDOW_BATCHES: Final = 32
WINDOW_BYTES: Final = 16 << 20
BATCH_SIZE: Final = 500
MERGED_EVENTS_MAX: Final = 1000
"""Most events handed over at once, beyond the first batch."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a stream is opened with.

    Attributes:
        cluster_id: UUID of the core cluster.
        namespace: Local namespace.
        network_namespace: Its name on the wire.
        epoch: Epoch of its leader.
        window_batches, window_bytes, batch_size: What to ask for.
    """

    cluster_id: str
    namespace: Namespace
    network_namespace: str
    epoch: Epoch
    window_batches: int = WINDOW_BATCHES
    window_bytes: int = WINDOW_BYTES
    batch_size: int = BATCH_SIZE

    def open_frame(
        self, listeners: Iterable[Listener], checkpoints: Mapping[str, bytes]
    ) -> events.Open:
        """The first frame: listeners resume behind their checkpoints."""
        return events.Open(
            stream=convert.stream_ref(self.cluster_id, self.namespace, CONSUMER),
            owner_epoch=self.epoch,
            network_namespace=self.network_namespace,
            listeners=[
                convert.listener(listener, checkpoints.get(listener.id, b""))
                for listener in listeners
            ],
            window_batches=self.window_batches,
            window_bytes=self.window_bytes,
            batch_size=self.batch_size,
        )


@dataclass(slots=True)
class Session:
    """One opening of the stream.

    Attributes:
        connection, call: What it goes over.
        rules: What the connector may send now.
        incoming: Frames that arrived, checked, and wait for the handler; `arrived` wakes it.
        room: Set whenever one of them was taken.
        outgoing: Frames to send; `to_send` wakes the writer.
        heard: When the connector said something last, by the loop's clock.
        waiting: When each batch arrived that is not stored, by number.
        resend_by: When a batch that was nacked must have come again.
        one_by_one: Whether batches are handed over alone, since one of them failed.
    """

    connection: Connection
    call: Any
    rules: StreamRules
    incoming: deque[events.StreamResponse] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    outgoing: deque[events.StreamRequest] = field(default_factory=deque)
    to_send: asyncio.Event = field(default_factory=asyncio.Event)
    heard: float = 0.0
    waiting: dict[int, float] = field(default_factory=dict)
    resend_by: float | None = None
    one_by_one: bool = False

    def send(self, **frame: Any) -> None:
        """Queues a frame; the writer sends it."""
        self.outgoing.append(events.StreamRequest(**frame))
        self.to_send.set()

    async def write(self) -> None:
        """Sends Open, and what else there is once the connector has answered it."""
        await self.connection.write(self.call, self.outgoing.popleft())
        while True:
            while self.outgoing and self.rules.is_open:
                await self.connection.write(self.call, self.outgoing.popleft())
            self.to_send.clear()
            await self.to_send.wait()

    def merged(self, first: events.Batch) -> list[events.Batch]:
        """The batch, with those that already wait behind it."""
        batches, count = [first], len(first.events)
        while self.incoming and not self.one_by_one:
            following = self.incoming[0]
            if following.WhichOneof("frame") != "batch":
                break
            count += len(following.batch.events)
            if count > MERGED_EVENTS_MAX:
                break
            batches.append(self.incoming.popleft().batch)
        return batches
