"""Running a connector: `serve(Class)` is the whole of its `main`."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc
import uvloop
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from photinus.connector.v1 import connector_pb2

from photinus_sdk.calls import Act, ContractCall, Handler, handlers_of
from photinus_sdk.connector import PROTOCOLS, Connector, contracts_of, snake_case
from photinus_sdk.control import ControlService
from photinus_sdk.errors import ConnectorError
from photinus_sdk.event_stream import EventService
from photinus_sdk.logs import set_up_logs
from photinus_sdk.sockets import keep_private, prepare, remove
from photinus_sdk.tasks import Background
from photinus_sdk.tls import TlsFiles, chosen_files
from photinus_sdk.tracing import TracingInterceptor

log = logging.getLogger("photinus.sdk")

DRAIN_GRACE_S = 10.0
STOP_GRACE_S = 2.0
LAUNCHED_VARIABLE = "PHOTINUS_LAUNCHED"
DATA_DIR_VARIABLE = "PHOTINUS_DATA_DIR"
NOT_SERVING = {connector_pb2.RUNTIME_STATE_FAILED, connector_pb2.RUNTIME_STATE_STOPPING}
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class ConnectorServer:
    """A connector in this process, for `serve` and for tests.

    Args:
        cls: The author's class.
        address: Where to listen; `unix:/path` or `127.0.0.1:port` (port 0 for any).
        data_dir: Directory for the instances' durable stores.
        insecure: Allows plain TCP on loopback.
        tls: Files for mutual TLS on TCP.

    Use as an async context manager; inside, `address` is the one to dial.
    """

    def __init__(
        self,
        cls: type[Connector[Any]],
        address: str,
        data_dir: Path,
        *,
        insecure: bool = False,
        tls: TlsFiles | None = None,
    ) -> None:
        self.address = prepare(address, insecure=insecure, tls=tls is not None)
        self.tls = tls
        self._background = Background()
        self._health = health.aio.HealthServicer()
        self._control = ControlService(cls, data_dir, self._on_status)
        self._server = grpc.aio.server(
            interceptors=[TracingInterceptor(cls.description.name)],
            options=[("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 4096)],
        )
        find = self._control.of_call
        self._served = [health.SERVICE_NAME, reflection.SERVICE_NAME, REFLECTION_V1]
        self._serve(service_of("Connector"), partial(_method_of, self._control))
        self._serve(service_of("Operation"), partial(_method_of, self._control))
        self._serve(service_of("Event"), partial(_method_of, EventService(find)))
        self._contracts = [service_of(base.__name__) for base in contracts_of(cls)]
        for base in contracts_of(cls):
            self._serve(service_of(base.__name__), partial(ContractCall, base, find))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._add_reflection()

    async def start(self) -> None:
        """Listens. Raises RuntimeError when the address cannot be bound, Rejected for its TLS."""
        if self.tls is None:
            port = self._server.add_insecure_port(self.address)
        else:
            port = self._server.add_secure_port(self.address, self.tls.credentials())
        await self._server.start()
        if self.address.startswith("unix:"):
            keep_private(self.address)
        else:
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._show_health()

    async def stop(self, drain_grace_s: float = DRAIN_GRACE_S) -> None:
        """Drains every instance, gives back what they hold, closes the socket. Idempotent."""
        await self._background.aclose()
        await self._health.enter_graceful_shutdown()
        async with asyncio.TaskGroup() as group:
            for instance in self._control.instances.values():
                group.create_task(instance.drain(drain_grace_s))
        await self._server.stop(STOP_GRACE_S)
        for instance in self._control.instances.values():
            await instance.aclose()
        remove(self.address)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(drain_grace_s=0.2)

    def _on_status(self) -> None:
        self._background.start(self._show_health(), "health")

    async def _show_health(self) -> None:
        """A contract's service serves while some instance of it does, or none is configured yet."""
        answer = health_pb2.HealthCheckResponse
        for service in self._contracts:
            states = {instance.status.state for instance in self._control.instances.values()}
            value = answer.NOT_SERVING if states and states <= NOT_SERVING else answer.SERVING
            await self._health.set(service.full_name, value)

    def _serve(self, service: ServiceDescriptor, act_of: Callable[[MethodDescriptor], Act]) -> None:
        self._served.append(service.full_name)
        self._handle(service.full_name, handlers_of(service, act_of))

    def _add_reflection(self) -> None:
        # v1 has the messages of v1alpha under another name; the package brings only the older one.
        handler = grpc.stream_stream_rpc_method_handler(
            reflection.aio.ReflectionServicer(self._served).ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in (REFLECTION_V1, reflection.SERVICE_NAME):
            self._handle(name, {"ServerReflectionInfo": handler})

    def _handle(self, service: str, methods: dict[str, Handler]) -> None:
        handler = grpc.method_handlers_generic_handler(service, methods)
        self._server.add_generic_rpc_handlers((handler,))


def service_of(name: str) -> ServiceDescriptor:
    """A service of the protocol; those of contracts are named as their classes."""
    return Default().FindServiceByName(f"photinus.connector.v1.{name}Service")


def _method_of(target: object, method: MethodDescriptor) -> Act:
    act: Act = getattr(target, snake_case(method.name))
    return act


def serve(cls: type[Connector[Any]], arguments: list[str] | None = None) -> None:
    """Runs a connector until SIGTERM or SIGINT; the whole of a connector's `main`.

    Prints one handshake line on standard output when it can be dialled; everything else goes to
    standard error. Exits with status 1 and one line of text when it cannot start.
    """
    options = _parse(cls, arguments)
    if options.print_schema:
        print(cls.description.config_schema_json)  # noqa: T201 - what the option is for
        return
    set_up_logs(options.log_level)
    try:
        uvloop.run(_serve(cls, options))
    except (ConnectorError, OSError, RuntimeError) as error:
        sys.exit(f"{_program()}: {error}")


async def _serve(cls: type[Connector[Any]], options: argparse.Namespace) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    with contextlib.ExitStack() as stack:
        address, given = options.address, (options.tls_cert, options.tls_key, options.tls_client_ca)
        tls = chosen_files(given, os.environ, address, insecure=options.insecure)
        if not address:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="photinus-"))
            address = f"unix:{directory}/connector.sock"
        server = ConnectorServer(cls, address, options.data_dir, insecure=options.insecure, tls=tls)
        await server.start()
        if os.environ.get(LAUNCHED_VARIABLE):
            _watch_parent(ending)
        handshake = {"handshake": 1, "address": server.address, "protocol": PROTOCOLS}
        handshake |= {"pid": os.getpid()} | ({"tls": True} if tls is not None else {})
        print(json.dumps(handshake), flush=True)  # noqa: T201 - the protocol's handshake
        log.info("serving", extra={"address": server.address})
        await ending.wait()
        await server.stop()


