"""A network for the unit tests of applications: no chain, no files that stay, up in about a second.

The members' cores run in this process, on the connectors of one `photinus-memory`; each member has its gateway, so
that applications see what they see of any other member. Databases are in a folder in memory that goes with the
network. What takes time is loading the program; therefore this module loads the core only after it has started the
other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from photinus_core.app.devnet.layout import (
    DEV_ADDRESSES,
    MEMBERS_MAX,
    SPARE_ADDRESSES,
    Layout,
    MemberState,
    new_members,
    ports_lock,
)
from photinus_core.app.devnet.processes import Child, Processes, StartError, find_program, together
from photinus_core.ports.tasks import Background, wait_any

PREFIX: Final = "photinus-in-memory-"
IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it, mode 0700
ROOM_BYTES: Final = 256 << 20
"""Databases and logs of a long test; containers often have less in memory."""
LOCK: Final = "lock"
CONTRACT: Final = "0x000000000000000000000000000000000000f1f1"
RETRY: Final = {"initDelay": "10ms", "maxDelay": "50ms"}
"""A namespace that begins before its connectors are configured is not to wait long for them."""
READY_S: Final = 60.0
ENDS_MAX: Final = 4 * MEMBERS_MAX
WAVE_CONNECTOR: Final = 1
WAVE_GATEWAYS: Final = 2


class InMemoryNetwork:
    """A running network that keeps nothing; `async with` ends it and takes everything away.

    Start it before anything else in the process uses gRPC: its threads do not bear that processes are started
    beside them.

    Args:
        members: How many.
        say: Hears of progress, one line at a time.
        log_to: Called with the folder for logs before anything logs.
    """

    def __init__(
        self,
        members: int,
        say: Callable[[str], None],
        log_to: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._wanted = members
        self._say = say
        self._log_to = log_to
        self._stop = asyncio.Event()
        self._stack = AsyncExitStack()
        self._nodes: list[asyncio.Task[None]] = []
        self._gateways: list[tuple[Child, MemberState]] = []
        self._ended: asyncio.Queue[str] = asyncio.Queue(ENDS_MAX)
        self._node_ended = asyncio.Event()
        self.members: tuple[MemberState, ...] = ()

    async def __aenter__(self) -> Self:
        if not 1 <= self._wanted <= MEMBERS_MAX:
            message = f"a network has 1 to {MEMBERS_MAX} members"
            raise StartError(message)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._say("stopping")
        await self._stack.aclose()

    @property
    def logs(self) -> Path:
        """Where the logs are while it runs."""
        return self._layout.logs

    async def first_to_end(self) -> str:
        """Waits until a part of it ends by itself; says which. Keeps the logs in bounds."""
        async with Background("watch") as work:
            work.start("logs", self._processes.rotate_logs())
            for child in self._processes.children:
                work.start(child.name, self._tell_end(child.name, child.wait()))
            return await self._ended.get()

    async def _tell_end(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
            self._ended.put_nowait(name)
        except Exception as failure:  # noqa: BLE001 - told, whatever it is
            self._ended.put_nowait(f"{name} ({failure})")

    async def _start(self) -> None:
        self._layout = Layout(self._stack.enter_context(vanishing_folder()))
        self._processes = Processes(self._layout.logs)
        self._layout.logs.mkdir()
        self._log_to(self._layout.logs)
        self._stack.push_async_callback(self._processes.stop_all)
        async with ports_lock():
            self.members = new_members(self._wanted, set())
            socket = self._layout.root / "memory.sock"
            connector = await self._start_connector(socket)
            await together(*(self._start_gateway(member) for member in self.members))
            await self._start_nodes(connector, socket)
        self._processes.check_all()

    async def _start_connector(self, socket: Path) -> Child:
        command = [find_program("photinus-memory", "PHOTINUS_MEMORY")]
        command += ["--address", f"unix:{socket}", "--log-level", "warning"]
        return await self._processes.start("memory", command, WAVE_CONNECTOR)

    async def _start_gateway(self, member: MemberState) -> None:
        command = [
            find_program("photinus-gateway", "PHOTINUS_GATEWAY"),
            *("-listen", f"127.0.0.1:{member.http_port}", "-core", member.grpc_address),
        ]
        child = await self._processes.start(f"member{member.index}-gateway", command, WAVE_GATEWAYS)
        self._gateways.append((child, member))

    async def _start_nodes(self, connector: Child, socket: Path) -> None:
        # Loaded while the processes start: it takes longer than they do.
        from photinus_core.app.config import load_text  # noqa: PLC0415 - as above
        from photinus_core.app.devnet.member import wait_gateway  # noqa: PLC0415 - as above
        from photinus_core.app.devnet.registering import register_members  # noqa: PLC0415 - as above
        from photinus_core.app.serve import run_node  # noqa: PLC0415 - as above

        await self._wait_for(connector, socket)
        cores = await self._stack.enter_async_context(Background("cores"))
        self._stack.push_async_callback(self._stop_nodes)
        served = []
        for member in self.members:
            self._say(f"starting {member.org} on {member.url}")
            folder = self._layout.member(member.index)
            folder.mkdir()
            settings = load_text(json.dumps(_config(member, socket)), member.org, {})
            ready = asyncio.Event()
            name = f"the core of {member.org}"
            node = run_node(settings, folder, _setting(ready), self._stop)
            self._nodes.append(cores.start(name, self._run_node(name, node)))
            served.append(ready)
        for ready in served:
            await wait_any(ready, self._node_ended)
        if self._node_ended.is_set():
            message = f"{self._ended.get_nowait()} did not start"
            raise StartError(message)
        await register_members(self.members, self._say)
        await together(*(wait_gateway(self._processes, *gateway) for gateway in self._gateways))

    async def _wait_for(self, connector: Child, socket: Path) -> None:
        async def listens() -> bool:
            return socket.exists()  # noqa: ASYNC240 - in memory, as all of the folder

        await self._processes.wait_ready(connector, listens, READY_S)

    async def _run_node(self, name: str, node: Coroutine[Any, Any, None]) -> None:
        try:
            await self._tell_end(name, node)
        finally:
            self._node_ended.set()

    async def _stop_nodes(self) -> None:
        self._stop.set()
        if self._nodes:
            await asyncio.wait(self._nodes)


def _setting(ready: asyncio.Event) -> Callable[[list[str]], None]:
    return lambda _: ready.set()


def _config(member: MemberState, socket: Path) -> dict[str, Any]:
    from photinus_core.app.devnet.member import namespaces  # noqa: PLC0415 - needs YAML, see above

    keys = [DEV_ADDRESSES[member.index], SPARE_ADDRESSES[member.index]]
    kinds = ("blockchain", "dataexchange", "sharedstorage")
    plugins: dict[str, Any] = {
        kind: [
            {
                "name": f"{kind}0",
                "type": "memory",
                "connector": {
                    "address": f"unix:{socket}",
                    "instance": f"member{member.index}-{kind}",
                },
                "memory": {"member": member.org, "keys": keys, "contract": CONTRACT},
            }
        ]
        for kind in kinds
    }
    database = {"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}
    return {
        "grpc": {"address": member.grpc_address},
        "plugins": {"database": [database], **plugins},
        "namespaces": {**namespaces(member, CONTRACT), "retry": RETRY},
    }


@contextlib.contextmanager
def vanishing_folder() -> Iterator[Path]:
    """A private folder, in memory where the machine has room there; removed with all in it.

    What others left there that were killed is removed as well.
    """
    place = _place()
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Under its own name only when it is locked, so that nobody takes it for one that was left.
            folder = folder.rename(folder.with_name(folder.name.removeprefix(".")))
            yield folder
    finally:
        shutil.rmtree(folder)


def _place() -> Path:
    with contextlib.suppress(OSError):
        if os.access(IN_MEMORY, os.W_OK | os.X_OK):
            room = shutil.disk_usage(IN_MEMORY).free
            return IN_MEMORY if room >= ROOM_BYTES else Path(tempfile.gettempdir())
    return Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
