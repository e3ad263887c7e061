"""Goal: the monitoring port answers what keepers of processes ask, whatever the node is doing.

Method: a real listener on loopback; a node and databases only as far as a probe looks at them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from photinus_core.app import monitoring as module
from photinus_core.app.config import MonitoringSettings
from photinus_core.app.monitoring import Monitoring
from photinus_core.model.errors import Unavailable
from photinus_core.store import SqliteStore


class _Node:
    """A node that leads nothing and has no namespaces."""

    is_draining = False

    def namespaces(self) -> list[Any]:
        return []

    def connectors(self) -> list[Any]:
        return []


class _Hanging:
    """A database that does not answer."""

    @asynccontextmanager
    async def read(self, _: object) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


async def asked(monitoring: Monitoring, path: str) -> tuple[int, Any]:
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{monitoring.address}{path}") as answer,
    ):
        is_json = answer.content_type == "application/json"
        return answer.status, await (answer.json() if is_json else answer.text())


async def test_probes_from_the_start_to_the_end(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        monitoring = Monitoring()
        await monitoring.serve(MonitoringSettings(enabled=True, port=0), tmp_path, stack)
        assert await asked(monitoring, "/livez") == (200, "")
        assert (await asked(monitoring, "/readyz"))[1]["reason"] == "starting"
        store = await SqliteStore.open(tmp_path / "a.db")
        stack.push_async_callback(store.aclose)
        node = _Node()
        monitoring.show(cast("Any", node), {"database0": store})
        assert await asked(monitoring, "/readyz") == (
            200,
            {"ready": True, "reason": "", "databases": {"database0": "ok"}, "namespaces": {}},
        )
        node.is_draining = True
        status, body = await asked(monitoring, "/readyz")
        assert (status, body["reason"]) == (503, "draining")
        monitoring.stopping()
        status, body = await asked(monitoring, "/readyz")
        assert (status, body["reason"]) == (503, "stopping")
        assert await asked(monitoring, "/livez") == (200, "")
        status, text = await asked(monitoring, "/metrics")
        assert status == 200
        assert "# TYPE ff_broadcast_submitted_total counter" in text
        assert (await asked(monitoring, "/absent"))[0] == 404


async def test_a_database_that_is_away_makes_unready_and_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STORE_WAIT_S", 0.05)
    async with AsyncExitStack() as stack:
        monitoring = Monitoring()
        await monitoring.serve(MonitoringSettings(enabled=True, port=0), tmp_path, stack)
        closed = await SqliteStore.open(tmp_path / "a.db")
        await closed.aclose()
        for store, said in ((closed, "FF19100"), (_Hanging(), "no answer within")):
            monitoring.show(cast("Any", _Node()), {"database0": cast("Any", store)})
            status, body = await asked(monitoring, "/readyz")
            assert status == 503
            assert body["databases"]["database0"].startswith(said), body
        assert await asked(monitoring, "/livez") == (200, "")


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = Monitoring()
        await first.serve(MonitoringSettings(enabled=True, port=0), tmp_path, stack)
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(Unavailable, match="FF19212"):
            await Monitoring().serve(MonitoringSettings(enabled=True, port=port), tmp_path, stack)


async def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    settings = MonitoringSettings(enabled=True, port=0, certificate_file="c", key_file="k")
    async with AsyncExitStack() as stack:
        with pytest.raises(Unavailable, match="FF19212"):
            await Monitoring().serve(settings, tmp_path, stack)
