"""Goal: what happens in a member can be counted, probed, traced and read in its logs.

Method: two members on an in-memory ledger, with processes of their own for core, gateway and
connector, send a broadcast and a private message; a collector of the test's takes their spans.
"""

from __future__ import annotations

import json
import secrets
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.observing.conftest import (
    CONTRACT,
    NAMES,
    Site,
    Watched,
    fetch,
    lines_of,
    series,
    start_member,
)
from tests.support.collector import Seen
from tests.support.rest import Answer, wait_until


def send(member: Watched, path: str, body: Any, headers: dict[str, str]) -> Any:
    """Sends a message, with headers; gives it."""
    headers = {"Content-Type": "application/json", **headers}
    answer = member.request("POST", path, json.dumps(body).encode(), headers)
    assert answer.status == 202, answer.body
    return answer.json


def grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    """By how much a series grew."""
    return after[name] - before.get(name, 0.0)


def test_a_broadcast_and_a_private_message_are_counted_once(site: Site) -> None:
    sender, _ = site.members
    before = [series(member.core) for member in site.members]
    header = {"header": {"tag": "counted"}, "data": [{"value": "x"}]}
    group = {"members": [{"identity": name} for name in NAMES]}
    sent = [
        send(sender, "/messages/broadcast", header, {}),
        send(sender, "/messages/private", {**header, "group": group}, {}),
    ]
    for member in site.members:
        for message in sent:
            member.wait_message(message["header"]["id"])
    own, other = (series(member.core) for member in site.members)
    label = '{ns="default"}'
    for kind in ("broadcast", "private_msg"):
        assert grown(before[0], own, f"ff_{kind}_submitted_total{label}") == 1
        assert grown(before[1], other, f"ff_{kind}_submitted_total{label}") == 0
        for old, new in zip(before, (own, other), strict=True):
            assert grown(old, new, f"ff_{kind}_confirmed_total{label}") == 1
            assert grown(old, new, f"ff_{kind}_rejected_total{label}") == 0
        assert grown(before[0], own, f"ff_{kind}_histogram_count{label}") == 1
        assert grown(before[1], other, f"ff_{kind}_histogram_count{label}") == 0
    # The group's introduction goes in a batch of its own or with its first message.
    assert grown(before[0], own, f"ff_batchpin_total{label}") in (2, 3)
    assert grown(before[1], other, f"ff_batchpin_total{label}") == 0
    pins = f'ff_blockchain_transactions_total{{location="{CONTRACT}",methodName="pinBatch"}}'
    assert grown(before[0], own, pins) == grown(before[0], own, f"ff_batchpin_total{label}")
    seen = [name for name in other if name.startswith("ff_blockchain_events_total{")]
    assert seen
    assert sum(grown(before[1], other, name) for name in seen) >= 2


def test_what_operators_need_is_shown(site: Site) -> None:
    sender, _ = site.members
    sender.post("/subscriptions", {"name": f"s{secrets.token_hex(4)}", "transport": "websockets"})

    def shown() -> bool:
        found = series(sender.core)
        lag = [v for k, v in found.items() if k.startswith("photinus_subscription_lag_events")]
        ready = [v for k, v in found.items() if k.startswith("photinus_connector_ready")]
        return (
            found['photinus_namespace_leader{ns="default"}'] == 1
            and found['photinus_pins_waiting{ns="default"}'] == 0
            and found['photinus_batches_in_flight{ns="default"}'] == 0
            and bool(lag)
            and ready == [1.0, 1.0, 1.0]
            and found['ff_multiparty_node_identity_dx_mismatch{ns="default"}'] == 0
        )

    wait_until(shown, explain=lambda: str(series(sender.core)))
    found = series(sender.core)
    assert found['photinus_store_transaction_seconds_count{database="database0"}'] > 0
    calls = "photinus_grpc_request_duration_seconds_count"
    asked = 'method="photinus.api.v1.NamespaceService/GetStatus"'
    assert found[f'{calls}{{code="OK",{asked}}}'] > 0
    assert found["process_resident_memory_bytes"] > 0


def test_the_gateway_counts_requests_by_their_template(site: Site) -> None:
    sender, _ = site.members
    sender.get("/namespaces/default/messages?limit=1")
    name = 'ff_apiserver_rest_requests_total{code="200",method="GET",route="/api/v1/namespaces/{ns}/messages"}'
    wait_until(lambda: series(sender.gateway).get(name, 0) >= 1)
    assert fetch(f"{sender.url}/metrics").status == 404, "on the port of its own only"


def find(site: Site, trace: str, service: str, name: str) -> list[Seen]:
    return [s for s in site.collector.spans(trace) if s.service == service and s.name == name]


def awaited(site: Site, trace: str, service: str, name: str) -> Seen:
    """A span of a trace, once it has come."""
    wait_until(
        lambda: bool(find(site, trace, service, name)),
        explain=lambda: f"no {service} {name} in {site.collector.spans(trace)}",
    )
    return find(site, trace, service, name)[0]


