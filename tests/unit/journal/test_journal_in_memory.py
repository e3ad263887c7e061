"""Goal: a journal without a file works as one with a file, and any event can wait in it for its ack.

Method: the same calls on both.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus.connector.v1 import event_pb2 as events
from photinus_journal import KeyReused, SqliteJournal, TooLarge
from photinus_sdk import StreamKey

STREAM = StreamKey("cluster", "ns1", "core")
OTHER = StreamKey("cluster", "ns2", "core")


@pytest.fixture(params=["memory", "file"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite" if request.param == "file" else None)
    await made.open()
    yield made
    await made.aclose()
    await made.aclose()
    assert any(tmp_path.iterdir()) == (request.param == "file")


def pool(name: str) -> events.Event:
    return events.Event(id=name, token_pool=events.TokenPoolEvent(pool_locator=name))


async def test_keys_are_taken(journal: SqliteJournal) -> None:
    assert (await journal.begin(STREAM, "k", "Mint", b"f")).answer is None
    assert (await journal.begin(STREAM, "k", "Mint", b"f")).retried
    with pytest.raises(KeyReused):
        await journal.begin(STREAM, "k", "Mint", b"g")


async def test_journals_in_memory_are_apart() -> None:
    first, second = SqliteJournal(None), SqliteJournal(None)
    for each in (first, second):
        await each.open()
        await each.begin(STREAM, "k", "Mint", b"f")
    assert first.store_id != second.store_id
    assert await first.raise_epoch(STREAM, 7) == 7
    assert await second.raise_epoch(STREAM, 3) == 3
    await first.aclose()
    await second.aclose()


async def test_an_event_waits_in_its_place_among_updates_until_acked(
    journal: SqliteJournal,
) -> None:
    changed = journal.changed(STREAM)
    await journal.tell(STREAM, pool("a"))
    assert changed.is_set()
    await journal.tombstone(STREAM, "unknown")
    await journal.begin(STREAM, "k", "Mint", b"f")
    await journal.tombstone(STREAM, "k")
    await journal.tell(STREAM, pool("b"))
    await journal.tell(OTHER, pool("c"))
    found = await journal.updates(STREAM, 0, 10)
    told = [each.event.id if each.event else each.update.idempotency_key for each in found]
    assert told == ["a", "k", "b"]
    assert found[0].event == pool("a")
    await journal.updates_acked(STREAM, found[1].row)
    (left,) = await journal.updates(STREAM, 0, 10)
    assert left.event == pool("b")
    assert len(await journal.updates(OTHER, 0, 10)) == 1


async def test_an_event_that_no_stream_could_carry_is_refused(journal: SqliteJournal) -> None:
    event = pool("large")
    event.token_pool.data = "x" * (1 << 20)
    with pytest.raises(TooLarge):
        await journal.tell(STREAM, event)
