"""Goal: what a stranger or a hostile member sends is refused with a named error, and leaves nothing behind.

Method: TLS connections with certificates nobody knows, or that a member forged; requests no honest peer makes, by a
registered peer that otherwise speaks FireFly's format. Afterwards an honest message must still pass.
"""

import asyncio
import hashlib
import io
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from photinus_dx.settings import Settings

from tests.integration.dx.firefly_peer import FireflyPeer, certified, context_of, firefly_peer
from tests.integration.dx.harness import NETWORK, Side, settings, side, until, wrapper

MIB = 1 << 20
DATA_ID = "c0e3b9f2-0b5a-4a26-9f5d-3a4a8f6f0c11"
ITEM_ID = "11111111-2222-4333-8444-555555555555"
REFUSED = (aiohttp.ClientError, ssl.SSLError, ConnectionError)


@asynccontextmanager
async def hostile(
    folder: Path, given: Settings | None = None
) -> AsyncIterator[tuple[Side, FireflyPeer, aiohttp.ClientSession]]:
    """One of ours, a registered peer that means harm, and its connection."""
    async with (
        side(folder / "a", "alice", given) as alice,
        firefly_peer(folder / "m", "mallory", cert_of(alice)) as mallory,
        mallory.session() as session,
    ):
        await alice.know(mallory.document)
        yield alice, mallory, session


def cert_of(one: Side) -> str:
    return str(msgspec.json.decode(one.document)["cert"])


def url_of(one: Side, path: str) -> str:
    return f"{msgspec.json.decode(one.document)['endpoint']}{path}"


async def still_serves(alice: Side, mallory: FireflyPeer) -> None:
    """Nothing that was sent before stands in the way of an honest message, or came through."""
    endpoint = url_of(alice, "")
    text = str(uuid.uuid4())
    assert await mallory.send_message(endpoint, alice.node, wrapper(text)) == 204
    await until(lambda: bool(alice.received))
    assert alice.texts() == [text]


def nothing_left(folder: Path) -> bool:
    places = [folder / "a" / name for name in ("partial", "blobs")]
    return not [path for place in places for path in place.rglob("*") if path.is_file()]


# Who may connect.


@pytest.mark.parametrize("kind", ["stranger", "same name, other key"])
async def test_only_the_registered_certificate_itself_is_let_in(tmp_path: Path, kind: str) -> None:
    async with hostile(tmp_path) as (alice, mallory, _), side(tmp_path / "b", "bob") as bob:
        await alice.know(bob)
        pair = {
            "stranger": certified("stranger"),
            "same name, other key": certified("bob"),
        }[kind]
        context = context_of(pair, tmp_path / "evil", cert_of(alice))
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(REFUSED):
                await session.head(url_of(alice, "/api/v1/ping"))
        await still_serves(alice, mallory)


async def test_a_member_cannot_make_certificates_for_others(tmp_path: Path) -> None:
    """Mallory's certificate is trusted and is a CA, so the handshake passes: the request does not."""
    async with hostile(tmp_path) as (alice, mallory, _), side(tmp_path / "b", "bob") as bob:
        await alice.know(bob)
        forged = certified("bob", issuer=mallory.pair)
        context = context_of(forged, tmp_path / "evil", cert_of(alice))
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            body = form(wrapper("x"))
            async with session.post(url_of(alice, "/api/v1/messages"), data=body) as answer:
                assert answer.status == 403
                assert "UNKNOWN_CERTIFICATE" in await answer.text()
        await still_serves(alice, mallory)


async def test_without_a_certificate_nobody_is_let_in(tmp_path: Path) -> None:
    async with hostile(tmp_path) as (alice, _mallory, _):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=cert_of(alice))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            with pytest.raises(REFUSED):
                await session.head(url_of(alice, "/api/v1/ping"))


