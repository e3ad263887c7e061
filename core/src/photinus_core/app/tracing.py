"""Spans through OpenTelemetry's SDK, sent to a collector by OTLP over HTTP.

Loaded only where tracing is on. What the configuration does not say, OpenTelemetry's own
environment does (`OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`,
`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`). Spans are collected in memory, bounded, and sent
by a thread: a collector that is away costs spans, nothing else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes as OtelAttributes

from photinus_core.app.config import TracingSettings
from photinus_core.ports.tracing import UNTRACED, Attributes, Metadata, origin

SERVICE_NAME: Final = "photinus-core"
TRACES_PATH: Final = "v1/traces"
REMEMBERED_MAX: Final = 20_000
"""Most messages of which it is remembered which span took them, until their batch is sealed."""

_KINDS: Final = {
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "internal": trace.SpanKind.INTERNAL,
}
_PREFIX: Final = "photinus."


class OtelTracer:
    """`ports.tracing.Tracer` by OpenTelemetry.

    Args:
        settings: As configured.
        attributes: What this process is, beside the environment's word.
        exporter: Takes the spans; None for the collector.
    """

    def __init__(
        self,
        settings: TracingSettings,
        attributes: Mapping[str, str],
        exporter: SpanExporter | None = None,
    ) -> None:
        self._ids = _Ids()
        name = settings.service_name or os.environ.get("OTEL_SERVICE_NAME") or SERVICE_NAME
        resource = Resource.create({**attributes, "service.name": name})
        sampler = None
        if settings.sample_ratio is not None:
            sampler = ParentBased(TraceIdRatioBased(settings.sample_ratio))
        plain = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self._sampler = _LinkedSampler(plain.sampler)
        self._provider = TracerProvider(
            sampler=self._sampler,
            resource=resource,
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        if exporter is None:
            url = f"{settings.endpoint.rstrip('/')}/{TRACES_PATH}" if settings.endpoint else None
            exporter = OTLPSpanExporter(endpoint=url)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("photinus_core")
        self._propagator = TraceContextTextMapPropagator()
        self._messages: dict[str, trace.SpanContext] = {}

    def aclose(self) -> None:
        """Sends what is collected, and ends. Waits for the collector, for a bounded time."""
        self._provider.shutdown()

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: str = "internal",
        batch: str = "",
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Iterator[None]:
        """See `ports.tracing.Tracer`. A call outside of any span is none."""
        context: Context | None = None
        if batch:
            context = trace.set_span_in_context(trace.NonRecordingSpan(self._of_batch(batch)))
        elif kind == "server":
            context = self._propagator.extract(dict(origin().carried), Context())
        elif kind == "client" and not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        elif links:
            context = Context()  # on behalf of many: a trace of its own
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=_KINDS[kind],
            links=[trace.Link(found) for each in links if (found := self._linked(each))],
            attributes=_named(attributes),
        ):
            yield

    def batch(self, batch: str, messages: Sequence[str]) -> None:
        """See `ports.tracing.Tracer`."""
        known = [found for each in messages if (found := self._messages.pop(each, None))]
        with self._ids.next(*_batch_ids(batch)):
            span = self._tracer.start_span(
                "batch",
                context=Context(),
                links=[trace.Link(found) for found in known],
                attributes=_named({"batch": batch, "messages": len(messages)}),
            )
        span.end()

    def message(self, message: str) -> None:
        """See `ports.tracing.Tracer`."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attribute(f"{_PREFIX}message", message)
        self._messages[message] = span.get_span_context()
        while len(self._messages) > REMEMBERED_MAX:
            del self._messages[next(iter(self._messages))]

    def present(self) -> tuple[str, str]:
        """See `ports.tracing.Tracer`."""
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return UNTRACED.present()
        return trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)

    def metadata(self) -> Metadata:
        """See `ports.tracing.Tracer`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return tuple(carrier.items())

    def _linked(self, each: str) -> trace.SpanContext | None:
        """The span that took a message here; else that of a batch of this id."""
        return self._messages.get(each) or self._of_batch(each)

    def _of_batch(self, batch: str) -> trace.SpanContext:
        """The root of a batch's trace, whoever recorded it."""
        trace_id, span_id = _batch_ids(batch)
        return trace.SpanContext(
            trace_id, span_id, is_remote=True, trace_flags=self._sampler.flags(trace_id)
        )


def _batch_ids(batch: str) -> tuple[int, int]:
    """Ids of a batch's trace and of its root, the same for all: a digest, since samplers want chance."""
    digest = hashlib.sha256(f"photinus batch {batch}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _named(attributes: Attributes | None) -> dict[str, str | int]:
    return {_PREFIX + name: value for name, value in (attributes or {}).items()}


class _Ids(IdGenerator):
    """Random ids, but for the root of a batch."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._next: tuple[int, int] | None = None

    @contextmanager
    def next(self, trace_id: int, span_id: int) -> Iterator[None]:
        """The span that is made inside gets these; nothing may be awaited meanwhile."""
        self._next = trace_id, span_id
        try:
            yield
        finally:
            self._next = None

    def generate_trace_id(self) -> int:
        return self._random.generate_trace_id() if self._next is None else self._next[0]

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self._next is None else self._next[1]


class _LinkedSampler(Sampler):
    """Records what begins a trace also where something it is linked to is recorded."""

    def __init__(self, usual: Sampler) -> None:
        self._usual = usual

    def flags(self, trace_id: int) -> trace.TraceFlags:
        """Whether a trace with this id is recorded where it begins."""
        decision = self._usual.should_sample(Context(), trace_id, "batch").decision
        is_sampled = decision is Decision.RECORD_AND_SAMPLE
        return trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled else 0)

    def should_sample(  # noqa: PLR0913 - as OpenTelemetry has it
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: trace.SpanKind | None = None,
        attributes: OtelAttributes = None,
        links: Sequence[trace.Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        if any(link.context.trace_flags.sampled for link in links or ()):
            return ALWAYS_ON.should_sample(
                parent_context, trace_id, name, kind, attributes, links, trace_state
            )
        return self._usual.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"Linked({self._usual.get_description()})"
