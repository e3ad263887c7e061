"""Runs many seeds of the simulation and says which fail.

Usage: python -m tests.simulation.run --seeds 300 [--start 0] [--jobs 1]
    [--kind single | replicas | both] [--hole "3.5 page hole"]

A failing seed is printed with the line that replays it. Exit status 1 if any failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial

from tests.simulation.holes import HOLES
from tests.simulation.scenario import Kind, Report, run_seed


def try_seed(seed: int, kind: Kind, hole: str | None = None) -> Report | str:
    """Runs a seed; a failure comes back as text."""
    try:
        return run_seed(seed, kind, HOLES[hole] if hole else None)
    except AssertionError as failure:
        return str(failure)


def results(seeds: range, jobs: int, kind: Kind, hole: str | None = None) -> Iterator[Report | str]:
    """Runs seeds, on several processors if asked to."""
    run = partial(try_seed, kind=kind, hole=hole)
    if jobs <= 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, seeds, chunksize=5)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--hole", choices=sorted(HOLES), help="put one of FireFly's holes back")
    parser.add_argument("--kind", choices=[*Kind, "both"], default="both", help="members' replicas")
    arguments = parser.parse_args()
    kinds = list(Kind) if arguments.kind == "both" else [Kind(arguments.kind)]
    failed = sum(_run(kind, arguments) for kind in kinds)
    return 1 if failed else 0


def _run(kind: Kind, arguments: argparse.Namespace) -> int:
    begin, failed = time.monotonic(), 0
    total = Report(seed=arguments.start)
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    print(f"{kind}: seeds {seeds.start} to {seeds.stop - 1}", flush=True)
    for result in results(seeds, arguments.jobs, kind, arguments.hole):
        if isinstance(result, str):
            failed += 1
            seed = result.removeprefix("seed ").partition(":")[0]
            print(f"FAILED {result}")
            print(
                f"  replay: python -m tests.simulation.run --kind {kind} --seeds 1 --start {seed}",
                flush=True,
            )
            continue
        for counted in fields(Report):
            if counted.name != "seed":
                value = getattr(total, counted.name) + getattr(result, counted.name)
                setattr(total, counted.name, value)
    print(
        f"{kind}: {arguments.seeds} seeds, {failed} failed, {time.monotonic() - begin:.1f} s: "
        f"{total.sent} messages sent, {total.pins} batches pinned, {total.confirmed} confirmed, "
        f"{total.rejected} rejected, {total.cancelled} batches cancelled, "
        f"{total.reorganised} taken back, {total.crashes} crashes, {total.freezes} freezes, "
        f"{total.elections} elections, {total.deposed} leaders refused, {total.steps} steps"
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
