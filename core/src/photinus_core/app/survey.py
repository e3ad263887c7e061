"""Gauges of the core: looked up when somebody asks, at most every few seconds.

What only the leader of a namespace knows, or what would count double, is shown by its leader alone:
a sum over replicas is right. A namespace without a ledger has no leader; all replicas show the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from cryptography import x509
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from photinus_core.definitions.payloads import normalize_profile, profile_member
from photinus_core.model.errors import PhotinusError
from photinus_core.namespaces.node import READY, Node
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.ports.connectors import ConnectorFailure

log: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
"""What was looked up is shown again until it is so old."""
LOOK_WAIT_S: Final = 4.0
"""Longest time for one namespace; what is not known by then is left out."""
CERTIFICATE_EVERY_S: Final = 60.0
SUBSCRIPTIONS_MAX: Final = 500
"""Most subscriptions of a namespace that are shown, the slowest first."""

_UNKNOWN: Final = -1.0
_MEMBERS: Final = ("id", "endpoint", "cert")
"""What a data exchange says of itself in the profile of its node."""


class Survey:
    """The gauges of one node, as a collector of its registry."""

    def __init__(self) -> None:
        self._node: Node | None = None
        self._found: list[Metric] = []
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()
        self._certificates: dict[str, tuple[float, float, float]] = {}
        """When each namespace's was compared, whether it differs, when it expires."""

    def collect(self) -> Iterable[Metric]:
        """What was looked up last; for `prometheus_client`."""
        return self._found

    def show(self, node: Node) -> None:
        """Looks at a node from now on."""
        self._node = node

    async def look(self) -> None:
        """Looks, unless it did just now."""
        now = asyncio.get_running_loop().time()
        async with self._looking:
            if self._node is None or now - self._looked_s < LOOK_EVERY_S:
                return
            gauges = Gauges()
            _connectors(gauges, self._node)
            async with asyncio.TaskGroup() as group:
                for runtime in self._node.namespaces():
                    group.create_task(self._namespace(gauges, runtime))
            self._found = gauges.families()
            self._looked_s = asyncio.get_running_loop().time()

    async def _namespace(self, gauges: Gauges, runtime: NamespaceRuntime) -> None:
        name, leadership = str(runtime.settings.name), runtime.leadership
        gauges.add("photinus_namespace_ready", 1.0 if runtime.is_started else 0.0, name)
        gauges.add("photinus_namespace_leader", 0.0 if leadership is None else 1.0, name)
        if leadership is not None:
            gauges.add("photinus_batches_in_flight", leadership.batches.in_flight(), name)
            blocked = sum(p.blocked for p in leadership.batches.status())
            gauges.add("photinus_batch_processors_blocked", blocked, name)
        if leadership is not None or runtime.settings.multiparty is None:
            async with _patiently(f"what waits in {name}"):
                await _backlog(gauges, runtime, name)
        if runtime.settings.multiparty is not None:
            await self._certificate(gauges, runtime, name)

    async def _certificate(self, gauges: Gauges, runtime: NamespaceRuntime, name: str) -> None:
        now = asyncio.get_running_loop().time()
        looked_s, mismatch, expiry = self._certificates.get(
            name, (float("-inf"), _UNKNOWN, _UNKNOWN)
        )
        if now - looked_s >= CERTIFICATE_EVERY_S:
            mismatch = expiry = _UNKNOWN
            async with _patiently(f"the node's certificate in {name}"):
                mismatch, expiry = await _compared(runtime)
                self._certificates[name] = (now, mismatch, expiry)
        gauges.add("ff_multiparty_node_identity_dx_mismatch", mismatch, name)
        gauges.add("ff_multiparty_node_identity_dx_expiry_epoch", expiry, name)


class Gauges:
    """Values by series and labels."""

    def __init__(self) -> None:
        self._families = {
            name: GaugeMetricFamily(name, text, labels=labels) for name, text, labels in SERIES
        }

    def add(self, name: str, value: float, *labels: str) -> None:
        """Notes a value."""
        self._families[name].add_metric(labels, value)

    def families(self) -> list[Metric]:
        """All series."""
        return list(self._families.values())


