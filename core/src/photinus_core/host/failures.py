"""From gRPC statuses to the failures of `ports.connectors`, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from photinus.connector.v1 import common_pb2 as wire

from photinus_core.model.errors import Unavailable
from photinus_core.ports.connectors import ConnectorFailure, Disposition

DETAILS_KEY: Final = "grpc-status-details-bin"
CONNECTOR_LOST: Final = "CONNECTOR_LOST"
NOT_CONFIGURED: Final = "NOT_CONFIGURED"
TIMEOUT: Final = "TIMEOUT"
LOST_RETRY_S: Final = 1.0
RETRY_MAX_S: Final = 3600.0
REASON_CHARS_MAX: Final = 64
MESSAGE_CHARS_MAX: Final = 2048
DETAILS_CHARS_MAX: Final = 16 << 10
"""gRPC refuses larger trailers; what a connector should keep to is 4 KiB."""

_DISPOSITIONS: Final = {
    wire.DISPOSITION_NOT_SENT: Disposition.NOT_SENT,
    wire.DISPOSITION_MAYBE_SENT: Disposition.MAYBE_SENT,
    wire.DISPOSITION_SENT: Disposition.SENT,
}


class ConnectionLostError(Exception):
    """The transport failed: an answer of nobody. The connector must be reached anew."""


def silent(connector: str, wait_s: float) -> ConnectorFailure:
    """The error for a transfer that stopped moving."""
    return ConnectorFailure(
        TIMEOUT,
        f"Connector '{connector}' sent or took nothing for {wait_s:.0f} s",
        Disposition.MAYBE_SENT,
        LOST_RETRY_S,
        {"connector": connector},
    )


def lost(connector: str, reason: str) -> ConnectorFailure:
    """The one error for every call that was in flight when its connector went away."""
    return ConnectorFailure(
        CONNECTOR_LOST,
        f"Connector '{connector}' went away during the call: {reason}",
        Disposition.MAYBE_SENT,
        LOST_RETRY_S,
        {"connector": connector},
    )


def away(connector: str, reason: str) -> Unavailable:
    """The error for calls to a connector that is not there: nothing was sent."""
    return Unavailable("FF19200", connector, reason or "it has not been reached yet")


def translated(
    error: grpc.aio.AioRpcError, connector: str, clean: Callable[[str], str] = str
) -> ConnectorFailure:
    """What a connector answered, as the core understands it.

    Args:
        error: The answer.
        connector: Name for the failure.
        clean: Takes out of texts what nobody may read.

    Raises:
        ConnectionLostError: nobody answered.
    """
    status = status_of(error)
    code, message = error.code(), error.details() or ""
    if status is None and code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        raise ConnectionLostError(message or code.name)
    reason, disposition, retry_after_s, details = _details(status)
    if not reason:
        reason = TIMEOUT if code is grpc.StatusCode.DEADLINE_EXCEEDED else code.name
    if disposition is None:
        unsent = code is grpc.StatusCode.UNIMPLEMENTED
        disposition = Disposition.NOT_SENT if unsent else Disposition.MAYBE_SENT
    kept = {key: clean(value) for key, value in _bounded(details)}
    text = clean(status.message if status is not None and status.message else message)
    return ConnectorFailure(
        _cut(reason, REASON_CHARS_MAX),
        _cut(text, MESSAGE_CHARS_MAX) or code.name,
        disposition,
        retry_after_s,
        kept | {"connector": connector, "code": code.name},
    )


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """The rich status of an answer; None when it has none, as when nobody answered."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(
                    value if isinstance(value, bytes) else value.encode()
                )
            except DecodeError:
                return None
    return None


def _bounded(details: dict[str, str]) -> Iterator[tuple[str, str]]:
    """As many details as a trailer should have; connectors are told to keep to it."""
    left = DETAILS_CHARS_MAX
    for key, value in details.items():
        left -= len(key) + len(value)
        if left >= 0:
            yield key, value


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _details(
    status: status_pb2.Status | None,
) -> tuple[str, Disposition | None, float | None, dict[str, str]]:
    reason, disposition, retry_after_s = "", None, None
    metadata: dict[str, str] = {}
    for packed in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        retry, detail = error_details_pb2.RetryInfo(), wire.SubmissionDetail()
        try:
            if packed.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif packed.Unpack(retry):
                retry_after_s = min(max(0, retry.retry_delay.seconds), RETRY_MAX_S)
                retry_after_s += retry.retry_delay.nanos / 1e9
            elif packed.Unpack(detail):
                disposition = _DISPOSITIONS.get(detail.disposition)
        except DecodeError:
            break
    return reason, disposition, retry_after_s, metadata
