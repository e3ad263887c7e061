"""Goal: a namespace outlives elections that fail, and leads when one succeeds.

Method: a runtime over nothing, with an elector that fails at first; what it would lead is looked at only.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Epoch, Namespace
from photinus_core.namespaces.connectors import NamespaceConnectors
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.namespaces.settings import NamespaceSettings
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.elector import Lease
from photinus_core.ports.scope import Scope
from photinus_core.rpc.subscribing import shown

WAIT_S = 10.0


class LateElector:
    """Cannot reach its database twice."""

    def __init__(self) -> None:
        self.campaigns = 0
        self.resigned = 0

    async def campaign(self, role: str) -> Lease:
        self.campaigns += 1
        if self.campaigns <= 2:
            raise Unavailable("FF19100")
        return Lease(role, Epoch(7))

    async def resign(self, lease: Lease) -> None:
        self.resigned += 1


async def test_a_database_that_is_away_ends_no_namespace() -> None:
    """Found by the robustness tests: the core ended when PostgreSQL restarted."""
    name = Namespace("default")
    elector: Any = LateElector()
    store: Any = SimpleNamespace()
    scope = Scope(store, SystemClock(), name, "default")
    runtime: Any = NamespaceRuntime(
        scope, NamespaceSettings(name), elector, NamespaceConnectors(), shown
    )
    led: asyncio.Queue[tuple[int, str]] = asyncio.Queue(1)

    async def lead(_services: object, lease: Lease, _key: object) -> None:
        await led.put((lease.epoch, runtime._error))
        await asyncio.Event().wait()

    runtime._lead = lead
    leading = asyncio.create_task(runtime._lead_whenever_elected(None, None))
    async with asyncio.timeout(WAIT_S):
        assert await led.get() == (7, "")
    leading.cancel()
    await asyncio.wait([leading])
    assert (elector.campaigns, elector.resigned) == (3, 1)
