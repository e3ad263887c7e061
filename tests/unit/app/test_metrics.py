"""Goal: the series have FireFly's names and labels, and count what they say.

Method: the list of FireFly's series, as a table, against a registry; numbers by calling the meters.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from photinus_core.app.metrics import (
    LABELS_MAX,
    CoreMetrics,
    MeasuredStore,
    NamespaceMetrics,
    location_label,
)
from photinus_core.app.survey import SERIES, Gauges, Survey
from photinus_core.host.proxies import _method_name
from photinus_core.model.ids import Namespace
from photinus_core.model.messages import MessageType
from photinus_core.ports.connectors import Method
from photinus_core.ports.meter import Decided
from photinus_core.store import SqliteStore

NS = Namespace("ns1")

FIREFLYS = {
    "ff_batchpin_total": ("counter", {"ns"}),
    **{
        f"{prefix}_{outcome}_total": ("counter", {"ns"})
        for prefix in ("ff_broadcast", "ff_private_msg")
        for outcome in ("submitted", "confirmed", "rejected")
    },
    "ff_broadcast_histogram": ("histogram", {"ns"}),
    "ff_private_msg_histogram": ("histogram", {"ns"}),
    "ff_blockchain_transactions_total": ("counter", {"location", "methodName"}),
    "ff_blockchain_queries_total": ("counter", {"location", "methodName"}),
    "ff_blockchain_events_total": ("counter", {"location", "signature"}),
    "ff_multiparty_node_identity_dx_mismatch": ("gauge", {"ns"}),
    "ff_multiparty_node_identity_dx_expiry_epoch": ("gauge", {"ns"}),
}
"""Without those of tokens, which come with tokens, and of the API server, which the gateway has."""


def made() -> tuple[CoreMetrics, NamespaceMetrics]:
    metrics = CoreMetrics()
    return metrics, NamespaceMetrics(metrics, NS)


def value(metrics: CoreMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_series_are_fireflys() -> None:
    metrics, meter = made()
    metrics.ledger_transaction("{}", "a")
    metrics.ledger_query("{}", "a")
    meter.ledger_events({("{}", "a"): 1})
    metrics.call("a.B/C", "OK", 0.1)
    metrics.transactions.of("database0")(0.1)
    survey = Survey()
    metrics.registry.register(survey)
    gauges = Gauges()
    for name, _, labels in SERIES:
        gauges.add(name, 1.0, *labels)
    survey._found = gauges.families()
    found: dict[str, tuple[str, set[str]]] = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            found[name] = (family.type, set(sample.labels) - {"le"})
    assert {name: kind for name, kind in found.items() if name.startswith("ff_")} == FIREFLYS
    ours = {name for name in found if name.startswith("photinus_")}
    assert ours == {name for name, _, _ in SERIES if name.startswith("photinus_")} | {
        "photinus_grpc_request_duration_seconds",
        "photinus_store_transaction_seconds",
    }
    assert all(not name.endswith("_created") for name in found)


def test_series_of_a_namespace_begin_at_zero() -> None:
    metrics, _ = made()
    for name, (kind, labels) in FIREFLYS.items():
        if labels == {"ns"} and kind != "gauge":
            sample = f"{name}_count" if kind == "histogram" else name
            assert value(metrics, sample, ns=NS) == 0.0, name


def test_messages_are_counted_by_type_and_outcome() -> None:
    metrics, meter = made()
    meter.submitted({MessageType.BROADCAST: 2, MessageType.PRIVATE: 1, MessageType.DEFINITION: 9})
    meter.decided(
        [
            Decided(MessageType.BROADCAST, True, 0.3),
            Decided(MessageType.BROADCAST, True, None),
            Decided(MessageType.BROADCAST, False, 70.0),
            Decided(MessageType.PRIVATE, True, 0.001),
            Decided(MessageType.GROUP_INIT, True, 1.0),
        ]
    )
    meter.pinned()
    shown = {
        name: value(metrics, name, ns=NS)
        for name, (kind, labels) in FIREFLYS.items()
        if kind == "counter" and labels == {"ns"}
    }
    assert shown == {
        "ff_batchpin_total": 1,
        "ff_broadcast_submitted_total": 2,
        "ff_broadcast_confirmed_total": 2,
        "ff_broadcast_rejected_total": 1,
        "ff_private_msg_submitted_total": 1,
        "ff_private_msg_confirmed_total": 1,
        "ff_private_msg_rejected_total": 0,
    }
    # What came from others has no duration here: their clocks are not ours.
    assert value(metrics, "ff_broadcast_histogram_count", ns=NS) == 2
    assert value(metrics, "ff_broadcast_histogram_sum", ns=NS) == pytest.approx(70.3)
    assert value(metrics, "ff_broadcast_histogram_bucket", ns=NS, le="0.5") == 1
    assert value(metrics, "ff_broadcast_histogram_bucket", ns=NS, le="+Inf") == 2
    assert value(metrics, "ff_private_msg_histogram_count", ns=NS) == 1


def test_what_comes_from_outside_makes_a_bounded_number_of_labels() -> None:
    metrics, meter = made()
    for number in range(LABELS_MAX + 50):
        meter.ledger_events({(f'{{"address":"0x{number}"}}', "E()"): 2})
    name = "ff_blockchain_events_total"
    samples = [s for f in metrics.registry.collect() for s in f.samples if s.name == name]
    assert len(samples) == LABELS_MAX + 1
    assert value(metrics, name, location="other", signature="other") == 100
    meter.ledger_events({('{"address":"0x0"}', "E()"): 1})
    assert value(metrics, name, location="0x0", signature="E()") == 3


@pytest.mark.parametrize(
    ("location", "label"),
    [
        ('{"address":"0xab"}', "0xab"),
        ('{"channel":"c","chaincode":"d"}', '{"channel":"c","chaincode":"d"}'),
        ('{"address":5}', '{"address":5}'),
        ("no json", "no json"),
        ("", ""),
    ],
)
def test_locations_are_labelled_by_their_address(location: str, label: str) -> None:
    assert location_label(location) == label


@pytest.mark.parametrize(
    ("method", "name"), [('{"name":"set","params":[]}', "set"), ("{}", ""), ("no json", "")]
)
def test_methods_are_labelled_by_their_name(method: str, name: str) -> None:
    assert _method_name(Method(method)) == name


async def test_transactions_of_the_database_are_timed(tmp_path: Path) -> None:
    metrics = CoreMetrics()
    store = await SqliteStore.open(tmp_path / "a.db")
    timed = MeasuredStore(store, metrics.transactions.of("db0"))
    try:
        async with timed.write(NS) as tx:
            await tx.set_notes("kind", {"a": "b"})
        async with timed.read(NS) as reader:
            assert await reader.notes("kind") == {"a": "b"}
        with pytest.raises(RuntimeError):
            async with timed.write(NS):
                raise RuntimeError
        assert timed.cluster_id == store.cluster_id
    finally:
        await timed.aclose()
    assert value(metrics, "photinus_store_transaction_seconds_count", database="db0") == 1


async def test_looks_are_shared() -> None:
    """However many ask at once, the databases are asked once."""
    survey = Survey()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(survey.look())
    assert list(survey.collect()) == []
