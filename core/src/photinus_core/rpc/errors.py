"""The one place where the core's errors become gRPC statuses.

Every failed call carries `google.rpc.ErrorInfo{reason: "FF10109", domain: "photinus", metadata:
{http_status}}`, from which the gateway makes FireFly's `{"error": "FF10109: …"}`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import ServerInterceptor, ServicerContext

from photinus_core.model.errors import (
    InternalBug,
    PhotinusError,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from photinus_core.ports.connectors import ConnectorFailure, Disposition

logger = logging.getLogger(__name__)

DOMAIN: Final = "photinus"
DETAILS_KEY: Final = "grpc-status-details-bin"
HTTP_CODE_KEY: Final = "x-http-code"
CHALLENGE_KEY: Final = "www_authenticate"
"""In an ErrorInfo: what HTTP's `WWW-Authenticate` is to say."""
STATUS_CHARS_MAX: Final = 4096
"""Longest text of a status once it is percent-encoded. It travels twice in the trailer, of which clients take 8 KiB."""

Context: TypeAlias = "ServicerContext[Any, Any]"


def translated(failure: Exception) -> PhotinusError:
    """Gives the coded error for anything a call may raise; what nobody expected is a bug."""
    if isinstance(failure, PhotinusError):
        return failure
    if isinstance(failure, ConnectorFailure):
        if failure.disposition is Disposition.NOT_SENT and failure.retry_after_s is not None:
            return Unavailable("FF19200", failure.reason, str(failure))
        return Unavailable(
            "FF19203", failure.details.get("connector", "?"), failure.reason, str(failure)
        )
    if isinstance(failure, TimeoutError):
        return TimedOut("FF00166")
    if isinstance(failure, ExceptionGroup):
        # A task of the call failed; the first failure that means something is the answer.
        parts = [translated(part) for part in failure.exceptions]
        return next((p for p in parts if not isinstance(p, InternalBug)), parts[0])
    logger.error("unexpected error in a call", exc_info=failure)
    return InternalBug("FF19000", type(failure).__name__)


def fitting(text: str) -> str:
    """Cuts a text to what clients take in a status: beyond, they see a broken stream instead."""
    size = 0
    for at, character in enumerate(text):
        is_plain = " " <= character <= "~" and character != "%"
        size += 1 if is_plain else 3 * len(character.encode(errors="replace"))
        if size > STATUS_CHARS_MAX:
            return text[:at]
    return text


async def abort(context: Context, failure: Exception) -> NoReturn:
    """Ends a call with an error."""
    error = translated(failure)
    code = grpc.StatusCode[error.grpc_code.value]
    metadata = {"http_status": str(error.http_status)}
    if isinstance(error, Unauthenticated) and error.challenge:
        metadata[CHALLENGE_KEY] = error.challenge
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=metadata)
    packed = AnyMessage()
    packed.Pack(info)
    text = fitting(str(error))
    status = status_pb2.Status(code=code.value[0], message=text, details=[packed])
    await context.abort(code, text, ((DETAILS_KEY, status.SerializeToString()),))


def set_http_status(context: Context, status: int) -> None:
    """Says which success status REST is to answer with, where it is not 200."""
    context.set_trailing_metadata(((HTTP_CODE_KEY, str(status)),))


Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Method = Callable[[Any, Context], Any]


class ErrorInterceptor(ServerInterceptor):
    """Maps what servicers raise. Cancellation and gRPC's own aborts pass through."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = f"{CARDINALITY[handler.request_streaming]}_{CARDINALITY[handler.response_streaming]}"
        method: Method = getattr(handler, name)
        # A method that streams by writing to its context, as health's Watch, is awaited like a unary one.
        yields = handler.response_streaming and not inspect.iscoroutinefunction(method)
        wrapped = _stream(method) if yields else _unary(method)
        make = getattr(grpc, f"{name}_rpc_method_handler")
        made: Handler = make(wrapped, handler.request_deserializer, handler.response_serializer)
        return made


CARDINALITY: Final = {True: "stream", False: "unary"}


def _unary(method: Method) -> Method:
    async def call(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as failure:  # noqa: BLE001 - the one place that maps every failure
            await abort(context, failure)

    return call


def _stream(method: Method) -> Method:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in method(request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as failure:  # noqa: BLE001 - the one place that maps every failure
            await abort(context, failure)

    return call
