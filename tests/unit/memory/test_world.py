"""Goal: a world told again from its file is the same world, also when a kill cut the file off; it has a bound.

Method: worlds over files in a temporary folder, compared by what can be seen of them.
"""

from pathlib import Path

import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_memory import World
from photinus_memory.facts import BlobKept, Ended, PeerKnown, Pinned, Sent, Stored, Told
from photinus_memory.world import BYTES_MAX
from photinus_sdk import Exhausted

KEY = "0x" + "a1" * 20


def chain_of(event: events.Event) -> common.ChainEvent:
    body = event.WhichOneof("body")
    assert body is not None
    found: common.ChainEvent = getattr(event, body).chain
    return found


def mine(world: World, name: str, event: events.Event) -> None:
    world.mine(name, KEY, '{"address":"0x1"}', event, chain_of)


def pool() -> events.Event:
    return events.Event(token_pool=events.TokenPoolEvent(pool_locator="p", type="fungible"))


def moved(amount: str, *, to: str = KEY) -> events.Event:
    return events.Event(
        token_transfer=events.TokenTransferEvent(pool_locator="p", to=to, amount=amount)
    )


def sent(name: str, content: bytes | None = None) -> Sent:
    return Sent(name, "i", "c\nns\ncore", "k", "alice/n", "bob/n", "net", b"", content=content)


def fill(world: World) -> None:
    """Some of everything that can happen."""
    mine(world, "t1", pool())
    mine(world, "t2", moved("7"))
    output = common.ChainEvent(output_json='{"x":1}')
    mine(world, "t3", events.Event(contract_event=events.ContractEvent(chain=output)))
    world.record(Stored("ref", b"bytes", "alice"))
    world.record(Pinned("ref", "bob", kept=True))
    world.record(PeerKnown("alice", ("c", "ns"), "bob/n", "{}"))
    world.record(PeerKnown("alice", ("c", "ns"), "carol/n", "{}"))
    world.record(PeerKnown("alice", ("c", "ns"), "carol/n", ""))
    world.record(BlobKept("alice", "b1", b"blob"))
    world.record(BlobKept("alice", "b2", b"gone"))
    world.record(BlobKept("alice", "b2", None))
    for name in ("m1", "m2", "m3"):
        world.record(sent(name, b"copy"))
    world.record(Ended("m2", manifest="stored"))
    world.record(Ended("m3"))
    world.record(Told("m3"))


def seen(world: World) -> object:
    """All that can be seen of a world."""
    return (
        world.id,
        [(b.number, b.transaction, b.kind, b.pool, b.raw) for b in world.ledger],
        world.contracts,
        {name: (p.told, p.balances, p.owners, p.approved) for name, p in world.pools.items()},
        (world.files, world.kept, world.peers, world.blobs),
        (list(world.mail.items()), list(world.ended.items())),
    )


def test_a_kept_world_is_told_again(tmp_path: Path) -> None:
    first = World(tmp_path / "world")
    fill(first)
    before = seen(first)
    first.close()
    again = World(tmp_path / "world")
    assert seen(again) == before
    assert again.pools["p"].balances[KEY] == 7
    assert again.contracts == {'{"address":"0x1"}': {"x": 1}}
    assert list(again.mail) == ["m1"]
    assert list(again.ended) == ["m2"]
    assert again.blobs == {
        ("alice", "b1"): b"blob",
        ("bob", "m1"): b"copy",
        ("bob", "m2"): b"copy",
        ("bob", "m3"): b"copy",
    }
    again.close()


def test_what_a_kill_cut_off_is_dropped_and_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "world"
    world = World(file)
    world.record(Stored("a", b"1", "m"))
    whole = file.read_bytes()
    world.record(Stored("b", b"2", "m"))
    world.close()
    written = file.read_bytes()
    for size in range(len(whole), len(written)):
        file.write_bytes(written[:size])
        cut = World(file)
        assert list(cut.files) == ["a"]
        cut.record(Stored("c", b"3", "m"))
        cut.close()
        again = World(file)
        assert (list(again.files), again.id) == (["a", "c"], world.id)
        again.close()


def test_worlds_in_memory_differ_and_write_nothing(tmp_path: Path) -> None:
    first, second = World(), World()
    assert first.id != second.id
    assert not first.is_kept
    first.close()
    assert not list(tmp_path.iterdir())


def test_a_transaction_is_mined_once() -> None:
    world = World()
    mine(world, "t", pool())
    mine(world, "t", pool())
    assert world.head == 1
    block = world.ledger[0]
    assert (block.number, block.chain.protocol_id) == (1, "000000000001/000000/000000")
    assert block.event().id == block.chain.protocol_id


def test_every_change_wakes_who_waits() -> None:
    world = World()
    before = world.changed
    world.record(Stored("a", b"1", "m"))
    assert before.is_set()
    assert not world.changed.is_set()


def test_a_world_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.check_room(BYTES_MAX)
    monkeypatch.setattr("photinus_memory.world.BYTES_MAX", 10)
    world.record(Stored("a", b"12345678", "m"))
    world.record(Stored("a", b"12345678", "n"))
    world.check_room(2)
    with pytest.raises(Exhausted):
        world.check_room(3)
    world.record(BlobKept("m", "b", b"12"))
    with pytest.raises(Exhausted):
        world.check_room(1)
    world.record(BlobKept("m", "b", None))
    world.check_room(2)
