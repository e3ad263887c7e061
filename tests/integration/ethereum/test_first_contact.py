"""Goal: a connector configured on a bad moment comes up by itself, and one configured wrongly says only that.

Method: an in-memory node behind HTTP that answers as told, and a core that configures the connector meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import orjson
import pytest
from aiohttp import web
from photinus.connector.v1 import connector_pb2 as connector
from photinus_ethereum.rpc import RpcError

from tests.support.chains import DEV_KEYS
from tests.support.ethereum_core import Core
from tests.support.evm_node import EvmNode
from tests.support.wire import reason_of

WAIT_S = 10.0


@asynccontextmanager
async def served(node: EvmNode) -> AsyncIterator[dict[str, Any]]:
    """A configuration for the node."""

    async def handle(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        calls = body if isinstance(body, list) else [body]
        outcomes = await node.call_many([(call["method"], call["params"]) for call in calls])
        answers = [
            answer(call["id"], outcome) for call, outcome in zip(calls, outcomes, strict=True)
        ]
        text = orjson.dumps(answers if isinstance(body, list) else answers[0])
        return web.Response(body=text, content_type="application/json")

    def answer(call_id: int, outcome: Any) -> dict[str, Any]:
        if isinstance(outcome, RpcError):
            return {"id": call_id, "error": {"code": outcome.code, "message": outcome.message}}
        return {"id": call_id, "result": outcome}

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield {"rpc": {"url": f"http://{host}:{port}/"}, "confirmations": 0}
    finally:
        await runner.cleanup()


class Nonsense(EvmNode):
    """A node that answers one question, a method and its first parameter, with nonsense until it `recovers`."""

    def __init__(self, method: str, first: str, answer: object) -> None:
        super().__init__()
        self._question, self._answer = (method, first), answer
        self.recovers = False

    def _one(self, method: str, params: Any) -> Any:
        asked = (method, params[0] if params else "")
        if asked == self._question and not self.recovers:
            return self._answer
        return super()._one(method, params)


@pytest.mark.parametrize(
    ("method", "first", "answer"),
    [
        ("eth_chainId", "", None),
        ("eth_chainId", "", "what?"),
        ("eth_getBlockByNumber", "0x0", None),
        ("eth_getBlockByNumber", "latest", None),
        ("eth_getBlockByNumber", "latest", {"hash": "0x1"}),
    ],
)
async def test_a_node_that_cannot_say_yet_what_its_chain_is(
    core: Core, method: str, first: str, answer: object
) -> None:
    node = Nonsense(method, first, answer)
    async with served(node) as settings:
        await core.wire.configure(settings)
        watch = core.wire.watch_status()
        assert (await watch.read()).state == connector.RUNTIME_STATE_DEGRADED
        node.recovers = True
        async with asyncio.timeout(WAIT_S):
            while (status := await watch.read()).state != connector.RUNTIME_STATE_OK:
                assert status.state == connector.RUNTIME_STATE_DEGRADED


async def test_keys_that_cannot_be_used_are_the_only_thing_said(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(EvmNode()) as settings:
        bad = settings | {"keys": [{"privateKey": DEV_KEYS[0][:-1]}]}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await core.wire.configure(bad)
        assert reason_of(caught.value)[0] == "INVALID_CONFIG"
        assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
        await core.wire.configure(settings)
