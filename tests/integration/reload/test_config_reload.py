"""Goal: a changed configuration changes what differs, and nothing else notices.

Method: a core as a process of its own, with two multiparty namespaces over `photinus-memory` and a
connector that the core launches; the tests write its file and look at it over gRPC: at leaderships
by their epochs, at connectors by their restarts, at event streams that were open before.
"""

from __future__ import annotations

import asyncio
import copy
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import grpc
import pytest
import yaml
from photinus.api.v1 import (
    event_pb2,
    event_service_pb2,
    event_service_pb2_grpc,
    namespace_service_pb2,
    namespace_service_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
)
from photinus_core.app.devnet.processes import find_program

from tests.support.solo import program, running

CALL_S: Final = 60.0
WAIT_S: Final = 200.0
POLL_S: Final = 0.05
KEY: Final = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
LEDGER: Final = [sys.executable, "-m", "tests.support.ledger"]
CONTRACTS: Final = [f"0x{number:040x}" for number in range(4)]
SHARED: Final = ["database0", "blockchain0", "dataexchange0", "sharedstorage0"]


def namespace(name: str, contract: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "defaultKey": KEY,
        "plugins": SHARED,
        "multiparty": {
            "networkNamespace": f"net-{name}",
            "org": {"name": "alice", "key": KEY},
            "node": {"name": "alice-node"},
            "contract": [{"location": {"address": contract}}],
        },
        **more,
    }


class Site:
    """The core, its file and what is seen of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "photinus.core.yaml"
        self.log = folder / "core.log"
        self.address = f"unix:{folder}/core.sock"
        self.process: subprocess.Popen[bytes] | None = None
        memory = {
            kind: [
                {
                    "name": f"{kind}0",
                    "type": "memory",
                    "connector": {
                        "address": f"unix:{folder}/memory.sock",
                        "instance": f"alice-{kind}",
                    },
                    "memory": {"member": "alice", "keys": [KEY]},
                }
            ]
            for kind in ("blockchain", "dataexchange", "sharedstorage")
        }
        memory["blockchain"].append(
            {
                "name": "ledger0",
                "type": "ledger",
                "connector": {"launch": LEDGER},
                "ledger": {"events": "0"},
            }
        )
        self.base: dict[str, Any] = {
            "config": {"autoReload": True},
            "grpc": {"address": self.address},
            "plugins": {
                "database": [
                    {"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}
                ],
                **memory,
            },
            "namespaces": {
                "default": "one",
                "retry": {"initDelay": "10ms", "maxDelay": "200ms"},
                "predefined": [
                    namespace("one", CONTRACTS[1]),
                    namespace("two", CONTRACTS[2]),
                    {"name": "gate", "plugins": ["database0", "ledger0"]},
                ],
            },
        }

    def config(self) -> dict[str, Any]:
        """A copy of the configuration that every test starts from."""
        return copy.deepcopy(self.base)

    def write(self, config: dict[str, Any] | str) -> None:
        """Replaces the file as editors do: all at once."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    @asynccontextmanager
    async def seen(self) -> AsyncIterator[View]:
        """Looks at the core over a connection of the test's own."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            yield View(channel)


class View:
    """What a client sees of the core."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.nodes = node_service_pb2_grpc.NodeServiceStub(channel)
        self.namespaces = namespace_service_pb2_grpc.NamespaceServiceStub(channel)
        self.events = event_service_pb2_grpc.EventServiceStub(channel)

    async def epochs(self) -> dict[str, int]:
        """Epochs of the leaderships that there are."""
        found = await self.nodes.GetCluster(node_service_pb2.GetClusterRequest(), timeout=CALL_S)
        return {n.namespace: n.epoch for n in found.namespaces if n.leader}

    async def connector(self, name: str) -> Any:
        listed = await self.nodes.ListConnectors(
            node_service_pb2.ListConnectorsRequest(), timeout=CALL_S
        )
        return next((c for c in listed.items if c.name == name), None)

    async def status(self, name: str) -> Any:
        """Status of a namespace, None while it is not served."""
        request = namespace_service_pb2.GetStatusRequest(namespace=name)
        try:
            return await self.namespaces.GetStatus(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as failure:
            if failure.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}:
                return None
            if failure.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return None
            raise

    async def told(self, name: str = "one") -> str:
        """What a namespace's status says of the configuration."""
        status = await self.status(name)
        if status is None:
            return "not served"
        return " ".join(c.message for c in status.conditions if c.type == "configuration")

    async def subscribed(self, name: str) -> Any:
        """An open event stream in a namespace."""
        call: Any = self.events.Subscribe()
        start = event_pb2.Start(namespace=name, ephemeral=True, autoack=True)
        await call.write(event_service_pb2.SubscribeRequest(start=start))
        async with asyncio.timeout(CALL_S):
            while not (await call.read()).HasField("started"):
                pass
        return call

    async def leads(self, *names: str) -> bool:
        return set(names) <= set(await self.epochs())


