"""The errors of the core: one root, a small tree, every instance with a code of the catalogue.

The class says what kind of failure it is, and with it the gRPC code and whether trying again can
help; the code says which one, and with it the text and the HTTP status (`catalogue`). Errors of
libraries are translated into these where they are caught; `rpc` maps them to statuses in one place.

    raise Rejected("FF00140", "header.tag")
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from photinus_core.model.catalogue import lookup

TEXT_CHARS_MAX: Final = 2048
"""Longest text of an error; the rest is cut, as FireFly does."""


class GrpcCode(StrEnum):
    """Names of the gRPC status codes that our errors map to."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Retry(StrEnum):
    """Whether sending the same request again can help."""

    NEVER = "never"
    LATER = "later"
    """Nothing was done; the same request may succeed later."""
    UNKNOWN = "unknown"
    """It may have been done: look first, or repeat with the same idempotency key."""


class PhotinusError(Exception):
    """Root of all errors that the core raises on purpose.

    `str()` gives what FireFly's clients read: `FF10109: Not found`. A cause that users should see
    is passed as an argument of the text: codes then chain as FireFly's do
    (`FF10206: Invalid author specified: FF10277: …`).

    Attributes:
        code: Code of the catalogue, `FFnnnnn`.
        text: The catalogue's text with the arguments filled in, cut at `TEXT_CHARS_MAX`.
        http_status: Status of the REST answer.
    """

    grpc_code: ClassVar[GrpcCode] = GrpcCode.INTERNAL
    retry: ClassVar[Retry] = Retry.NEVER

    def __init__(self, code: str, *args: object) -> None:
        super().__init__(code, *args)
        entry = lookup(code)
        self.code = code
        self.text = entry.render(args)[:TEXT_CHARS_MAX]
        self.http_status = entry.http_status

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class Rejected(PhotinusError):
    """The request is wrong and stays wrong."""

    grpc_code = GrpcCode.INVALID_ARGUMENT


class Unauthenticated(PhotinusError):
    """The caller did not prove who it is.

    Attributes:
        challenge: How to, as HTTP's `WWW-Authenticate` says it; empty when that is not known.
    """

    grpc_code = GrpcCode.UNAUTHENTICATED

    def __init__(self, code: str, *args: object) -> None:
        super().__init__(code, *args)
        self.challenge = ""


class Forbidden(PhotinusError):
    """The caller is known and may not do this."""

    grpc_code = GrpcCode.PERMISSION_DENIED


class NotFound(PhotinusError):
    """What the request names is not here."""

    grpc_code = GrpcCode.NOT_FOUND


class Conflict(PhotinusError):
    """Something that exists stands against it: a name, an id or an idempotency key is taken."""

    grpc_code = GrpcCode.ALREADY_EXISTS


class NotReady(PhotinusError):
    """The request is right but comes too early: a namespace is starting, a pool not active."""

    grpc_code = GrpcCode.FAILED_PRECONDITION
    retry = Retry.LATER


class Exhausted(PhotinusError):
    """A limit of this member is reached: connections, what a peer may leave here."""

    grpc_code = GrpcCode.RESOURCE_EXHAUSTED
    retry = Retry.LATER


class Unavailable(PhotinusError):
    """Something this needs is away: the database, a connector. Nothing was done."""

    grpc_code = GrpcCode.UNAVAILABLE
    retry = Retry.LATER


class CommitUnknown(Unavailable):
    """The database went away while it committed: what was asked for may have been stored."""

    retry = Retry.UNKNOWN


class TimedOut(PhotinusError):
    """The time was up before the end was known."""

    grpc_code = GrpcCode.DEADLINE_EXCEEDED
    retry = Retry.UNKNOWN


class Deposed(PhotinusError):
    """A leader's work came too late: another leads now. The work must stop, not be repeated."""

    grpc_code = GrpcCode.ABORTED


class InternalBug(PhotinusError):
    """A condition that our code holds impossible."""

    grpc_code = GrpcCode.INTERNAL
