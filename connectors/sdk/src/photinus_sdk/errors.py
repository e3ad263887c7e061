"""What a connector may say when a call cannot be done, and its form on the wire.

One class per decision the core takes. A class fixes the gRPC code and how far the request came; the
reason is refined by the author. Anything else an author's code raises is a bug: it reaches the core
as INTERNAL / MAYBE_SENT with an id to look up in the connector's log, and without the exception's
text.
"""

from datetime import timedelta
from typing import Any, ClassVar

from google.protobuf.any import pack
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode as Code
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

    What a call leaves out its class has; a class of your own gives it in its statement:
    `class Locked(Refused, reason="LOCKED")`.

    Args:
        message: What happened and what to do, for an operator. Cut at 2 KiB on the wire.
        reason: UPPER_SNAKE_CASE, stable.
        disposition: How far the request came.
        retry_after_s: When waiting helps, how long.
        metadata: Further facts for the core (`revert="0x…"`); small strings, never secrets.
    """

    code: ClassVar[Code] = Code.INTERNAL
    reason: str = "INTERNAL"
    disposition: common.Disposition.ValueType = MAYBE_SENT
    retry_after_s: float | None = None

    def __init_subclass__(cls, **defaults: Any) -> None:
        super().__init_subclass__()
        for name, value in defaults.items():
            setattr(cls, name, value)

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
        self.message, self.metadata = message, metadata
        given = {"reason": reason, "disposition": disposition, "retry_after_s": retry_after_s}
        vars(self).update({name: value for name, value in given.items() if value not in {None, ""}})

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
        details = [pack(info), pack(common.SubmissionDetail(disposition=self.disposition))]
        if self.retry_after_s is not None:
            delay = timedelta(seconds=self.retry_after_s)
            details.insert(1, pack(error_details_pb2.RetryInfo(retry_delay=delay)))
        code: int = self.code.value[0]
        return status_pb2.Status(code=code, message=message, details=details)

    @property
    def headline(self) -> str:
        """The message as gRPC sends it a second time, as text: shorter, as it may grow threefold."""
        return cut(self.message, HEADLINE_BYTES_MAX)


class NothingSent(ConnectorError, disposition=NOT_SENT):
    """What certainly had no effect; the base of what says so with a code of its own."""


class Rejected(NothingSent, code=Code.INVALID_ARGUMENT, reason="INVALID_INPUTS"):
    """The inputs do not fit and never will: the core fails the operation."""


class NotFound(NothingSent, code=Code.NOT_FOUND, reason="NOT_FOUND"):
    """What the call names is not known."""


class Conflict(NothingSent, code=Code.ALREADY_EXISTS, reason="CONFLICT"):
    """Something else already has the name, e.g. the idempotency key."""


class Refused(NothingSent, code=Code.FAILED_PRECONDITION, reason="REFUSED"):
    """The system, as it stands, does not allow it (reverted, no funds, stale epoch)."""


class Reverted(Refused, reason="TRANSACTION_REVERTED"):
    """The ledger would revert the transaction; give `revert=` with the decoded reason."""


class InsufficientFunds(Refused, reason="INSUFFICIENT_FUNDS"):
    """The signer cannot pay."""


class Unavailable(NothingSent, code=Code.UNAVAILABLE, reason="DOWNSTREAM_DOWN", retry_after_s=1.0):
    """The system behind the connector is away; the core tries the same key later."""


class TimedOut(ConnectorError, code=Code.DEADLINE_EXCEEDED, reason="TIMEOUT"):
    """The system did not answer in time; whether it has the request is not known."""


class Exhausted(NothingSent, code=Code.RESOURCE_EXHAUSTED, reason="LIMIT_REACHED"):
    """A limit of the connector is reached (calls in flight, size of an event)."""


class Corrupted(ConnectorError, code=Code.DATA_LOSS, reason="HASH_MISMATCH"):
    """What was read is not what its hash says."""


class NotOffered(NothingSent, code=Code.UNIMPLEMENTED, reason="NOT_OFFERED"):
    """The connector does not have this capability."""


def of_journal(error: JournalError) -> ConnectorError:
    """The error of the wire for what a journal refuses."""
    codes = {KeyReused: Conflict, TooLarge: Exhausted}
    return codes.get(type(error), Refused)(str(error), reason=error.reason)
