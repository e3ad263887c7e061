"""Starts a development network, or goes on with the one in its folder, and ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from photinus_core.app.devnet import chain
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
from photinus_core.app.devnet.member import start_core, start_gateway, write_config
from photinus_core.app.devnet.processes import Child, Processes, StartError
from photinus_core.app.devnet.registering import register_members
from photinus_core.ports.tasks import Background

CHAIN_PORT: Final = FIRST_PORT + 545
STOP_WAIT_S: Final = 30.0
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
    """

    def __init__(self, directory: Path, members: int, *, fresh: bool, say: Say) -> None:
        self._layout = Layout(directory)
        self._wanted = members
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    def children(self) -> list[Child]:
        """All processes of the network."""
        return list(self._processes.children)

    async def first_to_end(self) -> Child:
        """Waits until one of the processes ends that should run; keeps their logs in bounds."""
        ended: asyncio.Queue[Child] = asyncio.Queue(len(self._processes.children))

        async def watch(child: Child) -> None:
            await child.wait()
            ended.put_nowait(child)

        async with Background("watch") as work:
            work.start("logs", self._processes.rotate_logs())
            for child in self._processes.children:
                work.start(child.name, watch(child))
            return await ended.get()

    async def _start(self) -> None:
        layout = self._layout
        if not 1 <= self._wanted <= MEMBERS_MAX:
            message = f"a network has 1 to {MEMBERS_MAX} members"
            raise StartError(message)
        self._take_lock()
        if self._fresh:
            _clear(layout)
        async with ports_lock():
            await self._start_processes()
        await register_members(self.members, self._say)

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
        for member in self.members:
            self._say(f"starting {member.org} on {member.url}")
            config = write_config(layout, member, self.state.chain_port, self.state.contract)
            await start_core(self._processes, layout, member, config)
            await start_gateway(self._processes, member)

    async def _new(self) -> NetworkState:
        taken: set[int] = set()
        chain_port = free_port(CHAIN_PORT, taken)
        members = new_members(self._wanted, taken)
        self._say(f"starting the chain on port {chain_port}")
        await chain.start_chain(self._processes, self._layout, chain_port)
        contract = await chain.deploy_contract(chain_port)
        state = NetworkState(chain_port, contract, members)
        self._layout.save(state)
        return state

    async def _again(self, known: NetworkState) -> NetworkState:
        taken_until = time.monotonic() + PORTS_WAIT_S
        for port in (known.chain_port, *(p for m in known.members for p in _ports(m))):
            while not is_free(port) and time.monotonic() < taken_until:  # noqa: ASYNC110 - nothing tells of a port
                await asyncio.sleep(0.1)
            if not is_free(port):
                message = (
                    f"port {port} of this network is in use by another program; end that one, "
                    f"or start over with {FRESH}"
                )
                raise StartError(message)
        self._say(f"starting the chain on port {known.chain_port}")
        await chain.start_chain(self._processes, self._layout, known.chain_port)
        if not await chain.has_contract(known.chain_port, known.contract):
            message = (
                "the chain lost its last state (it was ended before it could write it), so the "
                f"members no longer fit it; start over with {FRESH}"
            )
            raise StartError(message)
        return known

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


def _clear(layout: Layout) -> None:
    """Removes a network's own files and folders; whatever else is in the folder stays."""
    for entry in layout.entries():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _ports(member: MemberState) -> tuple[int, ...]:
    return (member.http_port, member.grpc_port, member.dx_port)
