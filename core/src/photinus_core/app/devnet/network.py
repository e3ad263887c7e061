"""Starts a development network, or goes on with the one in its folder, and ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

import psutil

from photinus_core.app.devnet import chain
from photinus_core.app.devnet.cluster import ClusterPlan, discard, start_servers
from photinus_core.app.devnet.layout import (
    FIRST_PORT,
    FRESH,
    MEMBERS_MAX,
    Layout,
    MemberState,
    NetworkState,
    free_port,
    is_free,
    new_members,
    ports_lock,
)
from photinus_core.app.devnet.member import (
    CONNECTORS,
    Surroundings,
    start_connectors,
    start_core,
    start_gateway,
    write_configs,
)
from photinus_core.app.devnet.plugins import check_config, keep_plugins, read_plugins
from photinus_core.app.devnet.processes import Child, Processes, StartError, together
from photinus_core.app.devnet.registering import register_members
from photinus_core.ports.tasks import Background

CHAIN_PORT: Final = FIRST_PORT + 545
STOP_WAIT_S: Final = 60.0
RESTART_PAUSE_S: Final = 1.0
QUICK_END_S: Final = 5.0
QUICK_ENDS_MAX: Final = 5
PORTS_WAIT_S: Final = 5.0
"""How long processes of a network that was killed may take to end and give their ports back."""

Say = Callable[[str], None]
"""Where progress is told, one line at a time."""


class Network:
    """A running development network; `async with` ends it.

    Args:
        directory: Where everything is kept; absolute.
        members: How many members a new network gets; an existing one keeps its own.
        fresh: Throw away what is in the directory first.
        say: Hears of progress.
        plan: What a new network's members share; nothing when left out.
        plugins: File with plugins to use in place of ours, from now on; None leaves them as they are.
    """

    def __init__(
        self,
        directory: Path,
        members: int,
        *,
        fresh: bool,
        say: Say,
        plan: ClusterPlan | None = None,
        plugins: Path | None = None,
    ) -> None:
        self._layout = Layout(directory)
        self._plugins = plugins
        self._wanted = members
        self._plan = plan or ClusterPlan()
        self._fresh = fresh
        self._say = say
        self._processes = Processes(self._layout.logs)
        self.state: NetworkState | None = None

    @property
    def members(self) -> tuple[MemberState, ...]:
        """The members, once started."""
        return () if self.state is None else self.state.members

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def children(self) -> list[Child]:
        """All processes of the network."""
        return list(self._processes.children)

    async def first_to_end(self) -> Child:
        """Waits until a process ends that the network does not go on without.

        Keeps logs in bounds. In a cluster everything but the chain is started again, as a service
        manager would do; only what ends again and again, just started, is given up.
        """
        ended: asyncio.Queue[Child] = asyncio.Queue(len(self._processes.children))

        async def watch(child: Child) -> None:
            await child.wait()
            ended.put_nowait(child)

        quick: Counter[str] = Counter()
        async with Background("watch") as work:
            work.start("logs", self._processes.rotate_logs())
            for child in self._processes.children:
                work.start(child.name, watch(child))
            while True:
                child = await ended.get()
                is_quick = time.monotonic() - child.started_s < QUICK_END_S
                quick[child.name] = quick[child.name] + 1 if is_quick else 0
                if not self._goes_on_without(child) or quick[child.name] > QUICK_ENDS_MAX:
                    return child
                self._say(f"{child.name} has ended; starting it again")
                await asyncio.sleep(RESTART_PAUSE_S)
                again = await self._processes.run_again(child)
                work.start(f"{again.name} {again.pid}", watch(again))

    def _goes_on_without(self, child: Child) -> bool:
        return (
            self.state is not None
            and self.state.cluster is not None
            and bool(self.state.cluster.zookeeper)
            and child.name != chain.NAME
        )

    async def _start(self) -> None:
        layout = self._layout
        if not 1 <= self._wanted <= MEMBERS_MAX:
            message = f"a network has 1 to {MEMBERS_MAX} members"
            raise StartError(message)
        self._plan.check()
        self._take_lock()
        plugins = None if self._plugins is None else read_plugins(self._plugins)
        if self._fresh:
            await _clear(layout)
        if plugins is not None:
            keep_plugins(layout, plugins)
        async with ports_lock():
            await self._start_processes()
            try:
                # Within the lock: a data exchange takes its port only after its core serves.
                await register_members(self.members, self._say)
            except StartError:
                self._processes.check_all()  # says more
                raise
        self._processes.check_all()

    async def _start_processes(self) -> None:
        layout = self._layout
        known = layout.load()
        try:
            await self._start_members(known)
        except StartError as failure:
            if known is None or FRESH in str(failure):
                raise
            message = f"{failure}\nif what is kept in {layout.root} is damaged, {FRESH} starts over"
            raise StartError(message) from failure

    async def _start_members(self, known: NetworkState | None) -> None:
        layout = self._layout
        if known is not None and len(known.members) != self._wanted:
            self._say(f"going on with the {len(known.members)} members of {layout.root}")
        self.state = await (self._new() if known is None else self._again(known))
        around = Surroundings(self.state.chain_port, self.state.contract, self.state.cluster)
        await together(*(self._start_member(m, around) for m in self.members))

    async def _start_member(self, member: MemberState, around: Surroundings) -> None:
        processes, layout = self._processes, self._layout
        count = len(member.grpc_addresses)
        replicas = f" with {count} replicas" if count > 1 else ""
        self._say(f"starting {member.org} on {member.url}{replicas}")
        first, *others = write_configs(layout, member, around)
        if layout.plugins.exists():
            check_config(first)
        await start_connectors(processes, layout, member)
        await start_core(processes, layout, member, 0, first)  # it makes the database's tables
        await together(
            *(start_core(processes, layout, member, n, c) for n, c in enumerate(others, 1))
        )
        await start_gateway(processes, member)

    async def _new(self) -> NetworkState:
        taken: set[int] = set()
        chain_port = free_port(CHAIN_PORT, taken)
        cluster = self._plan.new_state(taken)
        shared = cluster is not None and bool(cluster.zookeeper)
        members = new_members(
            self._wanted, taken, self._plan.replicas, len(CONNECTORS) if shared else 0
        )
        await self._start_chain(chain_port)
        contract = await chain.deploy_contract(chain_port)
        state = NetworkState(chain_port, contract, members, cluster)
        self._layout.save(state)
        await self._start_servers(state)
        return state

    async def _again(self, known: NetworkState) -> NetworkState:
        await _wait_ports(known.ports)
        await self._start_chain(known.chain_port)
        if not await chain.has_contract(known.chain_port, known.contract):
            message = (
                "the chain lost its last state (it was ended before it could write it), so the "
                f"members no longer fit it; start over with {FRESH}"
            )
            raise StartError(message)
        await self._start_servers(known)
        return known

    async def _start_chain(self, port: int) -> None:
        self._say(f"starting the chain on port {port}")
        await chain.start_chain(self._processes, self._layout, port)

    async def _start_servers(self, state: NetworkState) -> None:
        cluster = state.cluster
        if cluster is None:
            return
        if cluster.postgres_port:
            self._say(f"starting PostgreSQL on port {cluster.postgres_port}")
        if cluster.zookeeper_port:
            self._say(f"starting ZooKeeper on port {cluster.zookeeper_port}")
        await start_servers(self._processes, self._layout, cluster, len(state.members))

    async def _stop(self) -> None:
        if self._processes.children:
            self._say("stopping")
        await self._processes.stop_all()
        if _owner(self._layout) == os.getpid():
            self._layout.lock.unlink(missing_ok=True)

    def _take_lock(self) -> None:
        """Makes sure that only one `up` uses the folder."""
        self._layout.root.mkdir(parents=True, exist_ok=True)
        owner = _owner(self._layout)
        if owner is not None:
            message = f"this network is already up (process {owner}); `photinus down` ends it"
            raise StartError(message)
        self._layout.lock.write_text(f"{os.getpid()}\n")


async def stop_network(directory: Path, say: Say) -> bool:
    """Ends the network of a folder, whoever started it.

    Returns:
        False when none was up.
    """
    layout = Layout(directory)
    owner = _owner(layout)
    if owner is None:
        return False
    say(f"ending process {owner}")
    os.kill(owner, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_WAIT_S):
            while _runs(owner):  # noqa: ASYNC110 - nothing tells of a stranger's end
                await asyncio.sleep(0.05)
    except TimeoutError:
        message = f"process {owner} did not end within {STOP_WAIT_S:.0f} s"
        raise StartError(message) from None
    return True


def _runs(process: int) -> bool:
    """Whether a process is alive; one that waits for its parent to notice its end is not."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _owner(layout: Layout) -> int | None:
    """The process that holds the folder, if it is alive and one of ours."""
    try:
        owner = int(layout.lock.read_text())
        command = " ".join(psutil.Process(owner).cmdline())
    except (OSError, ValueError, psutil.Error):
        return None
    return owner if "photinus" in command or "bench" in command or "pytest" in command else None


async def _clear(layout: Layout) -> None:
    """Removes a network's own files, folders and databases; whatever else is there stays."""
    try:
        known = layout.load()
    except StartError:
        known = None  # damaged: what it names cannot be found
    if known is not None and known.cluster is not None:
        await discard(known.cluster, len(known.members))
    for entry in layout.entries():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


async def _wait_ports(ports: Iterable[int]) -> None:
    """Waits until the ports of a network that was killed are free.

    Raises:
        StartError: somebody else has one.
    """
    taken_until = time.monotonic() + PORTS_WAIT_S
    for port in ports:
        while not is_free(port) and time.monotonic() < taken_until:  # noqa: ASYNC110 - nothing tells of a port
            await asyncio.sleep(0.1)
        if not is_free(port):
            message = (
                f"port {port} of this network is in use by another program; end that one, "
                f"or start over with {FRESH}"
            )
            raise StartError(message)
