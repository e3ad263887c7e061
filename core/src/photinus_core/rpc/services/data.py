"""DataService and DatatypeService: data items, blobs, datatypes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from photinus.api.v1 import (
    data_pb2,
    data_service_pb2_grpc,
    datatype_service_pb2_grpc,
)
from photinus.api.v1 import data_service_pb2 as pb
from photinus.api.v1 import datatype_service_pb2 as types_pb

from photinus_core.access.roles import Binding
from photinus_core.model import canonical
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import parse_uuid
from photinus_core.model.messages import Data, DatatypeRef
from photinus_core.model.query import Condition, Operator
from photinus_core.ports.store import Table
from photinus_core.rpc import convert
from photinus_core.rpc.access import current
from photinus_core.rpc.errors import Context, set_http_status
from photinus_core.rpc.services.base import Servicer, one_by_id, total_of
from photinus_core.rpc.services.messages import data_input


class DataServicer(Servicer, data_service_pb2_grpc.DataServiceServicer):
    """Serves data items."""

    async def ListData(self, request: pb.ListDataRequest, context: Context) -> pb.ListDataResponse:
        page = await self.page(request, request.query, Table.DATA)
        return pb.ListDataResponse(
            items=[convert.data_item(d) for d in page.items], **total_of(page)
        )

    async def GetData(self, request: pb.GetDataRequest, context: Context) -> pb.GetDataResponse:
        return pb.GetDataResponse(data=convert.data_item(await self._item(request)))

    async def CreateData(
        self, request: pb.CreateDataRequest, context: Context
    ) -> pb.CreateDataResponse:
        stored = await self.namespace(request).data.store_value(data_input(request.data))
        set_http_status(context, 201)
        return pb.CreateDataResponse(data=convert.data_item(stored))

    async def UploadData(
        self, requests: AsyncIterator[pb.UploadDataRequest], context: Context
    ) -> pb.UploadDataResponse:
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("header"):
            raise Rejected("FF19002", "header", "the first frame must be the header")
        header = first.header
        datatype = None
        if header.HasField("datatype"):
            datatype = DatatypeRef(header.datatype.name, header.datatype.version)
        stored = await self.namespace(header).data.upload(
            _chunks(requests),
            metadata=upload_value(header),
            validator=header.validator,
            datatype=datatype,
        )
        set_http_status(context, 201)
        return pb.UploadDataResponse(data=convert.data_item(stored))

    async def DownloadBlob(
        self, request: pb.DownloadBlobRequest, context: Context
    ) -> AsyncIterator[pb.DownloadBlobResponse]:
        namespace = self.namespace(request)
        namespace.require_multiparty()
        service = namespace.data
        blob = await service.blob(parse_uuid(request.id))
        yield pb.DownloadBlobResponse(info=data_pb2.BlobInfo(hash=blob.hash, size=blob.size))
        async for chunk in service.download(blob):
            yield pb.DownloadBlobResponse(chunk=chunk)

    async def GetDataValue(
        self, request: pb.GetDataValueRequest, context: Context
    ) -> pb.GetDataValueResponse:
        item = await self._item(request)
        if item.value is None:
            raise NotFound("FF00164")
        return pb.GetDataValueResponse(value=item.value)

    async def DeleteData(
        self, request: pb.DeleteDataRequest, context: Context
    ) -> pb.DeleteDataResponse:
        await self.namespace(request).data.delete(parse_uuid(request.id))
        set_http_status(context, 204)
        return pb.DeleteDataResponse()

    async def PublishDataValue(
        self, request: pb.PublishDataValueRequest, context: Context
    ) -> pb.PublishDataValueResponse:
        namespace = self.namespace(request)
        publisher = namespace.multiparty.publisher
        async with asyncio.timeout(namespace.patience(context.time_remaining())):
            published = await publisher.publish_value(
                parse_uuid(request.id), request.publish.idempotency_key
            )
        return pb.PublishDataValueResponse(data=convert.data_item(published))

    async def PublishDataBlob(
        self, request: pb.PublishDataBlobRequest, context: Context
    ) -> pb.PublishDataBlobResponse:
        namespace = self.namespace(request)
        publisher = namespace.multiparty.publisher
        async with asyncio.timeout(namespace.patience(context.time_remaining())):
            published = await publisher.publish_blob(
                parse_uuid(request.id), request.publish.idempotency_key
            )
        return pb.PublishDataBlobResponse(data=convert.data_item(published))

    async def ListDataSubPaths(
        self, request: pb.ListDataSubPathsRequest, context: Context
    ) -> pb.ListDataSubPathsResponse:
        found = await self.namespace(request).data.sub_paths(request.parent)
        return pb.ListDataSubPathsResponse(items=found)

    async def ListDataMessages(
        self, request: pb.ListDataMessagesRequest, context: Context
    ) -> pb.ListDataMessagesResponse:
        self.namespace(request).require_multiparty()
        item = await self._item(request)
        holding = Condition("data", Operator.EQUAL, item.id)
        page = await self.page(request, request.query, Table.MESSAGES, holding)
        items = [convert.message(m) for m in page.items]
        return pb.ListDataMessagesResponse(items=items, **total_of(page))

    async def _item(
        self, request: pb.GetDataRequest | pb.GetDataValueRequest | pb.ListDataMessagesRequest
    ) -> Data:
        return await one_by_id(
            self.namespace(request), request.id, lambda r, ids: r.data(ids), "FF00164"
        )


async def _chunks(requests: AsyncIterator[pb.UploadDataRequest]) -> AsyncIterator[bytes]:
    """The chunks up to the end frame; a stream without one broke off, and nothing of it is kept."""
    size = 0
    async for request in requests:
        match request.WhichOneof("frame"):
            case "chunk":
                size += len(request.chunk)
                yield request.chunk
            case "end" if request.end.size == size:
                return
            case "end":
                break
            case _:
                raise Rejected("FF19002", "frame", "only the first frame may be a header")
    raise Rejected("FF19007", size)


def upload_value(header: data_pb2.UploadHeader) -> str | None:
    """The JSON value beside an uploaded blob.

    The metadata (text that is no JSON is a JSON string), and with `autometa` the file's name and
    MIME type added to it, keys in alphabetical order as FireFly writes them.
    """
    value: str | None = None
    if header.metadata:
        try:
            value = canonical.compact(header.metadata)
        except canonical.InvalidJsonError:
            value = canonical.quote(header.metadata)
    if not header.autometa:
        return value
    fields: dict[str, str] = {}
    if value is not None:
        if not value.startswith("{"):
            raise Rejected("FF19002", "autometa", "needs a JSON object or no metadata")
        given = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        fields = {name: bytes(raw).decode() for name, raw in given.items()}
    fields["filename"] = canonical.quote(header.filename)
    fields["mimetype"] = canonical.quote(header.content_type)
    return (
        "{" + ",".join(f"{canonical.quote(name)}:{fields[name]}" for name in sorted(fields)) + "}"
    )


class DatatypeServicer(Servicer, datatype_service_pb2_grpc.DatatypeServiceServicer):
    """Serves datatypes."""

    async def ListDatatypes(
        self, request: types_pb.ListDatatypesRequest, context: Context
    ) -> types_pb.ListDatatypesResponse:
        page = await self.page(request, request.query, Table.DATATYPES)
        items = [convert.datatype(d) for d in page.items]
        return types_pb.ListDatatypesResponse(items=items, **total_of(page))

    async def GetDatatype(
        self, request: types_pb.GetDatatypeRequest, context: Context
    ) -> types_pb.GetDatatypeResponse:
        async with self.namespace(request).reader() as reader:
            found = await reader.datatype(request.name, request.version)
        if found is None:
            raise NotFound("FF00164")
        return types_pb.GetDatatypeResponse(datatype=convert.datatype(found))

    async def CreateDatatype(
        self, request: types_pb.CreateDatatypeRequest, context: Context
    ) -> types_pb.CreateDatatypeResponse:
        given = request.datatype
        namespace = self.namespace(request)
        definer = namespace.multiparty.datatypes
        signer = current().binding or Binding("")
        sent = await definer.define(
            *(given.name, given.version, given.value, given.validator), signer.author, signer.key
        )
        if request.confirm and sent.message is not None:
            await namespace.waiting.wait_message(
                sent.message, namespace.patience(context.time_remaining())
            )
        else:
            set_http_status(context, 202)
        return types_pb.CreateDatatypeResponse(datatype=convert.datatype(sent))
