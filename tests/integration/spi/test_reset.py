"""Goal: a reset has every replica read its configuration again; what cannot be read changes nothing, and is told.

Method: a core and a gateway as processes, whose file the test writes; a core in this process; and the call on two
replicas, of which one passes it on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import yaml
from photinus.api.v1 import spi_service_pb2 as pb
from photinus.api.v1 import spi_service_pb2_grpc
from photinus_core.app.config import load_text
from photinus_core.app.reloading import ConfigSource
from photinus_core.app.serve import run_node
from photinus_core.model.errors import Conflict, PhotinusError
from photinus_core.ports.elector import Cluster
from photinus_core.ports.elector import Replica as Registered
from photinus_core.rpc.errors import ErrorInterceptor
from photinus_core.rpc.leader_calls import LeaderCalls
from photinus_core.rpc.services.spi import SpiServicer

from tests.support.spi import WAIT_S, Gateway, gateway_up


def configuration(*names: str, **more: Any) -> dict[str, Any]:
    return {
        "plugins": {
            "database": [{"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}]
        },
        "namespaces": {
            "default": names[0],
            "predefined": [{"name": name, "plugins": ["database0"]} for name in names],
        },
        **more,
    }


@asynccontextmanager
async def site(program: Path, folder: Path) -> AsyncIterator[tuple[Path, Gateway]]:
    """A core of its own file, and a gateway."""
    path, socket = folder / "photinus.core.yaml", f"unix:{folder}/core.sock"

    def write(config: dict[str, Any]) -> None:
        path.write_text(yaml.safe_dump({"grpc": {"address": socket}, **config}))

    write(configuration("one"))
    command = (sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(path))
    log = folder / "core.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        async with gateway_up(program, socket) as gateway:
            async with asyncio.timeout(WAIT_S):
                while (await gateway.ask("GET", "/spi/v1/namespaces"))[0] != 200:
                    assert process.returncode is None, log.read_text()
                    await asyncio.sleep(0.05)
            yield path, gateway
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(WAIT_S):
            await process.wait()


async def names_of(gateway: Gateway) -> list[str]:
    path = "/spi/v1/namespaces?includeinitializing=true"
    status, listed = await gateway.ask("GET", path)
    assert status == 200
    return [namespace["name"] for namespace in listed]


async def test_a_reset_reads_the_file_again(program: Path, tmp_path: Path) -> None:
    async with site(program, tmp_path) as (path, gateway):
        base = yaml.safe_load(path.read_text())

        def write(config: dict[str, Any]) -> None:
            path.write_text(yaml.safe_dump({"grpc": base["grpc"], **config}))

        assert await gateway.ask("POST", "/spi/v1/reset") == (204, None)
        write(configuration("one", "two"))
        assert await names_of(gateway) == ["one"], "nothing is followed by itself"
        assert await gateway.ask("POST", "/spi/v1/reset") == (204, None)
        assert await names_of(gateway) == ["one", "two"], "it is done when the call returns"
        # Broken in several ways: nothing changes, and all the ways are told with their lines.
        path.write_text("namespaces: [")
        status, refused = await gateway.ask("POST", "/spi/v1/reset")
        assert status == 409
        assert refused["error"].startswith("FF19050"), refused
        assert "photinus.core.yaml" in refused["error"]
        write(configuration("one", "bad name", nonsense=1))
        status, refused = await gateway.ask("POST", "/spi/v1/reset")
        assert (status, refused["error"][:7]) == (409, "FF19050")
        assert "FF19304" in refused["error"]
        assert "FF00140" in refused["error"]
        path.unlink()
        status, refused = await gateway.ask("POST", "/spi/v1/reset")
        assert (status, "FF19301" in refused["error"]) == (409, True)
        assert await names_of(gateway) == ["one", "two"]
        # Many at once do no harm.
        write(configuration("one"))
        answers = await asyncio.gather(*(gateway.ask("POST", "/spi/v1/reset") for _ in range(20)))
        assert answers == [(204, None)] * 20
        assert await names_of(gateway) == ["one"]
        # From here on the file is followed by itself.
        write(configuration("one", config={"autoReload": "true"}))
        assert await gateway.ask("POST", "/spi/v1/reset") == (204, None)
        status, refused = await gateway.ask("POST", "/spi/v1/reset")
        assert (status, refused["error"][:7]) == (409, "FF10438")


async def test_a_namespace_of_tokens_only_may_be_added(program: Path, tmp_path: Path) -> None:
    """FireFly ends with it."""
    async with site(program, tmp_path) as (path, gateway):
        config = yaml.safe_load(path.read_text())
        tokens = {"name": "token0", "type": "fftokens", "fftokens": {"url": "http://127.0.0.1:1"}}
        config["plugins"]["tokens"] = [tokens]
        added = {"name": "tokens", "plugins": ["database0", "token0"]}
        config["namespaces"]["predefined"].append(added)
        path.write_text(yaml.safe_dump(config))
        for _ in range(2):
            assert await gateway.ask("POST", "/spi/v1/reset") == (204, None)
            assert await names_of(gateway) == ["one", "tokens"]


async def test_a_reset_over_grpc_tells_what_stands_against_it(tmp_path: Path) -> None:
    path = tmp_path / "photinus.core.yaml"

    def write(**more: Any) -> str:
        text = yaml.safe_dump({"grpc": {"address": "127.0.0.1:0"}, **configuration("one"), **more})
        path.write_text(text)
        return text

    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    settings = load_text(write(), str(path), {})
    source = ConfigSource(path, asyncio.Event())
    async with asyncio.TaskGroup() as group:
        group.create_task(run_node(settings, tmp_path, ready.set_result, stop, source))
        async with asyncio.timeout(WAIT_S):
            (address,) = await ready
        async with grpc.aio.insecure_channel(address) as channel:
            reset = spi_service_pb2_grpc.SpiServiceStub(channel).ResetNode
            path.write_text("namespaces: [")
            with pytest.raises(grpc.aio.AioRpcError, match=r"FF19050: .*photinus\.core\.yaml"):
                await reset(pb.ResetNodeRequest(), timeout=WAIT_S)
            write(config={"autoReload": True})
            await reset(pb.ResetNodeRequest(), timeout=WAIT_S)
            with pytest.raises(grpc.aio.AioRpcError, match="FF10438") as caught:
                await reset(pb.ResetNodeRequest(), timeout=WAIT_S)
            assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        stop.set()


class Replica:
    """A replica's SPI, whose node knows the others."""

    def __init__(self) -> None:
        self.resets = 0
        self.failure: PhotinusError | None = None
        self.replicas: list[Registered] = []
        self.calls = LeaderCalls()
        self.server = grpc.aio.server(interceptors=[ErrorInterceptor()])
        node: Any = SimpleNamespace(cluster=self._cluster)
        servicer = SpiServicer(node, self.calls)
        servicer.reset = self._reset
        spi_service_pb2_grpc.add_SpiServiceServicer_to_server(servicer, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def _cluster(self) -> list[Cluster]:
        return [Cluster(tuple(self.replicas), ())]

    async def _reset(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.resets += 1

    async def ask(self) -> None:
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = spi_service_pb2_grpc.SpiServiceStub(channel)
            await stub.ResetNode(pb.ResetNodeRequest(), timeout=WAIT_S)


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[Replica, Replica]]:
    pair = Replica(), Replica()
    for own in pair:
        own.replicas = [
            Registered(name, each.address, "1", "f", is_self=each is own)
            for name, each in zip(("a", "b"), pair, strict=True)
        ]
        await own.server.start()
    yield pair
    for each in pair:
        await each.server.stop(None)
        await each.calls.aclose()


async def test_all_replicas_read_their_configuration(replicas: tuple[Replica, Replica]) -> None:
    here, there = replicas
    await here.ask()
    assert (here.resets, there.resets) == (1, 1), "passed on once"
    there.failure = Conflict("FF19050", "f.yaml, line 3")
    with pytest.raises(grpc.aio.AioRpcError, match=r"FF19050.*line 3"):
        await here.ask()
    assert here.resets == 2
    await there.server.stop(None)
    with pytest.raises(grpc.aio.AioRpcError, match="FF19051: Replica 'b' could not be told"):
        await here.ask()
    here.failure = Conflict("FF10438")
    with pytest.raises(grpc.aio.AioRpcError, match="FF10438"):
        await here.ask()
