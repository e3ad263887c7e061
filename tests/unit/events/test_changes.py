"""Change events: what a listener wants, how much may wait for it, and what it is told of what it lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from photinus_core.events import changes as changes_module
from photinus_core.events.changes import ChangeFeed, ChangeLimits, ChangeQueue
from photinus_core.model.changes import Change, ChangeCollection, ChangeFilter, ChangeKind, Dropped
from photinus_core.model.errors import Exhausted, Rejected
from photinus_core.model.ids import Namespace, Nanoseconds

MESSAGES, PINS = ChangeCollection.MESSAGES, ChangeCollection.PINS
CREATED, UPDATED = ChangeKind.CREATED, ChangeKind.UPDATED


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.s = 100.0

    def now(self) -> Nanoseconds:
        return Nanoseconds(int(self.s * 1e9))

    def monotonic_s(self) -> float:
        return self.s


def change(
    collection: ChangeCollection = MESSAGES, kind: ChangeKind = CREATED, namespace: str = "a"
) -> Change:
    return Change(collection, kind, Namespace(namespace), "id")


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [
        (((), (), ()), []),
        ((("messages",), (), ()), [0, 1, 2]),
        ((("messages", "pins"), (), ()), [0, 1, 2, 3]),
        ((("messages",), ("created",), ()), [0, 2]),
        ((("messages",), ("CREATED", "Updated"), ()), [0, 1, 2]),
        ((("messages",), ("deleted",), ()), []),
        ((("messages",), ("dropped",), ()), []),
        ((("messages",), (), ("b",)), [2]),
        ((("messages",), (), ("a", "b")), [0, 1, 2]),
        ((("pins",), ("created",), ("a",)), [3]),
        ((("tokenpools", "ffi", "contractlisteners"), (), ()), []),
    ],
)
def test_filters(wanted: tuple[Sequence[str], ...], matching: list[int]) -> None:
    told = [change(), change(kind=UPDATED), change(namespace="b"), change(PINS)]
    made = ChangeFilter.read(*wanted)
    assert [at for at, each in enumerate(told) if made.matches(each)] == matching


@pytest.mark.parametrize(
    ("collections", "kinds", "field"),
    [
        (["message"], [], "collections"),
        (["Messages"], [], "collections"),
        ([""], [], "collections"),
        (["messages"], ["changed"], "filter.types"),
        (["messages"], [""], "filter.types"),
    ],
)
def test_what_is_no_collection_or_type_is_refused(
    collections: list[str], kinds: list[str], field: str
) -> None:
    with pytest.raises(Rejected, match=rf"FF19002: Field '{field}'"):
        ChangeFilter.read(collections, kinds, [])


def test_the_collections_are_fireflys() -> None:
    assert set(ChangeCollection) == {
        *("messages", "events", "pins", "batches", "blockchainevents", "data", "datatypes"),
        *("operations", "subscriptions", "transactions", "tokenpools", "tokentransfers"),
        *("tokenapprovals", "ffi", "ffimethods", "ffievents", "ffierrors", "contractapis"),
        *("contractlisteners", "identities", "groups"),
    }
    assert set(ChangeKind) == {"created", "updated", "deleted", "dropped"}


ALL = ChangeFilter(frozenset(ChangeCollection))


def queue_of(length: int = 3, clock: Clock | None = None) -> ChangeQueue:
    queue = ChangeQueue("client", ChangeLimits(length, 60.0), clock or Clock())
    queue.want(ALL)
    return queue


async def taken(queue: ChangeQueue) -> list[Change | Dropped]:
    """All there is for now."""
    found: list[Change | Dropped] = []
    while True:
        take = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0)
        if not take.done():
            take.cancel()
            return found
        found.append(take.result())


async def test_nothing_is_queued_before_a_start() -> None:
    queue = ChangeQueue("client", ChangeLimits(), Clock())
    queue.changed([change()])
    queue.lost(5)
    assert await taken(queue) == []


async def test_changes_come_in_order_and_a_start_replaces_the_one_before() -> None:
    queue = queue_of()
    queue.changed([change(), change(PINS)])
    queue.want(ChangeFilter(frozenset({PINS})))
    queue.changed([change(), change(PINS, UPDATED)])
    assert await taken(queue) == [change(), change(PINS), change(PINS, UPDATED)]


async def test_a_slow_reader_is_told_once_how_many_it_lost_and_since_when() -> None:
    clock = Clock()
    queue = queue_of(3, clock)
    queue.changed([change()] * 3)
    assert (await queue.take(), await queue.take()) == (change(), change())
    queue.changed([change()] * 2)
    clock.s = 101
    queue.changed([change(PINS)])
    clock.s = 102
    queue.changed([change(PINS)] * 4)
    # There is room again, but what came meanwhile is gone: order is kept, and one frame says it.
    assert await queue.take() == change()
    queue.changed([change(PINS)])
    assert await taken(queue) == [
        change(),
        change(),
        Dropped(Nanoseconds(101_000_000_000), 6),
    ]
    queue.changed([change(PINS)])
    assert await taken(queue) == [change(PINS)]


async def test_memory_is_bounded_however_many_changes_come() -> None:
    queue = queue_of(3)
    for _ in range(1000):
        queue.changed([change()] * 100)
    assert len(queue._waiting) == 3
    assert (await taken(queue))[-1] == Dropped(Clock().now(), 99_997)


async def test_what_was_lost_on_the_way_is_told_too() -> None:
    queue = queue_of()
    queue.changed([change()])
    queue.lost(0)
    assert await taken(queue) == [change(), Dropped(Clock().now(), 0)]
    queue.lost(4)
    queue.lost(2)
    assert await taken(queue) == [Dropped(Clock().now(), 6)]
    queue.want(ChangeFilter(frozenset()))
    queue.lost(1)
    assert await taken(queue) == [], "who wants nothing loses nothing"


async def test_the_log_tells_now_and_then_of_a_reader_that_is_too_slow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    queue = queue_of(1, clock)
    queue.changed([change()] * 10)
    clock.s += 59
    queue.changed([change()] * 10)
    assert len(caplog.records) == 1
    clock.s += 1
    queue.changed([change()])
    assert len(caplog.records) == 2
    assert "client reads change events too slowly" in caplog.text


class WatchedStore:
    """A store as far as watching goes."""

    def __init__(self) -> None:
        self.watchers: list[Any] = []

    def watch_changes(self, watcher: Any) -> Callable[[], None]:
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)


async def test_stores_are_watched_only_while_somebody_listens() -> None:
    first, later = WatchedStore(), WatchedStore()
    feed = ChangeFeed(Clock())
    feed.add(first)  # type: ignore[arg-type]  # as much as it uses
    feed.add(first)  # type: ignore[arg-type]  # as much as it uses
    assert first.watchers == []
    with feed.listen("one") as one:
        with feed.listen("two") as two:
            assert len(first.watchers) == 1
            feed.add(later)  # type: ignore[arg-type]  # as much as it uses
            assert len(later.watchers) == 1
            one.want(ALL)
            later.watchers[0].changed([change()])
            two.want(ALL)
            first.watchers[0].lost(3)
            assert await taken(two) == [Dropped(Clock().now(), 3)]
        assert len(first.watchers) == 1
        assert await taken(one) == [change(), Dropped(Clock().now(), 3)]
    assert (first.watchers, later.watchers) == ([], [])
    with feed.listen("three"):
        assert len(first.watchers) == len(later.watchers) == 1


async def test_listeners_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "LISTENERS_MAX", 1)
    feed = ChangeFeed(Clock())
    with feed.listen("one"), pytest.raises(Exhausted, match="FF19009"), feed.listen("two"):
        raise AssertionError("not reached")
    with feed.listen("again"):
        pass
