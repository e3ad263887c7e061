"""Goal: beyond a private socket nobody but the core reaches a connector, and nobody else answers for it.

Method: connectors of the kit on loopback TCP, launched with certificates of one run, or attached
with certificates from files; strangers dial them with others, or with none.
"""

import asyncio
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from photinus_core.host import Category, InstanceConfig, TlsFiles, process
from photinus_core.host.one_time_tls import ONE_TIME_NAME, OneTimeTls
from photinus_core.sequencing.connector_life import SECOND_NS, LifeLimits
from photinus_sdk import ConnectorServer
from photinus_sdk import TlsFiles as ServerFiles

from tests.support.certificates import self_signed
from tests.support.host import hosting, shown, until_state
from tests.support.ledger import Ledger
from tests.support.waiting import until

LOOPBACK = "127.0.0.1:0"
LEDGER = (sys.executable, "-m", "tests.support.ledger", "--address", LOOPBACK)
SOON = LifeLimits(cool_down_ns=SECOND_NS // 5)


def launched(*command: str, **fields: object) -> InstanceConfig:
    return InstanceConfig("ledger0", Category.BLOCKCHAIN, launch=command, **fields)  # type: ignore[arg-type] # fields of one type each


def attached(address: str, tls: TlsFiles | None, **fields: object) -> InstanceConfig:
    return InstanceConfig("ledger0", Category.BLOCKCHAIN, address=address, tls=tls, **fields)  # type: ignore[arg-type] # as above


async def answers(address: str, credentials: grpc.ChannelCredentials | None, name: str) -> bool:
    """Whether a stranger gets an answer."""
    options = [("grpc.ssl_target_name_override", name)] if credentials else []
    made = (
        grpc.aio.secure_channel(address, credentials, options)
        if credentials
        else grpc.aio.insecure_channel(address)
    )
    async with made as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_a_launched_connector_on_tcp_serves_its_core_alone(run_dir: Path) -> None:
    async with hosting(run_dir, launched(*LEDGER)) as host:
        await host.wait_ready("ledger0", 20)
        address = shown(host, "ledger0").address
        assert address.startswith("127.0.0.1:")
        assert await host.blockchain("ledger0").network_version("") == 2
        assert not (run_dir / "ledger0" / process.TLS_FOLDER).exists(), "keys do not stay on disk"
        assert not await answers(address, None, "")
        other = OneTimeTls.make()
        stranger = grpc.ssl_channel_credentials(other.ca, other.core_key, other.core_certificate)
        assert not await answers(address, stranger, ONE_TIME_NAME)


async def test_each_run_has_certificates_of_its_own(run_dir: Path) -> None:
    async with hosting(run_dir, launched(*LEDGER)) as host:
        await host.wait_ready("ledger0", 20)
        first = host._supervisors["ledger0"]._link.child
        assert first is not None
        host.restart("ledger0")
        await until(lambda: shown(host, "ledger0").restarts == 1)
        second = host._supervisors["ledger0"]._link.child
        assert second is not None
        assert second.tls.ca != first.tls.ca
        assert await host.blockchain("ledger0").network_version("") == 2


async def test_plain_tcp_of_a_launched_connector_is_asked_for(run_dir: Path) -> None:
    command = (*LEDGER, "--insecure")
    async with hosting(run_dir, launched(*command)) as host:
        info = await until_state(host, "ledger0", "failed")
        assert "FF19212" in info.last_error
        assert "insecure: true" in info.last_error
        host.change(launched(*command, insecure=True))
        await host.wait_ready("ledger0", 20)


async def test_an_attached_connector_and_its_core_show_their_certificates(run_dir: Path) -> None:
    core, server = self_signed(run_dir, "core"), self_signed(run_dir, "server")
    files = ServerFiles(server.certificate, server.key, core.certificate)
    mine = TlsFiles(server.certificate, core.certificate, core.key)
    async with ConnectorServer(Ledger, LOOPBACK, run_dir / "data", tls=files) as connector:
        async with hosting(run_dir / "1", attached(connector.address, mine)) as host:
            await host.wait_ready("ledger0", 20)
            assert await host.blockchain("ledger0").network_version("") == 2
        port = connector.address.rpartition(":")[2]
        by_name = attached(f"dns:///localhost:{port}", mine)
        async with hosting(run_dir / "2", by_name) as host:
            # The certificate is of 127.0.0.1.
            await until(lambda: shown(host, "ledger0").last_error)
            assert shown(host, "ledger0").state == "unreachable"
        assert not await answers(connector.address, None, "")


async def test_others_on_either_side_are_not_believed(run_dir: Path) -> None:
    core, server, other = (self_signed(run_dir, name) for name in ("core", "server", "other"))
    files = ServerFiles(server.certificate, server.key, core.certificate)
    async with ConnectorServer(Ledger, LOOPBACK, run_dir / "data", tls=files) as connector:
        for number, wrong in enumerate(
            (
                TlsFiles(other.certificate, core.certificate, core.key),
                TlsFiles(server.certificate, other.certificate, other.key),
            )
        ):
            config = attached(connector.address, wrong)
            async with hosting(run_dir / str(number), config) as host:
                await until(lambda: shown(host, "ledger0").last_error)
                assert shown(host, "ledger0").state == "unreachable"
    assert not Ledger.live


async def test_renewed_certificates_are_taken_with_the_next_connection(run_dir: Path) -> None:
    core, server, other = (self_signed(run_dir, name) for name in ("core", "server", "other"))
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = attached(
        address, TlsFiles(server.certificate, core.certificate, core.key), limits=SOON
    )
    files = ServerFiles(server.certificate, server.key, core.certificate)
    async with hosting(run_dir, config) as host:
        async with ConnectorServer(Ledger, address, run_dir / "data", tls=files):
            await host.wait_ready("ledger0", 20)
        server.certificate.write_text("being renewed")
        info = await until_state(host, "ledger0", "failed")
        assert "FF19214" in info.last_error
        server.certificate.write_bytes(other.certificate.read_bytes())
        renewed = ServerFiles(other.certificate, other.key, core.certificate)
        async with ConnectorServer(Ledger, address, run_dir / "data", tls=renewed):
            await host.wait_ready("ledger0", 30)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (attached("10.0.0.1:1", None), "FF19212"),
        (attached("10.0.0.1:1", None, insecure=True), "FF19212"),
        (
            attached("127.0.0.1:1", TlsFiles(Path("/no/ca"), Path("/no/c"), Path("/no/k"))),
            "FF19214",
        ),
    ],
    ids=["no tls", "insecure beyond loopback", "no files"],
)
async def test_what_is_not_protected_is_not_dialled(
    run_dir: Path, config: InstanceConfig, code: str
) -> None:
    async with hosting(run_dir, config) as host:
        info = await until_state(host, "ledger0", "failed")
        assert code in info.last_error


async def test_a_child_that_never_says_where_it_is_leaves_no_keys(
    run_dir: Path, quick: None
) -> None:
    async with asyncio.timeout(60), hosting(run_dir, launched(sys.executable, "-c", "")) as host:
        await until_state(host, "ledger0", "failed")
        assert not (run_dir / "ledger0" / process.TLS_FOLDER).exists()
