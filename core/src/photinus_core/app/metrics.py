"""The core's Prometheus series: FireFly's under its names and labels, and ours beside them.

Each replica counts what it does itself, so that a sum over replicas counts once: a message is
submitted where it was taken, and confirmed where its namespace is led. Gauges are looked up when
somebody asks (`app.survey`). What clients or other members choose becomes a label only among the
first `LABELS_MAX` that were seen.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from photinus_core.app.timings import Timings
from photinus_core.model.ids import Namespace
from photinus_core.model.messages import MessageType
from photinus_core.ports.meter import Decided
from photinus_core.ports.store import Fence, Store, WriteTransaction
from photinus_core.ports.store_around import StoreAround

disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it

LABELS_MAX: Final = 200
"""Most different label values that come from outside; all others count as `other`."""
OTHER: Final = "other"

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Buckets of what takes as long as a chain; the first eleven are FireFly's."""
CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_KINDS: Final = {
    MessageType.BROADCAST: ("ff_broadcast", "broadcasts"),
    MessageType.PRIVATE: ("ff_private_msg", "private messages"),
}


class _Steps:
    """FireFly's four series of one kind of work."""

    def __init__(self, prefix: str, what: str, registry: CollectorRegistry) -> None:
        def counter(outcome: str) -> Counter:
            name, text = f"{prefix}_{outcome}_total", f"Number of {outcome} {what}."
            return Counter(name, text, ["ns"], registry=registry)

        self.submitted = counter("submitted")
        self.confirmed = counter("confirmed")
        self.rejected = counter("rejected")
        self.seconds = Timings(
            f"{prefix}_histogram",
            f"Seconds from submission to confirmation or rejection of own {what}.",
            ["ns"],
            SECONDS,
            registry,
        )


class CoreMetrics:
    """All series of one node, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.batch_pins = Counter(
            "ff_batchpin_total", "Number of batch pins submitted.", ["ns"], registry=registry
        )
        self.kinds = {kind: _Steps(*names, registry) for kind, names in _KINDS.items()}
        called = ["location", "methodName"]
        self._transactions = Counter(
            "ff_blockchain_transactions_total",
            "Number of methods of contracts called in a transaction.",
            called,
            registry=registry,
        )
        self._queries = Counter(
            "ff_blockchain_queries_total",
            "Number of methods of contracts called without a transaction.",
            called,
            registry=registry,
        )
        self._events = Counter(
            "ff_blockchain_events_total",
            "Number of events of ledgers received.",
            ["location", "signature"],
            registry=registry,
        )
        self.calls = Timings(
            "photinus_grpc_request_duration_seconds",
            "Seconds to answer a call of the API; streams are not counted.",
            ["method", "code"],
            CALL_SECONDS,
            registry,
        )
        self.transactions = Timings(
            "photinus_store_transaction_seconds",
            "Seconds of a transaction of the database, from its begin to its commit.",
            ["database"],
            CALL_SECONDS,
            registry,
        )
        self._seen: dict[Counter, set[tuple[str, str]]] = {}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def ledger_transaction(self, location: str, method: str) -> None:
        """See `ports.meter.LedgerMeter`."""
        self._count(self._transactions, location, method, 1)

    def ledger_query(self, location: str, method: str) -> None:
        """See `ports.meter.LedgerMeter`."""
        self._count(self._queries, location, method, 1)

    def ledger_event(self, location: str, signature: str, count: int) -> None:
        """Events of a ledger were received."""
        self._count(self._events, location, signature, count)

    def _count(self, counter: Counter, location: str, name: str, count: int) -> None:
        seen = self._seen.setdefault(counter, set())
        labels = (location_label(location), name)
        if labels not in seen:
            if len(seen) >= LABELS_MAX:
                labels = (OTHER, OTHER)
            seen.add(labels)
        counter.labels(*labels).inc(count)

    def call(self, method: str, code: str, seconds: float) -> None:
        """A call of the API was answered; `method` is one that is served."""
        self.calls.of(method, code)(seconds)


class NamespaceMetrics:
    """`ports.meter.Meter` of one namespace. Its series are there, at zero, from the start."""

    def __init__(self, metrics: CoreMetrics, namespace: Namespace) -> None:
        self._metrics = metrics
        self._pins = metrics.batch_pins.labels(namespace)
        self._submitted = {k: s.submitted.labels(namespace) for k, s in metrics.kinds.items()}
        self._confirmed = {k: s.confirmed.labels(namespace) for k, s in metrics.kinds.items()}
        self._rejected = {k: s.rejected.labels(namespace) for k, s in metrics.kinds.items()}
        self._seconds = {k: s.seconds.of(namespace) for k, s in metrics.kinds.items()}

    def submitted(self, kinds: Mapping[MessageType, int]) -> None:
        """See `ports.meter.Meter`."""
        for kind, count in kinds.items():
            if kind in self._submitted:
                self._submitted[kind].inc(count)

    def decided(self, messages: Sequence[Decided]) -> None:
        """See `ports.meter.Meter`."""
        counts = Tally((m.kind, m.is_confirmed) for m in messages if m.kind in self._seconds)
        for (kind, is_confirmed), count in counts.items():
            (self._confirmed if is_confirmed else self._rejected)[kind].inc(count)
        for message in messages:
            if message.waited_s is not None and message.kind in self._seconds:
                self._seconds[message.kind](message.waited_s)

    def pinned(self) -> None:
        """See `ports.meter.Meter`."""
        self._pins.inc()

    def ledger_events(self, events: Mapping[tuple[str, str], int]) -> None:
        """See `ports.meter.Meter`."""
        for (location, signature), count in events.items():
            self._metrics.ledger_event(location, signature, count)


@lru_cache(maxsize=2 * LABELS_MAX)
def location_label(location: str) -> str:
    """A contract's location as a label: its address where it has one, as FireFly has it."""
    try:
        found = msgspec.json.decode(location, type=dict[str, object])
    except msgspec.DecodeError:
        return location
    address = found.get("address")
    return address if isinstance(address, str) else location


class MeasuredStore(StoreAround):
    """A store whose transactions are timed."""

    def __init__(self, store: Store, observe: Callable[[float], None]) -> None:
        super().__init__(store)
        self._observe = observe

    @asynccontextmanager
    async def write(
        self, namespace: Namespace, fence: Fence | None = None
    ) -> AsyncIterator[WriteTransaction]:
        """See `ports.Store`."""
        began = time.perf_counter()
        async with self._store.write(namespace, fence) as tx:
            yield tx
        self._observe(time.perf_counter() - began)
