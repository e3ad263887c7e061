"""What is noted of every call of the API: whom it is for, how long it took, and how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from grpc.aio import ServerInterceptor, ServicerContext

from photinus_core.ports import tracing

Context: TypeAlias = "ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Method = Callable[[Any, Context], Any]

Counted = Callable[[str, str, float], None]
"""Told of each answered call that is no stream: service and method, code, seconds."""

log: Final = logging.getLogger(__name__)

QUIET: Final = ("grpc.health.v1.", "grpc.reflection.")
"""Services of which no spans are recorded, and that are not logged."""


class ObservingInterceptor(ServerInterceptor):
    """Stands outside of all others, so that it sees what clients see.

    Args:
        counted: Counts; None where nobody does.
    """

    def __init__(self, counted: Counted | None = None) -> None:
        self._counted = counted

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = str(handler_call_details.method).lstrip("/")
        metadata = handler_call_details.invocation_metadata
        tracing.enter([(key, value) for key, value in metadata or ()])
        if handler.request_streaming or handler.response_streaming:
            return _with_span(handler, name)
        method: Any = handler.unary_unary
        wrapped = self._unary(method, name)
        return grpc.unary_unary_rpc_method_handler(
            wrapped, handler.request_deserializer, handler.response_serializer
        )

    def _unary(self, method: Method, name: str) -> Method:
        counted = self._counted

        async def call(request: Any, context: Context) -> Any:
            began, code = time.perf_counter(), ""
            try:
                if name.startswith(QUIET):
                    return await method(request, context)
                with tracing.tracer().span(name, kind="server", attributes=_attributes()):
                    return await method(request, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED.name
                raise
            finally:
                seconds = time.perf_counter() - began
                if counted is not None:
                    counted(name, code or _code(context), seconds)
                if log.isEnabledFor(logging.DEBUG) and not name.startswith(QUIET):
                    log.debug("%s: %s after %.4f s", name, code or _code(context), seconds)

        return call


def _with_span(handler: Handler, name: str) -> Handler:
    """A stream has a span only where it answers once: others last as long as their client."""
    if handler.response_streaming or name.startswith(QUIET):
        return handler
    method: Any = handler.stream_unary

    async def call(requests: AsyncIterator[Any], context: Context) -> Any:
        with tracing.tracer().span(name, kind="server", attributes=_attributes()):
            log.debug("%s begins", name)
            return await method(requests, context)

    return grpc.stream_unary_rpc_method_handler(
        call, handler.request_deserializer, handler.response_serializer
    )


def _attributes() -> tracing.Attributes:
    request_id = tracing.origin().request_id
    return {"request": request_id} if request_id else {}


def _code(context: Context) -> str:
    """How a call ended, as gRPC calls it."""
    code: Any = context.code()
    if code is None:
        return grpc.StatusCode.OK.name
    return _CODES.get(code, "UNKNOWN") if isinstance(code, int) else str(code.name)


_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
