"""CPU and memory of the processes of a network, by role."""

from __future__ import annotations

from collections.abc import Iterable

import psutil
from photinus_core.app.devnet.processes import Child

MIB = 1024 * 1024


def by_role(children: Iterable[Child]) -> dict[str, tuple[float, float]]:
    """CPU seconds so far and resident MiB of each process and what it launched, by role.

    Memory that processes share counts for each of them.
    """
    found = {"load generator": _of(psutil.Process())}
    for child in children:
        try:
            process = psutil.Process(child.pid)
            found[child.name] = _of(process)
            for launched in process.children(recursive=True):
                role = f"{child.name}/{_name(launched)}"
                used, held = _of(launched)
                # Several of one kind (a database's sessions) count as one.
                before = found.get(role, (0.0, 0.0))
                found[role] = (before[0] + used, before[1] + held)
        except psutil.NoSuchProcess:
            continue
    return found


def _of(process: psutil.Process) -> tuple[float, float]:
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss / MIB


def _name(process: psutil.Process) -> str:
    for part in process.cmdline():
        if "photinus-" in part:
            return part.rpartition("photinus-")[2]
    return process.name()
