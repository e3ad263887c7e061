"""Goal: what the outbox knows decides what is sent, sent again, withdrawn or ended, over restarts too.

Method: the store over a journal in a temporary folder; times are moved by writing them into the rows.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_dx.model import Dispatch, PeerId, Receipt, Scope
from photinus_dx.schema import SCHEMA, SECOND_NS
from photinus_dx.store import Store
from photinus_sdk import SqliteJournal, StreamKey

STREAM = StreamKey("c1", "ns1", "core")
SCOPE = Scope("c1", "ns1")
BOB, ALICE = PeerId("bob", "b1"), PeerId("alice", "a1")
HOUR_NS = 3600 * SECOND_NS


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite", schema=SCHEMA)
    await made.open()
    yield made
    await made.aclose()


@pytest.fixture
async def store(journal: SqliteJournal) -> Store:
    made = Store(journal)
    await made.open()
    return made


async def queue(store: Store, key: str, message: str = "m") -> str:
    return await store.enqueue(STREAM, key, Dispatch(BOB, ALICE, message=message))


async def waiting(store: Store) -> list[str]:
    return [row.message for row in await store.next_outgoing(SCOPE, BOB, 100, 1 << 20)]


async def ended(journal: SqliteJournal) -> dict[str, events.OperationUpdate]:
    found = await journal.updates(STREAM, 0, 100)
    return {stored.update.idempotency_key: stored.update for stored in found}


async def test_a_key_is_queued_once_and_keeps_its_id(store: Store) -> None:
    first = await queue(store, "k", "one")
    assert await queue(store, "k", "two") == first
    assert await queue(store, "other", "three") != first
    assert await waiting(store) == ["one", "three"]
    assert store.waiting == 2


async def test_pages_end_by_items_or_bytes(store: Store) -> None:
    for number in range(5):
        await queue(store, str(number), "x" * 100)
    assert len(await store.next_outgoing(SCOPE, BOB, 3, 1 << 20)) == 3
    assert len(await store.next_outgoing(SCOPE, BOB, 10, 250)) == 2
    assert len(await store.next_outgoing(SCOPE, BOB, 10, 1)) == 1


async def test_lanes_are_those_with_work(store: Store) -> None:
    await queue(store, "k")
    assert await store.waiting_lanes() == [(SCOPE, BOB)]
    (row,) = await store.next_outgoing(SCOPE, BOB, 10, 100)
    await store.accepted([row.seq])
    assert await store.waiting_lanes() == []


async def test_a_receipt_ends_its_item_once(store: Store, journal: SqliteJournal) -> None:
    item_id = await queue(store, "k")
    receipt = Receipt(0, item_id, "bob/b1", "manifest", "")
    assert await store.settle_receipts("mallory", [receipt]) == 0
    assert await store.settle_receipts("bob", [receipt]) == 1
    assert await store.settle_receipts("bob", [receipt]) == 0
    update = (await ended(journal))["k"]
    assert (update.state, update.manifest) == (common.OPERATION_STATE_SUCCEEDED, "manifest")
    assert store.waiting == 0


async def test_a_withdrawn_item_is_never_tried_and_its_end_is_in_the_same_commit(
    store: Store, journal: SqliteJournal
) -> None:
    """A crash right behind it must leave no operation that waits for ever for an item that is not there."""
    await queue(store, "k")
    (row,) = await store.next_outgoing(SCOPE, BOB, 10, 100)
    assert await store.withdraw(STREAM, "k")
    assert (await ended(journal))["k"].state == common.OPERATION_STATE_CANCELLED
    operation = await journal.get(STREAM, "k")
    assert operation is not None
    assert operation.state == common.OPERATION_STATE_CANCELLED
    assert await store.attempt([row.seq]) == []
    assert not await store.withdraw(STREAM, "k")
    assert store.waiting == 0


async def test_a_tried_item_cannot_be_withdrawn(store: Store) -> None:
    await queue(store, "k")
    (row,) = await store.next_outgoing(SCOPE, BOB, 10, 100)
    assert await store.attempt([row.seq]) == [row.seq]
    assert not await store.withdraw(STREAM, "k")


async def test_removing_a_peer_fails_what_waits_for_it(
    store: Store, journal: SqliteJournal
) -> None:
    await queue(store, "k")
    await store.enqueue(STREAM, "other", Dispatch(PeerId("carol", "c1"), ALICE, message="m"))
    assert await store.remove_peer(SCOPE, BOB) == 1
    assert {key: update.state for key, update in (await ended(journal)).items()} == {
        "k": common.OPERATION_STATE_FAILED
    }
    assert store.waiting == 1


async def age(journal: SqliteJournal, created_ns: int, accepted_ns: int) -> None:
    """Set how long ago the rows were queued and accepted."""
    await journal.write(
        lambda db: db.execute(
            "UPDATE dx_outbox SET created_ns = created_ns - ?,"
            " accepted_ns = created_ns - ? WHERE accepted_ns > 0",
            (created_ns, accepted_ns),
        )
    )


@pytest.mark.parametrize(
    ("created_h", "accepted_h", "resent"),
    [
        (1, 1, True),  # accepted at once, an hour ago
        (0, 0, False),  # just now
        (8, 3, False),  # it took five hours, and three have passed since
        (8, 5, True),
    ],
)
async def test_each_pause_before_sending_again_is_as_long_as_all_before(
    store: Store, journal: SqliteJournal, created_h: int, accepted_h: int, resent: bool
) -> None:
    await queue(store, "k")
    (row,) = await store.next_outgoing(SCOPE, BOB, 10, 100)
    await store.accepted([row.seq])
    await age(journal, created_h * HOUR_NS, accepted_h * HOUR_NS)
    lanes = await store.resend_unreceipted(900, 1e9)
    assert lanes == ([(SCOPE, BOB)] if resent else [])
    assert await waiting(store) == (["m"] if resent else [])


async def test_an_accepted_item_ends_as_delivered_when_no_receipt_ever_comes(
    store: Store, journal: SqliteJournal
) -> None:
    await queue(store, "k")
    (row,) = await store.next_outgoing(SCOPE, BOB, 10, 100)
    await store.accepted([row.seq])
    await age(journal, 200 * HOUR_NS, 190 * HOUR_NS)
    await store.resend_unreceipted(900, 7 * 86_400)
    update = (await ended(journal))["k"]
    assert (update.state, update.manifest) == (common.OPERATION_STATE_SUCCEEDED, "")
    assert "none in time" in update.output_json


async def test_an_update_and_its_row_commit_together(store: Store, journal: SqliteJournal) -> None:
    await queue(store, "k")
    (row,) = await store.next_outgoing(SCOPE, BOB, 10, 100)
    failed = events.OperationUpdate(state=common.OPERATION_STATE_FAILED, error="why")
    await store.finish([row.seq], failed)
    await store.finish([row.seq], failed)
    assert await waiting(store) == []
    assert (await ended(journal))["k"].external_id == row.item_id
    assert not await journal.write(lambda db: db.execute("SELECT * FROM dx_outbox_text").fetchall())
