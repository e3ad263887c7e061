"""Signs of life: the answer to a ping, and what a connector says of its own state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import connector_pb2_grpc

from photinus_core.host.connection import Connection
from photinus_core.host.failures import CONNECTOR_LOST, TIMEOUT
from photinus_core.ports.connectors import ConnectorFailure

PING_CALL_S: Final = 60.0
"""Far beyond every silence that is borne: the life cycle alone decides what a late answer means."""
WATCH_AGAIN_S: Final = 1.0


async def ping(connection: Connection) -> bool:
    """Asks the connector's own loop, as HTTP/2 keepalive is answered by a thread that never hangs.

    Returns:
        Whether there was any answer; one that it has no health service is one, too.
    """
    stub: Any = connection.stub(health_pb2_grpc.HealthStub)
    try:
        await connection.unary(stub.Check, health_pb2.HealthCheckRequest(), PING_CALL_S)
    except ConnectorFailure as failure:
        return failure.reason not in {TIMEOUT, CONNECTOR_LOST}
    return True


async def statuses(connection: Connection) -> AsyncGenerator[connector.WatchStatusResponse, None]:
    """What the connector says of its state, until the connection is over."""
    stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
    while not connection.closed.is_set():
        call = connection.stream(stub.WatchStatus, connector.WatchStatusRequest())
        try:
            while (status := await connection.read(call)) is not None:
                yield status
        except ConnectorFailure as failure:
            if failure.details.get("code") == grpc.StatusCode.UNIMPLEMENTED.name:
                return
        finally:
            call.cancel()
        await asyncio.sleep(WATCH_AGAIN_S)
