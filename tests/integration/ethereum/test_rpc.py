"""Goal: calls share requests, keep their answers apart, and every way a node fails has its own error.

Method: the client against a small HTTP server of the test's own, which records what it got and answers as told.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web
from photinus_ethereum.rpc import HttpRpc, NodeUnavailableError, RpcError, RpcLimits, redact_url


class Node:
    """Answers each call with its parameters, in reverse order."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Callable[[Any], Any] = self.echo
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.requests.append(body)
        await self.gate.wait()
        answer = self.answer(body)
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    @staticmethod
    def echo(body: Any) -> Any:
        if isinstance(body, list):
            return [Node.echo(each) for each in reversed(body)]
        if body["method"] == "fail":
            error = {"code": 3, "message": "no" * 1000, "data": "0x01"}
            return {"jsonrpc": "2.0", "id": body["id"], "error": error}
        return {"jsonrpc": "2.0", "id": body["id"], "result": body["params"]}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    app = web.Application()
    app.router.add_post("/", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/"
    try:
        yield made
    finally:
        made.gate.set()
        await runner.cleanup()


async def test_calls_of_one_moment_share_a_request(node: Node) -> None:
    async with HttpRpc(node.url) as rpc:
        answers = await asyncio.gather(*(rpc.call("echo", n) for n in range(30)))
        assert answers == [[n] for n in range(30)]
        assert [len(body) for body in node.requests] == [30]
        assert await rpc.call("echo", "alone") == ["alone"]
        assert isinstance(node.requests[-1], dict)


async def test_calls_that_come_while_all_connections_are_busy_wait_together(node: Node) -> None:
    node.gate.clear()
    async with HttpRpc(node.url, RpcLimits(connections_max=1)) as rpc:
        first = asyncio.create_task(rpc.call("echo", 0))
        async with asyncio.timeout(5):
            while not node.requests:
                await asyncio.sleep(0.005)
        later = [asyncio.create_task(rpc.call("echo", n)) for n in range(1, 8)]
        await asyncio.sleep(0)
        node.gate.set()
        assert await asyncio.gather(first, *later) == [[n] for n in range(8)]
        assert len(node.requests) == 2


async def test_batches_are_bounded_by_number_and_size(node: Node) -> None:
    limits = RpcLimits(batch_items_max=10, batch_bytes_max=2_000)
    async with HttpRpc(node.url, limits) as rpc:
        await rpc.call_many([("echo", [n]) for n in range(25)])
        assert max(len(body) for body in node.requests) == 10
        node.requests.clear()
        answers = await rpc.call_many([("echo", ["x" * 900]) for _ in range(6)])
        assert len(answers) == 6
        assert max(len(body) for body in node.requests) == 2


async def test_an_error_is_its_calls_own(node: Node) -> None:
    async with HttpRpc(node.url) as rpc:
        good, bad = await rpc.call_many([("echo", [1]), ("fail", [])])
        assert good == [1]
        assert isinstance(bad, RpcError)
        assert (bad.code, bad.data, len(bad.message)) == (3, "0x01", 500)
        with pytest.raises(RpcError):
            await rpc.call("fail")


async def test_a_node_without_batches_gets_single_calls(node: Node) -> None:
    def one_at_a_time(body: Any) -> Any:
        if isinstance(body, list):
            return {
                "jsonrpc": "2.0",
                "id": None,
                "error": {"code": -32600, "message": "no batches"},
            }
        return Node.echo(body)

    node.answer = one_at_a_time
    async with HttpRpc(node.url) as rpc:
        assert await rpc.call_many([("echo", [n]) for n in range(7)]) == [[n] for n in range(7)]
        node.requests.clear()
        assert await rpc.call_many([("echo", [n]) for n in range(3)]) == [[n] for n in range(3)]
        assert not [body for body in node.requests if isinstance(body, list)]


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: web.Response(status=503),
        lambda _: web.Response(status=429),
        lambda _: web.Response(status=401),
        lambda _: web.Response(body=b"<html>", content_type="text/html"),
        lambda _: [],
        lambda _: 7,
    ],
)
async def test_nonsense_is_an_absent_node_that_may_have_seen_the_call(
    node: Node, answer: Callable[[Any], Any]
) -> None:
    node.answer = answer
    async with HttpRpc(node.url) as rpc:
        (outcome,) = await rpc.call_many([("echo", [1])])
        assert isinstance(outcome, NodeUnavailableError)
        assert outcome.sent
        assert rpc._busy == 0


async def test_an_answer_may_not_fill_the_memory(node: Node) -> None:
    async with HttpRpc(node.url, RpcLimits(response_bytes_max=1_000)) as rpc:
        assert await rpc.call("echo", "x" * 900) == ["x" * 900]
        with pytest.raises(NodeUnavailableError, match="more than 1000 bytes"):
            await rpc.call("echo", "x" * 1_000)


async def test_a_call_without_an_answer_ends_in_time(node: Node) -> None:
    node.gate.clear()
    async with HttpRpc(node.url, RpcLimits(timeout_s=0.1)) as rpc:
        with pytest.raises(NodeUnavailableError, match="TimeoutError") as caught:
            await rpc.call("echo")
        assert caught.value.sent
        node.gate.set()
        assert await rpc.call("echo", 1) == [1]


async def test_nobody_there_is_certainly_not_sent(node: Node) -> None:
    async with HttpRpc("http://127.0.0.1:9/") as rpc:
        with pytest.raises(NodeUnavailableError) as caught:
            await rpc.call("echo")
        assert not caught.value.sent
    with pytest.raises(NodeUnavailableError):
        await HttpRpc(node.url).call("echo")


async def test_too_many_waiting_calls_are_refused(node: Node) -> None:
    node.gate.clear()
    async with HttpRpc(node.url, RpcLimits(pending_max=5)) as rpc:
        tasks = [asyncio.create_task(rpc.call("echo", n)) for n in range(8)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        refused = {task.exception().args[0] for task in done if task.exception()}  # type: ignore[union-attr]  # just seen
        assert refused == {"too many calls are waiting"}
        node.gate.set()
        await asyncio.wait(tasks)
        assert sum(task.exception() is None for task in tasks) == 5


def test_what_may_be_secret_in_a_url_is_left_out() -> None:
    assert (
        redact_url("https://user:pw@node.example:8545/v3/key?token=1")
        == "https://node.example:8545"
    )
