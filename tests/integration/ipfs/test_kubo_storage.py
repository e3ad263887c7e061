"""Goal: the Kubo back end stores, pins and reads through a real node, and tells apart all that can go wrong.

Method: against the test node, once reading by RPC and once by the gateway; a proxy that spoils blocks; a node that
ends, hangs or denies. The embedded back end must give the same names for the same bytes.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, FormData, web
from photinus_ipfs.cid import Cid
from photinus_ipfs.directory import DirectoryStorage
from photinus_ipfs.kubo import KuboStorage
from photinus_ipfs.storage import read_file
from photinus_ipfs.unixfs import CHUNK_BYTES, LINKS_PER_NODE, DagBuilder
from photinus_sdk import Corrupted, NotFound, Rejected, Unavailable

from tests.integration.ipfs.conftest import Node, stop_node, storage_of

UNKNOWN = Cid.v0(bytes(32))


async def pieces(content: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(storage: KuboStorage | DirectoryStorage, root: Cid, offset: int = 0) -> bytes:
    chunks = read_file(storage, root, offset=offset, max_bytes=0)
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 7 * CHUNK_BYTES + 5, LINKS_PER_NODE * CHUNK_BYTES]
)
async def test_what_is_added_is_read(kubo: KuboStorage, size: int) -> None:
    content = random.Random(size).randbytes(size)
    root, stored = await kubo.add(pieces(content))
    assert stored == size
    assert await read(kubo, root) == content
    assert await read(kubo, root, size // 2) == content[size // 2 :]


@pytest.mark.parametrize(
    "chunks", [0.5, 1, 1.5, 2, LINKS_PER_NODE, LINKS_PER_NODE + 0.1, 2 * LINKS_PER_NODE + 3]
)
async def test_the_directory_gives_the_same_names(
    node: Node, tmp_path: Path, chunks: float
) -> None:
    """The node adds with Kubo's own importer; KuboStorage would raise if its own name differed."""
    content = random.Random(chunks).randbytes(int(chunks * CHUNK_BYTES))
    kubo = storage_of(node.rpc)
    directory = DirectoryStorage(tmp_path, "one", max_bytes=1 << 30)
    await directory.open()
    assert await kubo.add(pieces(content)) == await directory.add(pieces(content))
    await kubo.aclose()
    await directory.aclose()


async def test_adding_pins(node: Node) -> None:
    kubo = storage_of(node.rpc)
    root, _ = await kubo.add(pieces(b"kept"))
    assert not await kubo.pin(root)
    assert await kubo.unpin(root)
    assert not await kubo.unpin(root)
    assert await kubo.pin(root)
    assert await kubo.check() == ""
    await kubo.aclose()


async def test_the_unknown_is_not_found(kubo: KuboStorage) -> None:
    for attempt in (lambda: read(kubo, UNKNOWN), lambda: kubo.pin(UNKNOWN)):
        with pytest.raises(NotFound) as refused:
            await attempt()
        assert refused.value.reason == "UNKNOWN_PAYLOAD"
    assert not await kubo.unpin(UNKNOWN)


async def test_raw_leaves_of_another_writer_are_read(kubo: KuboStorage, node: Node) -> None:
    """Members may store through nodes of their own, with other defaults."""
    content = bytes(range(256)) * 1200
    async with ClientSession() as session:
        form = FormData()
        form.add_field("file", content, filename="f300")
        url = f"http://{node.rpc}/api/v0/add?cid-version=1&raw-leaves=true"
        async with session.post(url, data=form) as answer:
            root = Cid.parse((await answer.json())["Hash"])
    assert root.version == 1
    assert await read(kubo, root, 1000) == content[1000:]


class Broken(Exception):
    pass


async def test_a_broken_upload_raises_its_own_error_and_pins_nothing(node: Node) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"the beginning of something" * 1000
        raise Broken

    kubo = storage_of(node.rpc)
    with pytest.raises(Broken):
        await kubo.add(breaking())
    builder = DagBuilder()
    builder.add(b"the beginning of something" * 1000)
    assert not await kubo.unpin(builder.finish())
    await kubo.aclose()


