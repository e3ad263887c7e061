"""Goal: a FireFly peer, which knows none of our extensions, is served and understood.

Method: a peer written from FireFly's format (`firefly_peer`), both as receiver and as sender.
"""

import json
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus_dx.settings import Settings

from tests.integration.dx.firefly_peer import FireflyPeer, certified, firefly_peer
from tests.integration.dx.harness import NETWORK, Side, side, until, wrapper

MIB = 1 << 20
HEADERS_OF_OURS = "x-photinus"


@asynccontextmanager
async def mixed(
    folder: Path, given: Settings | None = None, name: str = "fred"
) -> AsyncIterator[tuple[Side, FireflyPeer]]:
    """One of ours and a FireFly peer that know each other."""
    async with side(folder / "a", "alice", given) as alice:
        trusted = msgspec.json.decode(alice.document)["cert"]
        async with firefly_peer(folder / "f", name, trusted) as fred:
            await alice.know(fred.document)
            yield alice, fred


def endpoint_of(one: Side) -> str:
    return str(msgspec.json.decode(one.document)["endpoint"])


async def test_a_message_is_sent_as_fireflys_form_and_ends_with_its_acceptance(
    tmp_path: Path,
) -> None:
    async with mixed(tmp_path) as (alice, fred):
        message = wrapper("café \N{SNOWMAN} <&> \\u0000")
        await alice.send(fred.id, message)
        (update,) = await alice.succeeded(1)
        assert fred.messages == [
            {
                "senderDestination": "node-alice",
                "recipientDestination": "node-fred",
                "message": message,
            }
        ]
        assert update.manifest == ""
        assert "accepted" in json.loads(update.output_json)["receipt"]
        assert fred.requests == ["HEAD /api/v1/ping", "POST /api/v1/messages"]
        assert not [key for sent in fred.headers for key in sent if key.lower() == HEADERS_OF_OURS]


async def test_a_blob_is_sent_whole_in_fireflys_form_before_its_message(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred):
        content = random.Random(2).randbytes(3 * MIB + 5)
        ref, data_id = await alice.upload(content)
        await alice.send_blob(fred.id, ref, data_id)
        await alice.send(fred.id, wrapper("after"))
        await alice.succeeded(2)
        destinations = {"senderDestination": "node-alice", "recipientDestination": "node-fred"}
        assert fred.blobs == [(f"/{NETWORK}/{data_id}", destinations, content)]
        assert fred.requests[1:] == [
            f"PUT /api/v1/blobs/{NETWORK}/{data_id}",
            "POST /api/v1/messages",
        ]


async def test_order_is_kept_over_refusals(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred):
        fred.refusals = [500, 503, 429, 404]
        for number in range(10):
            await alice.send(fred.id, wrapper(str(number)))
        await alice.succeeded(10)
        texts = [json.loads(one["message"])["batch"]["payload"]["text"] for one in fred.messages]
        assert texts == [str(number) for number in range(10)]


async def test_what_it_will_never_take_fails_alone(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred):
        fred.refusals = [413]
        await alice.send(fred.id, wrapper("too large for it"))
        await alice.send(fred.id, wrapper("fine"))
        found = await alice.outcome(2)
        states = [update.state for update in found]
        assert states == [common.OPERATION_STATE_FAILED, common.OPERATION_STATE_SUCCEEDED]
        assert "413" in found[0].error
        assert "queue full" in found[0].error


async def test_its_message_is_received_once_though_it_repeats(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred):
        message = wrapper("again and again")
        for _ in range(3):
            assert await fred.send_message(endpoint_of(alice), "node-alice", message) == 204
        assert await fred.send_message(endpoint_of(alice), "node-alice", wrapper("next")) == 204
        await until(lambda: len(alice.received) == 2)
        (row, _) = alice.received
        assert (row.message, row.sender) == (message, "fred/node-fred")
        # No receipt is owed to a peer that does not number its messages.
        assert not await alice.journal.write(
            lambda db: db.execute("SELECT * FROM dx_receipts").fetchall()
        )


async def test_its_blob_is_received(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred):
        content = random.Random(4).randbytes(2 * MIB + 77)
        data_id = str(uuid.uuid4())
        path = f"/{NETWORK}/{data_id}"
        for _ in range(2):
            sent = await fred.send_blob(endpoint_of(alice), "node-alice", path, content)
            assert sent == 204
        await until(lambda: bool(alice.received))
        (row,) = alice.received
        assert (row.sender, row.data_id, row.size) == ("fred/node-fred", data_id, len(content))
        assert await alice.blob(row.payload_ref) == content
        assert not list((tmp_path / "a" / "partial").iterdir())


async def test_another_blob_under_its_name_does_not_replace_the_first(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred):
        path = f"/{NETWORK}/{uuid.uuid4()}"
        for content in (b"first", b"second"):
            assert await fred.send_blob(endpoint_of(alice), "node-alice", path, content) == 204
        await until(lambda: len(alice.received) == 2)
        assert [await alice.blob(row.payload_ref) for row in alice.received] == [
            b"first",
            b"second",
        ]


async def test_a_peer_without_destinations_means_the_only_node(tmp_path: Path) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="message"\r\n\r\n%s\r\n--b--\r\n'
    body %= wrapper("for whoever is there").encode()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with mixed(tmp_path) as (alice, fred), fred.session() as session:
        url = f"{endpoint_of(alice)}/api/v1/messages"
        async with session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 204
        await until(lambda: bool(alice.received))
        assert (alice.received[0].sender, alice.received[0].node) == ("fred", "node-alice")


async def test_a_peer_whose_certificate_a_ca_issued(tmp_path: Path) -> None:
    """Its description has the CA beside the leaf; only the leaf is trusted, in both directions."""
    ca = certified("some authority")
    leaf = certified("fred", issuer=ca)
    async with side(tmp_path / "a", "alice") as alice:
        trusted = msgspec.json.decode(alice.document)["cert"]
        async with firefly_peer(tmp_path / "f", "fred", trusted, leaf) as fred:
            bundle = json.loads(fred.document) | {"cert": ca.pem + leaf.pem}
            await alice.know(json.dumps(bundle))
            await alice.send(fred.id, wrapper("to fred"))
            await alice.succeeded(1)
            assert await fred.send_message(endpoint_of(alice), alice.node, wrapper("back")) == 204
            await until(lambda: alice.texts() == ["back"])
            sibling = certified("fred", issuer=ca)
            stranger = FireflyPeer("fred", fred.node, tmp_path / "s", sibling, trusted)
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await stranger.send_message(endpoint_of(alice), alice.node, wrapper("no"))


async def test_the_ping_names_the_extensions(tmp_path: Path) -> None:
    async with mixed(tmp_path) as (alice, fred), fred.session() as session:
        answer = await session.head(f"{endpoint_of(alice)}/api/v1/ping")
        assert answer.status == 204
        assert answer.headers["X-Photinus-Extensions"] == "batch, receipts, resume"
