"""Goal: the host reaches connectors, keeps them reached, and says what is wrong when it cannot.

Method: real child processes made with the author kit: launched, attached, killed, stopped, absent,
refused; and programs that are no connectors at all.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from photinus.connector.v1 import connector_pb2 as connector
from photinus_core.host import Category, ConnectorHost, InstanceConfig
from photinus_core.host.service import REATTACH_VARIABLE
from photinus_core.model.errors import Unavailable
from photinus_core.ports.connectors import ConnectorFailure, Disposition
from photinus_sdk import ConnectorServer

from tests.support.host import KnownStores, hosting, shown, until_state
from tests.support.ledger import Ledger
from tests.support.waiting import until
from tests.support.wire import child

LEDGER = (sys.executable, "-m", "tests.support.ledger")


def launched(*command: str, name: str = "ledger0", **fields: object) -> InstanceConfig:
    return InstanceConfig(name, Category.BLOCKCHAIN, "test", launch=command or LEDGER, **fields)  # type: ignore[arg-type] # fields of one type each


def attached(address: str, name: str = "ledger0", **fields: object) -> InstanceConfig:
    return InstanceConfig(name, Category.BLOCKCHAIN, "test", address=address, **fields)  # type: ignore[arg-type] # as above


def pid_of(host: ConnectorHost, name: str = "ledger0") -> int:
    running = host._supervisors[name]._link.child
    assert running is not None
    return running.pid


async def version(host: ConnectorHost, name: str = "ledger0", location: str = "") -> int:
    return await host.blockchain(name).network_version(location)


async def test_launches_configures_and_ends_it(run_dir: Path) -> None:
    async with hosting(run_dir, launched(config={"VERSION": "1"})) as host:
        await host.wait_ready("ledger0", 10)
        assert await version(host) == 1
        info = shown(host, "ledger0")
        assert (info.state, info.version, info.kind) == ("ready", "1.2.3", "blockchain")
        assert info.limits["maxInFlight"] == 8
        assert info.capabilities == ("events", "multiparty", "operations")
        assert info.store_id
        assert info.last_error == ""
        assert (run_dir / "ledger0" / "ledger0" / "journal.sqlite").exists()
        pid = pid_of(host)
    assert not psutil.pid_exists(pid)


async def test_a_killed_process_is_replaced_and_remembers(run_dir: Path) -> None:
    async with hosting(run_dir, launched()) as host:
        await host.wait_ready("ledger0", 10)
        before = shown(host, "ledger0")
        first = pid_of(host)
        os.kill(first, signal.SIGKILL)
        await until(lambda: shown(host, "ledger0").restarts == 1)
        await host.wait_ready("ledger0", 10)
        after = shown(host, "ledger0")
        assert pid_of(host) != first
        assert after.store_id == before.store_id
        assert await version(host) == 2


async def test_calls_in_flight_end_at_once_when_it_dies(run_dir: Path) -> None:
    async with hosting(run_dir, launched()) as host:
        await host.wait_ready("ledger0", 10)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(ends(version(host, location='"hang"'))) for _ in range(20)]
            await until(lambda: host._supervisors["ledger0"].connection()._busy == 20)
            os.kill(pid_of(host), signal.SIGKILL)
            async with asyncio.timeout(10):
                failures = [await call for call in calls]
        assert {failure.reason for failure in failures} == {"CONNECTOR_LOST"}
        assert {failure.disposition for failure in failures} == {Disposition.MAYBE_SENT}


async def ends(call: Awaitable[object]) -> ConnectorFailure:
    with pytest.raises(ConnectorFailure) as caught:
        await call
    return caught.value


async def test_a_stopped_process_is_noticed_and_replaced(run_dir: Path, quick: None) -> None:
    async with hosting(run_dir, launched()) as host:
        await host.wait_ready("ledger0", 10)
        first = pid_of(host)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: shown(host, "ledger0").restarts == 1)
        assert not psutil.pid_exists(first)
        assert await version(host) == 2


async def test_questions_fail_at_once_while_it_is_away(run_dir: Path) -> None:
    async with hosting(run_dir, attached(f"unix:{run_dir}/none.sock")) as host:
        await until(lambda: shown(host, "ledger0").last_error)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable) as caught:
                await version(host)
        assert caught.value.code == "FF19200"
        assert "ledger0" in str(caught.value)
        assert shown(host, "ledger0").state == "unreachable"


async def test_an_attached_connector_may_come_late_go_and_come_again(
    run_dir: Path, quick: None
) -> None:
    address = f"unix:{run_dir}/x.sock"
    async with hosting(run_dir, attached(address)) as host:
        for _ in range(2):
            async with ConnectorServer(Ledger, address, run_dir / "data"):
                await host.wait_ready("ledger0", 10)
                assert await version(host) == 2
            await until_state(host, "ledger0", "unreachable")
        assert shown(host, "ledger0").restarts == 1


async def test_a_second_core_does_not_disturb_the_first(run_dir: Path) -> None:
    address = f"unix:{run_dir}/x.sock"
    async with (
        ConnectorServer(Ledger, address, run_dir / "data"),
        hosting(run_dir, attached(address)) as first,
    ):
        await first.wait_ready("ledger0", 10)
        async with hosting(run_dir, attached(address)) as second:
            await second.wait_ready("ledger0", 10)
        assert await version(first) == 2
        assert len(Ledger.live) == 1


async def test_what_the_connector_says_of_itself_is_shown(run_dir: Path) -> None:
    address = f"unix:{run_dir}/x.sock"
    async with (
        ConnectorServer(Ledger, address, run_dir / "data"),
        hosting(run_dir, attached(address)) as host,
    ):
        await host.wait_ready("ledger0", 10)
        Ledger.live[-1].instance.report(connector.RUNTIME_STATE_DEGRADED, "the node is away")
        info = await until_state(host, "ledger0", "degraded")
        assert info.last_error == "the node is away"
        assert await version(host) == 2, "it still answers"
        Ledger.live[-1].instance.report(connector.RUNTIME_STATE_OK)
        assert (await until_state(host, "ledger0", "ready")).last_error == ""


async def test_a_bad_configuration_is_named_with_its_place(
    run_dir: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"unix:{run_dir}/x.sock"
    caplog.set_level(logging.ERROR, "photinus.sdk")
    config = attached(address, config={"events": "many"})
    async with (
        ConnectorServer(Ledger, address, run_dir / "data"),
        hosting(run_dir, config) as host,
    ):
        info = await until_state(host, "ledger0", "failed")
        assert "FF19205" in info.last_error
        assert "/events" in info.last_error
        await until(lambda: "the core refused this connector" in caplog.text)
        assert not Ledger.live


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (InstanceConfig("x", Category.DATA_EXCHANGE, address="unix:{}/x.sock"), "FF19208"),
        (InstanceConfig("x", Category.BLOCKCHAIN, address="nonsense"), "FF19212"),
        (InstanceConfig("x", Category.BLOCKCHAIN, launch=("/no/such/program",)), "FF19206"),
        (InstanceConfig("x", Category.BLOCKCHAIN, launch=(sys.executable, "-c", "")), "FF19206"),
        (
            InstanceConfig("x", Category.BLOCKCHAIN, launch=(sys.executable, "-c", "print('hi')")),
            "no handshake: hi",
        ),
        (
            InstanceConfig(
                "x",
                Category.BLOCKCHAIN,
                launch=(sys.executable, "-c", 'print(\'{"handshake":1,"protocol":["v9"]}\')'),
            ),
            "FF19211",
        ),
        (
            InstanceConfig(
                "x", Category.BLOCKCHAIN, launch=(sys.executable, "-c", "print('x' * 100000)")
            ),
            "longer than a handshake",
        ),
    ],
    ids=["kind", "address", "no program", "ends", "no handshake", "protocol", "long line"],
)
async def test_what_cannot_be_used_is_shown_with_the_reason(
    run_dir: Path, quick: None, config: InstanceConfig, code: str
) -> None:
    config = replace(config, address=config.address.format(run_dir))
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, config) as host,
    ):
        await until(lambda: code in shown(host, "x").last_error)


async def test_a_program_that_keeps_dying_is_given_up_visibly(run_dir: Path, quick: None) -> None:
    program = launched(sys.executable, "-c", "import sys; sys.exit(3)")
    async with hosting(run_dir, program) as host:
        info = await until_state(host, "ledger0", "failed")
        assert "status 3" in info.last_error
        assert "times within 60 s" in info.last_error


async def test_another_store_under_the_same_name_is_refused(run_dir: Path, quick: None) -> None:
    address, stores = f"unix:{run_dir}/x.sock", KnownStores()
    for number, code in enumerate(["", "FF19207"]):
        async with (
            ConnectorServer(Ledger, address, run_dir / f"data{number}"),
            hosting(run_dir, attached(address), stores=stores) as host,
        ):
            info = await until_state(host, "ledger0", "failed" if code else "ready")
            assert code in info.last_error


async def test_a_core_with_replicas_launches_nothing(run_dir: Path) -> None:
    async with hosting(run_dir, may_launch=False) as host:
        with pytest.raises(Unavailable) as caught:
            host.add([launched()])
    assert caught.value.code == "FF19210"


async def test_a_connector_under_a_debugger_replaces_the_launched_one(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with child("-m", "tests.support.ledger", "--data-dir", f"{run_dir}/d") as mine:
        monkeypatch.setenv(REATTACH_VARIABLE, f'{{"ledger0":{{"address":"{mine.address}"}}}}')
        async with hosting(run_dir, launched("/no/such/program")) as host:
            await host.wait_ready("ledger0", 10)
            assert shown(host, "ledger0").address == mine.address


async def test_its_output_is_in_our_log_without_secrets(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = launched(config={"token": "hunter22-token", "log_token": "true"})
    async with hosting(run_dir, config) as host:
        await host.wait_ready("ledger0", 10)
        await until(lambda: "the token is" in caplog.text)
    records = [r for r in caplog.records if r.name == "photinus.connector.ledger0"]
    assert any(r.getMessage() == "the token is ***" for r in records)
    assert "hunter22" not in caplog.text


async def test_everything_a_child_started_ends_with_it(run_dir: Path, quick: None) -> None:
    script = (
        "import subprocess, sys, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen(['sleep', '600']); print(p.pid, file=sys.stderr, flush=True);"
        "from tests.support.ledger import *; serve(Ledger)"
    )
    async with hosting(run_dir, launched(sys.executable, "-c", script)) as host:
        await host.wait_ready("ledger0", 10)
        group = [p for p in psutil.process_iter() if os.getpgid(p.pid) == pid_of(host)]
        assert len(group) == 2
    await until(lambda: not any(p.is_running() and p.status() != "zombie" for p in group))


async def test_a_process_that_ignores_the_end_is_killed(run_dir: Path, quick: None) -> None:
    async with hosting(run_dir, launched()) as host:
        await host.wait_ready("ledger0", 10)
        pid = pid_of(host)
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(8):
            await host.remove("ledger0")
        assert not psutil.pid_exists(pid)


async def test_connectors_do_not_share_their_troubles(run_dir: Path, quick: None) -> None:
    configs = (launched(name="good"), launched("/no/such/program", name="bad"))
    async with hosting(run_dir, *configs) as host:
        await host.wait_ready("good", 10)
        await until_state(host, "bad", "failed")
        os.kill(pid_of(host, "good"), signal.SIGKILL)
        await until(lambda: shown(host, "good").restarts == 1)
        assert [info.instance for info in host.list_connectors()] == ["bad", "good"]


async def test_many_calls_that_report_one_loss_do_not_slow_the_redial(
    run_dir: Path, quick: None
) -> None:
    address = f"unix:{run_dir}/x.sock"
    async with hosting(run_dir, attached(address)) as host:
        async with ConnectorServer(Ledger, address, run_dir / "data"):
            await host.wait_ready("ledger0", 10)
            supervisor = host._supervisors["ledger0"]
            connection = supervisor.connection()
        for _ in range(100):
            connection._on_trouble("reported again")
        async with ConnectorServer(Ledger, address, run_dir / "data"):
            async with asyncio.timeout(10):
                await supervisor.wait_connection(10)


async def test_a_change_that_needs_a_restart_gets_one(run_dir: Path, quick: None) -> None:
    wrapper = (
        "import asyncio\n"
        "from tests.support.ledger import Ledger\n"
        "from photinus_sdk import Refused, serve\n"
        "class Once(Ledger, name='once', version='1.0.0'):\n"
        "    async def start(self, settings):\n"
        "        flag = self.instance.data_dir / 'restarted'\n"
        "        if not flag.exists():\n"
        "            flag.touch()\n"
        "            raise Refused('not live', reason='RESTART_REQUIRED')\n"
        "        await super().start(settings)\n"
        "serve(Once)\n"
    )
    async with hosting(run_dir, launched(sys.executable, "-c", wrapper)) as host:
        await host.wait_ready("ledger0", 15)
        assert await version(host) == 2
