"""Goal: the inbox is bounded per peer, knows repetitions, and counts right over restarts.

Method: an inbox over a journal in a temporary folder, limits of a few items.
"""

import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_dx.errors import PeerRefusal
from photinus_dx.inbox import Inbox
from photinus_dx.model import Incoming, PeerId
from photinus_dx.schema import SCHEMA
from photinus_dx.settings import Delivery, Limits
from photinus_dx.store_inbox import InboxStore
from photinus_sdk import SqliteJournal

LIMITS = Limits(
    inbox_messages_per_peer=4,
    inbox_bytes_per_peer=100,
    inbox_blob_bytes_per_peer=1000,
    unclaimed_messages_per_peer=2,
)
NODE = ("net1", "n1")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal.sqlite", schema=SCHEMA)
    await made.open()
    yield made
    await made.aclose()


@pytest.fixture
def receipts() -> list[tuple[str, PeerId]]:
    return []


@pytest.fixture
async def inbox(journal: SqliteJournal, receipts: list[tuple[str, PeerId]]) -> Inbox:
    made = Inbox(
        InboxStore(journal),
        LIMITS,
        Delivery(),
        lambda network, sender: receipts.append((network, sender)),
    )
    await made.open()
    await made.claim(*NODE)
    return made


def item(
    size: int = 1, *, peer: str = "alice", node: str = "n1", blob: bool = False, item_id: str = ""
) -> Incoming:
    item_id = item_id or str(uuid.uuid4())
    return Incoming(
        sender=PeerId(peer, "x"),
        node=node,
        network="net1",
        item_id=item_id,
        repeat_key=item_id,
        message="" if blob else "m",
        data_id="",
        hash="",
        size=size,
        payload_ref=f"ref-{item_id}" if blob else "",
    )


async def outcomes(inbox: Inbox, *items: Incoming) -> list[str]:
    found = await inbox.take(items, numbered=True)
    return [one.reason if isinstance(one, PeerRefusal) else one for one in found]


async def test_items_are_taken_up_to_the_limit_and_no_further(inbox: Inbox) -> None:
    assert await outcomes(inbox, *(item() for _ in range(6))) == ["new"] * 4 + ["INBOX_FULL"]
    assert await outcomes(inbox, item(peer="bob")) == ["new"]


async def test_bytes_are_limited_but_one_item_always_fits(inbox: Inbox) -> None:
    assert await outcomes(inbox, item(5000), item(1)) == ["new", "INBOX_FULL"]


async def test_blobs_have_their_own_limit(inbox: Inbox) -> None:
    taken = await outcomes(inbox, item(900, blob=True), item(50), item(200, blob=True))
    assert taken == ["new", "new", "INBOX_FULL"]


async def test_a_blob_is_refused_before_it_is_read(inbox: Inbox) -> None:
    inbox.check_room("alice", NODE, 5000, blob=True)
    await outcomes(inbox, item(900, blob=True))
    with pytest.raises(PeerRefusal) as refused:
        inbox.check_room("alice", NODE, 200, blob=True)
    assert refused.value.reason == "INBOX_FULL"
    inbox.check_room("alice", NODE, 90, blob=False)
    inbox.check_room("bob", NODE, 5000, blob=True)


async def test_what_the_core_has_stored_makes_room(
    inbox: Inbox, receipts: list[tuple[str, PeerId]]
) -> None:
    await outcomes(inbox, *(item() for _ in range(4)))
    rows = await inbox.next(*NODE, after=0, items=10, size=1000)
    await inbox.stored_by_core({row.seq: "manifest" for row in rows[:2]}, "me")
    await inbox.stored_by_core({row.seq: "manifest" for row in rows[:2]}, "me")  # changes nothing
    assert receipts == [("net1", PeerId("alice", "x"))] * 2
    assert await outcomes(inbox, *(item() for _ in range(3))) == ["new", "new", "INBOX_FULL"]


