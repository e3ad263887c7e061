"""For which request and trace a call is made: told in log lines, and by a span where asked for.

Spans need OpenTelemetry (`photinus-sdk[tracing]`) and `OTEL_EXPORTER_OTLP_ENDPOINT`, or another of
its variables; without either a connector only names the trace.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

REQUEST_ID_KEY = "x-firefly-request-id"
KEYS = (REQUEST_ID_KEY, "traceparent", "tracestate")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

log = logging.getLogger("photinus.sdk")

_carried: ContextVar[dict[str, str] | None] = ContextVar("carried", default=None)


def log_fields() -> dict[str, str]:
    """What a line says of the call it is written for; nothing outside of any."""
    carried = _carried.get() or {}
    found = {"httpreq": carried[REQUEST_ID_KEY]} if REQUEST_ID_KEY in carried else {}
    parts = carried.get("traceparent", "").split("-")
    return found | dict(zip(("trace_id", "span_id"), parts[1:3], strict=False))


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Notes whom each call is for, and records it within the trace of whoever makes it."""

    def __init__(self, name: str) -> None:
        self._tracer = _tracer(name)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        metadata = handler_call_details.invocation_metadata or ()
        carried = {key: str(value) for key, value in metadata if key in KEYS}
        _carried.set(carried)
        if carried:
            log.debug("%s", handler_call_details.method)
        handler, tracer = await continuation(handler_call_details), self._tracer
        if handler is None or tracer is None or "traceparent" not in carried:
            return handler
        from opentelemetry import propagate, trace  # noqa: PLC0415 - only where it is installed

        (kind,) = (kind for kind in KINDS if getattr(handler, kind) is not None)
        act, name = getattr(handler, kind), handler_call_details.method.lstrip("/")

        async def traced(request: Any, context: Any) -> Any:
            within = propagate.extract(carried)
            with tracer.start_as_current_span(name, within, trace.SpanKind.SERVER):
                propagate.inject(carried)
                return await act(request, context)

        return handler._replace(**{kind: traced})


def _tracer(name: str) -> Any:
    if os.environ.get("OTEL_SDK_DISABLED") == "true" or not any(map(os.environ.get, ENDPOINTS)):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk import resources  # noqa: PLC0415 - optional
        from opentelemetry.sdk import trace as sdk  # noqa: PLC0415 - optional
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - optional
    except ImportError:
        log.warning("no spans: photinus-sdk[tracing] is missing")
        return None
    given = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": f"photinus-{name}"}
    provider = sdk.TracerProvider(resource=resources.Resource.create(given))
    provider.add_span_processor(BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    return provider.get_tracer("photinus_sdk")
