"""Goal: the gateway as a process: how it starts and ends, and that it understands what a Python core sends.

Method: the real program, built here, in front of a gRPC server of this process that uses the core's own error mapping.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from photinus.api.v1 import (
    data_pb2,
    data_service_pb2,
    data_service_pb2_grpc,
    event_pb2,
    event_service_pb2,
    event_service_pb2_grpc,
)
from photinus_core.model.errors import NotFound
from photinus_core.rpc.errors import ErrorInterceptor, set_http_status

from tests.support.golden import REPOSITORY

BUILD_TIMEOUT_S = 300
WAIT_S = 20.0

Answer = tuple[int, str]
Ask = Callable[[str], Awaitable[Answer]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("gateway") / "photinus-gateway"
    command = ["go", "build", "-o", str(built), "./cmd/photinus-gateway"]
    subprocess.run(command, cwd=REPOSITORY / "gateway", check=True, timeout=BUILD_TIMEOUT_S)
    return built


@asynccontextmanager
async def running(
    program: Path, *arguments: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A gateway on a free port, and its address."""
    process = await asyncio.create_subprocess_exec(
        program,
        "-listen",
        "127.0.0.1:0",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask(url: str, body: bytes | None = None) -> Answer:
    """Status and body of an answer."""

    def blocking() -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, headers), timeout=WAIT_S
            ) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as failure:
            with failure:
                return failure.code, failure.read().decode()

    return await asyncio.to_thread(blocking)


class Data(data_service_pb2_grpc.DataServiceServicer):
    """Knows one data item; everything else it does not."""

    async def GetData(self, request: data_service_pb2.GetDataRequest, context: Any) -> Any:
        if request.id != "d1":
            raise NotFound("FF00164")
        return data_service_pb2.GetDataResponse(data=data_pb2.Data(id="d1", value='{"a":"<"}'))

    async def CreateData(self, request: data_service_pb2.CreateDataRequest, context: Any) -> Any:
        set_http_status(context, 201)
        return data_service_pb2.CreateDataResponse(data=data_pb2.Data(value=request.data.value))


class Events(event_service_pb2_grpc.EventServiceServicer):
    """A log that is empty."""

    async def ListEvents(self, request: event_service_pb2.ListEventsRequest, context: Any) -> Any:
        events = [event_pb2.Event(topic=request.query.raw)] if request.query.raw else []
        return event_service_pb2.ListEventsResponse(items=events)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    data_service_pb2_grpc.add_DataServiceServicer_to_server(Data(), server)  # type: ignore[abstract]  # others are not called
    event_service_pb2_grpc.add_EventServiceServicer_to_server(Events(), server)  # type: ignore[abstract]  # as above
    healthy = health.aio.HealthServicer()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    address = f"unix:{tmp_path}/core.sock"
    server.add_insecure_port(address)
    await server.start()
    yield address
    await server.stop(None)


async def test_it_speaks_to_a_python_core(program: Path, core: str) -> None:
    async with running(program, "-core", core) as (_, url):
        assert await ask(f"{url}/readyz") == (200, "")
        item = (200, '{"id":"d1","validator":"","value":{"a":"\\u003c"}}\n')
        assert await ask(f"{url}/api/v1/data/d1") == item
        assert await ask(f"{url}/api/v1/data/d2") == (404, '{"error":"FF00164: No result found"}\n')
        created = (201, '{"validator":"","value":[1e400]}\n')
        assert await ask(f"{url}/api/v1/data", b'{"value": [1e400]}') == created
        status, text = await ask(f"{url}/api/v1/events?tag=%3Ea&limit=1")
        assert (status, json.loads(text)[0]["topic"]) == (200, "tag=%3Ea&limit=1")
        assert await ask(f"{url}/api/v1/events") == (200, "[]\n")


async def test_without_a_core_it_lives_but_is_not_ready(program: Path, tmp_path: Path) -> None:
    async with running(program, "-core", f"unix:{tmp_path}/absent.sock") as (process, url):
        assert await ask(f"{url}/livez") == (200, "")
        status, text = await ask(f"{url}/readyz")
        assert (status, text[:43]) == (503, '{"error":"FF19014: The core cannot be reach')
        status, text = await ask(f"{url}/api/v1/status")
        assert (status, text[:43]) == (503, '{"error":"FF19014: The core cannot be reach')
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_sigint_ends_it_too(program: Path, core: str) -> None:
    async with running(program, "-core", core) as (process, _):
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_wrong_use(program: Path) -> None:
    result = await asyncio.create_subprocess_exec(program, stderr=subprocess.PIPE)
    _, told = await result.communicate()
    assert result.returncode == 2
    assert b"-core is required" in told
