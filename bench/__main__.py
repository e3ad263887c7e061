"""`make bench`: starts a network, loads it, and reports a table and a JSON result."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from photinus_core.app.devnet.cluster import ClusterPlan
from photinus_core.app.devnet.network import Network

from bench.load import Action, Confirmations, Result, Sender, closed_loop, open_loop
from bench.usage import by_role

WARM_UP_S = 3.0


def main() -> int:
    """Runs the measurement as the arguments say."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    parser.add_argument("--workers", type=int, nargs="*", default=[50], help="closed-loop workers")
    parser.add_argument(
        "--rate", type=float, default=None, help="open loop; half the best if unset"
    )
    parser.add_argument("--size", type=int, default=500, help="bytes of a message's value")
    parser.add_argument("--kinds", nargs="*", default=["broadcast", "private"])
    parser.add_argument("--no-open", action="store_true", help="closed loops only")
    parser.add_argument(
        "--postgres",
        action="store_true",
        help="PostgreSQL and ZooKeeper instead of SQLite; both are started",
    )
    parser.add_argument(
        "--replicas", type=int, default=1, help="replicas of each member; more than one: --postgres"
    )
    parser.add_argument(
        "--idle", type=float, default=0.0, help="seconds to watch the idle network first"
    )
    parser.add_argument("--out", type=Path, default=Path("bench/results/latest.json"))
    return uvloop.run(_run(parser.parse_args()))


async def _run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="photinus-bench-") as directory:
        plan = ClusterPlan(
            replicas=arguments.replicas, own=arguments.postgres or arguments.replicas > 1
        )
        async with Network(Path(directory), 2, fresh=False, say=_say, plan=plan) as network:
            report = await _measure(arguments, network)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    _say(f"result written to {arguments.out}")
    return 1 if any(run["errors"] for run in report["runs"]) else 0


async def _measure(arguments: argparse.Namespace, network: Network) -> dict[str, Any]:
    first, second = network.members[:2]
    sender = Sender(first.grpc_addresses, arguments.size)
    actions: dict[str, Action] = {"broadcast": sender.broadcast, "private": sender.private}
    idle = await _idle(network, arguments.idle) if arguments.idle else {}
    runs = []
    async with Confirmations(second.grpc_address) as confirmations:
        for kind in arguments.kinds:
            action = actions[kind]
            await closed_loop(kind, action, confirmations, 10, WARM_UP_S)
            best = 0.0
            for workers in arguments.workers:
                before = by_role(network.children())
                result = await closed_loop(kind, action, confirmations, workers, arguments.seconds)
                runs.append(_report(result, before, by_role(network.children())))
                best = max(best, result.rate)
            if not arguments.no_open:
                rate = arguments.rate or best / 2
                before = by_role(network.children())
                result = await open_loop(kind, action, confirmations, rate, arguments.seconds)
                runs.append(_report(result, before, by_role(network.children())))
    await sender.aclose()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "database": "postgres" if arguments.postgres or arguments.replicas > 1 else "sqlite",
        "replicas": arguments.replicas,
        "chain": "anvil",
        "value_bytes": arguments.size,
        "idle_percent_of_a_core": idle,
        "runs": runs,
    }


async def _idle(network: Network, seconds: float) -> dict[str, float]:
    """CPU of each process while nothing happens, in percent of a core."""
    before = by_role(network.children())
    await asyncio.sleep(seconds)
    after = by_role(network.children())
    share = {
        role: round(100 * (used - before.get(role, (0.0, 0.0))[0]) / seconds, 2)
        for role, (used, _) in after.items()
    }
    _say(f"idle for {seconds:.0f} s, percent of a core")
    for role in sorted(share):
        _say(f"    {role:28} {share[role]:8.2f} %")
    return share


def _report(
    result: Result,
    before: dict[str, tuple[float, float]],
    after: dict[str, tuple[float, float]],
) -> dict[str, Any]:
    count = max(1, len(result.latencies_s))
    cpu = {
        role: round(1000 * (used - before.get(role, (0.0, 0.0))[0]) / count, 3)
        for role, (used, _) in after.items()
    }
    product = sum(ms for role, ms in cpu.items() if role not in ("load generator", "chain"))
    report = {
        "kind": result.kind,
        "mode": result.mode,
        "actions": len(result.latencies_s),
        "errors": result.errors,
        "per_second": round(result.rate, 1),
        "p50_ms": round(result.percentile_ms(0.50), 1),
        "p99_ms": round(result.percentile_ms(0.99), 1),
        "cpu_ms_per_action": cpu,
        "cpu_ms_per_action_product": round(product, 3),
        "memory_mib_start": {role: round(mib, 1) for role, (_, mib) in before.items()},
        "memory_mib_end": {role: round(mib, 1) for role, (_, mib) in after.items()},
    }
    _say(
        f"{result.kind:10} {result.mode:22} {report['per_second']:8} /s   "
        f"p50 {report['p50_ms']:8} ms   p99 {report['p99_ms']:8} ms   errors {result.errors}   "
        f"CPU {report['cpu_ms_per_action_product']} ms per action"
    )
    for role in sorted(cpu):
        memory = f"{before.get(role, (0, 0))[1]:7.0f} -> {after[role][1]:5.0f} MiB"
        _say(f"    {role:28} {cpu[role]:8.3f} ms   {memory}")
    return report


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
