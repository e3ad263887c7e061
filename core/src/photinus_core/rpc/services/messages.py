"""MessageService: sends messages and shows them."""

from __future__ import annotations

from photinus.api.v1 import data_pb2, message_pb2, message_service_pb2_grpc
from photinus.api.v1 import message_service_pb2 as pb

from photinus_core.data.inputs import DataInput
from photinus_core.messaging.inputs import GroupInput, MemberInput, MessageInput
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import parse_hash, parse_uuid
from photinus_core.model.messages import DatatypeRef, Message, MessageType
from photinus_core.model.query import AnyOf, Condition, Operator
from photinus_core.namespaces.runtime import NamespaceRuntime
from photinus_core.ports.store import Table
from photinus_core.rpc import convert
from photinus_core.rpc.errors import Context, set_http_status
from photinus_core.rpc.services.base import Servicer, one_by_id, total_of


def data_input(given: data_pb2.DataRefOrValue) -> DataInput:
    """Reads one data item; the text `null` is no value."""
    if given.HasField("blob") and not given.id:
        raise Rejected("FF19002", "data.blob", "upload it, then give the id of its data item")
    datatype = None
    if given.HasField("datatype"):
        datatype = DatatypeRef(given.datatype.name, given.datatype.version)
    return DataInput(
        id=parse_uuid(given.id) if given.id else None,
        hash=parse_hash(given.hash) if given.hash else None,
        validator=given.validator,
        datatype=datatype,
        value=given.value if given.value and given.value != "null" else None,
    )


def message_input(given: message_pb2.MessageInput, kind: MessageType) -> MessageInput:
    """Reads a message as a client wrote it."""
    header = given.header
    if header.type not in ("", kind):
        # What was meant for a few must not go to all.
        raise Rejected("FF10287", kind)
    group = None
    if given.HasField("group"):
        members = tuple(MemberInput(m.identity, m.node) for m in given.group.members)
        group = GroupInput(members, given.group.name)
    return MessageInput(
        data=tuple(data_input(d) for d in given.data),
        author=header.author,
        key=header.key,
        cid=parse_uuid(header.cid) if header.cid else None,
        tag=header.tag,
        topics=tuple(header.topics),
        txtype=header.txtype,
        group_hash=parse_hash(header.group) if header.group else None,
        group=group,
        idempotency_key=given.idempotency_key,
    )


class MessageServicer(Servicer, message_service_pb2_grpc.MessageServiceServicer):
    """Serves messages."""

    async def BroadcastMessage(
        self, request: pb.BroadcastMessageRequest, context: Context
    ) -> pb.BroadcastMessageResponse:
        namespace = self.namespace(request)
        sent = await namespace.sender.broadcast(
            message_input(request.message, MessageType.BROADCAST)
        )
        done = await self._answer(namespace, sent, context, confirm=request.confirm)
        return pb.BroadcastMessageResponse(message=convert.message(done))

    async def SendPrivateMessage(
        self, request: pb.SendPrivateMessageRequest, context: Context
    ) -> pb.SendPrivateMessageResponse:
        namespace = self.namespace(request)
        sent = await namespace.sender.private(message_input(request.message, MessageType.PRIVATE))
        done = await self._answer(namespace, sent, context, confirm=request.confirm)
        return pb.SendPrivateMessageResponse(message=convert.message(done))

    async def RequestReply(
        self, request: pb.RequestReplyRequest, context: Context
    ) -> pb.RequestReplyResponse:
        namespace = self.namespace(request)
        given = message_input(request.message, MessageType.PRIVATE)
        sent = await namespace.sender.request(given)
        reply = await namespace.replied(sent.header.id, context.time_remaining())
        async with namespace.reader() as reader:
            data = await reader.data([r.id for r in reply.data])
        return pb.RequestReplyResponse(message=convert.message(reply, data))

    async def _answer(
        self, namespace: NamespaceRuntime, sent: Message, context: Context, *, confirm: bool
    ) -> Message:
        if confirm:
            return await namespace.confirmed(sent.header.id, context.time_remaining())
        set_http_status(context, 202)
        return sent

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        page = await self.page(request, request.query, Table.MESSAGES)
        data = None
        if request.fetch_data:
            async with self.namespace(request).reader() as reader:
                data = await reader.data([r.id for m in page.items for r in m.data])
        answer = pb.ListMessagesResponse(items=(), **total_of(page))
        for message in page.items:
            convert.fill_message(answer.items.add(), message, data)
        return answer

    async def GetMessage(
        self, request: pb.GetMessageRequest, context: Context
    ) -> pb.GetMessageResponse:
        namespace = self.namespace(request)
        message = await self._message(request)
        data = None
        if request.fetch_data:
            async with namespace.reader() as reader:
                data = await reader.data([r.id for r in message.data])
        return pb.GetMessageResponse(message=convert.message(message, data))

    async def ListMessageData(
        self, request: pb.ListMessageDataRequest, context: Context
    ) -> pb.ListMessageDataResponse:
        message = await self._message(request)
        async with self.namespace(request).reader() as reader:
            found = await reader.data([r.id for r in message.data])
        items = [convert.data_item(found[r.id]) for r in message.data if r.id in found]
        return pb.ListMessageDataResponse(items=items)

    async def ListMessageEvents(
        self, request: pb.ListMessageEventsRequest, context: Context
    ) -> pb.ListMessageEventsResponse:
        message = await self._message(request)
        things = (message.header.id, *(ref.id for ref in message.data))
        about = AnyOf(tuple(Condition("reference", Operator.EQUAL, thing) for thing in things))
        page = await self.page(request, request.query, Table.EVENTS, about)
        return pb.ListMessageEventsResponse(
            items=[convert.event(e) for e in page.items], **total_of(page)
        )

    async def GetMessageTransaction(
        self, request: pb.GetMessageTransactionRequest, context: Context
    ) -> pb.GetMessageTransactionResponse:
        message = await self._message(request)
        async with self.namespace(request).reader() as reader:
            found = None
            if message.txid is not None:
                found = (await reader.transactions([message.txid])).get(message.txid)
        if found is None:
            raise NotFound("FF00164")
        return pb.GetMessageTransactionResponse(transaction=convert.transaction(found))

    async def ListMessageReceipts(
        self, request: pb.ListMessageReceiptsRequest, context: Context
    ) -> pb.ListMessageReceiptsResponse:
        message = await self._message(request)
        receipts = await self.namespace(request).receipts.of(message)
        items = [
            message_pb2.MessageReceipt(
                identity=r.identity,
                node=r.node,
                state=r.state,
                batch=r.batch or "",
                operation=r.operation or "",
                manifest_hash=r.manifest_hash,
                updated=convert.timestamp(r.updated),
                error=r.error,
            )
            for r in receipts
        ]
        return pb.ListMessageReceiptsResponse(items=items)

    async def _message(
        self,
        request: pb.GetMessageRequest
        | pb.ListMessageDataRequest
        | pb.ListMessageEventsRequest
        | pb.GetMessageTransactionRequest
        | pb.ListMessageReceiptsRequest,
    ) -> Message:
        return await one_by_id(
            self.namespace(request), request.id, lambda r, ids: r.messages(ids), "FF10109"
        )
