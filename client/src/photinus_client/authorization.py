"""Who calls: credentials that go with every call, streams included."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import grpc

Authorization = str | Callable[[], str]
"""Value of `authorization`, or what gives it at each call; empty for none."""

_KEY: Final = "authorization"


def basic(user: str, password: str) -> str:
    """The authorization of a user with a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    """The authorization of the bearer of a token."""
    return f"Bearer {token}"


def authorizing(authorization: Authorization) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors for a channel that add it to each call; none when there is nothing to add."""
    if not authorization:
        return []
    return [
        kind(authorization) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    ]


class _Adding:
    """Adds to a call's metadata. gRPC wants one class for each of the four kinds of calls."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def _with(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        given = self._authorization
        text = given if isinstance(given, str) else given()
        if not text:
            return details
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add(_KEY, text)
        return grpc.aio.ClientCallDetails(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
        )


class _UnaryUnary(_Adding, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self._with(client_call_details), request)


class _UnaryStream(_Adding, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self._with(client_call_details), request)


class _StreamUnary(_Adding, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(self._with(client_call_details), request_iterator)


class _StreamStream(_Adding, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(self._with(client_call_details), request_iterator)
