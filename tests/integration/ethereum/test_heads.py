"""Goal: a subscription that fails, whatever the node does, is tried again and costs nothing but itself.

Method: the notices against a WebSocket server of the test's own, which misbehaves first and subscribes then.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from photinus_ethereum.heads import HeadNotices

from tests.support.waiting import until

SUBSCRIBED = '{"jsonrpc":"2.0","id":1,"result":"0x1"}'
HEAD = '{"jsonrpc":"2.0","method":"eth_subscription","params":{}}'


@asynccontextmanager
async def node(*first_answers: str | bytes | None) -> AsyncIterator[str]:
    """The URL of a node that gives these answers, one a connection (None closes), and subscribes from then on."""
    left = list(first_answers)

    async def handle(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        await connection.receive_str()
        match left.pop(0) if left else SUBSCRIBED:
            case None:
                await connection.close()
            case bytes() as raw:
                await connection.send_bytes(raw)
            case text:
                await connection.send_str(text)
                await connection.send_str(HEAD)
        await connection.receive()
        return connection

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"ws://{host}:{port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "bad",
    [None, b"\x00", "no JSON", "[]", '{"jsonrpc":"2.0","id":1,"error":{"message":"no"}}'],
)
async def test_after_a_node_that_does_not_subscribe_it_is_tried_again(
    bad: str | bytes | None,
) -> None:
    told = 0

    def notify() -> None:
        nonlocal told
        told += 1

    async with node(bad) as url, asyncio.TaskGroup() as group:
        notices = HeadNotices(url, notify)
        running = group.create_task(notices.run())
        await until(lambda: notices.subscribed and told >= 2)
        running.cancel()