async def until(look: Callable[[], Any], site: Site) -> None:
    """Waits until what is looked at is so. Shows the end of the core's log when it never is."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not await look():
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(site.logged()[-4000:]) from None


async def answers(view: View) -> bool:
    try:
        return await view.leads("one", "two")
    except grpc.aio.AioRpcError:
        return False


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name, ExitStack() as stack:
        site = Site(Path(name))
        site.write(site.base)
        memory = [program("photinus-memory"), "--address", f"unix:{site.folder}/memory.sock"]
        stack.enter_context(running(memory, site.folder / "memory.log"))
        with CoreProcess(site):
            yield site


class CoreProcess:
    """The core as a process; a test may end it and begin another."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def __enter__(self) -> Self:
        self.site.process = begun(self.site)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.site.process is not None
        ended(self.site.process, signal.SIGTERM)


def begun(site: Site) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(site.path)]
    with site.log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def ended(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    try:
        process.wait(120)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def site(started: Site) -> AsyncIterator[Site]:
    """The core with the configuration it begins with, again after each test."""
    async with started.seen() as view:
        await until(lambda: answers(view), started)
        yield started
        started.write(started.base)
        await in_force(started)

        async def is_as_it_began() -> bool:
            found = await view.connector("ledger0")
            return await answers(view) and bool(found) and found.state == "ready"

        await until(is_as_it_began, started)


async def in_force(site: Site) -> None:
    """Waits until the file as it is now is what the core runs with."""
    assert site.process is not None
    process, read = site.process, "the configuration was read again; nothing differs"
    before = site.logged().count(read)

    async def is_read() -> bool:
        process.send_signal(signal.SIGHUP)
        return site.logged().count(read) > before

    await until(is_read, site)


async def test_a_namespace_more_leaves_the_others_alone(site: Site) -> None:
    async with site.seen() as view:
        before = await view.epochs()
        stream = await view.subscribed("one")
        config = site.config()
        config["namespaces"]["predefined"].append(namespace("three", CONTRACTS[3]))
        site.write(config)
        await until(lambda: view.leads("three"), site)
        assert await view.status("three") is not None
        after = await view.epochs()
        assert {name: after[name] for name in before} == before, "no leadership was lost"
        assert not stream.done(), "the open stream stays open"
        stream.cancel()


async def test_a_namespace_less_ends_its_streams_and_no_others(site: Site) -> None:
    async with site.seen() as view:
        before = await view.epochs()
        one, two = await view.subscribed("one"), await view.subscribed("two")
        config = site.config()
        del config["namespaces"]["predefined"][1]
        site.write(config)

        async def is_gone() -> bool:
            return await view.status("two") is None

        await until(is_gone, site)
        with pytest.raises(grpc.aio.AioRpcError, match="FF19016"):
            await two.read()
        assert (await view.epochs()) == {"one": before["one"]}
        assert not one.done()
        one.cancel()


async def test_web_sockets_go_on_when_their_namespace_restarts(site: Site) -> None:
    with gateway(site) as url:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{url}/ws?namespace=one&ephemeral&autoack") as one,
            session.ws_connect(f"{url}/ws?namespace=two&ephemeral&autoack") as two,
            site.seen() as view,
        ):

            async def are_there() -> bool:
                return {"one", "two"} <= set(await starts(view))

            await until(are_there, site)
            before = await starts(view)
            config = site.config()
            config["namespaces"]["predefined"][1]["description"] = "restarted"
            site.write(config)
            await in_force(site)

            async def is_again() -> bool:
                return (await starts(view))["two"] > before["two"]

            await until(is_again, site)
            assert (await starts(view))["one"] == before["one"]
            for socket in (one, two):
                await socket.ping()
                assert not socket.closed
            del config["namespaces"]["predefined"][1]
            site.write(config)
            async with asyncio.timeout(WAIT_S):
                ended = await two.receive()
            assert ended.type is aiohttp.WSMsgType.CLOSE
            assert ended.data == aiohttp.WSCloseCode.TRY_AGAIN_LATER


