"""A server that webhooks call: remembers each request, answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Hook:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: object = None
    """Address and port it came from."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[Hook], Awaitable[web.StreamResponse]]


async def accept(_hook: Hook) -> web.StreamResponse:
    return web.json_response({"ok": True}, headers={"X-Sample": "s1"}, dumps=_compact)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


class HookServer:
    """What was asked, in order; `handler` answers.

    Attributes:
        silent: Requests that are held until the server ends.
    """

    def __init__(self) -> None:
        self.got: list[Hook] = []
        self.handler: Handler = accept
        self.silent = 0
        self.url = ""
        self._closing = asyncio.Event()

    def paths(self) -> list[str]:
        return [hook.path for hook in self.got]

    async def never(self, _hook: Hook) -> web.StreamResponse:
        """A handler that does not answer."""
        self.silent += 1
        try:
            await self._closing.wait()
        finally:
            self.silent -= 1
        return web.Response()

    def close(self) -> None:
        self._closing.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.transport.get_extra_info("peername") if request.transport else None
        hook = Hook(request.method, request.raw_path, headers, await request.read(), peer)
        self.got.append(hook)
        return await self.handler(hook)


@asynccontextmanager
async def hook_server(tls: SSLContext | None = None) -> AsyncIterator[HookServer]:
    """Runs a server on a free port of loopback."""
    hooks = HookServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", hooks.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    _, port = runner.addresses[0][:2]
    hooks.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
    try:
        yield hooks
    finally:
        hooks.close()
        await runner.cleanup()


def answering(*statuses: int) -> Handler:
    """A handler that gives these statuses one after the other, the last one for ever."""
    left = list(statuses)

    async def handler(_hook: Hook) -> web.StreamResponse:
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.json_response({"status": status}, status=status)

    return handler
