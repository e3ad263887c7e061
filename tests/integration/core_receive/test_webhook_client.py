"""The HTTP client of webhooks: logins, redirects, answers that are too large, connections that end.

Method: calls to a real server, without a database.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from photinus_core.events.webhook_client import ANSWER_BYTES_MAX, WebhookClient
from photinus_core.events.webhook_options import (
    WebhookOptions,
    WebhookSettings,
    read_webhook_options,
)
from photinus_core.events.webhook_requests import (
    Answer,
    CallFailedError,
    Payload,
    build_request,
)

from tests.support.hooks import Hook, HookServer, hook_server


@pytest.fixture(params=["no database"])
def databases() -> None:
    """In place of the folder's: nothing is stored here."""


@pytest.fixture
async def hooks() -> AsyncIterator[HookServer]:
    async with hook_server() as made:
        yield made


@asynccontextmanager
async def calling(
    url: str, settings: WebhookSettings | None = None, **given: object
) -> AsyncIterator[WebhookClient]:
    used = settings or WebhookSettings()
    made = WebhookClient(read(url, used, **given), used, 2)
    try:
        yield made
    finally:
        await made.aclose()


def read(url: str, settings: WebhookSettings, **given: object) -> WebhookOptions:
    members = {name: json.dumps(value) for name, value in {"url": url, **given}.items()}
    return read_webhook_options(members, settings)


async def call(
    url: str, settings: WebhookSettings | None = None, *, keep_body: bool = True, **given: object
) -> Answer:
    request = build_request(
        read(url, settings or WebhookSettings(), **given), [Payload("{}")], batch=False
    )
    async with calling(url, settings, **given) as client:
        return await client.call(request, keep_body=keep_body)


async def test_the_configurations_login_unless_there_is_another(hooks: HookServer) -> None:
    settings = WebhookSettings(username="u", password="p")
    await call(hooks.url, settings)
    await call(hooks.url, settings, headers={"authorization": "Bearer x"})
    await call(hooks.url.replace("//", "//a:b@"), settings)
    assert [hook.headers["authorization"] for hook in hooks.got] == [
        "Basic " + b64encode(b"u:p").decode(),
        "Bearer x",
        "Basic " + b64encode(b"a:b").decode(),
    ]


async def test_redirects_are_followed_but_not_for_ever(hooks: HookServer) -> None:
    async def to_next(hook: Hook) -> web.StreamResponse:
        step = int(hook.path.strip("/") or 0)
        raise web.HTTPTemporaryRedirect(f"/{step + 1}")

    hooks.handler = to_next
    with pytest.raises(CallFailedError, match="redirects"):
        await call(hooks.url)


async def test_answers_are_bounded_only_when_they_are_wanted(hooks: HookServer) -> None:
    async def large(_hook: Hook) -> web.StreamResponse:
        # Little on its way, much when it is unpacked.
        body = gzip.compress(b"x" * (ANSWER_BYTES_MAX + 1))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    hooks.handler = large
    assert (await call(hooks.url, keep_body=False)).status == 200
    with pytest.raises(CallFailedError, match="more than"):
        await call(hooks.url)


async def test_methods_without_a_body(hooks: HookServer) -> None:
    await call(hooks.url, method="get", query={"a": "b"})
    (hook,) = hooks.got
    assert (hook.method, hook.path, hook.body) == ("GET", "/?a=b", b"")
    assert "content-type" not in hook.headers


async def test_connections_are_kept_for_the_next_call(hooks: HookServer) -> None:
    peers = set()

    async def note(hook: Hook) -> web.StreamResponse:
        peers.add(hook.peer)
        return web.Response(body=b"y" * 1000)

    hooks.handler = note
    settings = WebhookSettings(idle_timeout_s=30)
    request = build_request(read(hooks.url, settings), [Payload("{}")], batch=False)
    async with calling(hooks.url, settings) as client:
        for keep_body in (False, True, False):
            await client.call(request, keep_body=keep_body)
    assert len(peers) == 1


async def test_a_connection_that_ended_meanwhile_costs_no_event() -> None:
    """The server ends each connection after one answer, without saying so."""
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        asked.append(1)
        if len(asked) != 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert (await call(url)).status == 200
    assert len(asked) == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://unknown.invalid/"])
async def test_targets_that_are_not_there(url: str) -> None:
    with pytest.raises(CallFailedError):
        await call(url)
