"""Goal: two data exchanges carry messages and blobs over real mutual TLS: in order, once, with receipts, and whatever
one peer does, the others are served.

Method: exchanges in this process on loopback sockets, each with a small core that stores what arrives; peers that are
dead, change their address or certificate, lose their disk, or come late; connections cut by a proxy.
"""

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from photinus.connector.v1 import common_pb2 as common
from photinus_dx.wire import EXTENSIONS_HEADER, PING_PATH, decode_batch
from photinus_sdk import Exhausted, NotFound, Rejected, StreamKey

from tests.integration.dx.firefly_peer import FireflyPeer, firefly_peer
from tests.integration.dx.harness import NETWORK, moved, pair, settings, side, until, wrapper

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
