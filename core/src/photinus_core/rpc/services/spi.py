"""SpiService: what operators and components beside the node do, across its namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import grpc
from photinus.api.v1 import spi_pb2, spi_service_pb2_grpc
from photinus.api.v1 import spi_service_pb2 as pb

from photinus_core.model import canonical_json, names
from photinus_core.model.errors import NotFound, Rejected, Unavailable
from photinus_core.model.ids import Nanoseconds, Uuid, parse_uuid
from photinus_core.model.ledger import OperationStatus
from photinus_core.namespaces.node import Node
from photinus_core.ports.store import OperationChange, Table
from photinus_core.rpc import convert
from photinus_core.rpc.access import current
from photinus_core.rpc.errors import Context, set_http_status
from photinus_core.rpc.leader_calls import AWAY, PASSED_ON_KEY, LeaderCalls, relay
from photinus_core.rpc.queries import read_query
from photinus_core.rpc.services.base import Servicer, one_by_id, total_of
from photinus_core.rpc.services.namespaces import shown as shown_namespace
from photinus_core.rpc.watching import ChangeStream

RESET_S: Final = 60.0
"""Longest wait for another replica to have read its configuration, unless the caller has less."""

_STATUSES: Final = {status.lower(): status for status in OperationStatus}

Reset = Callable[[], Awaitable[None]]
"""Reads the configuration of this replica again; raises what is wrong with it."""


class SpiServicer(Servicer, spi_service_pb2_grpc.SpiServiceServicer):
    """Serves the service provider interface.

    Args:
        node: The node.
        replica_calls: Connections to other replicas.
    """

    def __init__(self, node: Node, replica_calls: LeaderCalls) -> None:
        super().__init__(node)
        self.reset: Reset | None = None
        """Set by who follows the configuration; None when there is no file."""
        self._replica_calls = replica_calls
        self._streams: list[ChangeStream] = []
        self._closing = False

    def close_streams(self) -> None:
        """Ends all streams, and those that come: clients are told to try another replica."""
        self._closing = True
        for stream in tuple(self._streams):
            stream.close()

    # Namespaces

    async def ListNodeNamespaces(
        self, request: pb.ListNodeNamespacesRequest, context: Context
    ) -> pb.ListNodeNamespacesResponse:
        items = [
            shown_namespace(runtime, await runtime.state())
            for runtime in self.node.namespaces()
            if runtime.is_readable or request.include_initializing
        ]
        return pb.ListNodeNamespacesResponse(items=items)

    async def GetNodeNamespace(
        self, request: pb.GetNodeNamespaceRequest, context: Context
    ) -> pb.GetNodeNamespaceResponse:
        runtime = self.node.readable_namespace(_named(request.name))
        shown = shown_namespace(runtime, await runtime.state())
        return pb.GetNodeNamespaceResponse(namespace=shown)

    # Operations

    async def ListNodeOperations(
        self, request: pb.ListNodeOperationsRequest, context: Context
    ) -> pb.ListNodeOperationsResponse:
        runtime = self.node.readable_namespace(_named(request.name))
        asked = read_query(Table.OPERATIONS, request.query, runtime.settings.queries)
        async with runtime.reader() as reader:
            page = await reader.query(Table.OPERATIONS, asked)
        items = [convert.operation(o) for o in page.items]
        return pb.ListNodeOperationsResponse(items=items, **total_of(page))

    async def GetNodeOperation(
        self, request: pb.GetNodeOperationRequest, context: Context
    ) -> pb.GetNodeOperationResponse:
        namespace, key = _split(request.id)
        runtime = self.node.readable_namespace(namespace)
        found = await one_by_id(runtime, key, lambda r, ids: r.operations(ids), "FF00164")
        return pb.GetNodeOperationResponse(operation=convert.operation(found))

    async def UpdateNodeOperation(
        self, request: pb.UpdateNodeOperationRequest, context: Context
    ) -> pb.UpdateNodeOperationResponse:
        namespace, key = _split(request.id)
        runtime = self.node.namespace(namespace)
        change = _change(parse_uuid(key), request.update, runtime.scope.clock.now())
        changed = await runtime.update_operation(change)
        return pb.UpdateNodeOperationResponse(operation=convert.operation(changed))

    # Configuration

    async def ResetNode(
        self, request: pb.ResetNodeRequest, context: Context
    ) -> pb.ResetNodeResponse:
        if self.reset is None:
            raise Rejected("FF19052")
        metadata = context.invocation_metadata() or ()
        passed_on = any(key == PASSED_ON_KEY for key, _ in metadata)
        await self.reset()
        if not passed_on:
            await self._reset_others(context)
        set_http_status(context, 204)
        return pb.ResetNodeResponse()

    async def _reset_others(self, context: Context) -> None:
        """Has the other replicas do the same, one after the other: some always serve."""
        path = f"/{pb.DESCRIPTOR.services_by_name['SpiService'].full_name}/ResetNode"
        for name, address in await self._others():
            wait_s = _patience_s(context.time_remaining())
            try:
                await self._replica_calls.call(
                    address, path, pb.ResetNodeRequest(), pb.ResetNodeResponse, wait_s
                )
            except grpc.aio.AioRpcError as failure:
                if failure.code() in AWAY:
                    raise Unavailable("FF19051", name, failure.details() or "") from failure
                await relay(context, failure)

    async def _others(self) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for cluster in await self.node.cluster():
            found |= {r.address: r.name for r in cluster.replicas if not r.is_self and r.address}
        return sorted((name, address) for address, name in found.items())

    # Changes

    async def WatchChanges(
        self, requests: AsyncIterator[pb.WatchChangesRequest], context: Context
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        if self._closing:
            raise Unavailable("FF19011")
        name = context.peer()
        with self.node.changes.listen(name) as queue:
            stream = ChangeStream(queue, name, current())
            self._streams.append(stream)
            try:
                async for response in stream.run(requests):
                    yield response
            finally:
                self._streams.remove(stream)


def _patience_s(left_s: float | None) -> float:
    return RESET_S if left_s is None else max(0.0, left_s)


def _named(name: str) -> str:
    """The name of a namespace that must be given: the SPI has no default one.

    Raises:
        NotFound: FF10436.
    """
    if not name:
        raise NotFound("FF10436", name)
    return name


def _split(text: str) -> tuple[str, str]:
    """Reads `<namespace>:<id>`; gives both, the id as it was written.

    Raises:
        Rejected: FF10411, the namespace is missing.
    """
    namespace, colon, key = text.partition(":")
    if not (namespace and colon) or ":" in key:
        raise Rejected("FF10411", text)
    return namespace, key


def _change(operation: Uuid, update: spi_pb2.OperationUpdate, now: Nanoseconds) -> OperationChange:
    """Reads what somebody says of an operation.

    Raises:
        Rejected: FF19002, no such status, or the output is no JSON object; FF19001, no JSON.
    """
    status = _STATUSES.get(update.status.lower())
    if status is None:
        known = ", ".join(OperationStatus)
        raise Rejected("FF19002", "status", f"'{update.status}' is not one of {known}")
    return OperationChange(
        operation,
        status,
        now,
        output=_object(update.output),
        error=names.check_text(update.error, "error") if update.HasField("error") else None,
    )


def _object(text: str) -> str | None:
    """Reads a JSON object as FireFly stores one: compact, in the order of its keys."""
    if text in ("", "null"):
        return None
    try:
        compact = canonical_json.compact(text)
    except canonical_json.InvalidJsonError as failure:
        raise Rejected("FF19001", failure) from failure
    if not compact.startswith("{"):
        raise Rejected("FF19002", "output", "must be an object")
    return compact
