"""Goal: the contracts as Python classes are what the protos say, comments and all.

Method: compare the classes that are committed with the descriptors of the services. That they are current is a check
of its own (`make proto-check`).
"""

import inspect

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from photinus.connector.v1 import (
    blockchain_pb2,
    common_pb2,
    contracts,
    data_exchange_pb2,
    shared_storage_pb2,
    tokens_pb2,
)

PROTOS = (blockchain_pb2, data_exchange_pb2, shared_storage_pb2, tokens_pb2)
SERVICES = [service for proto in PROTOS for service in proto.DESCRIPTOR.services_by_name.values()]


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_rpc_is_a_method_with_the_words_of_the_proto(service: ServiceDescriptor) -> None:
    made = getattr(contracts, service.name.removesuffix("Service") + "Methods")
    assert made.__doc__
    methods = {name: act for name, act in vars(made).items() if inspect.isfunction(act)}
    assert [name.replace("_", "") for name in methods] == [m.name.lower() for m in service.methods]
    for rpc, act in zip(service.methods, methods.values(), strict=True):
        assert act.__doc__
        # A download is an async generator of the author's, which is called and not awaited.
        assert inspect.iscoroutinefunction(act) != rpc.server_streaming


def test_calls_have_the_forms_of_the_kit() -> None:
    pin = inspect.signature(contracts.BlockchainMethods.submit_batch_pin)
    assert list(pin.parameters) == ["self", "request", "call"]
    assert pin.return_annotation is common_pb2.Submission
    upload = inspect.signature(contracts.SharedStorageMethods.upload)
    assert list(upload.parameters) == ["self", "header", "chunks", "call"]
    assert upload.return_annotation is shared_storage_pb2.UploadResponse
    download = inspect.signature(contracts.SharedStorageMethods.download)
    assert str(download.return_annotation).endswith("AsyncIterator[bytes]")
    blob = inspect.signature(contracts.DataExchangeMethods.download_blob)
    assert "DownloadBlobResponse" in str(blob.return_annotation)
