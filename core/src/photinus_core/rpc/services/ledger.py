"""Services of what stands between messages and the chain.

Batches, pins, groups, transactions, operations, chain events.
"""

from __future__ import annotations

from photinus.api.v1 import batch_service_pb2 as batch_pb
from photinus.api.v1 import (
    batch_service_pb2_grpc,
    blockchain_event_service_pb2_grpc,
    group_service_pb2_grpc,
    operation_service_pb2_grpc,
    pin_service_pb2_grpc,
    transaction_service_pb2_grpc,
)
from photinus.api.v1 import blockchain_event_service_pb2 as event_pb
from photinus.api.v1 import group_service_pb2 as group_pb
from photinus.api.v1 import operation_service_pb2 as operation_pb
from photinus.api.v1 import pin_pb2 as pin_model
from photinus.api.v1 import pin_service_pb2 as pin_pb
from photinus.api.v1 import transaction_service_pb2 as transaction_pb

from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import Uuid, parse_hash, parse_uuid
from photinus_core.model.ledger import Operation, Transaction
from photinus_core.model.query import FilterBuilder
from photinus_core.namespaces.node import Node
from photinus_core.ports.store import Table
from photinus_core.rpc import convert
from photinus_core.rpc.errors import Context, set_http_status
from photinus_core.rpc.leader_calls import LeaderCalls, leader_knows
from photinus_core.rpc.services.base import NamespacedRequest, Servicer, one_by_id, total_of


class BatchServicer(Servicer, batch_service_pb2_grpc.BatchServiceServicer):
    """Serves batches."""

    def __init__(self, node: Node, leader_calls: LeaderCalls) -> None:
        super().__init__(node)
        self.leader_calls = leader_calls

    async def ListBatches(
        self, request: batch_pb.ListBatchesRequest, context: Context
    ) -> batch_pb.ListBatchesResponse:
        page = await self.page(request, request.query, Table.BATCHES)
        return batch_pb.ListBatchesResponse(
            items=[convert.batch(b) for b in page.items], **total_of(page)
        )

    async def GetBatch(
        self, request: batch_pb.GetBatchRequest, context: Context
    ) -> batch_pb.GetBatchResponse:
        found = await one_by_id(
            self.namespace(request), request.id, lambda r, ids: r.batches(ids), "FF00164"
        )
        return batch_pb.GetBatchResponse(batch=convert.batch(found))

    @leader_knows(batch_pb.DESCRIPTOR.services_by_name["BatchService"], status=204)
    async def CancelBatch(
        self, request: batch_pb.CancelBatchRequest, context: Context
    ) -> batch_pb.CancelBatchResponse:
        namespace = self.namespace(request)
        namespace.require_multiparty()
        found = await one_by_id(namespace, request.id, lambda r, ids: r.batches(ids), "FF10109")
        await namespace.cancel_batch(found)
        set_http_status(context, 204)
        return batch_pb.CancelBatchResponse()


class PinServicer(Servicer, pin_service_pb2_grpc.PinServiceServicer):
    """Serves pins."""

    async def ListPins(
        self, request: pin_pb.ListPinsRequest, context: Context
    ) -> pin_pb.ListPinsResponse:
        page = await self.page(request, request.query, Table.PINS)
        return pin_pb.ListPinsResponse(items=[convert.pin(p) for p in page.items], **total_of(page))

    async def ListNextPins(
        self, request: pin_pb.ListNextPinsRequest, context: Context
    ) -> pin_pb.ListNextPinsResponse:
        page = await self.page(request, request.query, Table.NEXT_PINS)
        return pin_pb.ListNextPinsResponse(
            items=[convert.next_pin(p) for p in page.items], **total_of(page)
        )

    async def RewindPins(
        self, request: pin_pb.RewindPinsRequest, context: Context
    ) -> pin_pb.RewindPinsResponse:
        namespace, rewind = self.namespace(request), request.rewind
        namespace.require_multiparty()
        pins = FilterBuilder(Table.PINS)
        if rewind.batch:
            where = pins.equal("batch", parse_uuid(rewind.batch))
        elif rewind.sequence:
            where = pins.equal("sequence", rewind.sequence)
        else:
            raise Rejected("FF19002", "sequence", "give the sequence of a pin, or a batch")
        async with namespace.reader() as reader:
            first = pins.query(where, sort=("sequence",), limit=1)
            found = (await reader.query(Table.PINS, first)).items
        if not found:
            raise NotFound("FF10109")
        await namespace.look_again()
        meant = pin_model.PinRewind(sequence=found[0].sequence, batch=found[0].batch)
        return pin_pb.RewindPinsResponse(rewind=meant)


class GroupServicer(Servicer, group_service_pb2_grpc.GroupServiceServicer):
    """Serves groups."""

    async def ListGroups(
        self, request: group_pb.ListGroupsRequest, context: Context
    ) -> group_pb.ListGroupsResponse:
        self.namespace(request).require_multiparty()
        page = await self.page(request, request.query, Table.GROUPS)
        return group_pb.ListGroupsResponse(
            items=[convert.group(g) for g in page.items], **total_of(page)
        )

    async def GetGroup(
        self, request: group_pb.GetGroupRequest, context: Context
    ) -> group_pb.GetGroupResponse:
        self.namespace(request).require_multiparty()
        key = parse_hash(request.hash)
        async with self.namespace(request).reader() as reader:
            found = (await reader.groups([key])).get(key)
        if found is None:
            raise NotFound("FF00164")
        return group_pb.GetGroupResponse(group=convert.group(found))


