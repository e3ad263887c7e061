"""Goal: the load does what a client may, and records what a checker needs.

Method: senders made up for the test; a short run of the real load; no network.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import pytest

from tests.robustness.findings import operations
from tests.robustness.load import AnswerError, GrpcSender, Load, Order, RestSender, Sender
from tests.robustness.records import Call, History, of
from tests.support.waiting import until

RATE: Final = 200.0
TAKEN: Final = "409 {{\"error\":\"FF10430: Idempotency key '{}' already used for message '{}'\"}}"
MESSAGE: Final = "01a1fe7e-8ff3-754e-8151-9f84d691d30d"


class Scripted:
    """Answers each operation as a script says, one line for each attempt; then with success."""

    def __init__(self, script: Sequence[AnswerError | None] = ()) -> None:
        self.name = "m0-made"
        self.member = 0
        self.uploads = 0
        self.tried: dict[str, int] = {}
        self.hangs = asyncio.Event()
        self.hangs.set()
        self._script = script

    async def upload(self, content: bytes) -> str:
        self.uploads += 1
        if self.uploads == 1:
            raise AnswerError("unclear", "lost")
        return f"data-{self.uploads}"

    async def send(self, order: Order, data: Sequence[str]) -> str:
        assert bool(order.blob) == bool(data)
        attempt = self.tried.get(order.op, 0)
        self.tried[order.op] = attempt + 1
        await self.hangs.wait()
        answer = self._script[attempt] if attempt < len(self._script) else None
        if answer is not None:
            raise answer
        return f"id-{order.op}"

    async def aclose(self) -> None:
        return


async def run(sender: Sender, count: int) -> list[Call]:
    history = History()
    load = Load([sender], history, RATE, random.Random(5))
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await until(lambda: len(operations(history.records)) >= count)
        load.stop()
    assert not load.open
    return list(of(history.records, Call))


async def test_unclear_answers_are_followed_by_the_same_key() -> None:
    sender = Scripted([AnswerError("unclear", "503"), AnswerError("unclear", "lost")])
    calls = await run(sender, 20)
    for done in operations(calls).values():
        assert [call.outcome for call in done.attempts] == ["unclear", "unclear", "acked"]
        assert [call.attempt for call in done.attempts] == [1, 2, 3]
        assert len({(call.value, call.topics, call.blob) for call in done.attempts}) == 1
    assert {call.kind for call in calls} == {"broadcast", "private"}
    assert any(call.blob for call in calls)
    assert sender.uploads > 1


async def test_refusals_are_final() -> None:
    sender = Scripted([AnswerError("refused", "400")] * 9)
    calls = await run(sender, 5)
    assert {call.outcome for call in calls} == {"refused"}
    assert set(sender.tried.values()) == {1}


async def test_load_goes_on_while_answers_wait() -> None:
    sender = Scripted()
    sender.hangs.clear()
    history = History()
    load = Load([sender], history, RATE, random.Random(5))
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await until(lambda: len(load.open) >= 10)
        sender.hangs.set()
        await until(lambda: len(of(history.records, Call)) >= 10)
        load.stop()


async def test_a_taken_key_is_a_success() -> None:
    order = Order("load-m0-x-1", "broadcast", ("north",), "", {}, b"")
    taken = TAKEN.format(order.op, MESSAGE)

    class Rest(RestSender):
        async def _post(self, path: str, **content: object) -> object:
            raise AnswerError("refused", taken)

    rest = Rest("m0-rest", 0, ["http://127.0.0.1:1"], ["org_0"])
    try:
        assert await rest.send(order, []) == MESSAGE
    finally:
        await rest.aclose()


async def test_nobody_there_is_unclear() -> None:
    order = Order("load-m0-x-1", "private", ("north",), "second", {}, b"")
    senders: list[Sender] = [
        RestSender("m0-rest", 0, ["http://127.0.0.1:1"], ["org_0"]),
        GrpcSender("m0-grpc", 0, ["127.0.0.1:1"], ["org_0"]),
    ]
    for sender in senders:
        for attempt in (sender.send(order, []), sender.upload(b"blob")):
            with pytest.raises(AnswerError) as caught:
                await attempt
            assert caught.value.outcome == "unclear", caught.value
        await sender.aclose()
