"""A replica in a process of its own, for tests that kill or freeze it.

    python -m tests.support.elector_child <database> <hosts> <chroot> <name> <session seconds> <clock error> <log>

Stands for `ROLE` again and again. Its work is to write into the log when it began and that it may go on; `leading`,
`lost` and `ended` are written there too, each line with the monotonic time, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from photinus_core.cluster import ElectionRules, EnsembleSettings, ZooKeeperElector
from photinus_core.ports.elector import Lease, Replica
from photinus_core.store import SqliteStore

ROLE = "namespace/frozen"
STEP_S = 0.005
STOP_S = 10.0
ROOT = Path(__file__).resolve().parents[2]


class ElectorChild:
    """The process, as a test sees it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """What it wrote of one kind so far, oldest first."""
        text = self._log.read_text() if self._log.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        assert self._process.poll() is None or kind != "work", f"the child ended: {whole[-500:]}"
        return [line for line in map(json.loads, whole.splitlines()) if line["kind"] == kind]

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self) -> None:
        """Waits for its end."""
        self._process.wait(STOP_S)


@contextmanager
def elector_child(
    folder: Path, database: Path, place: tuple[str, str], name: str, session_s: float, skew_s: float
) -> Iterator[ElectorChild]:
    """A running child, killed at the end. `place` is hosts and chroot."""
    log = folder / f"{name}.log"
    words = [str(database), *place, name, str(session_s), str(skew_s), str(log)]
    with (folder / f"{name}.err").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.elector_child", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield ElectorChild(process, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _set_clocks_wrong(skew_s: float) -> None:
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + skew_s
    time.time_ns = lambda: right_ns() + int(skew_s * 1e9)


class _Log:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def say(self, kind: str, at_s: float, **more: object) -> None:
        self._file.write(json.dumps({"kind": kind, "at": at_s, **more}) + "\n")


async def _work(lease: Lease, log: _Log) -> None:
    while not lease.lost.is_set():
        began_s = time.monotonic()
        if lease.running.is_set():
            log.say("work", began_s)
        await asyncio.sleep(STEP_S)


async def _lead(elector: ZooKeeperElector, log: _Log) -> None:
    while True:
        lease = await elector.campaign(ROLE)
        log.say("leading", time.monotonic(), epoch=lease.epoch)
        await _work(lease, log)
        log.say("lost", time.monotonic())
        await elector.resign(lease)


async def _run(words: list[str], log: _Log) -> None:
    database, hosts, chroot, name, session_s = words
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = await SqliteStore.open(Path(database))
    settings = EnsembleSettings(hosts, chroot, float(session_s))
    replica = Replica(name, f"unix:{name}", "1.0", "f")
    rules = ElectionRules(session_min_s=0.5, quiet_s=3600)
    async with ZooKeeperElector(settings, store, replica, rules) as elector:
        leading = asyncio.create_task(_lead(elector, log))
        await stop.wait()
        leading.cancel()
        await asyncio.wait([leading])
    await store.aclose()
    log.say("ended", time.monotonic())


if __name__ == "__main__":
    *settings, skew, log_path = sys.argv[1:]
    _set_clocks_wrong(float(skew))
    with Path(log_path).open("w", buffering=1) as file:
        asyncio.run(_run(settings, _Log(file)))
