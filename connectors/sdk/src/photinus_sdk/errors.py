"""What a connector may say when a call cannot be done, and its form on the wire.

One class per decision the core takes. A class fixes the gRPC code and how far the request came; the
reason is refined by the author. Anything else an author's code raises is a bug: it reaches the core
as INTERNAL / MAYBE_SENT with an id to look up in the connector's log, and without the exception's
text.
"""

from typing import ClassVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from photinus.connector.v1 import common_pb2 as common
from photinus_journal import JournalError, KeyReused, TooLarge, cut

DOMAIN = "photinus.connector.v1"
MESSAGE_BYTES_MAX = 2048
DETAILS_BYTES_MAX = 4096
METADATA_VALUE_BYTES_MAX = 1024
HEADLINE_BYTES_MAX = 512
# Type names, reason, delay and disposition; authors' reasons are short.
FIXED_BYTES = 400

NOT_SENT = common.DISPOSITION_NOT_SENT
MAYBE_SENT = common.DISPOSITION_MAYBE_SENT
SENT = common.DISPOSITION_SENT


class ConnectorError(Exception):
    """Root of all errors a connector answers with; itself the INTERNAL one.

    Args:
        message: What happened and what to do, for an operator. Cut at 2 KiB on the wire.
        reason: UPPER_SNAKE_CASE, stable; the class has a default.
        disposition: How far the request came; the class has a default.
        retry_after_s: When waiting helps, how long; the class has a default.
        metadata: Further facts for the core (`revert="0x…"`); small strings, never secrets.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    default_reason: ClassVar[str] = "INTERNAL"
    default_disposition: ClassVar[common.Disposition.ValueType] = MAYBE_SENT
    default_retry_after_s: ClassVar[float | None] = None

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        disposition: common.Disposition.ValueType | None = None,
        retry_after_s: float | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.disposition = self.default_disposition if disposition is None else disposition
        self.retry_after_s = self.default_retry_after_s if retry_after_s is None else retry_after_s
        self.metadata = metadata

    def to_status(self) -> status_pb2.Status:
        """The error as `google.rpc.Status`, below the size at which gRPC would lose it."""
        info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=self.reason)
        message = cut(self.message, MESSAGE_BYTES_MAX)
        room = DETAILS_BYTES_MAX - len(message.encode()) - FIXED_BYTES
        for name, value in self.metadata.items():
            text = cut(value, METADATA_VALUE_BYTES_MAX)
            room -= len(name) + len(text.encode()) + 8
            if room < 0:
                break
            info.metadata[name] = text
        details = [_packed(info)]
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after_s * 1e9))
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        details.append(_packed(common.SubmissionDetail(disposition=self.disposition)))
        code: int = self.code.value[0]
        return status_pb2.Status(code=code, message=message, details=details)

    @property
    def headline(self) -> str:
        """The message as gRPC sends it a second time, as text: shorter, as it may grow threefold."""
        return cut(self.message, HEADLINE_BYTES_MAX)


class Rejected(ConnectorError):
    """The inputs do not fit and never will: the core fails the operation."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_INPUTS"
    default_disposition = NOT_SENT


class NotFound(ConnectorError):
    """What the call names is not known."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"
    default_disposition = NOT_SENT


class Conflict(ConnectorError):
    """Something else already has the name, e.g. the idempotency key."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "CONFLICT"
    default_disposition = NOT_SENT


class Refused(ConnectorError):
    """The system, as it stands, does not allow it (reverted, no funds, stale epoch)."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "REFUSED"
    default_disposition = NOT_SENT


class Reverted(Refused):
    """The ledger would revert the transaction; give `revert=` with the decoded reason."""

    default_reason = "TRANSACTION_REVERTED"


class InsufficientFunds(Refused):
    """The signer cannot pay."""

    default_reason = "INSUFFICIENT_FUNDS"


class Unavailable(ConnectorError):
    """The system behind the connector is away; the core tries the same key later."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "DOWNSTREAM_DOWN"
    default_disposition = NOT_SENT
    default_retry_after_s = 1.0


class TimedOut(ConnectorError):
    """The system did not answer in time; whether it has the request is not known."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "TIMEOUT"


class Exhausted(ConnectorError):
    """A limit of the connector is reached (calls in flight, size of an event)."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "LIMIT_REACHED"
    default_disposition = NOT_SENT


class Corrupted(ConnectorError):
    """What was read is not what its hash says."""

    code = grpc.StatusCode.DATA_LOSS
    default_reason = "HASH_MISMATCH"


class NotOffered(ConnectorError):
    """The connector does not have this capability."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "NOT_OFFERED"
    default_disposition = NOT_SENT


def of_journal(error: JournalError) -> ConnectorError:
    """The error of the wire for what a journal refuses."""
    match error:
        case KeyReused():
            return Conflict(str(error), reason=error.reason)
        case TooLarge():
            return Exhausted(str(error), reason=error.reason)
        case _:
            return Refused(str(error), reason=error.reason)


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | common.SubmissionDetail,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
