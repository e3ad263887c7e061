"""Goal: a socket that appears in the watched directory becomes a connector, one that vanishes is gone.

Method: connectors of the kit in the test's process, on sockets that come and go.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from photinus_core.host import Category, InstanceConfig, discovery
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.ports.connectors import ConnectorInfo
from photinus_sdk import ConnectorServer

from tests.support.host import StoringHandler, hosting, shown, stream_of, until_state
from tests.support.ledger import Ledger
from tests.support.liar import Liar
from tests.support.waiting import until

NAMESPACE, EPOCH = Namespace("ns1"), Epoch(1)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "LOOK_EVERY_S", 0.05)


def found_by(*names: str) -> InstanceConfig:
    return InstanceConfig("ledger0", Category.BLOCKCHAIN, "ethereum", discover=names)


async def test_a_socket_that_appears_is_used_and_one_that_vanishes_is_gone(run_dir: Path) -> None:
    sockets, address = run_dir / "sockets", f"unix:{run_dir}/sockets/ledger0.sock"
    async with hosting(run_dir, found_by("ledger0", "ethereum"), sockets=sockets) as host:
        await until_state(host, "ledger0", "gone")
        await until(
            lambda: "no socket ledger0.sock or ethereum.sock" in shown(host, "ledger0").last_error
        )
        assert str(sockets) in shown(host, "ledger0").last_error
        for _ in range(2):
            async with ConnectorServer(Ledger, address, run_dir / "data"):
                await host.wait_ready("ledger0", 20)
                info = shown(host, "ledger0")
                assert (info.state, info.address) == ("ready", address)
                assert await host.blockchain("ledger0").network_version("") == 2
            await until_state(host, "ledger0", "gone")


async def test_a_removed_socket_is_gone_though_the_process_lives(run_dir: Path) -> None:
    sockets = run_dir / "sockets"
    address = f"unix:{sockets}/ethereum.sock"
    async with (
        hosting(run_dir, found_by("ledger0", "ethereum"), sockets=sockets) as host,
        ConnectorServer(Ledger, address, run_dir / "data"),
    ):
        await host.wait_ready("ledger0", 20)
        handler = StoringHandler()
        ledger = host.blockchain("ledger0")
        await ledger.open_stream(NAMESPACE, "net1", EPOCH, [], handler)
        await until(lambda: stream_of(host, "ledger0").startswith("open"))
        moved = sockets / "elsewhere"
        (sockets / "ethereum.sock").rename(moved)
        info = await until_state(host, "ledger0", "gone")
        assert "removed" in info.last_error
        moved.rename(sockets / "ledger0.sock")
        await host.wait_ready("ledger0", 20)
        assert shown(host, "ledger0").address.endswith("ledger0.sock")
        await until(lambda: stream_of(host, "ledger0").startswith("open"))
        assert handler.resumed >= 2


def strangers(infos: Sequence[ConnectorInfo]) -> list[ConnectorInfo]:
    return [info for info in infos if info.state == "discovered"]


async def test_what_nobody_names_is_shown_and_not_used(run_dir: Path) -> None:
    sockets = run_dir / "sockets"
    async with hosting(run_dir, found_by("ledger0"), sockets=sockets) as host:
        async with ConnectorServer(Ledger, f"unix:{sockets}/other.sock", run_dir / "data"):
            await until(lambda: any(i.version for i in strangers(host.list_connectors())))
            (info,) = strangers(host.list_connectors())
            assert (info.instance, info.plugin_type, info.version) == (
                "other.sock",
                "ledger",
                "1.2.3",
            )
            assert info.kind == "blockchain"
            assert "no plugin" in info.last_error
            assert not Ledger.live, "it was not configured"
            # It is once the configuration names it.
            host.change(found_by("other"))
            await host.wait_ready("ledger0", 20)
            assert not strangers(host.list_connectors())
        await until(lambda: not strangers(host.list_connectors()))


async def test_a_directory_that_others_may_write_to_is_not_believed(run_dir: Path) -> None:
    sockets = run_dir / "sockets"
    sockets.mkdir(mode=0o700)
    sockets.chmod(0o777)
    async with (
        Liar().served(sockets),
        hosting(run_dir, found_by("liar"), sockets=sockets) as host,
    ):
        await until(lambda: "FF19215" in shown(host, "ledger0").last_error)
        assert "chmod 700" in shown(host, "ledger0").last_error
        sockets.chmod(0o700)
        await host.wait_ready("ledger0", 20)


async def test_files_that_are_no_sockets_are_left_alone(run_dir: Path) -> None:
    sockets = run_dir / "sockets"
    sockets.mkdir(mode=0o700)
    (sockets / "ledger0.sock").write_text("a file")
    (sockets / "other.sock").symlink_to("/nowhere")
    (sockets / "third.sock").mkdir()
    async with hosting(run_dir, found_by("ledger0"), sockets=sockets) as host:
        await until(lambda: "no socket" in shown(host, "ledger0").last_error)
        assert [info.instance for info in host.list_connectors()] == ["ledger0"]