async def test_too_large_is_refused(node: Node) -> None:
    kubo = storage_of(node.rpc, max_bytes=1000)
    with pytest.raises(Rejected) as refused:
        await kubo.add(pieces(bytes(1001)))
    assert refused.value.reason == "PAYLOAD_TOO_LARGE"
    await kubo.aclose()


async def test_a_node_that_is_away_is_unavailable(mortal_node: Node) -> None:
    """aioipfs answers None, or raises aiohttp's errors, depending on the call."""
    kubo = storage_of(mortal_node.rpc)
    behind_gateway = storage_of(mortal_node.rpc, mortal_node.gateway)
    root, _ = await kubo.add(pieces(b"hello"))
    stop_node(mortal_node)
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: kubo.add(pieces(b"hello")),
        lambda: kubo.add(pieces(bytes(1_000_000))),
        lambda: read(kubo, root),
        lambda: read(behind_gateway, root),
        lambda: kubo.pin(root),
        lambda: kubo.unpin(root),
    ]
    for attempt in attempts:
        with pytest.raises(Unavailable):
            await attempt()
    assert "does not answer" in await kubo.check()
    await kubo.aclose()
    await behind_gateway.aclose()


@asynccontextmanager
async def served(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("by_gateway", [False, True])
async def test_a_node_that_gives_wrong_bytes_is_noticed(node: Node, by_gateway: bool) -> None:
    content = random.Random(3).randbytes(3 * CHUNK_BYTES)
    honest = storage_of(node.rpc)
    root, _ = await honest.add(pieces(content))
    await honest.aclose()
    asked = 0

    async def spoil(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        address = node.gateway if by_gateway else node.rpc
        async with (
            ClientSession() as session,
            session.request(request.method, f"http://{address}{request.raw_path}") as answer,
        ):
            block = await answer.read()
        if asked == 3:  # the root and one leaf are as they should be
            block = block[:-9] + b"x" + block[-8:]
        return web.Response(body=block)

    seen = b""

    async def look(storage: KuboStorage) -> None:
        nonlocal seen
        async for chunk in read_file(storage, root, offset=0, max_bytes=0):
            seen += chunk

    async with served(spoil) as address:
        storage = storage_of(address, address if by_gateway else "")
        with pytest.raises(Corrupted):
            await look(storage)
        await storage.aclose()
    assert seen == content[:CHUNK_BYTES]


async def test_a_node_that_stored_something_else_is_noticed() -> None:
    async def lie(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.json_response({"Name": "x", "Hash": str(UNKNOWN), "Size": "5"})

    async with served(lie) as address:
        storage = storage_of(address)
        with pytest.raises(Corrupted):
            await storage.add(pieces(b"hello"))
        await storage.aclose()


@pytest.mark.parametrize("by_gateway", [False, True])
async def test_a_node_that_hangs_is_unavailable_in_time(by_gateway: bool) -> None:
    ended = asyncio.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await ended.wait()
        return web.Response()

    async with served(hang) as address:
        storage = storage_of(address, address if by_gateway else "", timeout_s=0.3)
        for attempt in (lambda: read(storage, UNKNOWN), lambda: storage.pin(UNKNOWN)):
            with pytest.raises(Unavailable):
                await attempt()
        ended.set()
        await storage.aclose()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, "403 - Forbidden"),
        (500, '{"Message":"disk full","Code":0,"Type":"error"}'),
        (500, "not json"),
        (502, "bad gateway"),
        (504, "gateway timeout"),
    ],
)
async def test_other_refusals_are_unavailable(status: int, body: str) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, text=body)

    async with served(refuse) as address:
        by_rpc, by_gateway = storage_of(address), storage_of(address, address)
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: by_rpc.add(pieces(b"hello")),
            lambda: read(by_rpc, UNKNOWN),
            lambda: read(by_gateway, UNKNOWN),
            lambda: by_rpc.pin(UNKNOWN),
            lambda: by_rpc.unpin(UNKNOWN),
        ]
        for attempt in attempts:
            with pytest.raises(Unavailable):
                await attempt()
        assert await by_rpc.check()
        await by_rpc.aclose()
        await by_gateway.aclose()
