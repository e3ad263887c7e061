"""Blobs in both directions, never held whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from photinus.api.v1 import data_pb2, data_service_pb2
from photinus.api.v1.data_service_pb2_grpc import DataServiceStub

from photinus_client.errors import PhotinusError, translate

CHUNK_BYTES: Final = 256 * 1024
"""Size of the pieces a blob travels in."""


T = TypeVar("T")
UploadCall = grpc.aio.StreamUnaryCall[
    data_service_pb2.UploadDataRequest, data_service_pb2.UploadDataResponse
]


async def upload(
    stub: DataServiceStub, header: data_pb2.UploadHeader, content: AsyncIterable[bytes]
) -> data_pb2.Data:
    """Stores a blob as fast as the core takes it; nothing is kept when it fails or is cancelled.

    Raises:
        PhotinusError: as `DataService.UploadData`.
    """
    call = stub.UploadData()
    reasons: list[grpc.aio.AioRpcError] = []
    call.add_done_callback(lambda _: reasons.append(_reason(call)))
    try:
        # A write that fails knows only that the call has ended; why is known to the call.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await _send(call, header, content)
        return (await call).data
    except grpc.aio.AioRpcError as failure:
        # A write that was under way when the core ended the call has put its own failure over the core's.
        first = reasons[0] if reasons and failure.code() is grpc.StatusCode.INTERNAL else failure
        raise translate(first) from failure
    except BaseException:
        # Without its end the core forgets what it was sent.
        call.cancel()
        raise


def _reason(call: UploadCall) -> grpc.aio.AioRpcError:
    """The failure of a call that has just ended."""
    return grpc.aio.AioRpcError(
        _known(call.code()),
        _known(call.initial_metadata()),
        _known(call.trailing_metadata()),
        _known(call.details()),
    )


def _known(question: Coroutine[Any, Any, T]) -> T:
    """The answer of a coroutine that need not wait for it."""
    try:
        question.send(None)
    except StopIteration as answer:
        value: T = answer.value
        return value
    question.close()
    raise RuntimeError("the call has not ended")


async def _send(
    call: UploadCall, header: data_pb2.UploadHeader, content: AsyncIterable[bytes]
) -> None:
    await call.write(data_service_pb2.UploadDataRequest(header=header))
    size = 0
    async for piece in content:
        size += len(piece)
        for start in range(0, len(piece), CHUNK_BYTES):
            chunk = piece[start : start + CHUNK_BYTES]
            await call.write(data_service_pb2.UploadDataRequest(chunk=chunk))
    end = data_pb2.UploadEnd(size=size)
    await call.write(data_service_pb2.UploadDataRequest(end=end))
    await call.done_writing()


@dataclass(frozen=True, slots=True)
class Download:
    """A blob on its way.

    Attributes:
        hash: SHA-256 of the content, 64 hex digits.
        size: Number of bytes.
        content: The bytes, in pieces. Raises PhotinusError at the end when they are not those of the hash.
    """

    hash: str
    size: int
    content: AsyncIterator[bytes]


async def download(stub: DataServiceStub, namespace: str, data_id: str) -> Download:
    """Begins to read a blob.

    Raises:
        PhotinusError: as `DataService.DownloadBlob`.
    """
    call = stub.DownloadBlob(data_service_pb2.DownloadBlobRequest(namespace=namespace, id=data_id))
    responses = aiter(call)
    try:
        first = await anext(responses)
    except grpc.aio.AioRpcError as failure:
        raise translate(failure) from failure
    return Download(first.info.hash, first.info.size, _checked(responses, first.info))


async def _checked(
    responses: AsyncIterator[data_service_pb2.DownloadBlobResponse], info: data_pb2.BlobInfo
) -> AsyncIterator[bytes]:
    digest, size = hashlib.sha256(), 0
    try:
        async for response in responses:
            digest.update(response.chunk)
            size += len(response.chunk)
            yield response.chunk
    except grpc.aio.AioRpcError as failure:
        raise translate(failure) from failure
    if size != info.size or digest.hexdigest() != info.hash:
        text = f"the blob has {size} bytes with hash {digest.hexdigest()}, not {info.size} with {info.hash}"
        raise PhotinusError("", text, 0, grpc.StatusCode.DATA_LOSS)
