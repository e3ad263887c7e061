"""Goal: what an operator configures beside the address is kept to: who waits, how patiently, how often.

Method: the ledger of the author kit and the liar, in the test's process and as children.
"""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from photinus.connector.v1 import connector_pb2 as connector
from photinus_core.host import Category, ConnectorHost, InstanceConfig, WhenAway
from photinus_core.host.service import REATTACH_VARIABLE
from photinus_core.model.errors import Unavailable
from photinus_core.ports.connectors import ConnectorFailure, Disposition, Submission
from photinus_core.sequencing.connector_life import SECOND_NS, LifeLimits
from photinus_sdk import ConnectorServer

from tests.support.host import (
    PATIENT,
    StoringHandler,
    follow,
    hosting,
    shown,
    stream_of,
    submit_pin,
    until_state,
)
from tests.support.ledger import Ledger
from tests.support.liar import CutError, Liar
from tests.support.waiting import until
from tests.support.wire import child

LEDGER = (sys.executable, "-m", "tests.support.ledger")


def attached(run_dir: Path, name: str = "ledger0", **fields: object) -> InstanceConfig:
    address = f"unix:{run_dir}/x.sock"
    return InstanceConfig(name, Category.BLOCKCHAIN, address=address, **fields)  # type: ignore[arg-type] # fields of one type each


def launched(*command: str, **fields: object) -> InstanceConfig:
    return InstanceConfig("ledger0", Category.BLOCKCHAIN, launch=command or LEDGER, **fields)  # type: ignore[arg-type] # as above


async def submit(host: ConnectorHost, key: str = "ns1:1") -> Submission:
    return await submit_pin(host, "ledger0", key)


def pid_of(host: ConnectorHost) -> int:
    running = host._supervisors["ledger0"]._link.child
    assert running is not None
    return running.pid


async def test_submissions_wait_for_a_connector_that_is_away(run_dir: Path) -> None:
    async with hosting(run_dir, attached(run_dir)) as host:
        await until(lambda: shown(host, "ledger0").last_error)
        waiting = asyncio.ensure_future(submit(host))
        with pytest.raises(Unavailable):
            await host.blockchain("ledger0").network_version("")
        assert not waiting.done()
        async with ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"):
            assert (await waiting).external_id == "0xb"


async def test_or_fail_at_once_where_the_operator_says_so(run_dir: Path) -> None:
    config = attached(run_dir, when_away=WhenAway.FAIL)
    async with hosting(run_dir, config) as host:
        await until(lambda: shown(host, "ledger0").last_error)
        for call in (submit(host), host.blockchain("ledger0").network_version("")):
            with pytest.raises(Unavailable) as caught:
                await call
            assert caught.value.code == "FF19200"


async def test_an_unknown_outcome_is_told_at_once_by_who_does_not_wait(run_dir: Path) -> None:
    liar = Liar()
    ended = asyncio.Event()

    async def cut() -> None:
        ended.set()
        raise CutError

    liar.submit = cut  # type: ignore[assignment] # it never answers
    address = f"unix:{run_dir}/liar.sock"
    config = InstanceConfig(
        "ledger0", Category.BLOCKCHAIN, address=address, when_away=WhenAway.FAIL
    )
    async with liar.served(run_dir), hosting(run_dir, config) as host:
        await host.wait_ready("ledger0", 20)
        with pytest.raises(ConnectorFailure) as caught:
            await submit(host)
        assert caught.value.disposition is Disposition.MAYBE_SENT
        assert ended.is_set()
        assert liar.submitted == ["ns1:1"]


async def test_one_process_serves_several_instances(run_dir: Path) -> None:
    configs = [
        attached(run_dir, "first", config={"version": "1"}),
        attached(run_dir, "second", instance="apart", config={"version": "5"}),
    ]
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, *configs) as host,
    ):
        for name in ("first", "second"):
            await host.wait_ready(name, 20)
        assert await host.blockchain("first").network_version("") == 1
        assert await host.blockchain("second").network_version("") == 5
        stores = {info.store_id for info in host.list_connectors()}
        assert len(stores) == 2
        assert (run_dir / "data" / "apart" / "journal.sqlite").exists()
        # What happens to one of them is none of the other's business.
        host.change(attached(run_dir, "second", instance="apart", config={"events": "none"}))
        info = await until_state(host, "second", "failed")
        assert "/events" in info.last_error
        assert await host.blockchain("first").network_version("") == 1
        assert shown(host, "first").restarts == 0


async def test_a_connector_for_one_instance_says_so(run_dir: Path) -> None:
    class Single(Ledger, name="single", version="1.0.0", multi_instance=False):
        pass

    async with (
        ConnectorServer(Single, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir, "first")) as host,
    ):
        await host.wait_ready("first", 20)
        host.add([attached(run_dir, "second")])
        info = await until_state(host, "second", "failed")
        assert "start another" in info.last_error


