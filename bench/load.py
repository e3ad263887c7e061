"""The load: actions from member 0, each done when member 1 has confirmed it.

Closed loop: a number of workers, each with one action under way. Open loop: actions begin at a fixed
rate whatever becomes of the earlier ones, so that waiting shows in the latency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import grpc
from photinus.api.v1 import (
    data_pb2,
    event_pb2,
    event_service_pb2,
    event_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    message_service_pb2_grpc,
    subscription_pb2,
)

LATE_S: Final = 60.0
"""An action that is not confirmed by then counts as an error."""
CHANNELS: Final = 4


@dataclass
class Result:
    """What a run gave."""

    kind: str
    mode: str
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    errors: int = 0

    @property
    def rate(self) -> float:
        """Confirmed actions per second."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, share: float) -> float:
        """A latency percentile in milliseconds."""
        ordered = sorted(self.latencies_s)
        if not ordered:
            return 0.0
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Confirmations:
    """Hears on member 1 which messages are confirmed."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._seen: dict[str, float] = {}
        self._ready = asyncio.Event()
        self._acks: asyncio.Queue[event_pb2.Ack] = asyncio.Queue(1_000)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())  # tidy: owned by this context manager
        await asyncio.wait_for(self._ready.wait(), 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._channel.close()

    async def of(self, message: str) -> float:
        """Waits until a message is confirmed; gives the time of it."""
        seen = self._seen.pop(message, None)
        if seen is not None:
            return seen
        future = asyncio.get_running_loop().create_future()
        self._waiting[message] = future
        try:
            return await asyncio.wait_for(future, LATE_S)
        finally:
            self._waiting.pop(message, None)

    async def _requests(self) -> AsyncIterator[event_service_pb2.SubscribeRequest]:
        start = event_pb2.Start(
            namespace="default",
            ephemeral=True,
            filter=subscription_pb2.SubscriptionFilter(events="^message_confirmed$"),
            options=subscription_pb2.SubscriptionOptions(
                batch=True, read_ahead=500, batch_timeout="1ms", first_event="newest"
            ),
        )
        yield event_service_pb2.SubscribeRequest(start=start)
        while True:
            yield event_service_pb2.SubscribeRequest(ack=await self._acks.get())

    async def _run(self) -> None:
        stub = event_service_pb2_grpc.EventServiceStub(self._channel)
        async for response in stub.Subscribe(self._requests()):
            if response.HasField("started"):
                self._ready.set()
            elif response.HasField("event_batch"):
                now = time.perf_counter()
                for delivery in response.event_batch.events:
                    self._confirmed(delivery.event.reference, now)
                await self._acks.put(event_pb2.Ack(id=response.event_batch.id))

    def _confirmed(self, message: str, now: float) -> None:
        future = self._waiting.get(message)
        if future is None:
            self._seen[message] = now
        elif not future.done():
            future.set_result(now)


class Sender:
    """Sends messages from member 0, in turn through each of its replicas."""

    def __init__(self, targets: Sequence[str], size: int) -> None:
        self._channels = [
            grpc.aio.insecure_channel(
                targets[n % len(targets)], [("grpc.use_local_subchannel_pool", 1)]
            )
            for n in range(max(CHANNELS, len(targets)))
        ]
        self._stubs = [message_service_pb2_grpc.MessageServiceStub(c) for c in self._channels]
        self._value = '{"data":"' + "x" * max(0, size - 11) + '"}'
        self._next = 0

    async def aclose(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            await channel.close()

    def _stub(self) -> message_service_pb2_grpc.MessageServiceStub:
        self._next += 1
        return self._stubs[self._next % len(self._stubs)]

    async def broadcast(self) -> str:
        """Sends one broadcast; gives its id."""
        message = message_pb2.MessageInput(data=[data_pb2.DataRefOrValue(value=self._value)])
        answer = await self._stub().BroadcastMessage(
            message_service_pb2.BroadcastMessageRequest(message=message)
        )
        return answer.message.header.id

    async def private(self) -> str:
        """Sends one private message to both members; gives its id."""
        message = message_pb2.MessageInput(
            data=[data_pb2.DataRefOrValue(value=self._value)],
            group=message_pb2.GroupInput(members=[message_pb2.MemberInput(identity="org_1")]),
        )
        answer = await self._stub().SendPrivateMessage(
            message_service_pb2.SendPrivateMessageRequest(message=message)
        )
        return answer.message.header.id


Action = Callable[[], Awaitable[str]]


async def closed_loop(
    kind: str, action: Action, confirmations: Confirmations, workers: int, seconds: float
) -> Result:
    """Runs workers that each wait for their action to be confirmed."""
    result = Result(kind, f"closed, {workers} workers")
    end = time.perf_counter() + seconds

    async def worker() -> None:
        while time.perf_counter() < end:
            await _one(result, action, confirmations, time.perf_counter())

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
    result.seconds = time.perf_counter() - began
    return result


async def open_loop(
    kind: str, action: Action, confirmations: Confirmations, rate: float, seconds: float
) -> Result:
    """Begins actions at a fixed rate; latency counts from when each was due."""
    result = Result(kind, f"open, {rate:.0f}/s")
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            group.create_task(_one(result, action, confirmations, due))
    result.seconds = time.perf_counter() - began
    return result


async def _one(result: Result, action: Action, confirmations: Confirmations, due: float) -> None:
    try:
        done = await confirmations.of(await action())
    except (grpc.aio.AioRpcError, TimeoutError):
        result.errors += 1
        return
    result.latencies_s.append(done - due)