async def test_we_do_not_talk_to_an_impostor_of_a_peer(tmp_path: Path) -> None:
    """Something at the peer's address that shows another certificate gets no message."""
    async with (
        side(tmp_path / "a", "alice") as alice,
        firefly_peer(tmp_path / "m", "bob", cert_of(alice)) as impostor,
        firefly_peer(tmp_path / "b", "bob", cert_of(alice)) as bob,
    ):
        document = json.loads(bob.document)
        endpoint = json.loads(impostor.document)["endpoint"]
        await alice.know(json.dumps(document | {"endpoint": endpoint}))
        await alice.send(bob.id, wrapper("secret"))
        await until(lambda: (bob.id, False) in alice.reachable)
        assert not impostor.requests
        await alice.know(bob.document)
        await alice.succeeded(1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "other/node"}, "INVALID_CERTIFICATE"),
        ({"id": "mallory/../x"}, "INVALID_PEER_ID"),
        ({"id": ""}, "INVALID_PEER_ID"),
        ({"id": "mallory\n/x"}, "INVALID_PEER_ID"),
        ({"endpoint": "http://127.0.0.1:1"}, "INVALID_PEER"),
        ({"endpoint": "https://user@host"}, "INVALID_PEER"),
        ({"cert": "no certificate"}, "INVALID_CERTIFICATE"),
        ({"cert": "x" * 100_000}, "INVALID_CERTIFICATE"),
        ({"cert": None}, "INVALID_PEER"),
    ],
)
async def test_a_peer_that_cannot_be_is_not_registered(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    async with hostile(tmp_path) as (alice, mallory, _):
        document = json.dumps(json.loads(mallory.document) | change)
        with pytest.raises(Exception, match=r".") as refused:
            await alice.know(document)
        assert getattr(refused.value, "reason", "") == reason


# Who may speak for whom.


def form(message: str, **fields: str) -> aiohttp.FormData:
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        made.add_field(name, value)
    made.add_field("message", message)
    return made


async def test_the_sender_is_never_read_from_the_body(tmp_path: Path) -> None:
    async with hostile(tmp_path) as (alice, _mallory, session), side(tmp_path / "b", "bob") as bob:
        await alice.know(bob)
        body = form(wrapper("x"), sender=bob.id, senderDestination="node-x")
        async with session.post(url_of(alice, "/api/v1/messages"), data=body) as answer:
            assert answer.status == 204
        await until(lambda: bool(alice.received))
        assert alice.received[0].sender == "mallory/node-x"


async def test_a_node_of_another_certificate_cannot_be_named(tmp_path: Path) -> None:
    """Two members whose certificates prove one name: each may name its own node only."""
    async with hostile(tmp_path) as (alice, mallory, session):
        twin = certified("mallory")
        twin_document = json.loads(mallory.document) | {"id": "mallory/twin", "cert": twin.pem}
        await alice.know(json.dumps(twin_document))
        body = form(wrapper("x"), senderDestination="twin")
        async with session.post(url_of(alice, "/api/v1/messages"), data=body) as answer:
            assert (answer.status, await answer.json()) == (
                403,
                {"error": answer_text("NOT_A_MEMBER", "mallory/twin")},
            )
        await still_serves(alice, mallory)


def answer_text(reason: str, sender: str) -> str:
    return f"{reason}: {sender} is not registered in network '{NETWORK}' with this certificate"


async def test_a_receipt_counts_only_from_the_receiver_of_the_item(tmp_path: Path) -> None:
    async with hostile(tmp_path) as (alice, mallory, session), side(tmp_path / "b", "bob") as bob:
        await alice.know(bob)
        await bob.know(alice)
        bob.taking.clear()
        item_id = await alice.send(bob, wrapper("for bob"))
        receipts = [{"item": item_id, "recipient": bob.id, "manifest": "forged"}]
        url = url_of(alice, "/api/v1/photinus/receipts")
        async with session.post(url, json=receipts) as answer:
            assert answer.status == 204
        assert not await alice.updates()
        bob.taking.set()
        (update,) = await alice.succeeded(1)
        assert update.manifest.startswith("manifest of")
        await still_serves(alice, mallory)


# What they may send.

LONG = 4 * MIB
BAD_MESSAGES: list[tuple[str, dict[str, Any], int, str]] = [
    ("no form", {"data": b"x"}, 400, "BAD_FORM"),
    (
        "form without end",
        {"data": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        400,
        "BAD_FORM",
    ),
    (
        "part without name",
        {
            "data": b"--b\r\nX: y\r\n\r\nz\r\n--b--\r\n",
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        400,
        "BAD_FORM",
    ),
    ("no message", {"data": form("x")}, 400, "MALFORMED_MESSAGE"),
    ("no batch", {"data": form('{"group":{}}')}, 400, "MALFORMED_MESSAGE"),
    ("bad network", {"data": form('{"batch":{"namespace":"../.."}}')}, 400, "MALFORMED_MESSAGE"),
    ("network of others", {"data": form(wrapper("x", network="net9"))}, 403, "NOT_A_MEMBER"),
    (
        "bad sender node",
        {"data": form(wrapper("x"), senderDestination="../x")},
        400,
        "BAD_DESTINATION",
    ),
    (
        "bad recipient node",
        {"data": form(wrapper("x"), recipientDestination="a/b")},
        400,
        "BAD_DESTINATION",
    ),
    (
        "too large",
        {
            "data": io.BytesIO(
                b'--b\r\nContent-Disposition: form-data; name="message"\r\n\r\n'
                + bytes(LONG)
                + b"\r\n--b--\r\n"
            ),
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        413,
        "MESSAGE_TOO_LARGE",
    ),
]


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [case[1:] for case in BAD_MESSAGES],
    ids=[case[0] for case in BAD_MESSAGES],
)
async def test_a_bad_message_is_refused(
    tmp_path: Path, request_: dict[str, Any], status: int, reason: str
) -> None:
    async with hostile(tmp_path) as (alice, mallory, session):
        try:
            async with session.post(url_of(alice, "/api/v1/messages"), **request_) as answer:
                assert answer.status == status
                assert (await answer.json())["error"].startswith(reason)
        except aiohttp.ClientError:
            # A refusal before the body was read can close the connection under a sender that does not look.
            assert status == 413
        await still_serves(alice, mallory)


async def test_a_body_without_a_length_is_limited_too(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="message"\r\n\r\n'
        for _ in range(64):
            yield bytes(MIB)

    async with hostile(tmp_path) as (alice, mallory, session):
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        try:
            async with session.post(
                url_of(alice, "/api/v1/messages"), data=endless(), headers=headers
            ) as answer:
                assert answer.status == 413
        except aiohttp.ClientError:
            pass  # closed under us
        await still_serves(alice, mallory)


@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"\x00\x00\x00\x02\x00\x00\x00\x00{}", b"\xff" * 64]
)
async def test_a_bad_batch_is_refused(tmp_path: Path, body: bytes) -> None:
    async with hostile(tmp_path) as (alice, mallory, session):
        url = url_of(alice, "/api/v1/photinus/messages")
        async with session.post(url, data=body) as answer:
            if body:
                assert answer.status == 400
                assert (await answer.json())["error"].startswith("BAD_BATCH")
            else:
                assert (answer.status, await answer.json()) == (200, [])
        await still_serves(alice, mallory)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'[{"item":1}]', b"[" + b'{"item":"x","recipient":""},' * 600]
)
async def test_bad_receipts_are_refused(tmp_path: Path, body: bytes) -> None:
    async with hostile(tmp_path) as (alice, mallory, session):
        url = url_of(alice, "/api/v1/photinus/receipts")
        async with session.post(url, data=body) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"].startswith("BAD_RECEIPTS")
        await still_serves(alice, mallory)