async def test_a_repetition_takes_no_room_and_comes_once(inbox: Inbox) -> None:
    once = item()
    assert await outcomes(inbox, once) == ["new"]
    for _ in range(10):
        assert await outcomes(inbox, once) == ["repeated"]
    assert await outcomes(inbox, once, once) == ["repeated"] * 2
    rows = await inbox.next(*NODE, after=0, items=10, size=1000)
    assert len(rows) == 1


async def test_a_repetition_of_what_is_stored_gets_its_receipt_again(
    inbox: Inbox, receipts: list[tuple[str, PeerId]], journal: SqliteJournal
) -> None:
    once = item()
    await outcomes(inbox, once)
    (row,) = await inbox.next(*NODE, after=0, items=10, size=1000)
    await inbox.stored_by_core({row.seq: "manifest"}, "me")
    assert await outcomes(inbox, once) == ["repeated"]  # the receipt still waits to be told
    await InboxStore(journal).drop_receipts("net1", once.sender, through=100)
    assert await outcomes(inbox, once) == ["settled"]
    assert await inbox.knows(once.sender, "net1", once.item_id)
    assert not await inbox.knows(once.sender, "net1", str(uuid.uuid4()))
    assert len(receipts) == 2


async def test_the_same_id_of_another_peer_is_another_item(inbox: Inbox) -> None:
    shared = str(uuid.uuid4())
    assert await outcomes(inbox, item(item_id=shared)) == ["new"]
    assert await outcomes(inbox, item(item_id=shared, peer="bob")) == ["new"]


async def test_unclaimed_items_have_a_smaller_limit(inbox: Inbox) -> None:
    strange = [item(node="unknown") for _ in range(3)]
    assert await outcomes(inbox, *strange) == ["new", "new", "UNKNOWN_DESTINATION"]
    assert await outcomes(inbox, item()) == ["new"]
    await inbox.claim("net1", "unknown")
    assert await outcomes(inbox, strange[2]) == ["new"]
    rows = await inbox.next("net1", "unknown", after=0, items=10, size=1000)
    assert len(rows) == 3


async def test_loads_are_counted_anew_after_a_restart(inbox: Inbox, journal: SqliteJournal) -> None:
    await outcomes(inbox, *(item() for _ in range(3)), item(node="unknown"))
    again = Inbox(InboxStore(journal), LIMITS, Delivery(), lambda _network, _sender: None)
    await again.open()
    assert await outcomes(again, item()) == ["INBOX_FULL"]
    rows = await again.next(*NODE, after=0, items=10, size=1000)
    await again.stored_by_core({row.seq: "" for row in rows}, "me")
    strange = [item(node="unknown") for _ in range(2)]
    assert await outcomes(again, *strange) == ["new", "UNKNOWN_DESTINATION"]


async def test_rows_come_in_pages_by_size(inbox: Inbox) -> None:
    await outcomes(inbox, *(item() for _ in range(4)))
    first = await inbox.next(*NODE, after=0, items=10, size=2)
    rest = await inbox.next(*NODE, after=first[-1].seq, items=10, size=100)
    assert [row.seq for row in (*first, *rest)] == [1, 2, 3, 4]
    assert len(first) == 2


async def test_a_failed_write_takes_no_room(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> list[str]:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(InboxStore, "take_in", full)
        for _ in range(10):
            with pytest.raises(sqlite3.OperationalError):
                await inbox.take([item()], numbered=True)
    assert await outcomes(inbox, *(item() for _ in range(4))) == ["new"] * 4


async def test_who_names_no_node_means_the_only_one(inbox: Inbox) -> None:
    assert inbox.destination("net1", "") == "n1"
    assert inbox.destination("net1", "other") == "other"
    assert inbox.destination("net2", "") == ""
    await inbox.claim("net1", "n2")
    assert inbox.destination("net1", "") == ""
