"""Goal: a connector names request and trace in its lines, records spans where asked to, and needs nothing for it.

Method: the kit's interceptor around a handler of the test's, and its tracer under variables of the environment.
"""

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from photinus_sdk.logs import JsonFormatter, set_up_logs
from photinus_sdk.tracing import TracingInterceptor, log_fields

from tests.support.logs import bare_root_logger

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CARRIED = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-firefly-request-id", "r1"))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


async def called(interceptor: TracingInterceptor, metadata: Any) -> dict[str, str]:
    """What a line says that is written within a call."""

    async def act(_request: Any, _context: Any) -> dict[str, str]:
        return log_fields()

    async def found(_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(act)

    details = SimpleNamespace(method="/a.B/C", invocation_metadata=metadata)
    handler = await interceptor.intercept_service(found, details)
    answer: dict[str, str] = await handler.unary_unary(None, None)
    return answer


async def test_a_call_is_named_as_the_core_names_it() -> None:
    plain = TracingInterceptor("disk")
    named = {"httpreq": "r1", "trace_id": TRACE, "span_id": SPAN}
    assert await called(plain, CARRIED) == named
    assert await called(plain, (("traceparent", "odd"),)) == {}
    assert await called(plain, None) == {}


async def test_spans_are_children_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    recording = TracingInterceptor("disk")
    tracer: Any = recording._tracer
    try:
        fields = await called(recording, CARRIED)
        assert fields["trace_id"] == TRACE
        assert fields["span_id"] != SPAN
        assert tracer.resource.attributes["service.name"] == "photinus-disk"
        assert await called(recording, CARRIED[1:]) == {"httpreq": "r1"}, "nobody traces"
        assert not trace.get_current_span().get_span_context().is_valid
    finally:
        tracer.span_processor.shutdown()


async def test_without_opentelemetry_calls_are_still_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with caplog.at_level(logging.WARNING):
        bare = TracingInterceptor("disk")
    assert "photinus-sdk[tracing]" in caplog.text
    assert (await called(bare, CARRIED))["span_id"] == SPAN


def test_lines_follow_fireflys_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO, "levelname": "INFO"})
    monkeypatch.setenv("FIREFLY_LOG_JSON_FIELDS_MESSAGE", "msg")
    assert json.loads(JsonFormatter().format(record))["msg"] == "hello"
    monkeypatch.setenv("FIREFLY_LOG_JSON_ENABLED", "false")
    with bare_root_logger():
        set_up_logs("info")
        logging.getLogger("x").info("plainly")
    assert capsys.readouterr().err.endswith("INFO    x: plainly\n")
