"""The process and the channel behind one instance: started, dialled, drained and ended here.

It does what it is told and decides nothing; see `supervisor` for when, and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import connector_pb2_grpc

from photinus_core.host.channels import Target, configured_target, launched_target
from photinus_core.host.connection import Connection
from photinus_core.host.instances import InstanceConfig
from photinus_core.host.process import ChildProcess
from photinus_core.host.secrets import Redactor
from photinus_core.ports.connectors import ConnectorFailure
from photinus_core.ports.tasks import Background

log: Final = logging.getLogger(__name__)

DRAIN_S: Final = 5.0
"""For calls in flight, and again for the connector's own drain."""
ENDING_S: Final = 0.1


class Link:
    """At most one process and one connection.

    Attributes:
        child: The launched process, if there is one.
        connection: The connection, if there is one; whether calls may use it is not known here.
        found: Where the connector was discovered; empty when it was not.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.child: ChildProcess | None = None
        self.connection: Connection | None = None
        self.found = ""

    def address(self, config: InstanceConfig) -> str:
        """Where it is, or what it is started with."""
        if self.child is not None:
            return self.child.address
        return config.address or self.found or " ".join(config.launch)

    async def launch(
        self, config: InstanceConfig, directory: Path, work: Background
    ) -> ChildProcess:
        """Starts a process; the caller takes it as `child`, or ends it.

        Raises:
            Unavailable: FF19206, FF19211: it cannot be started, or is no connector.
        """
        return await ChildProcess.launch(
            config.name, config.launch, directory, work, self._redactor
        )

    async def dial(self, config: InstanceConfig, on_trouble: Callable[[str], None]) -> Connection:
        """A new connection, in the place of the former one.

        Raises:
            Rejected: FF19209, FF19212, FF19214: address or certificates cannot be used.
        """
        target = await asyncio.to_thread(self._target, config)
        await self.hang_up("dialled anew")
        self.connection = Connection(
            config.name, target, config.instance_name, self._redactor, on_trouble
        )
        return self.connection

    def _target(self, config: InstanceConfig) -> Target:
        child = self.child
        if child is None:
            return configured_target(config, self.found if config.discover else "")
        return launched_target(
            child.address, child.tls, serves_tls=child.serves_tls, insecure=config.insecure
        )

    async def hang_up(self, reason: str) -> None:
        """Ends the connection; calls in flight end with the reason. Idempotent."""
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.aclose(reason)

    async def end_child(self, *, at_once: bool = False) -> str:
        """Ends the process; gives how it ended, when it did so by itself. Idempotent."""
        child, self.child = self.child, None
        if child is None:
            return ""
        if not at_once:
            # A connection is often lost because its process ends: then that is the reason to tell.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING_S):
                    await child.wait()
        outcome = child.outcome() if child.ended_by_itself else ""
        await child.end(at_once=at_once)
        return outcome

    async def drain(self, name: str) -> None:
        """Lets calls in flight finish; a process of our own is told to finish, too."""
        connection = self.connection
        if connection is None:
            return
        await connection.finish(DRAIN_S)
        if self.child is not None:
            stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
            try:
                request = connector.DrainRequest(grace_s=int(DRAIN_S))
                await connection.unary(stub.Drain, request, DRAIN_S + 1)
            except ConnectorFailure as failure:
                log.warning("connector %s did not drain and is ended: %s", name, failure)
        await self.hang_up("the core is being stopped")
