"""The plugin host in a test: connectors by name, and a handler that remembers what it stored."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from photinus_core.host import ConnectorHost, CoreFacts, InstanceConfig
from photinus_core.model.ids import Epoch, Hash32, Namespace, Uuid
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import (
    BatchPinInput,
    CallKey,
    ConnectorInfo,
    EventBatch,
    EventStream,
    MultipartyListener,
    StreamProgress,
    Submission,
)
from photinus_core.sequencing.connector_life import SECOND_NS, LifeLimits

from tests.support.waiting import until

PATIENT = LifeLimits(silence_max_ns=600 * SECOND_NS)
"""Nothing hangs: for what has to be seen while a connector does."""

NS = Namespace("ns1")
EPOCH = Epoch(1)
PIN = BatchPinInput(Uuid("t"), Uuid("b"), Hash32("0" * 64), "", ())
LISTENER = MultipartyListener("a", "{}", 2, "oldest")

CLUSTER_ID = "4c6e0c0e-5c0e-4a0e-8c0e-4c6e0c0e5c0e"


@dataclass
class KnownStores:
    """`StoreIds` in memory."""

    ids: dict[str, str] = field(default_factory=dict)

    async def known_store(self, name: str) -> str:
        return self.ids.get(name, "")

    async def remember_store(self, name: str, store_id: str) -> None:
        self.ids[name] = store_id


def core_facts(data_dir: Path, stores: KnownStores | None = None) -> CoreFacts:
    """Facts of a core under test."""
    return CoreFacts(CLUSTER_ID, "0.1.0", data_dir, stores or KnownStores(), SystemClock())


@asynccontextmanager
async def hosting(
    data_dir: Path,
    *configs: InstanceConfig,
    stores: KnownStores | None = None,
    may_launch: bool = True,
    sockets: Path | None = None,
) -> AsyncIterator[ConnectorHost]:
    """A host with these connectors."""
    facts = core_facts(data_dir, stores)
    async with ConnectorHost(facts, may_launch=may_launch, sockets=sockets) as host:
        host.add(configs)
        yield host


def shown(host: ConnectorHost, name: str) -> ConnectorInfo:
    """What an operator sees of one connector."""
    return next(info for info in host.list_connectors() if info.instance == name)


def stream_of(host: ConnectorHost, name: str, namespace: str = "ns1") -> str:
    """State and trouble of a namespace's stream, in one text."""
    found = next(s for s in shown(host, name).streams if s.namespace == namespace)
    return f"{found.state}; {found.trouble}"


async def until_state(host: ConnectorHost, name: str, *states: str) -> ConnectorInfo:
    """Waits until a connector is in one of the states."""
    await until(lambda: shown(host, name).state in states, 20)
    return shown(host, name)


async def submit_pin(host: ConnectorHost, name: str, key: str = "ns1:op") -> Submission:
    """Has a ledger's connector submit `PIN`."""
    call = CallKey(key, NS, EPOCH)
    return await host.blockchain(name).submit_batch_pin(call, "net1", "0x1", PIN, "{}")


async def follow(host: ConnectorHost, name: str, handler: "StoringHandler") -> EventStream:
    """Opens a ledger's stream with `LISTENER`."""
    return await host.blockchain(name).open_stream(NS, "net1", EPOCH, [LISTENER], handler)


class StoringHandler:
    """`EventHandler` that keeps events and checkpoints together, as a database would."""

    def __init__(self, checkpoints: Mapping[str, bytes] | None = None) -> None:
        self.checkpoints: dict[str, bytes] = dict(checkpoints or {})
        self.ids: list[str] = []
        self.batches: list[EventBatch] = []
        self.progressed: list[StreamProgress] = []
        self.troubles: list[tuple[str, str, bool]] = []
        self.failures: list[Exception] = []
        self.receipts: dict[str, str] = {}
        self.resumed = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def resume(self) -> Mapping[str, bytes]:
        self.resumed += 1
        return dict(self.checkpoints)

    async def handle(self, batch: EventBatch) -> Mapping[str, str]:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        self.ids += [event.id for event in batch.events]
        self.checkpoints |= batch.checkpoints
        return {e.id: self.receipts[e.id] for e in batch.events if e.id in self.receipts}

    async def progress(self, progress: StreamProgress) -> None:
        self.progressed.append(progress)
        self.checkpoints |= progress.checkpoints

    async def trouble(self, listener: str, reason: str, *, fatal: bool) -> None:
        self.troubles.append((listener, reason, fatal))

    def numbers(self, listener: str = "a") -> Sequence[int]:
        """Numbers of the test ledger's events, in the order they were stored."""
        return [int(i.split("/")[1]) for i in self.ids if i.startswith(f"{listener}/")]