async def starts(view: View) -> dict[str, int]:
    """When the subscription of each namespace was started."""
    request = node_service_pb2.GetWebSocketsRequest()
    found = await view.nodes.GetWebSockets(request, timeout=CALL_S)
    return {
        s.namespace: s.start_time.ToNanoseconds()
        for connection in found.connections
        for s in connection.subscriptions
    }


@contextmanager
def gateway(site: Site) -> Iterator[str]:
    """A gateway before the core; gives its URL."""
    command = [
        find_program("photinus-gateway", "PHOTINUS_GATEWAY"),
        *("-listen", "127.0.0.1:0", "-core", site.address),
    ]
    with running(command, site.folder / "gateway.log", subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()


async def test_a_changed_namespace_restarts_alone(site: Site) -> None:
    async with site.seen() as view:
        before = await view.epochs()
        config = site.config()
        config["namespaces"]["predefined"][1]["description"] = "another one"
        site.write(config)

        async def is_led_anew() -> bool:
            return (await view.epochs()).get("two", 0) > before["two"]

        await until(is_led_anew, site)
        assert (await view.epochs())["one"] == before["one"]
        status = await view.status("two")
        assert status.namespace.description == "another one"


async def test_a_connector_hears_of_its_changed_settings(site: Site) -> None:
    async with site.seen() as view:
        before = await view.epochs()
        process = children(site)
        config = site.config()
        ledger(config)["events"] = "5"
        site.write(config)

        async def is_told() -> bool:
            return "reconfigured: 5 events" in site.logged()

        await until(is_told, site)
        assert children(site) == process, "the launched process stays"
        assert await view.epochs() == before


async def test_a_launched_connector_that_cannot_change_live_is_restarted(site: Site) -> None:
    async with site.seen() as view:
        before, process = await view.epochs(), children(site)
        config = site.config()
        ledger(config)["version"] = "3"
        site.write(config)

        async def is_another_process() -> bool:
            found = await view.connector("ledger0")
            return found.state == "ready" and bool(children(site)) and children(site) != process

        await until(is_another_process, site)
        assert await view.epochs() == before


@pytest.mark.parametrize("kind", ["no YAML", "a rule", "a connector"])
async def test_a_file_that_cannot_be_used_changes_nothing(site: Site, kind: str) -> None:
    async with site.seen() as view:
        before, process = await view.epochs(), children(site)
        config = site.config()
        config["namespaces"]["predefined"].append(namespace("three", CONTRACTS[3]))
        text = yaml.safe_dump(config, sort_keys=False)
        match kind:
            case "no YAML":
                wrong = text.count("\n") + 1
                site.write(text + "plugins: [")
            case "a rule":
                text = text.replace("default: one", "default: nosuch")
                wrong = line_of(text, "default: nosuch")
                site.write(text)
            case _:
                text = text.replace("events: '0'", "events: '-1'")
                wrong = line_of(text, "events: '-1'")
                site.write(text)

        async def is_told() -> bool:
            return f"line {wrong}:" in await view.told()

        await until(is_told, site)
        assert f"{site.path}, line {wrong}:" in site.logged()
        cluster = await view.nodes.GetCluster(node_service_pb2.GetClusterRequest(), timeout=CALL_S)
        assert any(f"line {wrong}:" in problem for problem in cluster.problems)
        assert await view.status("three") is None
        assert await view.epochs() == before
        assert children(site) == process


async def test_a_namespace_cannot_change_its_name_on_the_wire(site: Site) -> None:
    async with site.seen() as view:
        before = await view.epochs()
        config = site.config()
        config["namespaces"]["predefined"][0]["multiparty"]["networkNamespace"] = "other"
        text = yaml.safe_dump(config, sort_keys=False)
        site.write(text)
        wrong = line_of(text, "networkNamespace: other")

        async def is_told() -> bool:
            return f"line {wrong}: namespaces.predefined[0]" in await view.told()

        await until(is_told, site)
        assert await view.epochs() == before


async def test_what_needs_a_restart_is_named_and_the_rest_is_done(site: Site) -> None:
    async with site.seen() as view:
        config = site.config()
        config["grpc"]["address"] = "unix:other.sock"
        config["log"] = {"filename": "elsewhere.log"}
        config["namespaces"]["predefined"].append(namespace("three", CONTRACTS[3]))
        site.write(config)
        await until(lambda: view.leads("three"), site)
        wanted = "takes effect when the core is restarted: grpc.address, log.filename"

        async def is_told() -> bool:
            return await view.told() == wanted

        await until(is_told, site)
        assert wanted in site.logged()


async def test_the_last_of_several_quick_edits_counts(site: Site) -> None:
    async with site.seen() as view:
        before = await view.epochs()
        stream = await view.subscribed("one")
        config = site.config()
        for number in range(20):
            ledger(config)["events"] = str(100 + number)
            site.write("namespaces: [" if number % 3 == 1 else config)
            if number == 10:
                config["namespaces"]["predefined"].append(namespace("three", CONTRACTS[3]))
            await asyncio.sleep(0)
        site.write(config)

        async def is_last() -> bool:
            return "reconfigured: 119 events" in site.logged() and await view.leads("three")

        await until(is_last, site)
        await until(lambda: no_trouble(view), site)
        after = await view.epochs()
        assert {name: after[name] for name in before} == before
        assert not stream.done()
        stream.cancel()


async def test_an_edit_while_the_core_restarts_is_not_lost(site: Site) -> None:
    assert site.process is not None
    ended(site.process, signal.SIGKILL)
    config = site.config()
    config["namespaces"]["predefined"].append(namespace("three", CONTRACTS[3]))
    site.process = begun(site)
    site.write(config)
    async with site.seen() as view:

        async def is_there() -> bool:
            try:
                return await view.leads("one", "two", "three")
            except grpc.aio.AioRpcError:
                return False

        await until(is_there, site)


async def test_without_the_switch_the_file_is_read_when_asked(site: Site) -> None:
    assert site.process is not None
    async with site.seen() as view:
        config = site.config()
        config["config"]["autoReload"] = False
        config["namespaces"]["predefined"].append(namespace("three", CONTRACTS[3]))
        site.write(config)
        await until(lambda: view.leads("three"), site)
        read = "the configuration was read again; nothing differs"
        told = site.logged().count(read)
        # Once, so that no signal is left over that would have it read what comes next.
        site.process.send_signal(signal.SIGHUP)

        async def has_answered() -> bool:
            return site.logged().count(read) > told

        await until(has_answered, site)
        former = site.logged().count("the configuration has changed")
        site.write(site.base)
        # Nothing shows that nobody looks: give it the time of a few looks at other things.
        for _ in range(20):
            assert await view.leads("three")
        assert site.logged().count("the configuration has changed") == former
        site.process.send_signal(signal.SIGHUP)

        async def is_gone() -> bool:
            return await view.status("three") is None

        await until(is_gone, site)


async def no_trouble(view: View) -> bool:
    return not await view.told()


def ledger(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of the launched connector."""
    settings: dict[str, Any] = config["plugins"]["blockchain"][1]["ledger"]
    return settings


def children(site: Site) -> set[int]:
    """Processes that the core launched."""
    assert site.process is not None
    found = Path(f"/proc/{site.process.pid}/task/{site.process.pid}/children").read_text()
    return {int(pid) for pid in found.split()}


def line_of(text: str, part: str) -> int:
    """Line of the first place where a text has a part, from 1."""
    return text[: text.index(part)].count("\n") + 1
