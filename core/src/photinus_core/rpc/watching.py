"""One WatchChanges stream: what a client wants to hear of, and what it is told.

Starts are read by one task; what is told goes through the client's bounded queue, so a client that
does not read loses changes and nothing else. A start is answered before the next one is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from photinus.api.v1 import change_pb2, event_pb2
from photinus.api.v1 import spi_service_pb2 as pb

from photinus_core.access.roles import Need, Role, Scope
from photinus_core.events.changes import ChangeQueue
from photinus_core.model.changes import Change, ChangeFilter, ChangeKind, Dropped
from photinus_core.model.errors import (
    Forbidden,
    PhotinusError,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from photinus_core.ports.tasks import Background
from photinus_core.rpc import convert
from photinus_core.rpc.access import EVERYBODY, Calling

log: Final = logging.getLogger(__name__)

RECHECK_S: Final = 30.0
"""How often a client proves itself again, by what it came with."""
NEED: Final = Need(Scope.SPI, Role.OPERATOR)


class ChangeStream:
    """A client's stream.

    Args:
        queue: Where its changes come from.
        name: Who it is, for the log.
        calling: By which right it reads.
    """

    def __init__(self, queue: ChangeQueue, name: str, calling: Calling = EVERYBODY) -> None:
        self._queue = queue
        self._name = name
        self._calling = calling
        self._out: asyncio.Queue[pb.WatchChangesResponse | None] = asyncio.Queue(1)
        self._closing = asyncio.Event()
        self._failure: PhotinusError | None = None

    def close(self, why: PhotinusError | None = None) -> None:
        """Ends the stream: the client is told to try another replica, or why it is ended."""
        self._failure = self._failure or why or Unavailable("FF19011")
        self._closing.set()

    async def run(
        self, requests: AsyncIterator[pb.WatchChangesRequest]
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        """Answers a client until it leaves, errs, or the replica ends.

        Raises:
            Unavailable: FF19011, this replica shuts down.
            Unauthenticated, Forbidden: the client may not have it any more.
        """
        async with Background(f"changes for {self._name}") as work:
            work.start("reader", self._read(requests))
            work.start("changes", self._tell())
            work.start("access", self._watch_access())
            work.start("closing", self._watch_closing())
            while (response := await self._out.get()) is not None:
                yield response
        if self._failure is not None:
            raise self._failure

    async def _tell(self) -> None:
        while True:
            change = await self._queue.take()
            await self._out.put(pb.WatchChangesResponse(change=shown(change)))

    async def _watch_closing(self) -> None:
        await self._closing.wait()
        await self._out.put(None)

    async def _read(self, requests: AsyncIterator[pb.WatchChangesRequest]) -> None:
        async for request in requests:
            try:
                self._start(request)
            except PhotinusError as failure:
                text = str(Rejected("FF10176", str(failure)))
                error = event_pb2.ProtocolError(error=text, closes=True)
                await self._out.put(pb.WatchChangesResponse(protocol_error=error))
                break
            await self._out.put(pb.WatchChangesResponse(started=change_pb2.ChangeStarted()))
        await self._out.put(None)

    def _start(self, request: pb.WatchChangesRequest) -> None:
        if request.WhichOneof("frame") != "start":
            raise Rejected("FF10177", "")
        start = request.start
        self._queue.want(
            ChangeFilter.read(start.collections, start.filter.types, start.filter.namespaces)
        )

    async def _watch_access(self) -> None:
        """Ends the stream of a client that may not have it any more."""
        while self._calling.gate is not None:
            left_s = self._calling.expires_in_s()
            await asyncio.sleep(RECHECK_S if left_s is None else min(RECHECK_S, max(left_s, 1.0)))
            try:
                self._calling = await self._calling.renewed()
                self._calling.check(NEED)
            except (Unauthenticated, Forbidden) as failure:
                self.close(failure)
                return
            except PhotinusError as failure:
                log.info("%s: its client cannot be looked at again: %s", self._name, failure)


def shown(change: Change | Dropped) -> change_pb2.ChangeEvent:
    """A change as clients get it."""
    if isinstance(change, Dropped):
        return change_pb2.ChangeEvent(
            type=ChangeKind.DROPPED,
            dropped_since=convert.timestamp(change.since),
            dropped_count=change.count or None,
        )
    return change_pb2.ChangeEvent(
        collection=change.collection,
        type=change.kind,
        namespace=change.namespace,
        id=change.id,
        hash=change.hash,
        sequence=change.sequence,
    )
