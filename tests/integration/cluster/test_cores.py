"""Cores with a configuration of replicas: they find each other, say what is wrong between them, and go on without an
ensemble.

Method: two `photinus serve` processes over one real PostgreSQL and one real ZooKeeper, asked through their API.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from photinus.api.v1 import node_service_pb2 as pb
from photinus.api.v1 import node_service_pb2_grpc

from tests.support.solo import running
from tests.support.zookeeper import ZooKeeperServer

CALL_S = 20.0
"""The first call waits for the core's start."""


class Core:
    """A core's API."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._nodes = node_service_pb2_grpc.NodeServiceStub(channel)

    async def cluster(self) -> pb.GetClusterResponse:
        return await self._nodes.GetCluster(
            pb.GetClusterRequest(), timeout=CALL_S, wait_for_ready=True
        )


def config(folder: Path, name: str, url: str, hosts: str, chroot: str) -> dict[str, Any]:
    return {
        "grpc": {"address": f"unix:{folder / name}.sock"},
        "cluster": {
            "replica": name,
            "zookeeper": {"hosts": hosts, "chroot": chroot, "sessionTimeout": "4s"},
        },
        "plugins": {
            "database": [{"name": "db", "type": "postgres", "postgres": {"url": url}}],
        },
        "namespaces": {
            "default": "alpha",
            "predefined": [{"name": "alpha", "plugins": ["db"]}],
        },
    }


@asynccontextmanager
async def core(folder: Path, settings: dict[str, Any]) -> AsyncIterator[Core]:
    name = settings["cluster"]["replica"]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(path)]
    async with AsyncExitStack() as stack:
        stack.enter_context(running(command, folder / f"{name}.log"))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(settings["grpc"]["address"])
        )
        yield Core(channel)


async def seen(asked: Core, wanted: Callable[[pb.GetClusterResponse], bool]) -> None:
    """Waits until the cluster looks as wanted."""
    found = None
    try:
        async with asyncio.timeout(30):
            while True:
                found = await asked.cluster()
                if wanted(found):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"it never looked as wanted, last so: {found}")


def names(found: pb.GetClusterResponse) -> list[str]:
    return sorted(r.id for r in found.replicas)


async def test_replicas_find_each_other_again_after_the_ensemble_was_away(
    server: ZooKeeperServer, postgres_url: str, tmp_path: Path, chroot: str
) -> None:
    first, second = (config(tmp_path, n, postgres_url, server.hosts, chroot) for n in ("a1", "a2"))
    second["namespaces"]["predefined"][0]["description"] = "other"

    def complete(found: pb.GetClusterResponse) -> bool:
        (problem,) = found.problems or [""]
        return names(found) == ["a1", "a2"] and "FF19157" in problem

    async with core(tmp_path, first) as one:
        await seen(one, lambda found: names(found) == ["a1"] and not found.problems)
        async with core(tmp_path, second) as two:
            for asked in (one, two):
                await seen(asked, complete)
            server.kill()
            await seen(one, lambda found: any("FF19150" in p for p in found.problems))
            await asyncio.to_thread(server.start)
            for asked in (one, two):
                await seen(asked, complete)
        await seen(one, lambda found: names(found) == ["a1"] and not found.problems)
