"""The log replayed through a subscription's filter: which events, how many, and what bounds it.

Method: events are appended to a real store; nothing runs beside it.
"""

import pytest
from photinus_core.events.history import History, Stretch, parse_sequence
from photinus_core.events.subscriptions import (
    SubscriptionInput,
    SubscriptionService,
    SubscriptionSettings,
)
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import Transaction, TransactionType
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.store import Store, Table

from tests.integration.core_receive.senders import NS

SETTINGS = SubscriptionSettings(scan_max=10)


async def append(store: Store, *topics: str) -> None:
    """One event for each topic; those of even sequence are about another type of transaction."""
    async with store.write(NS) as tx:
        start = await tx.last_event_sequence()
        kinds = [TransactionType.BATCH_PIN, TransactionType.UNPINNED]
        made = [
            Transaction(new_uuid(), NS, kinds[(start + n) % 2], Nanoseconds(1))
            for n in range(len(topics))
        ]
        await tx.insert_transactions(made)
        tx.append_events(
            [
                NewEvent(
                    new_uuid(),
                    EventType.TRANSACTION_SUBMITTED,
                    NS,
                    t.id,
                    Nanoseconds(1),
                    topic=topic,
                )
                for t, topic in zip(made, topics, strict=True)
            ]
        )


async def subscribed(store: Store, filters: str = "{}") -> Uuid:
    service = SubscriptionService(store, NS, SystemClock(), SETTINGS)
    return (await service.create(SubscriptionInput("app", filter_json=filters))).id


async def replayed(
    store: Store, subscription: Uuid, query: str = "", *, start: str = "", end: str = ""
) -> tuple[list[int], int | None]:
    stretch = Stretch(parse_sequence("startsequence", start), parse_sequence("endsequence", end))
    asked = parse_query_string(Table.EVENTS, query)
    page = await History(store, NS, SETTINGS).replay(subscription, asked, stretch)
    return [e.event.sequence for e in page.items], page.total


async def test_without_ends_the_newest_part_is_looked_at(store: Store) -> None:
    subscription = await subscribed(store)
    await append(store, *"a" * 30)
    sequences, total = await replayed(store, subscription)
    assert (sequences, total) == (list(range(30, 19, -1)), 11)


@pytest.mark.parametrize(
    ("start", "end", "seen"),
    [
        ("3", "6", (3, 6)),
        ("3", "", (3, 13)),
        ("", "8", (1, 8)),
        ("", "25", (15, 25)),
        ("29", "", (29, 30)),
    ],
)
async def test_ends_are_part_of_the_stretch(
    store: Store, start: str, end: str, seen: tuple[int, int]
) -> None:
    subscription = await subscribed(store)
    await append(store, *"a" * 30)
    sequences, total = await replayed(store, subscription, "sort=sequence", start=start, end=end)
    assert sequences == list(range(seen[0], seen[1] + 1))
    assert total == len(sequences)


@pytest.mark.parametrize(
    ("filters", "seen"),
    [
        ('{"topic":"^b$"}', [2, 5]),
        ('{"transaction":{"type":"unpinned"}}', [2, 4, 6]),
        ('{"topic":"b","transaction":{"type":"unpinned"}}', [2]),
        ('{"events":"message_.*"}', []),
        ('{"events":"nothing"}', []),
        ('{"events":"transaction_submitted"}', [1, 2, 3, 4, 5, 6]),
    ],
)
async def test_only_what_the_filter_matches_is_shown(
    store: Store, filters: str, seen: list[int]
) -> None:
    subscription = await subscribed(store, filters)
    await append(store, "a", "b", "a", "a", "b", "a")
    assert await replayed(store, subscription, "sort=sequence") == (seen, len(seen))


async def test_query_and_paging_narrow_what_matches(store: Store) -> None:
    subscription = await subscribed(store, '{"topic":"[ab]"}')
    await append(store, *"abcabcab")
    assert await replayed(store, subscription, "topic=a&sort=sequence") == ([1, 4, 7], 3)
    assert await replayed(store, subscription, "limit=2&skip=1") == ([7, 5], 6)
    assert await replayed(store, subscription, "skip=100") == ([], 6)


async def test_events_come_with_what_they_refer_to(store: Store) -> None:
    subscription = await subscribed(store)
    await append(store, "a")
    asked = parse_query_string(Table.EVENTS, "")
    page = await History(store, NS, SETTINGS).replay(subscription, asked, Stretch())
    assert page.items[0].transaction is not None


async def test_what_cannot_be_replayed(store: Store) -> None:
    subscription = await subscribed(store)
    with pytest.raises(Rejected, match="FF10463"):
        await replayed(store, subscription, start="5", end="16")
    assert await replayed(store, subscription, start="5", end="15") == ([], 0)
    assert await replayed(store, subscription, start="9", end="2") == ([], 0)
    assert await replayed(store, subscription, start="-1", end="-1") == ([], 0)
    with pytest.raises(NotFound, match="FF00164"):
        await replayed(store, new_uuid())


@pytest.mark.parametrize("text", ["x", "1.5", "-2", "0x1", "9" * 19, " 1", "１"])
def test_a_sequence_is_a_number(text: str) -> None:
    with pytest.raises(Rejected, match=r"FF10464: .*startsequence"):
        parse_sequence("startsequence", text)
