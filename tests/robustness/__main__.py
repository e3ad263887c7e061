"""`make chaos`: the long run, seed after seed until the time is over; stops at the first failure.

`--check FILE` runs the checkers over a kept history again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.robustness.checkers import check_all
from tests.robustness.records import read_history
from tests.robustness.report import summary, time_line, verdict
from tests.robustness.run import Options, run
from tests.robustness.topology import Topology

RUN_MINUTES: Final = 5.0
"""Longest run of one seed; a longer time is made of several."""


def main() -> int:
    """Runs as the arguments say; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="time of faults, all in all")
    parser.add_argument("--seed", type=int, default=None, help="of the first run (by chance)")
    parser.add_argument("--rate", type=float, default=6.0, help="messages in a second")
    parser.add_argument("--replicas", type=int, default=2, help="cores of each member")
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    parser.add_argument("--zookeeper", action="store_true", help="ZooKeeper elects leaders")
    parser.add_argument("--check", type=Path, default=None, help="check a kept history again")
    parsed = parser.parse_args()
    if parsed.check is not None:
        return check(parsed.check)
    topology = Topology(
        replicas=parsed.replicas,
        postgres=parsed.postgres or parsed.replicas > 1,
        zookeeper=parsed.zookeeper or parsed.replicas > 1,
    )
    seed = parsed.seed if parsed.seed is not None else random.randrange(1_000_000)
    left_s = 60 * parsed.minutes
    while left_s > 0:
        seconds = min(left_s, 60 * RUN_MINUTES)
        if not one(Options(topology, seed, seconds, parsed.rate)):
            return 1
        left_s -= seconds
        seed += 1
    return 0


def one(options: Options) -> bool:
    """Runs one seed; True when nothing was found. Its folder is kept when something was."""
    folder = Path(tempfile.mkdtemp(prefix=f"photinus-chaos-{options.seed}-"))
    print(f"seed {options.seed}, {options.seconds:.0f} s of faults, {folder}", flush=True)
    began = time.monotonic()
    result = asyncio.run(run(folder, options, lambda text: print(text, flush=True)))
    print(f"\n{result.text()}\n\n{time.monotonic() - began:.0f} s\n", flush=True)
    if result.findings:
        return False
    shutil.rmtree(folder)
    return True


def check(path: Path) -> int:
    """Runs the checkers over a history file."""
    records = read_history(path)
    findings = check_all(records)
    print(f"{summary(records)}\n\n{time_line(records)}\n\n{verdict(findings, records)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
