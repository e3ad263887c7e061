"""What a failed call raises: FireFly's code, text and HTTP status beside gRPC's status."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

DOMAIN: Final = "photinus"
_CODED: Final = re.compile(r"(FF\d{5}): (.*)", re.DOTALL)


class PhotinusError(Exception):
    """A call failed. `str()` is the coded text: `FF10109: Not found`.

    Attributes:
        code: FireFly's code, `FF10109`; empty when the failure did not come from a core (no connection, a deadline
            of the caller's own).
        text: The text behind the code.
        http_status: Status that REST answers with; 0 when it is not known.
        grpc_status: gRPC's code.
    """

    def __init__(
        self, code: str, text: str, http_status: int, grpc_status: grpc.StatusCode
    ) -> None:
        super().__init__(f"{code}: {text}" if code else text)
        self.code = code
        self.text = text
        self.http_status = http_status
        self.grpc_status = grpc_status

    @property
    def is_unavailable(self) -> bool:
        """True when no core was reached, or it is shutting down: nothing was done, another try may succeed."""
        return self.grpc_status is grpc.StatusCode.UNAVAILABLE


def from_text(coded: str, grpc_status: grpc.StatusCode, http_status: int = 0) -> PhotinusError:
    """Makes an error of a coded text."""
    found = _CODED.fullmatch(coded)
    code, text = found.groups() if found else ("", coded)
    return PhotinusError(code, text, http_status, grpc_status)


def translate(failure: grpc.aio.AioRpcError) -> PhotinusError:
    """Makes an error of what gRPC raises."""
    details = failure.details() or failure.code().name
    status = rpc_status.from_call(failure)  # type: ignore[arg-type]  # the stubs know blocking calls only
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            http_status = info.metadata.get("http_status", "0")
            return from_text(
                details, failure.code(), int(http_status) if http_status.isdigit() else 0
            )
    return from_text(details, failure.code())


class TranslatingInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Has every unary call raise PhotinusError."""

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Awaits the answer, so that the failure is seen here."""
        call = await continuation(client_call_details, request)
        try:
            return await call
        except grpc.aio.AioRpcError as failure:
            raise translate(failure) from failure
