"""The connector in memory, served: inside a test as a `Target`, or as a process of its own."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from photinus_sanity.targets import Target
from photinus_sanity.wire import METHODS, PACKAGE

from tests.conformance.memory.calls import Calls
from tests.conformance.memory.control import Control, Events, Operations
from tests.conformance.memory.ledgers import Blockchain, Tokens
from tests.conformance.memory.refusals import invalid
from tests.conformance.memory.stores import DataExchange, SharedStorage
from tests.conformance.memory.world import World

SERVICES: dict[str, tuple[str, type[Any]]] = {
    "ConnectorService": ("", Control),
    "OperationService": ("", Operations),
    "EventService": ("", Events),
    "BlockchainService": ("blockchain", Blockchain),
    "TokensService": ("tokens", Tokens),
    "DataExchangeService": ("dx", DataExchange),
    "SharedStorageService": ("storage", SharedStorage),
}


class Garbage:
    """Stands for a request that is no protobuf."""


class InMemory:
    """A `Target` in this process; killing it drops everything that is not in its world."""

    restartable = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.address = ""
        self._directory = tempfile.TemporaryDirectory(prefix="memory-")
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        if self.world.has("open-socket"):
            Path(self._directory.name).chmod(0o755)
        calls = Calls(self.world)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        served = [health.SERVICE_NAME]
        for service, (contract, cls) in SERVICES.items():
            if contract and contract not in self.world.contracts:
                continue
            served.append(f"{PACKAGE}.{service}")
            self._server.add_generic_rpc_handlers((handler_of(service, cls(calls), calls),))
        await self._add_health(served)
        if not self.world.has("no-reflection"):
            self._add_reflection(served)
        self.address = f"unix:{self._directory.name}/x.sock"
        Path(f"{self._directory.name}/x.sock").unlink(missing_ok=True)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def _add_health(self, served: list[str]) -> None:
        assert self._server is not None
        servicer = health.aio.HealthServicer()
        answers = health_pb2.HealthCheckResponse
        status = answers.NOT_SERVING if self.world.has("not-serving") else answers.SERVING
        for name in ("", *served):
            await servicer.set(name, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)

    def _add_reflection(self, served: list[str]) -> None:
        assert self._server is not None
        servicer = reflection.aio.ReflectionServicer(served)
        method = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        name = "grpc.reflection.v1.ServerReflection"
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        self._server.add_generic_rpc_handlers((handler,))

    async def kill(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
        self.world.restart()

    async def terminate(self) -> int:
        await self.kill()
        if self.world.has("socket-left"):
            Path(self.address.removeprefix("unix:")).touch()
        return 1 if self.world.has("ends-badly") else 0

    def log(self) -> str:
        return "\n".join(self.world.said)

    def twin(self) -> Target | None:
        return None

    async def aclose(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
        self._directory.cleanup()


def handler_of(service: str, servicer: Any, calls: Calls) -> grpc.GenericRpcHandler:
    """Handlers for the methods a servicer has."""
    found = {}
    for name, method in METHODS.items():
        if name.partition(".")[0] != service or not hasattr(servicer, method.name):
            continue
        act = getattr(servicer, method.name)
        decode = decoder(message_factory.GetMessageClass(method.input_type), calls.world)
        if method.client_streaming and method.server_streaming:
            made = grpc.stream_stream_rpc_method_handler(guarded(act, calls), decode, encode)
        elif method.client_streaming:
            made = grpc.stream_unary_rpc_method_handler(guarded(act, calls), decode, encode)
        elif method.server_streaming:
            made = grpc.unary_stream_rpc_method_handler(streamed(act, calls), decode, encode)
        else:
            made = grpc.unary_unary_rpc_method_handler(guarded(act, calls), decode, encode)
        found[method.name] = made
    return grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", found)


def decoder(cls: Any, world: World) -> Callable[[bytes], Any]:
    def decode(raw: bytes) -> Any:
        try:
            return cls.FromString(raw)
        except DecodeError:
            return cls() if world.has("garbage-taken") else Garbage()

    return decode


def encode(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def guarded(act: Callable[..., Awaitable[Any]], calls: Calls) -> Any:
    async def run(request: Any, context: Any) -> Any:
        async def checked(given: Any, where: Any) -> Any:
            if isinstance(given, Garbage):
                raise invalid("NOT_PROTOBUF", "no request")
            return await act(given, where)

        return await calls.answer(checked, request, context)

    return run


def streamed(act: Callable[..., Any], calls: Calls) -> Any:
    async def run(request: Any, context: Any) -> None:
        async def write_all(given: Any, where: Any) -> None:
            async for answer in act(given, where):
                await where.write(answer)

        await calls.answer(write_all, request, context)

    return run


async def _main(faults: list[str]) -> None:
    world = World(*faults, contracts=("blockchain", "tokens", "dx", "storage"))
    target = InMemory(world)
    await target.start()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    if not world.has("ignores-sigterm"):
        loop.add_signal_handler(signal.SIGTERM, ending.set)
    if not world.has("outlives-core"):
        loop.add_reader(sys.stdin.fileno(), ending.set)
    handshake = {"handshake": 1, "address": target.address, "protocol": ["v1"], "pid": os.getpid()}
    if world.has("loose-handshake"):
        handshake["protocol"] = []
    print(json.dumps(handshake), flush=True)
    await ending.wait()
    await target.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