async def test_unknown_routes_are_refused(tmp_path: Path) -> None:
    async with hostile(tmp_path) as (alice, mallory, session):
        for method, path in [("GET", "/"), ("POST", "/api/v1/ping"), ("DELETE", "/api/v1/blobs/x")]:
            async with session.request(method, url_of(alice, path)) as answer:
                assert answer.status == 404
        await still_serves(alice, mallory)


# Blobs.


async def raw_request(alice: Side, mallory: FireflyPeer, head: str, body: bytes = b"") -> bytes:
    """A request as written, without a library that tidies its path. Gives the status line."""
    host, port = msgspec.json.decode(alice.document)["endpoint"].removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=mallory.client_context(), server_hostname="x"
    )
    text = f"{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    text += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    writer.write(text.encode() + body)
    await writer.drain()
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    return line


FILE = b'--b\r\nContent-Disposition: form-data; name="blob"; filename="x"\r\n\r\nevil\r\n--b--\r\n'
TRAVERSALS = [
    f"../../../../var/{DATA_ID}",
    f"..%2F..%2Fkey.pem/{DATA_ID}",
    f"%2e%2e/{DATA_ID}",
    f"./{DATA_ID}",
    f"net1/../{DATA_ID}",
    f"net1/../../{DATA_ID}",
    f"net1//{DATA_ID}",
    f"/net1/{DATA_ID}",
    f"net1/{DATA_ID}/../../x",
    f"net1/{DATA_ID}/",
    f"net1/{DATA_ID}%00",
    f"net1/{DATA_ID}?x=/../",
    f"net1/{DATA_ID.upper()}",
    "net1/..",
    "net1/key.pem",
    f"net1\\..\\{DATA_ID}",
    f".hidden/{DATA_ID}",
    f"net1./{DATA_ID}",
    "",
]


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("method", ["PUT", "HEAD"])
async def test_no_path_leaves_the_peers_folder(tmp_path: Path, path: str, method: str) -> None:
    async with hostile(tmp_path) as (alice, mallory, _):
        before = sorted(tmp_path.rglob("*"))
        line = await raw_request(alice, mallory, f"{method} /api/v1/blobs/{path}", FILE)
        assert line.split()[1] in {b"400", b"404"}
        assert sorted(tmp_path.rglob("*")) == before


