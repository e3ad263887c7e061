"""Connectors as lines of text, for `photinus connectors` and `photinus status`."""

from __future__ import annotations

from typing import Final

from photinus.api.v1 import node_pb2

DETAIL: Final = "    "
UNITS: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
SPANS: Final = (("days", 86400), ("hours", 3600), ("minutes", 60))


def connector_line(found: node_pb2.Connector) -> str:
    """The connector in one line, with its last error."""
    return f"{_head(found)}  {found.error}" if found.error else _head(found)


def connector_lines(found: node_pb2.Connector) -> list[str]:
    """The connector, and below it all that is known of it."""
    since = found.since.ToJsonString() if found.HasField("since") else "unknown"
    details = [
        ("since", since),
        ("at", found.address),
        ("error", found.error),
        ("used by", ", ".join(found.namespaces)),
        ("restarts", str(found.restarts or "")),
        ("can", ", ".join(found.capabilities)),
        ("limits", _limits(found.limits) if found.HasField("limits") else ""),
        ("store", found.store_id),
        *((f"stream {stream.namespace}", _stream(stream)) for stream in found.streams),
        *(
            (f"stream {stream.namespace}", f"trouble: {stream.trouble}")
            for stream in found.streams
            if stream.trouble
        ),
    ]
    return [_head(found), *(f"{DETAIL}{name:10} {text}" for name, text in details if text)]


def _head(found: node_pb2.Connector) -> str:
    line = f"{found.name:16} {found.category:14} {found.type:10} {found.state:12} {found.version}"
    return line.rstrip()


def _limits(found: node_pb2.ConnectorLimits) -> str:
    parts = []
    if found.max_in_flight:
        parts.append(f"{found.max_in_flight} changing calls at once")
    if found.max_message_bytes:
        parts.append(f"{_scaled(found.max_message_bytes, UNITS, 'bytes')} a message")
    if found.idempotency_retention_s:
        parts.append(f"keys for {_scaled(found.idempotency_retention_s, SPANS, 's')}")
    return ", ".join(parts)


def _stream(found: node_pb2.ConnectorStream) -> str:
    parts = [found.state, f"{found.events} events in {found.batches} batches stored"]
    if found.position:
        parts.append(f"at {found.position}")
    if found.waiting:
        parts.append(f"{found.waiting} batches wait, the oldest for {found.lag_s:.1f} s")
    if found.catching_up:
        parts.append("catching up")
    parts += [f"{each.listener} past final block {each.final_block}" for each in found.listeners]
    return ", ".join(parts)


def _scaled(number: int, units: tuple[tuple[str, int], ...], smallest: str) -> str:
    for name, size in units:
        if number >= size and number % size == 0:
            return f"{number // size} {name}"
    return f"{number} {smallest}"