def _watch_parent(ending: asyncio.Event) -> None:
    """A launched connector ends with its core: standard input closes when the core is gone."""
    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    mode = os.fstat(number).st_mode

    def on_input() -> None:
        if not os.read(number, 4096):
            loop.remove_reader(number)
            ending.set()

    # From a parent it is a pipe; event loops in C make a pair of sockets of it.
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        loop.add_reader(number, on_input)


def _program() -> str:
    """What was typed to start this process: `photinus-dx`, `disk.py` or `python -m photinus_dx`."""
    main = sys.modules["__main__"].__spec__
    known = main and f"python -m {main.name.removesuffix('.__main__')}"
    return known or Path(sys.argv[0]).name


def _parse(cls: type[Connector[Any]], arguments: list[str] | None) -> argparse.Namespace:
    name = cls.description.name
    parser = argparse.ArgumentParser(prog=_program(), description=cls.__doc__)
    parser.add_argument("--address", default="", help="unix:/path or host:port")
    data_dir = Path(os.environ.get(DATA_DIR_VARIABLE) or Path(".photinus") / name)
    parser.add_argument("--data-dir", type=Path, default=data_dir)
    parser.add_argument("--insecure", action="store_true", help="allow plain TCP on loopback")
    parser.add_argument("--tls-cert", type=Path, help="PEM, for TCP; or PHOTINUS_TLS_CERT")
    parser.add_argument("--tls-key", type=Path, help="PEM, no password; or PHOTINUS_TLS_KEY")
    parser.add_argument("--tls-client-ca", type=Path, help="PEM; or PHOTINUS_TLS_CLIENT_CA")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--print-schema", action="store_true", help="print the settings' schema")
    return parser.parse_args(arguments)