def announced(content: bytes, **changes: str) -> dict[str, str]:
    return {
        "X-Photinus-Item": ITEM_ID,
        "X-Photinus-Size": str(len(content)),
        "X-Photinus-Hash": hashlib.sha256(content).hexdigest(),
        "X-Photinus-Offset": "0",
        "Content-Type": "multipart/form-data; boundary=b",
    } | changes


def file_body(content: bytes, end: bytes = b"\r\n--b--\r\n") -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="blob"; filename="x"\r\n\r\n'
    return head + content + end


BLOB_URL = f"/api/v1/blobs/{NETWORK}/{DATA_ID}"
CONTENT = b"content" * 1000
BAD_BLOBS: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("wrong hash", file_body(CONTENT), {"X-Photinus-Hash": "0" * 64}, 409, "HASH_MISMATCH"),
    ("wrong size", file_body(CONTENT), {"X-Photinus-Size": "3"}, 409, "HASH_MISMATCH"),
    ("offset of nothing", file_body(CONTENT), {"X-Photinus-Offset": "5"}, 409, "WRONG_OFFSET"),
    ("bad item", file_body(CONTENT), {"X-Photinus-Item": "../x"}, 400, "BAD_HEADER"),
    ("bad offset", file_body(CONTENT), {"X-Photinus-Offset": "-1"}, 400, "BAD_HEADER"),
    ("bad size", file_body(CONTENT), {"X-Photinus-Size": "9" * 30}, 400, "BAD_HEADER"),
    ("bad hash", file_body(CONTENT), {"X-Photinus-Hash": "xyz"}, 400, "BAD_HEADER"),
    ("no end", file_body(CONTENT, end=b""), {}, 400, "TRUNCATED"),
    (
        "no file",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b--\r\n',
        {},
        400,
        "BAD_FORM",
    ),
    ("endless head", b"--b\r\n" + b"x" * 20_000, {}, 400, "BAD_FORM"),
    (
        "too large announced",
        file_body(CONTENT),
        {"X-Photinus-Size": "100001"},
        413,
        "BLOB_TOO_LARGE",
    ),
    ("too large", file_body(bytes(150_000)), {}, 413, "BLOB_TOO_LARGE"),
]


