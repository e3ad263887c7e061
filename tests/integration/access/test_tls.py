"""Goal: the gRPC endpoint speaks TLS, wants certificates where it is told to, and follows its files.

Method: a server with the endpoint's credentials, and the whole node with its commands.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from photinus_core.rpc.tls import ServerTls, TlsFiles

from tests.integration.access.conftest import config
from tests.integration.access.test_in_use import command
from tests.support.certificates import SelfSigned, self_signed
from tests.support.rest import wait_until
from tests.support.solo import node_up
from tests.support.tokens import Issuer, password_file

CALL_S: Final = 30.0


async def served(tls: ServerTls) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials())
    await server.start()
    return server, f"127.0.0.1:{port}"


async def ask(address: str, ca: Path, own: SelfSigned | None = None) -> grpc.StatusCode:
    """How a call ends for a client with these certificates."""
    key = (own.key.read_bytes(), own.certificate.read_bytes()) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *key)
    # A channel like one before would take its connection.
    alone = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(address, credentials, options=alone) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            await check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        except grpc.aio.AioRpcError as failure:
            return failure.code()
    return grpc.StatusCode.OK


@pytest.fixture
async def ending() -> AsyncIterator[list[grpc.aio.Server]]:
    servers: list[grpc.aio.Server] = []
    yield servers
    for server in servers:
        await server.stop(None)


async def test_renewed_certificates(tmp_path: Path, ending: list[grpc.aio.Server]) -> None:
    first = self_signed(tmp_path, "own")
    former = tmp_path / "former.pem"
    former.write_bytes(first.certificate.read_bytes())
    server, address = await served(ServerTls(TlsFiles(first.certificate, first.key)))
    ending.append(server)
    assert await ask(address, former) is grpc.StatusCode.OK
    self_signed(tmp_path, "own")
    assert await ask(address, first.certificate) is grpc.StatusCode.OK
    assert await ask(address, former) is grpc.StatusCode.UNAVAILABLE
    second = first.certificate.read_bytes()
    (tmp_path / "second.pem").write_bytes(second)
    first.certificate.write_text("half a fi")
    assert await ask(address, tmp_path / "second.pem") is grpc.StatusCode.OK


async def test_clients_show_certificates(tmp_path: Path, ending: list[grpc.aio.Server]) -> None:
    own, client, other = (self_signed(tmp_path, name) for name in ("own", "client", "other"))
    files = TlsFiles(own.certificate, own.key, client.certificate, require_client=True)
    server, address = await served(ServerTls(files))
    ending.append(server)
    assert await ask(address, own.certificate, client) is grpc.StatusCode.OK
    assert await ask(address, own.certificate) is grpc.StatusCode.UNAVAILABLE
    assert await ask(address, own.certificate, other) is grpc.StatusCode.UNAVAILABLE


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_the_node_serves_with_tls_and_its_commands_find_it(tmp_path: Path) -> None:
    """The gateway is given no certificate here: it is the endpoint that is looked at."""
    own = self_signed(tmp_path, "own")
    (tmp_path / "users").write_text(password_file(root="r"))
    (tmp_path / "keys.json").write_text(Issuer().key_set())
    made: dict[str, Any] = config()
    made["grpc"] = {
        "address": f"127.0.0.1:{free_port()}",
        "tls": {"certFile": own.certificate.name, "keyFile": own.key.name},
    }
    with node_up(tmp_path, made):
        log = tmp_path / "core.log"
        wait_until(lambda: "serving on" in log.read_text(), 60.0, log.read_text)
        found = re.search(r"serving on (\S+:\d+)", log.read_text())
        assert found is not None
        said = {"PHOTINUS_USER": "root", "PHOTINUS_PASSWORD": "r"}
        over = command("cluster", "--api", found[1], "--ca", str(own.certificate), **said)
        assert over.returncode == 0, over.stderr
