"""Goal: two data exchanges carry messages and blobs over real mutual TLS: in order, once, with receipts, and whatever
one peer does, the others are served.

Method: exchanges in this process on loopback sockets, each with a small core that stores what arrives; peers that are
dead, change their address or certificate, lose their disk, or come late; connections cut by a proxy.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from photinus.connector.v1 import common_pb2 as common
from photinus_dx.blobs import _partial_name
from photinus_dx.model import PeerId
from photinus_dx.wire import EXTENSIONS_HEADER, PING_PATH, decode_batch
from photinus_sdk import Conflict, Exhausted, NotFound, Rejected, StreamKey

from tests.integration.dx.firefly_peer import FireflyPeer, firefly_peer
from tests.integration.dx.harness import NETWORK, Side, pair, settings, side, until, wrapper

MIB = 1 << 20
PIECES_APART_TURNS = 200
"""Turns of the loop, which both ends share, until a piece has certainly been read."""


async def test_a_message_arrives_and_its_receipt_returns(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        message = wrapper("hello")
        item_id = await alice.send(bob, message, key="default:k")
        (update,) = await alice.succeeded(1)
        (row,) = bob.received
        assert (row.message, row.sender, row.node) == (message, "alice/node-alice", "node-bob")
        assert bob.exchange.recipient(row) == bob.id == "bob/node-bob"
        assert update.idempotency_key == "default:k"
        assert update.manifest == f"manifest of {row.seq}"
        assert update.external_id == item_id
        assert alice.reachable == [("bob/node-bob", True)]


async def test_nothing_ends_before_the_receiving_core_has_stored_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        bob.taking.clear()
        await alice.send(bob, wrapper("first"))
        await until(lambda: bool(alice.reachable))
        await alice.send(bob, wrapper("second"))
        assert not await alice.updates()
        bob.taking.set()
        await alice.succeeded(2)


async def test_many_messages_keep_their_order(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        texts = [str(number) for number in range(700)]
        for text in texts:
            await alice.send(bob, wrapper(text, padding=random.Random(text).randrange(9_000)))
        await alice.succeeded(len(texts))
        assert bob.texts() == texts


async def test_both_ways_at_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        for number in range(50):
            await alice.send(bob, wrapper(f"a{number}"))
            await bob.send(alice, wrapper(f"b{number}"))
        await alice.succeeded(50)
        await bob.succeeded(50)
        assert alice.texts() == [f"b{number}" for number in range(50)]
        assert bob.texts() == [f"a{number}" for number in range(50)]


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 17])
async def test_a_blob_arrives_before_the_message_behind_it(tmp_path: Path, size: int) -> None:
    async with pair(tmp_path) as (alice, bob):
        content = random.Random(size).randbytes(size)
        await alice.send(bob, wrapper("before"))
        ref, data_id = await alice.upload(content)
        await alice.send_blob(bob, ref, data_id)
        await alice.send(bob, wrapper("after"))
        updates = await alice.succeeded(3)
        before, blob, after = bob.received
        assert (before.message, after.message) != ("", "")
        assert (blob.data_id, blob.network, blob.size) == (data_id, NETWORK, size)
        assert await bob.blob(blob.payload_ref) == content
        assert blob.hash in {update.hash for update in updates}


async def test_a_received_blob_can_be_sent_on(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        ref, data_id = await alice.upload(b"pass it on")
        await alice.send_blob(bob, ref, data_id)
        await until(lambda: bool(bob.received))
        await bob.send_blob(alice, bob.received[0].payload_ref, data_id)
        await until(lambda: bool(alice.received))
        assert await alice.blob(alice.received[0].payload_ref) == b"pass it on"


async def test_a_key_sends_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        bob.taking.clear()
        message = wrapper("once")
        ids = [await alice.send(bob, message, key="default:k") for _ in range(3)]
        assert len(set(ids)) == 1
        bob.taking.set()
        await alice.succeeded(1)
        await alice.send(bob, wrapper("last"))
        await alice.succeeded(2)
        assert bob.texts() == ["once", "last"]


async def test_a_sender_that_lost_its_disk_hears_that_it_was_delivered(tmp_path: Path) -> None:
    """Its core sends again under the same key; the receiver remembers, its core is not bothered."""
    async with side(tmp_path / "b", "bob") as bob:
        async with side(tmp_path / "a", "alice") as alice:
            await alice.know(bob)
            await bob.know(alice)
            ref, data_id = await alice.upload(b"content")
            await alice.send(bob, wrapper("once"), key="default:k")
            await alice.send_blob(bob, ref, data_id, key="default:b")
            assert (await alice.succeeded(2))[0].manifest
        for path in (tmp_path / "a").glob("journal.*"):
            path.unlink()
        async with side(tmp_path / "a", "alice") as alice:
            await alice.know(bob)
            await bob.know(alice)
            ref, data_id = await alice.upload(b"content", data_id)
            await alice.send(bob, wrapper("once"), key="default:k")
            await alice.send_blob(bob, ref, data_id, key="default:b")
            await alice.succeeded(2)
        assert len(bob.received) == 2


class StutteringPeer(FireflyPeer):
    """Takes batches, and answers each in two pieces."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == PING_PATH:
            return web.Response(status=204, headers={EXTENSIONS_HEADER: "batch"})
        self.messages += [{"message": item.message} for item in decode_batch(await request.read())]
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in (b'[{"status":', b"204}]"):
            await answer.write(piece)
            for _ in range(PIECES_APART_TURNS):
                await asyncio.sleep(0)
        return answer