SERIES: Final = (
    (
        "ff_multiparty_node_identity_dx_mismatch",
        "1 when data exchange and node identity tell different things, 0 when not, -1 unknown.",
        ("ns",),
    ),
    (
        "ff_multiparty_node_identity_dx_expiry_epoch",
        "When the data exchange's certificate expires, in seconds since 1970; -1 unknown.",
        ("ns",),
    ),
    ("photinus_namespace_ready", "Whether the namespace serves calls here.", ("ns",)),
    ("photinus_namespace_leader", "Whether this replica leads the namespace.", ("ns",)),
    ("photinus_pins_waiting", "Pins without a decision.", ("ns",)),
    ("photinus_messages_waiting", "Own messages that no batch holds yet.", ("ns",)),
    ("photinus_batches_in_flight", "Own batches between seal and pin.", ("ns",)),
    (
        "photinus_batch_processors_blocked",
        "Queues of own messages whose first batch could not be sent so far.",
        ("ns",),
    ),
    (
        "photinus_subscription_lag_events",
        "Events between a durable subscription's offset and the end of the log.",
        ("ns", "subscription"),
    ),
    ("photinus_connector_ready", "Whether a connector serves.", ("connector", "type", "state")),
    ("photinus_connector_restarts", "How often a connector was started again.", ("connector",)),
    (
        "photinus_connector_stream_waiting",
        "Batches of events that have arrived and are not stored yet.",
        ("connector", "ns"),
    ),
    (
        "photinus_connector_stream_lag_seconds",
        "Age of the oldest of them.",
        ("connector", "ns"),
    ),
)


def _connectors(gauges: Gauges, node: Node) -> None:
    for info in node.connectors():
        ready = 1.0 if info.state == READY else 0.0
        gauges.add("photinus_connector_ready", ready, info.instance, info.plugin_type, info.state)
        gauges.add("photinus_connector_restarts", info.restarts, info.instance)
        for stream in info.streams:
            labels = (info.instance, str(stream.namespace))
            gauges.add("photinus_connector_stream_waiting", stream.waiting, *labels)
            gauges.add("photinus_connector_stream_lag_seconds", stream.lag_s, *labels)


async def _backlog(gauges: Gauges, runtime: NamespaceRuntime, name: str) -> None:
    async with runtime.reader() as reader:
        backlog = await reader.backlog()
        lags = await reader.subscription_lags(SUBSCRIPTIONS_MAX)
    gauges.add("photinus_pins_waiting", backlog.undecided_pins, name)
    gauges.add("photinus_messages_waiting", backlog.unsent_messages, name)
    for lag in lags:
        gauges.add("photinus_subscription_lag_events", lag.events, name, lag.name)


async def _compared(runtime: NamespaceRuntime) -> tuple[float, float]:
    """Whether the node's identity says of the data exchange what it says itself; its end."""
    services = runtime.multiparty
    node = services.settings.node_name
    endpoint = await services.exchange.endpoint(node)
    own = normalize_profile(endpoint.peer_json)
    expiry = _expiry(profile_member(own, "cert"))
    identity = await runtime.identities.node(node)
    async with runtime.reader() as reader:
        stored = await reader.identity(identity.id)
    if stored is None:
        return _UNKNOWN, expiry
    differs = any(profile_member(stored.profile, m) != profile_member(own, m) for m in _MEMBERS)
    return float(differs), expiry


def _expiry(certificate: str) -> float:
    """When the first certificate of a PEM text ends; -1 when there is none."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return _UNKNOWN
    return found.not_valid_after_utc.timestamp()


@asynccontextmanager
async def _patiently(what: str) -> AsyncIterator[None]:
    """Lets a look fail or take too long: the other numbers are shown all the same."""
    try:
        async with asyncio.timeout(LOOK_WAIT_S):
            yield
    except (PhotinusError, ConnectorFailure, TimeoutError) as failure:
        log.debug("%s is not known: %s", what, failure)
