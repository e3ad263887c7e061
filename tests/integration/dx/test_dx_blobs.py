"""Goal: a blob is at the peer as it was stored, once, or not at all, whatever breaks on the way.

Method: exchanges in this process on loopback sockets; connections cut by a proxy, files damaged, removed or in the way,
inboxes that are full.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus_dx.blobs import _partial_name
from photinus_dx.model import PeerId
from photinus_sdk import Conflict, NotFound, Rejected

from tests.integration.dx.harness import NETWORK, Side, moved, pair, settings, side, until, wrapper

MIB = 1 << 20


@asynccontextmanager
async def cutting_proxy(port: int, allowances: list[int]) -> AsyncIterator[tuple[int, list[int]]]:
    """Forwards to a port; the first connections end after so many bytes upward. Gives port and bytes of each."""
    passed: list[int] = []

    async def forward(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int | None
    ) -> None:
        try:
            while data := await reader.read(65536):
                if number is not None:
                    passed[number] += len(data)
                    if number < len(allowances) and passed[number] > allowances[number]:
                        break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed.append(0)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(forward(reader, up_writer, len(passed) - 1))
                tasks.create_task(forward(up_reader, writer, None))
        finally:
            writer.close()
            up_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], passed
    finally:
        server.close()
        await server.wait_closed()


def port_of(one: Side) -> int:
    return int(msgspec.json.decode(one.document)["endpoint"].rpartition(":")[2])


async def test_an_interrupted_blob_goes_on_where_it_stopped(tmp_path: Path) -> None:
    content = random.Random(9).randbytes(12 * MIB)
    async with pair(tmp_path) as (alice, bob):
        async with cutting_proxy(port_of(bob), [5 * MIB, 5 * MIB]) as (port, passed):
            await alice.know(moved(bob.document, port))
            ref, data_id = await alice.upload(content)
            await alice.send_blob(bob, ref, data_id)
            await alice.succeeded(1)
            assert await bob.blob(bob.received[0].payload_ref) == content
            assert len(passed) >= 3
            # Whole repetitions would be at least 5 + 5 + 12 MiB; what was not flushed yet is sent again.
            assert sum(passed) < 17 * MIB
            await alice.know(bob)
        assert not list((tmp_path / "b" / "partial").iterdir())


async def test_a_partial_that_rotted_is_thrown_away(tmp_path: Path) -> None:
    content = random.Random(9).randbytes(3 * MIB)
    async with pair(tmp_path) as (alice, bob):
        await alice.know(moved(bob.document, 9))
        ref, data_id = await alice.upload(content)
        item_id = await alice.send_blob(bob, ref, data_id)
        name = _partial_name(PeerId.parse(alice.id), NETWORK, data_id, item_id)
        (tmp_path / "b" / "partial" / name).write_bytes(b"rotten" * 100_000)
        await alice.know(bob)
        await alice.succeeded(1)
        assert await bob.blob(bob.received[0].payload_ref) == content
        assert (bob.id, False) in alice.reachable


async def test_a_blob_damaged_at_the_sender_fails(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        ref, data_id = await alice.upload(b"right" * 1000)
        (tmp_path / "a" / "blobs" / ref).write_bytes(b"wrong" * 1000)
        await alice.send_blob(bob, ref, data_id)
        (update,) = await alice.outcome(1)
        assert update.state == common.OPERATION_STATE_FAILED
        assert "damaged" in update.error
        await alice.send(bob, wrapper("the next one passes"))
        await until(lambda: bob.texts() == ["the next one passes"])


async def test_a_blob_whose_file_is_gone_fails_and_holds_nothing_up(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        ref, data_id = await alice.upload(b"here today")
        (tmp_path / "a" / "blobs" / ref).unlink()
        await alice.send_blob(bob, ref, data_id)
        (update,) = await alice.outcome(1)
        assert update.state == common.OPERATION_STATE_FAILED
        assert "gone" in update.error
        await alice.send(bob, wrapper("the next one passes"))
        await until(lambda: bob.texts() == ["the next one passes"])


async def test_a_blob_too_large_for_the_peer_fails_and_leaves_nothing(tmp_path: Path) -> None:
    tight = settings(limits={"maxBlobBytes": 1000})
    async with pair(tmp_path, two=tight) as (alice, bob):
        ref, data_id = await alice.upload(bytes(1001))
        await alice.send_blob(bob, ref, data_id)
        (update,) = await alice.outcome(1)
        assert update.state == common.OPERATION_STATE_FAILED
        assert "413" in update.error
        assert not list((tmp_path / "b" / "partial").iterdir())
        with pytest.raises(Rejected) as refused:
            await bob.upload(bytes(1001))
        assert refused.value.reason == "BLOB_TOO_LARGE"


async def test_blobs_wait_at_the_sender_while_the_inbox_is_full(tmp_path: Path) -> None:
    tight = settings(limits={"inboxBlobBytesPerPeer": 3 * MIB})
    async with pair(tmp_path, two=tight) as (alice, bob):
        bob.taking.clear()
        for _ in range(3):
            ref, data_id = await alice.upload(random.randbytes(2 * MIB))
            await alice.send_blob(bob, ref, data_id)
        await until(lambda: (bob.id, False) in alice.reachable)
        held = [path.stat().st_size for path in (tmp_path / "b").rglob("*") if path.is_file()]
        assert len([size for size in held if size >= MIB]) == 1  # the second was not even begun
        bob.taking.set()
        await alice.succeeded(3)


# Own blobs.


async def test_the_same_upload_again_gives_the_same_answer(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice") as alice:
        ref, data_id = await alice.upload(b"content")
        assert (await alice.upload(b"content", data_id))[0] == ref
        with pytest.raises(Conflict) as refused:
            await alice.upload(b"other content", data_id)
        assert refused.value.reason == "KEY_REUSED"
        assert await alice.blob(ref) == b"content"
        assert not list((tmp_path / "a" / "partial").iterdir())


async def test_an_upload_that_failed_may_come_again_with_other_bytes(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        in_the_way = tmp_path / "a" / "blobs" / "own"
        in_the_way.write_text("no folder can be made here")
        with pytest.raises(OSError, match="own"):
            await alice.upload(b"first", data_id := str(uuid.uuid4()))
        in_the_way.unlink()
        ref, _ = await alice.upload(b"second, longer", data_id)
        await alice.send_blob(bob, ref, data_id)
        await alice.succeeded(1)
        assert await bob.blob(bob.received[0].payload_ref) == b"second, longer"


async def test_a_blob_is_deleted_once(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice") as alice:
        ref, _ = await alice.upload(b"content")
        assert await alice.exchange.delete_blob(ref)
        assert not await alice.exchange.delete_blob(ref)
        with pytest.raises(NotFound):
            await alice.blob(ref)
        assert not [path for path in (tmp_path / "a" / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "ref", ["", "own/../../journal.sqlite", "/etc/passwd", "../key.pem", "received/x/y/z/w"]
)
async def test_a_reference_that_names_no_blob_reaches_no_file(tmp_path: Path, ref: str) -> None:
    async with side(tmp_path / "a", "alice") as alice:
        with pytest.raises(NotFound):
            await alice.blob(ref)
        assert not await alice.exchange.delete_blob(ref)


class Broken(Exception):
    pass


async def test_a_broken_upload_leaves_nothing(tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        raise Broken

    async with side(tmp_path / "a", "alice") as alice:
        with pytest.raises(Broken):
            await alice.exchange.upload_blob(
                alice.stream, "c0e3b9f2-0b5a-4a26-9f5d-3a4a8f6f0c11", breaking()
            )
        folder = tmp_path / "a"
        assert not [path for name in ("partial", "blobs") for path in (folder / name).iterdir()]


async def test_a_start_sweeps_what_a_crash_left(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice") as alice:
        ref, _ = await alice.upload(b"whole")
        await alice.journal.write(
            lambda db: db.execute(
                "INSERT INTO dx_blobs VALUES ('own/cluster-alice/default/moved', 0, '', 0)"
            )
        )
    moved_file = tmp_path / "a" / "blobs" / "own" / "cluster-alice" / "default" / "moved"
    moved_file.write_bytes(b"moved, but never confirmed")
    (tmp_path / "a" / "partial" / "upload-x").write_bytes(b"half")
    async with side(tmp_path / "a", "alice") as alice:
        assert await alice.blob(ref) == b"whole"
        assert not moved_file.exists()
        assert not list((tmp_path / "a" / "partial").iterdir())
