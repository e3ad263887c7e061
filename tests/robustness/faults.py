"""Does what the schedule says, to a running site, and undoes it in time."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.robustness.fault_proxy import Slowness
from tests.robustness.processes import has_ended, send_signal
from tests.robustness.records import Fault, History
from tests.robustness.schedule import PlannedFault
from tests.robustness.site import Site

STOP_WAIT_S: Final = 45.0
"""Longer than a service manager waits: a stopped process may be frozen, or on a busy machine."""
SLOW_DELAY_MAX_S: Final = 0.5
SLOW_BYTES_PER_S_MIN: Final = 20_000
SLOW_BYTES_PER_S_MAX: Final = 200_000

Say = Callable[[str], None]


class Faults:
    """Runs a plan.

    Args:
        site: What is hit.
        history: Where each fault is recorded once it is over.
        chance: Decides how slow a slow link is.
        say: Hears of each fault as it begins.
    """

    def __init__(self, site: Site, history: History, chance: random.Random, say: Say) -> None:
        self._site = site
        self._history = history
        self._chance = chance
        self._say = say

    async def run(self, plan: Sequence[PlannedFault]) -> None:
        """Returns when the last fault is healed."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in plan:
                await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
                group.create_task(self._one(fault, time.monotonic() - began))

    async def _one(self, fault: PlannedFault, at: float) -> None:
        target = await self._resolved(fault.target)
        begin = time.monotonic()
        self._say(f"{at:6.1f} s  {fault.kind:16} {target:18} {fault.seconds:5.1f} s")
        match fault.kind.split():
            case ["restart", "database"]:
                detail = await self._site.restart_database()
            case ["kill", "ZooKeeper"]:
                detail = await self._site.restart_zookeeper(fault.seconds)
            case ["kill", _]:
                detail = await self._kill(target, fault.seconds)
            case ["stop", _]:
                detail = await self._stop(target, fault.seconds)
            case ["freeze", _]:
                detail = await self._freeze(target, fault.seconds)
            case _:
                detail = await self._spoil(fault.kind, target, fault.seconds)
        self._history.add(Fault(fault.kind, target, begin, time.monotonic(), detail))

    async def _resolved(self, target: str) -> str:
        role, _, member = target.partition("/")
        if role == "leader":
            return await self._site.leader(int(member))
        if role == "follower":
            leader = await self._site.leader(int(member))
            others = [
                f"core/{member}/{r}"
                for r in range(self._site.topology.replicas)
                if f"core/{member}/{r}" != leader
            ]
            return self._chance.choice(others)
        return target

    async def _kill(self, target: str, seconds: float) -> str:
        pid = self._site.kill(target, hold=True)
        await asyncio.sleep(seconds)
        await self._site.release(target)
        return f"process {pid}" if pid is not None else "it was not running"

    async def _stop(self, target: str, seconds: float) -> str:
        """Asks a process to end, as a service manager does, and insists when it does not."""
        pid, began = self._site.stop(target), time.monotonic()
        if pid is None:
            return "it was not running"
        ended = await has_ended(pid, STOP_WAIT_S)
        took = f"after {time.monotonic() - began:.1f} s" if ended else "not by itself"
        if not ended:
            send_signal(pid, signal.SIGKILL)
        await asyncio.sleep(seconds)
        await self._site.release(target)
        return f"process {pid} ended {took}"

    async def _freeze(self, target: str, seconds: float) -> str:
        pid = self._site.freeze(target)
        if pid is None:
            return "it was not running"
        try:
            await asyncio.sleep(seconds)
        finally:
            self._site.thaw(pid)
        return f"process {pid}"

    async def _spoil(self, kind: str, target: str, seconds: float) -> str:
        link = self._site.wiring.links[target]
        detail = f"{link.connections} connections"
        match kind:
            case "cut link":
                link.cut()
            case "black hole link":
                link.black_hole()
            case "slow link":
                slowness = Slowness(
                    delay_s=self._chance.uniform(0.0, SLOW_DELAY_MAX_S),
                    bytes_per_s=self._chance.uniform(SLOW_BYTES_PER_S_MIN, SLOW_BYTES_PER_S_MAX),
                )
                link.slow(slowness)
                detail += f", {slowness.delay_s:.2f} s, {slowness.bytes_per_s / 1000:.0f} kB/s"
            case _:
                raise ValueError(kind)
        try:
            await asyncio.sleep(seconds)
        finally:
            link.heal()
        return detail