async def test_an_answer_may_come_in_pieces(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice") as alice:
        trusted = msgspec.json.decode(alice.document)["cert"]
        async with firefly_peer(tmp_path / "f", "fred", trusted, kind=StutteringPeer) as fred:
            await alice.know(fred.document)
            message = wrapper("once")
            await alice.send(fred.id, message)
            await alice.succeeded(1)
            assert fred.messages == [{"message": message}]


async def test_a_dead_peer_delays_nobody(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        async with side(tmp_path / "c", "carol") as carol:
            dead = carol.document
        await alice.know(dead)
        for number in range(20):
            await alice.send("carol/node-carol", wrapper(f"c{number}"))
            await alice.send(bob, wrapper(f"b{number}"))
        await alice.succeeded(20)
        assert len(bob.received) == 20
        assert ("carol/node-carol", False) in alice.reachable
        async with side(tmp_path / "c", "carol") as carol:  # the same port and certificate
            await carol.know(alice)
            await alice.succeeded(40)
            assert carol.texts() == [f"c{number}" for number in range(20)]
        assert alice.reachable[-1] == ("carol/node-carol", True)


async def test_a_slow_peer_delays_nobody(tmp_path: Path) -> None:
    """Carol takes connections and never answers."""
    hung = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung.wait()
        writer.close()

    async with pair(tmp_path) as (alice, bob):
        async with side(tmp_path / "c", "carol") as carol:
            document = carol.document
        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        await alice.know(moved(document, server.sockets[0].getsockname()[1]))
        for number in range(20):
            await alice.send("carol/node-carol", wrapper(f"c{number}"))
            await alice.send(bob, wrapper(f"b{number}"))
        await alice.succeeded(20)
        assert len(bob.received) == 20
        hung.set()
        server.close()


def moved(document: str, port: int) -> str:
    fields = msgspec.json.decode(document)
    return msgspec.json.encode(fields | {"endpoint": f"https://127.0.0.1:{port}"}).decode()


async def test_a_peer_that_moves_is_found_at_once(tmp_path: Path) -> None:
    patient = settings({"backoffInitialS": 60.0, "backoffMaxS": 60.0})
    async with pair(tmp_path, one=patient) as (alice, bob):
        right = bob.document
        await alice.know(moved(right, 9))
        await alice.send(bob, wrapper("hello"))
        await until(lambda: (bob.id, False) in alice.reachable)
        await alice.know(right)
        await alice.succeeded(1)


async def test_a_new_certificate_counts_and_the_old_one_does_not(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice") as alice:
        async with side(tmp_path / "old", "bob") as bob:
            await alice.know(bob)
            await bob.know(alice)
            await bob.send(alice, wrapper("with the old one"))
            await until(lambda: alice.texts() == ["with the old one"])
            old = bob.document
            async with side(tmp_path / "new", "bob") as renewed:
                assert renewed.document != old
                await renewed.know(alice)
                await renewed.send(alice, wrapper("too early"))
                await until(lambda: (alice.id, False) in renewed.reachable)
                assert "too early" not in alice.texts()
                await alice.know(renewed)
                await until(lambda: "too early" in alice.texts())
                # The old connection is still open: it is refused by its certificate.
                await bob.send(alice, wrapper("with the old one again"))
                await until(lambda: (alice.id, False) in bob.reachable)
                await alice.send(renewed, wrapper("to the new one"))
                await until(lambda: renewed.texts() == ["to the new one"])
        assert alice.texts() == ["with the old one", "too early"]


async def test_a_removed_peer_is_refused_and_its_sends_fail(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        await bob.send(alice, wrapper("before"))
        await bob.succeeded(1)
        alice.taking.clear()
        bob.taking.clear()
        await alice.send(bob, wrapper("in flight"))
        assert await alice.exchange.remove_peer(alice.stream, bob.id)
        (update,) = await alice.outcome(1)
        assert update.state == common.OPERATION_STATE_FAILED
        assert "removed" in update.error
        assert not await alice.exchange.remove_peer(alice.stream, bob.id)
        with pytest.raises(NotFound) as refused:
            await alice.send("bob/node-bob", wrapper("no"))
        assert refused.value.reason == "UNKNOWN_PEER"
        await bob.send(alice, wrapper("after"))
        await until(lambda: (alice.id, False) in bob.reachable)
        alice.taking.set()
        assert alice.texts() == ["before"]


async def test_namespaces_do_not_share_peers(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        other = StreamKey(alice.stream.cluster_id, "other", "core")
        with pytest.raises(NotFound):
            alice.exchange.check_ends(other, bob.id, alice.id)


async def test_a_peer_speaks_only_in_networks_it_is_registered_in(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        await alice.send(bob, wrapper("elsewhere", network="net2"))
        await until(lambda: (bob.id, False) in alice.reachable)
        assert not bob.received
        await bob.exchange.add_peer(
            StreamKey(bob.stream.cluster_id, "second", "core"), "net2", alice.document
        )
        # Nobody asks for that network's messages yet: they are kept.
        await until(lambda: alice.reachable[-1] == (bob.id, True))
        second = bob.exchange.receive("net2", bob.node, 10, MIB)
        (row,) = await anext(second)
        assert row.network == "net2"


async def test_a_full_inbox_holds_its_peer_back_and_loses_nothing(tmp_path: Path) -> None:
    tight = settings(limits={"inboxMessagesPerPeer": 5})
    async with pair(tmp_path, two=tight) as (alice, bob):
        bob.taking.clear()
        texts = [str(number) for number in range(30)]
        for text in texts:
            await alice.send(bob, wrapper(text))
        await until(lambda: (bob.id, False) in alice.reachable)
        bob.taking.set()
        await alice.succeeded(30)
        assert bob.texts() == texts


async def test_items_nobody_asked_for_are_kept_within_their_bound(tmp_path: Path) -> None:
    tight = settings(limits={"unclaimedMessagesPerPeer": 3})
    async with (
        side(tmp_path / "a", "alice") as alice,
        side(tmp_path / "b", "bob", tight, takes=False) as bob,
    ):
        await alice.know(bob)
        await bob.know(alice)
        for number in range(6):
            await alice.send(bob, wrapper(str(number)))
        await until(lambda: (bob.id, False) in alice.reachable)
        async with asyncio.TaskGroup() as tasks:
            core = tasks.create_task(bob.take())
            await alice.succeeded(6)
            core.cancel()
        assert bob.texts() == [str(number) for number in range(6)]


async def test_a_send_can_be_withdrawn_until_it_is_tried(tmp_path: Path) -> None:
    async with pair(tmp_path) as (alice, bob):
        async with side(tmp_path / "c", "carol") as carol:
            dead = carol.document
        await alice.know(dead)
        await alice.send("carol/node-carol", wrapper("no"), key="default:withdrawn")
        assert await alice.exchange.withdraw(alice.stream, "default:withdrawn")
        assert not await alice.exchange.withdraw(alice.stream, "default:withdrawn")
        bob.taking.clear()
        await alice.send(bob, wrapper("yes"), key="default:sent")
        await until(lambda: (bob.id, True) in alice.reachable)
        assert not await alice.exchange.withdraw(alice.stream, "default:sent")
        bob.taking.set()
        ends = {each.idempotency_key: each.state for each in await alice.outcome(2)}
        assert ends == {
            "default:withdrawn": common.OPERATION_STATE_CANCELLED,
            "default:sent": common.OPERATION_STATE_SUCCEEDED,
        }


async def test_limits_of_sends_have_their_errors(tmp_path: Path) -> None:
    tight = settings(limits={"maxMessageBytes": 1000, "outboxMessages": 2, "maxPeers": 2})
    async with pair(tmp_path, one=tight) as (alice, bob):
        bob.taking.clear()
        cases: list[tuple[str, str]] = [
            (wrapper("x", padding=1000), "MESSAGE_TOO_LARGE"),
            ("not json", "MALFORMED_MESSAGE"),
            ('{"batch":{}}', "MALFORMED_MESSAGE"),
            ('{"batch":{"namespace":"../x"}}', "MALFORMED_MESSAGE"),
        ]
        for message, reason in cases:
            with pytest.raises(Rejected) as refused:
                await alice.send(bob, message)
            assert refused.value.reason == reason
        with pytest.raises(Rejected) as refused:
            alice.exchange.check_ends(alice.stream, bob.id, "mallory/node")
        assert refused.value.reason == "UNKNOWN_SENDER"
        for number in range(2):
            await alice.send(bob, wrapper(str(number)))
        with pytest.raises(Exhausted) as full:
            await alice.send(bob, wrapper("one too many"))
        assert full.value.reason == "OUTBOX_FULL"
        bob.taking.set()
        await alice.succeeded(2)
        await alice.send(bob, wrapper("fits again"))
        await alice.know(bob.document.replace("node-bob", "node-2"))
        with pytest.raises(Exhausted) as full:
            await alice.know(bob.document.replace("node-bob", "node-3"))
        assert full.value.reason == "TOO_MANY_PEERS"


async def test_what_could_not_be_delivered_in_time_fails(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice", settings({"giveUpAfterS": 0.3})) as alice:
        async with side(tmp_path / "b", "bob") as bob:
            dead = bob.document
        await alice.know(dead)
        await alice.send("bob/node-bob", wrapper("too late"))
        (update,) = await alice.outcome(1)
        assert update.state == common.OPERATION_STATE_FAILED
        assert "Not delivered in time" in update.error


async def test_a_receiver_that_lost_its_disk_gets_it_again(tmp_path: Path) -> None:
    """It had answered 204, and then forgot: no receipt comes, so the sender asks again."""
    async with side(tmp_path / "a", "alice", settings({"receiptResendS": 0.3})) as alice:
        async with side(tmp_path / "b", "bob") as bob:
            await alice.know(bob)
            await bob.know(alice)
            bob.taking.clear()
            await alice.send(bob, wrapper("remember me"))
            await until(lambda: (bob.id, True) in alice.reachable)
            listen = bob.exchange.endpoint("").peer_json
        for path in (tmp_path / "b").glob("journal.*"):
            path.unlink()
        address = msgspec.json.decode(listen)["endpoint"].removeprefix("https://")
        async with side(tmp_path / "b", "bob", settings(listen=address)) as bob:
            await bob.know(alice)
            await alice.succeeded(1)
            assert bob.texts() == ["remember me"]


# Blobs on bad lines.


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


async def test_a_restart_keeps_identity_address_and_peers(tmp_path: Path) -> None:
    async with side(tmp_path / "a", "alice") as alice, side(tmp_path / "b", "bob") as bob:
        await alice.know(bob)
        before = alice.document
        key = tmp_path / "a" / "key.pem"
        assert key.stat().st_mode & 0o777 == 0o600
    async with side(tmp_path / "a", "alice") as alice, side(tmp_path / "b", "bob") as bob:
        assert alice.document == before
        await bob.know(alice)
        await alice.send(bob, wrapper("still known"))
        await alice.succeeded(1)
