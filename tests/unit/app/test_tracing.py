"""Goal: spans stand where they belong, across what is synchronous by parents, across the rest by links.

Method: a tracer with an exporter that keeps spans in memory; no collector, no network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from photinus_core.app.config import TracingSettings
from photinus_core.app.logs import context_fields
from photinus_core.app.tracing import OtelTracer
from photinus_core.ports import tracing
from photinus_core.ports.group_commit import GroupCommit
from photinus_core.ports.tasks import Background

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BATCH, MESSAGE = "8f4b1c6e-0000-7000-8000-000000000001", "8f4b1c6e-0000-7000-8000-000000000002"


class Recorder:
    """A tracer, and what it recorded."""

    def __init__(self, settings: TracingSettings) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OtelTracer(settings, {"service.version": "1"}, self._exporter)

    def spans(self) -> dict[str, ReadableSpan]:
        self.tracer.aclose()
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    made = Recorder(TracingSettings(enabled=True, sample_ratio=1.0))
    tracing.install(made.tracer)
    yield made
    tracing.uninstall(made.tracer)
    made.tracer.aclose()


def asked(flag: str = "01", request_id: str = "r1") -> None:
    """What a request brings along is noted for the test's own task."""
    tracing.enter(
        [
            ("x-firefly-request-id", request_id),
            ("traceparent", f"00-{TRACE}-{PARENT}-{flag}"),
            ("grpc-bin", b"x"),
        ]
    )


async def test_a_call_is_a_child_of_the_request(recorder: Recorder) -> None:
    asked()
    with (
        tracing.tracer().span("served", kind="server"),
        tracing.tracer().span("called", kind="client", attributes={"connector": "c"}),
    ):
        sent = dict(tracing.call_metadata())
        fields = context_fields()
    spans = recorder.spans()
    served, called = spans["served"], spans["called"]
    assert served.parent is not None
    assert called.parent is not None
    assert f"{served.parent.span_id:016x}" == PARENT
    assert called.parent.span_id == served.context.span_id
    assert called.attributes == {"photinus.connector": "c"}
    assert sent["x-firefly-request-id"] == "r1"
    assert sent["traceparent"] == f"00-{TRACE}-{called.context.span_id:016x}-01"
    assert fields == {
        "httpreq": "r1",
        "trace_id": TRACE,
        "span_id": f"{called.context.span_id:016x}",
    }


async def test_a_call_of_nobody_is_not_recorded(recorder: Recorder) -> None:
    """Heartbeats, above all."""
    with tracing.tracer().span("ping", kind="client"):
        assert tracing.call_metadata() == ()
    assert recorder.spans() == {}


async def test_what_a_client_does_not_record_is_passed_on_as_such(recorder: Recorder) -> None:
    asked(flag="00")
    with tracing.tracer().span("served", kind="server"):
        assert dict(tracing.call_metadata())["traceparent"].endswith("-00")
    assert recorder.spans() == {}


async def test_a_batch_links_its_messages_and_decisions_link_the_batch(recorder: Recorder) -> None:
    asked()
    tracer = tracing.tracer()
    with tracer.span("served", kind="server"):
        tracer.message(MESSAGE)
    tracer.batch(BATCH, [MESSAGE, "unknown here"])
    with tracer.span("pin batch", batch=BATCH):
        pass
    with tracer.span("decide", links=[BATCH]):
        pass
    spans = recorder.spans()
    batch, pin, decide = spans["batch"], spans["pin batch"], spans["decide"]
    assert [link.context.span_id for link in batch.links] == [spans["served"].context.span_id]
    assert batch.context.trace_id != spans["served"].context.trace_id
    assert pin.parent is not None
    assert (pin.context.trace_id, pin.parent.span_id) == (
        batch.context.trace_id,
        batch.context.span_id,
    )
    assert [link.context.span_id for link in decide.links] == [batch.context.span_id]
    assert decide.context.trace_id != batch.context.trace_id


async def test_all_members_call_the_trace_of_a_batch_the_same() -> None:
    """Nothing of it is on the wire: its ids follow from the batch's."""
    roots = []
    for _ in range(2):
        one = Recorder(TracingSettings(enabled=True, sample_ratio=1.0))
        with one.tracer.span("decide", links=[BATCH]):
            pass
        (link,) = one.spans()["decide"].links
        roots.append((link.context.trace_id, link.context.span_id))
    assert roots[0] == roots[1]


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.0, 0, 0), (0.5, 30, 70), (1.0, 100, 100)])
async def test_a_part_of_the_batches_is_recorded(ratio: float, low: int, high: int) -> None:
    """The part is the same on all members, down to the batch: chance comes from its id."""
    names = [f"8f4b1c6e-0000-7000-8000-{number:012d}" for number in range(100)]
    recorded = []
    for _ in range(2):
        one = Recorder(TracingSettings(enabled=True, sample_ratio=ratio))
        for name in names:
            with one.tracer.span(name, batch=name):
                pass
        recorded.append(set(one.spans()))
    assert recorded[0] == recorded[1]
    assert low <= len(recorded[0]) <= high


async def test_work_for_many_belongs_to_no_request(recorder: Recorder) -> None:
    """A commit, and a task that a request happens to start, are not in its trace and its lines."""
    seen: list[dict[str, str]] = []

    async def commit(items: object) -> list[None]:
        seen.append(context_fields())
        return [None]

    async def work() -> None:
        seen.append(context_fields())

    writes = GroupCommit[int, None](commit, "test")
    async with Background("test") as background:
        asked()
        with tracing.tracer().span("served", kind="server"):
            await writes.submit(1)
            await asyncio.wait([background.start("work", work())])
    await writes.aclose()
    assert seen == [{}, {}]
    assert set(recorder.spans()) == {"served"}


async def test_without_tracing_the_request_is_passed_on_as_it_came() -> None:
    asked(request_id="r 2")
    with tracing.tracer().span("served", kind="server"):
        assert dict(tracing.call_metadata()) == {
            "x-firefly-request-id": "r 2",
            "traceparent": f"00-{TRACE}-{PARENT}-01",
        }
        assert context_fields() == {"httpreq": "r 2", "trace_id": TRACE, "span_id": PARENT}


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x-firefly-request-id", "x" * 129)],
        [("traceparent", "y" * 513)],
        [("x-firefly-request-id", b"bytes")],
    ],
)
async def test_what_cannot_travel_is_left_out(metadata: list[tuple[str, str | bytes]]) -> None:
    tracing.enter(metadata)
    assert tracing.call_metadata() == ()
    assert context_fields() == {}


@pytest.mark.parametrize("traceparent", ["", "x", "00-zz-yy-01", "00-" + "0" * 32 + "-1-01"])
async def test_a_trace_context_that_is_none_begins_a_new_trace(
    recorder: Recorder, traceparent: str
) -> None:
    tracing.enter([("traceparent", traceparent), ("x-firefly-request-id", "r")])
    with tracing.tracer().span("served", kind="server"):
        assert len(context_fields()["trace_id"]) == 32
    assert recorder.spans()["served"].parent is None
