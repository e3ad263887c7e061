"""One WatchChanges stream: starts, refusals, endings, and what a client is sent.

Method: the stream over a queue of its own; frames go in through a queue, answers are read as a client reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from photinus.api.v1 import change_pb2
from photinus.api.v1 import spi_service_pb2 as pb
from photinus_core.events.changes import ChangeLimits, ChangeQueue
from photinus_core.model.changes import Change, ChangeCollection, ChangeKind, Dropped
from photinus_core.model.errors import Forbidden, PhotinusError, Unavailable
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.ports.clock import SystemClock
from photinus_core.rpc import fireflyjson, watching
from photinus_core.rpc.watching import ChangeStream, shown

WAIT_S = 30
CREATED = Change(ChangeCollection.MESSAGES, ChangeKind.CREATED, Namespace("ns"), "m1", sequence=4)


def start(*collections: str, **wanted: list[str]) -> pb.WatchChangesRequest:
    chosen = change_pb2.ChangeEventFilter(**wanted)
    return pb.WatchChangesRequest(
        start=change_pb2.ChangeStart(collections=collections, filter=chosen)
    )


class Client:
    """A client of one stream."""

    def __init__(self, calling: Any = None, length: int = 250) -> None:
        self.queue = ChangeQueue("client", ChangeLimits(length), SystemClock())
        more = () if calling is None else (calling,)
        self.stream = ChangeStream(self.queue, "client", *more)
        self.frames: asyncio.Queue[pb.WatchChangesRequest | None] = asyncio.Queue()
        self.ended = False
        self.answers: Any = self.stream.run(self._requests())

    async def _requests(self) -> AsyncIterator[pb.WatchChangesRequest]:
        while (frame := await self.frames.get()) is not None:
            yield frame

    def say(self, *frames: pb.WatchChangesRequest | None) -> None:
        for frame in frames:
            self.frames.put_nowait(frame)

    async def hear(self) -> pb.WatchChangesResponse:
        async with asyncio.timeout(WAIT_S):
            answer: pb.WatchChangesResponse = await anext(self.answers)
            return answer

    async def hear_or_end(self) -> None:
        try:
            await self.hear()
        except Unavailable:
            self.ended = True

    async def ends(self) -> None:
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(StopAsyncIteration):
                await anext(self.answers)


async def test_changes_come_behind_the_answer_to_a_start() -> None:
    client = Client()
    client.say(start("messages"))
    assert (await client.hear()).WhichOneof("frame") == "started"
    client.queue.changed([CREATED])
    assert fireflyjson.encode((await client.hear()).change) == (
        '{"collection":"messages","type":"created","namespace":"ns","id":"m1","sequence":4}'
    )
    client.say(start("pins", types=["updated"]))
    assert (await client.hear()).WhichOneof("frame") == "started"
    client.queue.changed(
        [CREATED, Change(ChangeCollection.PINS, ChangeKind.UPDATED, Namespace("x"), sequence=2)]
    )
    assert (await client.hear()).change.collection == "pins"
    client.say(None)
    await client.ends()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (pb.WatchChangesRequest(), "FF10177"),
        (start("message"), "FF19002"),
        (start("messages", types=["made"]), "FF19002"),
    ],
)
async def test_wrong_frames_end_the_stream(frame: pb.WatchChangesRequest, code: str) -> None:
    client = Client()
    client.say(start("messages"), frame, start("messages"))
    await client.hear()
    refused = (await client.hear()).protocol_error
    assert refused.closes
    assert refused.error.startswith(f"FF10176: Invalid data: {code}")
    await client.ends()


async def test_a_replica_that_ends_tells_clients_to_go_elsewhere() -> None:
    client = Client()
    client.say(start("messages"))
    await client.hear()
    client.stream.close()
    client.stream.close(Forbidden("FF00170", "later"))
    with pytest.raises(Unavailable, match="FF19011"):
        await client.hear()


class FakeCalling:
    """A client that may watch, until the test says otherwise."""

    gate = SimpleNamespace()

    def __init__(self) -> None:
        self.failure: PhotinusError | None = None
        self.renewals = 0

    def expires_in_s(self) -> float | None:
        return None

    async def renewed(self) -> FakeCalling:
        self.renewals += 1
        if self.renewals == 1:
            raise Unavailable("FF19014", "the keys cannot be read")
        return self

    def check(self, need: object) -> None:
        assert need == watching.NEED
        if self.failure is not None:
            raise self.failure


async def test_who_may_not_watch_any_more_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RECHECK_S", 0.001)
    calling = FakeCalling()
    client = Client(calling)
    client.say(start("messages"))
    await client.hear()
    hearing = asyncio.ensure_future(client.hear())
    async with asyncio.timeout(WAIT_S):
        while calling.renewals < 3:
            await asyncio.sleep(0.001)
    assert not hearing.done(), "what cannot be looked up now is looked up again"
    calling.failure = Forbidden("FF00170", "no more")
    with pytest.raises(Forbidden, match="FF00170"):
        await hearing


async def test_a_client_that_does_not_read_loses_and_is_told() -> None:
    client = Client(length=5)
    client.say(start("messages"))
    await client.hear()
    client.queue.changed([CREATED] * 100)
    heard = [(await client.hear()).change for _ in range(6)]
    assert [each.type for each in heard] == ["created"] * 5 + ["dropped"]
    assert heard[-1].dropped_count == 95
    assert heard[-1].dropped_since.seconds > 0


async def test_starts_are_answered_one_by_one() -> None:
    """A client that sends and never reads does not fill memory with answers."""
    client = Client()
    client.say(*[start("messages") for _ in range(1000)])
    await client.hear()
    for _ in range(10):
        await asyncio.sleep(0)
    assert client.frames.qsize() > 990
    client.stream.close()
    while not client.ended:
        await client.hear_or_end()


def test_what_was_dropped_is_shown_as_firefly_does() -> None:
    seen = shown(Dropped(Nanoseconds(1_000_000_001), 3))
    assert fireflyjson.encode(seen) == (
        '{"collection":"","type":"dropped","droppedSince":"1970-01-01T00:00:01.000000001Z","droppedCount":3}'
    )
    uncounted = shown(Dropped(Nanoseconds(1_000_000_000), 0))
    assert fireflyjson.encode(uncounted) == (
        '{"collection":"","type":"dropped","droppedSince":"1970-01-01T00:00:01Z"}'
    )