class TransactionServicer(Servicer, transaction_service_pb2_grpc.TransactionServiceServicer):
    """Serves transactions."""

    async def ListTransactions(
        self, request: transaction_pb.ListTransactionsRequest, context: Context
    ) -> transaction_pb.ListTransactionsResponse:
        page = await self.page(request, request.query, Table.TRANSACTIONS)
        items = [convert.transaction(t) for t in page.items]
        return transaction_pb.ListTransactionsResponse(items=items, **total_of(page))

    async def GetTransaction(
        self, request: transaction_pb.GetTransactionRequest, context: Context
    ) -> transaction_pb.GetTransactionResponse:
        found = await self._transaction(request, request.id)
        return transaction_pb.GetTransactionResponse(transaction=convert.transaction(found))

    async def ListTransactionOperations(
        self, request: transaction_pb.ListTransactionOperationsRequest, context: Context
    ) -> transaction_pb.ListTransactionOperationsResponse:
        async with self.namespace(request).reader() as reader:
            rows = await reader.operations_of(parse_uuid(request.id))
        items = [convert.operation(o) for o in reversed(rows)]
        return transaction_pb.ListTransactionOperationsResponse(items=items)

    async def ListTransactionBlockchainEvents(
        self, request: transaction_pb.ListTransactionBlockchainEventsRequest, context: Context
    ) -> transaction_pb.ListTransactionBlockchainEventsResponse:
        async with self.namespace(request).reader() as reader:
            rows = await reader.blockchain_events_of(parse_uuid(request.id))
        items = [convert.blockchain_event(e) for e in reversed(rows)]
        return transaction_pb.ListTransactionBlockchainEventsResponse(items=items)

    async def GetTransactionStatus(
        self, request: transaction_pb.GetTransactionStatusRequest, context: Context
    ) -> transaction_pb.GetTransactionStatusResponse:
        status = await self.namespace(request).operations.transaction_status(parse_uuid(request.id))
        return transaction_pb.GetTransactionStatusResponse(
            status=status.status, details=[convert.status_detail(d) for d in status.details]
        )

    async def _transaction(self, request: NamespacedRequest, text: str) -> Transaction:
        return await one_by_id(
            self.namespace(request), text, lambda r, ids: r.transactions(ids), "FF00164"
        )


class OperationServicer(Servicer, operation_service_pb2_grpc.OperationServiceServicer):
    """Serves operations."""

    async def ListOperations(
        self, request: operation_pb.ListOperationsRequest, context: Context
    ) -> operation_pb.ListOperationsResponse:
        page = await self.page(request, request.query, Table.OPERATIONS)
        items = [convert.operation(o) for o in page.items]
        return operation_pb.ListOperationsResponse(items=items, **total_of(page))

    async def GetOperation(
        self, request: operation_pb.GetOperationRequest, context: Context
    ) -> operation_pb.GetOperationResponse:
        found = await self._operation(request, parse_uuid(request.id))
        detail = ""
        if request.fetch_status:
            detail = await self.namespace(request).live_status(found)
        return operation_pb.GetOperationResponse(operation=convert.operation(found, detail))

    async def RetryOperation(
        self, request: operation_pb.RetryOperationRequest, context: Context
    ) -> operation_pb.RetryOperationResponse:
        copy = await self.namespace(request).operations.retry(parse_uuid(request.id))
        set_http_status(context, 202)
        return operation_pb.RetryOperationResponse(operation=convert.operation(copy))

    async def _operation(self, request: NamespacedRequest, key: Uuid) -> Operation:
        async with self.namespace(request).reader() as reader:
            found = (await reader.operations([key])).get(key)
        if found is None:
            raise NotFound("FF00164")
        return found


class BlockchainEventServicer(
    Servicer, blockchain_event_service_pb2_grpc.BlockchainEventServiceServicer
):
    """Serves events of ledgers."""

    async def ListBlockchainEvents(
        self, request: event_pb.ListBlockchainEventsRequest, context: Context
    ) -> event_pb.ListBlockchainEventsResponse:
        page = await self.page(request, request.query, Table.BLOCKCHAIN_EVENTS)
        items = [convert.blockchain_event(e) for e in page.items]
        return event_pb.ListBlockchainEventsResponse(items=items, **total_of(page))

    async def GetBlockchainEvent(
        self, request: event_pb.GetBlockchainEventRequest, context: Context
    ) -> event_pb.GetBlockchainEventResponse:
        found = await one_by_id(
            self.namespace(request), request.id, lambda r, ids: r.blockchain_events(ids), "FF00164"
        )
        return event_pb.GetBlockchainEventResponse(event=convert.blockchain_event(found))