def test_one_trace_goes_through_gateway_core_and_connector(site: Site) -> None:
    sender, _ = site.members
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{parent}-01", "X-FireFly-Request-ID": f"r-{trace}"}
    message = send(sender, "/messages/broadcast", {"data": [{"value": "traced"}]}, headers)
    entry = awaited(site, trace, "photinus-gateway", "POST /api/v1/messages/broadcast")
    assert entry.parent == parent
    core = awaited(site, trace, "photinus-core", "photinus.api.v1.MessageService/BroadcastMessage")
    assert core.parent == entry.span
    assert core.attributes["photinus.message"] == message["header"]["id"]
    assert core.attributes["photinus.request"] == f"r-{trace}"
    # What follows has a trace of the batch's own, linked to the request that its message came with.
    linked = (core.trace, core.span)
    wait_until(lambda: any(s.name == "batch" and linked in s.links for s in site.collector.spans()))
    (batch,) = [s for s in site.collector.spans() if s.name == "batch" and linked in s.links]
    pin = "photinus.connector.v1.BlockchainService/SubmitBatchPin"
    called = awaited(site, batch.trace, "photinus-core", pin)
    assert awaited(site, batch.trace, "photinus-memory", pin).parent == called.span
    # Both members' decisions are linked to it, though nothing on the wire names it.
    root = (batch.trace, batch.span)
    wait_until(
        lambda: (
            sum(s.name == "decide" and root in s.links for s in site.collector.spans())
            >= len(NAMES)
        )
    )
    awaited(site, batch.trace, "photinus-core", "fetch batch")


def context(trace: str) -> dict[str, str]:
    """Headers of a client that traces."""
    return {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


def upload(member: Watched, headers: dict[str, str]) -> Answer:
    """Uploads a small blob."""
    headers = {"Content-Type": "multipart/form-data; boundary=b", **headers}
    part = 'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\ncontent'
    answer = member.request("POST", "/data", f"--b\r\n{part}\r\n--b--\r\n".encode(), headers)
    assert answer.status == 201, answer.body
    return answer


def test_a_call_to_a_connector_is_within_the_request_that_makes_it(site: Site) -> None:
    sender, _ = site.members
    trace = secrets.token_hex(16)
    upload(sender, context(trace))
    entry = awaited(site, trace, "photinus-gateway", "POST /api/v1/data")
    core = awaited(site, trace, "photinus-core", "photinus.api.v1.DataService/UploadData")
    blob = "photinus.connector.v1.DataExchangeService/UploadBlob"
    call = awaited(site, trace, "photinus-core", blob)
    taken = awaited(site, trace, "photinus-memory", blob)
    assert (core.parent, call.parent, taken.parent) == (entry.span, core.span, call.span)


def test_lines_are_json_under_fireflys_names(site: Site) -> None:
    sender, _ = site.members
    logs = {log: sender.lines(log) for log in ("core.log", "gateway.log")}
    logs["memory.log"] = lines_of(site.connector_log)
    for name, lines in logs.items():
        assert lines, name
        for line in lines:
            assert {"@timestamp", "level", "message"} <= line.keys(), (name, line)
            assert line["level"] in {"debug", "info", "warning", "warn", "error"}, (name, line)


def test_a_request_is_named_in_every_process(site: Site) -> None:
    """What goes wrong in a connector is found by the id that its client sent."""
    sender, _ = site.members
    request_id, trace = f"named-{secrets.token_hex(8)}", secrets.token_hex(16)
    answer = upload(sender, {**context(trace), "X-FireFly-Request-ID": request_id})
    assert answer.headers["x-firefly-request-id"] == request_id

    def told(lines: list[dict[str, Any]]) -> bool:
        traces = {line.get("trace_id") for line in lines if line.get("httpreq") == request_id}
        return traces == {trace}

    logs = {
        "gateway": lambda: sender.lines("gateway.log"),
        "core": lambda: sender.lines("core.log"),
        "memory": lambda: lines_of(site.connector_log),
    }
    for name, read in logs.items():
        wait_until(lambda read=read: told(read()), explain=lambda name=name: name)  # type: ignore[misc]  # bound at once


def test_probes_through_a_drain_and_a_kill(site: Site, tmp_path: Path) -> None:
    """A third process group of its own: nobody else shares what is broken here."""
    socket = site.connector_log.with_name("memory.sock")
    with ExitStack() as stack:
        member = start_member(stack, tmp_path / "probed", 1, socket)
        ready = f"{member.core}/readyz"
        wait_until(lambda: fetch(ready).status == 200, explain=lambda: str(fetch(ready)))
        shown = json.loads(fetch(ready).body)
        assert shown["ready"] is True
        assert shown["databases"] == {"database0": "ok"}
        assert set(shown["namespaces"]["default"]) == {"state", "leader", "error"}
        assert fetch(f"{member.core}/livez").status == 200
        wait_until(lambda: fetch(f"{member.gateway}/readyz").status == 200)
        drain(member)
        assert fetch(ready).status == 503
        assert json.loads(fetch(ready).body)["reason"] == "draining"
        assert fetch(f"{member.core}/livez").status == 200, "a drained replica lives"
        wait_until(lambda: fetch(f"{member.gateway}/readyz").status == 503)
        assert fetch(f"{member.gateway}/livez").status == 200
        member.process.send_signal(signal.SIGKILL)
        wait_until(lambda: fetch(f"{member.core}/livez").status == 0)
        assert fetch(f"{member.gateway}/livez").status == 200
        assert fetch(f"{member.gateway}/readyz").status == 503


def drain(member: Watched) -> None:
    """Takes a replica out, as `photinus drain` does."""
    import grpc  # its threads do not bear processes that start beside them
    from photinus.api.v1 import node_service_pb2, node_service_pb2_grpc

    channel: Any = grpc.insecure_channel(f"unix:{member.folder / 'core.sock'}")
    with channel:
        stub: Any = node_service_pb2_grpc.NodeServiceStub(channel)
        stub.Drain(node_service_pb2.DrainRequest(), timeout=60)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_need_no_credentials(site: Site, path: str) -> None:
    for member in site.members:
        assert fetch(f"{member.core}{path}").status == 200
        assert fetch(f"{member.gateway}{path}").status == 200
