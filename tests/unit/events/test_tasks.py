"""Background tasks, pauses and wake signals (`ports.tasks`)."""

import asyncio

import pytest
from photinus_core.ports.tasks import Background, Backoff, Wake


async def test_tasks_end_with_their_block_and_are_listed_meanwhile() -> None:
    ended = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async with Background("test") as background:
        background.start("a", work("a"))
        background.start("b", work("b"))
        await asyncio.sleep(0)
        assert background.running() == ["a", "b"]
    assert sorted(ended) == ["a", "b"]


async def test_a_failing_task_ends_the_others_and_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise LookupError("broken")

    async def block() -> None:
        async with Background("test") as background:
            background.start("fails", fails())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert caught.group_contains(LookupError)
    assert "test/fails failed" in caplog.text


def test_pauses_double_up_to_a_cap_and_start_over() -> None:
    pauses = Backoff(1.0, 5.0)
    assert [pauses.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    pauses.reset()
    assert pauses.next_s() == 1.0


async def test_a_signal_is_taken_once_and_waiting_has_an_end() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    assert await wake.wait(1)
    assert not await wake.wait(0.001)