async def test_what_has_failed_is_tried_again_after_its_cool_down(run_dir: Path) -> None:
    limits = LifeLimits(restarts_max=1, cool_down_ns=SECOND_NS // 2)
    flag = run_dir / "well"
    program = (
        f"import sys, pathlib\nif not pathlib.Path({str(flag)!r}).exists(): sys.exit(3)\n"
        "from tests.support.ledger import Ledger\nfrom photinus_sdk import serve\nserve(Ledger)"
    )
    async with hosting(run_dir, launched(sys.executable, "-c", program, limits=limits)) as host:
        info = await until_state(host, "ledger0", "failed")
        assert info.last_error.startswith("ended 2 times within 60 s: ")
        flag.touch()
        await host.wait_ready("ledger0", 30)
        assert shown(host, "ledger0").last_error == ""


async def test_a_change_brings_it_back_at_once(run_dir: Path) -> None:
    never = LifeLimits(restarts_max=0, cool_down_ns=3600 * SECOND_NS)
    async with hosting(run_dir, launched("/no/such/program", limits=never)) as host:
        await until_state(host, "ledger0", "failed")
        host.change(launched(limits=never))
        await host.wait_ready("ledger0", 30)


async def test_a_changed_configuration_keeps_process_and_streams(run_dir: Path) -> None:
    async with hosting(run_dir, launched(config={"events": "3"})) as host:
        await host.wait_ready("ledger0", 30)
        handler, pid = StoringHandler(), pid_of(host)
        await follow(host, "ledger0", handler)
        await until(lambda: len(handler.ids) == 3)
        host.change(launched(config={"events": "3"}))
        assert shown(host, "ledger0").state == "ready", "nothing has changed"
        host.change(launched(config={"events": "5"}))
        await until(lambda: len(handler.ids) == 5)
        assert handler.numbers() == [1, 2, 3, 4, 5]
        assert pid_of(host) == pid
        # The ledger takes another version only when it starts.
        host.change(launched(config={"events": "5", "version": "9"}))
        await until(lambda: shown(host, "ledger0").state != "ready")
        await host.wait_ready("ledger0", 30)
        assert await host.blockchain("ledger0").network_version("") == 9
        assert pid_of(host) != pid
        host.change(attached(run_dir))
        await until(lambda: "x.sock" in shown(host, "ledger0").address)
        async with ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "ledger0"):
            await host.wait_ready("ledger0", 30)
            await until(lambda: stream_of(host, "ledger0").startswith("open"))


async def test_what_is_away_behind_a_connector_costs_no_process(run_dir: Path) -> None:
    flag = run_dir / "back"
    program = (
        "import pathlib\nfrom tests.support.ledger import Ledger\n"
        "from photinus_sdk import Unavailable, serve\n"
        "class Patient(Ledger, name='patient', version='1.0.0'):\n"
        "    async def start(self, settings):\n"
        f"        if not pathlib.Path({str(flag)!r}).exists():\n"
        "            raise Unavailable('the node is away', retry_after_s=0.1)\n"
        "        await super().start(settings)\n"
        "serve(Patient)\n"
    )
    config = launched(sys.executable, "-c", program, limits=LifeLimits(restarts_max=0))
    async with hosting(run_dir, config) as host:
        await until(lambda: "the node is away" in shown(host, "ledger0").last_error, 60)
        assert shown(host, "ledger0").state == "unreachable"
        pid = pid_of(host)
        flag.touch()
        await host.wait_ready("ledger0", 30)
        assert pid_of(host) == pid


async def test_a_breakpoint_is_no_reason_to_give_up(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launched connector that hangs is replaced; under a debugger it is left in peace."""
    hasty = LifeLimits(SECOND_NS // 20, SECOND_NS // 5)
    address = f"unix:{run_dir}/x.sock"
    command = ("-m", "tests.support.ledger", "--data-dir", f"{run_dir}/d", "--address", address)
    config = launched("/no/such/program", limits=hasty)
    async with child(*command) as mine:
        entry = f'{{"ledger0": {{"address": "{address}"}}, "other": {{"address": "unix:/x"}}}}'
        monkeypatch.setenv(REATTACH_VARIABLE, entry)
        async with hosting(run_dir, config) as host:
            await host.wait_ready("ledger0", 20)
            os.kill(mine.process.pid, signal.SIGSTOP)
            call = asyncio.ensure_future(host.blockchain("ledger0").network_version(""))
            # Ten times the silence it would bear.
            done, _ = await asyncio.wait([call], timeout=2)
            assert not done
            assert shown(host, "ledger0").state == "ready"
            os.kill(mine.process.pid, signal.SIGCONT)
            assert await call == 2
            assert shown(host, "ledger0").restarts == 0


async def test_how_patient_the_core_is_can_be_chosen(run_dir: Path) -> None:
    hasty = LifeLimits(SECOND_NS // 20, SECOND_NS)
    async with hosting(run_dir, launched(limits=hasty)) as host:
        await host.wait_ready("ledger0", 30)
        os.kill(pid_of(host), signal.SIGSTOP)
        await until(
            lambda: "it hangs: no ping was answered for 1 s" in shown(host, "ledger0").last_error
        )
        await until(lambda: shown(host, "ledger0").restarts == 1)
    async with hosting(run_dir / "2", launched(limits=PATIENT)) as host:
        await host.wait_ready("ledger0", 30)
        os.kill(pid_of(host), signal.SIGSTOP)
        question = asyncio.ensure_future(host.blockchain("ledger0").network_version(""))
        done, _ = await asyncio.wait([question], timeout=2.5)
        assert not done, "it is believed to be there"
        assert shown(host, "ledger0").state == "ready"
        os.kill(pid_of(host), signal.SIGCONT)
        assert await question == 2


def is_told(host: ConnectorHost, reason: str) -> bool:
    return shown(host, "ledger0").last_error == reason


async def test_what_a_connector_says_of_itself_changes_while_it_is_degraded(run_dir: Path) -> None:
    async with (
        ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data"),
        hosting(run_dir, attached(run_dir)) as host,
    ):
        await host.wait_ready("ledger0", 20)
        for reason in ("the node is away", "the node is syncing"):
            Ledger.live[-1].instance.report(connector.RUNTIME_STATE_DEGRADED, reason)
            await until(partial(is_told, host, reason))
