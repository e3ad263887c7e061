"""Goal: an upload without its end is refused, however its stream ended.

Found by a client's test: to a servicer of grpc.aio a stream that the client cancelled can look like one that ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from photinus.api.v1 import data_pb2, data_service_pb2
from photinus_core.model.errors import Rejected
from photinus_core.rpc.services.data import _chunks

Request = data_service_pb2.UploadDataRequest
FIRST, SECOND = Request(chunk=b"first"), Request(chunk=b"second")


def end(size: int) -> Request:
    return Request(end=data_pb2.UploadEnd(size=size))


async def sent(requests: list[Request]) -> AsyncIterator[Request]:
    for request in requests:
        yield request


async def test_complete() -> None:
    assert [chunk async for chunk in _chunks(sent([FIRST, SECOND, end(11)]))] == [
        b"first",
        b"second",
    ]
    assert [chunk async for chunk in _chunks(sent([end(0)]))] == []


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([], "FF19007"),
        ([FIRST], "FF19007"),
        ([FIRST, end(4)], "FF19007"),
        ([FIRST, Request(header=data_pb2.UploadHeader()), end(5)], "FF19002"),
        ([FIRST, Request()], "FF19002"),
    ],
)
async def test_incomplete(requests: list[Request], code: str) -> None:
    with pytest.raises(Rejected) as failure:
        assert [chunk async for chunk in _chunks(sent(requests))]
    assert failure.value.code == code
