"""A collector of spans for tests: OTLP over HTTP on loopback, kept in memory."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATH: Final = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it was sent; ids in hexadecimal.

    Attributes:
        links: (trace, span) of what it carries on.
    """

    service: str
    name: str
    trace: str
    span: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, str]


@dataclass(slots=True)
class Collector:
    """What was collected so far.

    Attributes:
        url: Base URL, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
        refused: Requests that were no spans.
    """

    url: str = ""
    refused: int = 0
    _spans: list[Seen] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> bool:
        """Keeps the spans of one export; False when it is none."""
        request = ExportTraceServiceRequest()
        try:
            request.ParseFromString(body)
        except DecodeError:
            self.refused += 1
            return False
        found = []
        for group in request.resource_spans:
            named = {a.key: a.value.string_value for a in group.resource.attributes}
            found += [
                Seen(
                    named.get("service.name", ""),
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    {
                        a.key: a.value.string_value or str(a.value.int_value)
                        for a in span.attributes
                    },
                )
                for scope in group.scope_spans
                for span in scope.spans
            ]
        with self._lock:
            self._spans += found
        return True

    def spans(self, trace: str = "") -> list[Seen]:
        """All spans so far, or those of one trace."""
        with self._lock:
            return [span for span in self._spans if not trace or span.trace == trace]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collects until the block is left."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            good = self.path == PATH and collector.take(body)
            self.send_response(200 if good else 400)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