@pytest.mark.parametrize(
    ("body", "changes", "status", "reason"),
    [case[1:] for case in BAD_BLOBS],
    ids=[case[0] for case in BAD_BLOBS],
)
async def test_a_bad_blob_is_refused_and_leaves_nothing(
    tmp_path: Path, body: bytes, changes: dict[str, str], status: int, reason: str
) -> None:
    async with hostile(tmp_path, settings(limits={"maxBlobBytes": 100_000})) as (
        alice,
        mallory,
        session,
    ):
        headers = announced(CONTENT, **changes)
        try:
            async with session.put(url_of(alice, BLOB_URL), data=body, headers=headers) as answer:
                assert answer.status == status
                assert (await answer.json())["error"].startswith(reason)
        except aiohttp.ClientError:
            assert status == 413
        if reason != "TRUNCATED":  # that one can be resumed
            assert nothing_left(tmp_path)
        await still_serves(alice, mallory)


async def test_a_plain_peers_broken_blob_leaves_nothing(tmp_path: Path) -> None:
    async with hostile(tmp_path) as (alice, mallory, session):
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        body = io.BytesIO(file_body(bytes(2 * MIB), end=b""))
        async with session.put(url_of(alice, BLOB_URL), data=body, headers=headers) as answer:
            assert answer.status == 400
        assert nothing_left(tmp_path)

        async def breaking() -> AsyncIterator[bytes]:
            yield file_body(bytes(2 * MIB), end=b"")
            raise ConnectionError

        with pytest.raises(aiohttp.ClientError):
            await session.put(url_of(alice, BLOB_URL), data=breaking(), headers=headers)
        await until(lambda: nothing_left(tmp_path))
        await still_serves(alice, mallory)


async def test_a_body_that_stops_coming_is_given_up(tmp_path: Path) -> None:
    async with hostile(tmp_path, settings({"requestTimeoutS": 0.3})) as (alice, mallory, session):
        stopped = asyncio.Event()

        async def stopping() -> AsyncIterator[bytes]:
            yield file_body(bytes(MIB), end=b"")
            await stopped.wait()

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        try:
            async with session.put(
                url_of(alice, BLOB_URL), data=stopping(), headers=headers
            ) as answer:
                assert answer.status == 408
        except aiohttp.ClientError:
            pass  # closed under us
        stopped.set()
        await until(lambda: nothing_left(tmp_path))
        await still_serves(alice, mallory)


async def test_requests_at_a_time_are_limited(tmp_path: Path) -> None:
    async with hostile(tmp_path, settings(limits={"concurrentRequestsPerPeer": 2})) as (
        alice,
        mallory,
        session,
    ):
        stopped = asyncio.Event()
        headers = {"Content-Type": "multipart/form-data; boundary=b"}

        async def waiting() -> AsyncIterator[bytes]:
            yield file_body(b"x", end=b"")
            await stopped.wait()

        async def occupy(number: int) -> None:
            url = url_of(alice, f"/api/v1/blobs/{NETWORK}/{uuid.uuid4()}")
            async with session.put(url, data=waiting(), headers=headers) as answer:
                assert answer.status in {400, 429}, number

        async with asyncio.TaskGroup() as tasks:
            for number in range(2):
                tasks.create_task(occupy(number))

            async def full() -> bool:
                async with session.head(url_of(alice, "/api/v1/ping")) as answer:
                    return answer.status == 429

            await until(full)
            stopped.set()
        await still_serves(alice, mallory)
