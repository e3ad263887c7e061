"""The ports of `ports.connectors`, carried out by a connector over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

import msgspec
from photinus.connector.v1 import blockchain_pb2 as chain
from photinus.connector.v1 import blockchain_pb2_grpc as chain_grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import data_exchange_pb2 as exchange
from photinus.connector.v1 import data_exchange_pb2_grpc as exchange_grpc
from photinus.connector.v1 import operation_pb2 as operation
from photinus.connector.v1 import operation_pb2_grpc as operation_grpc
from photinus.connector.v1 import shared_storage_pb2 as storage
from photinus.connector.v1 import shared_storage_pb2_grpc as storage_grpc

from photinus_core.host import convert
from photinus_core.host.calls import Calls
from photinus_core.host.connection import Connection
from photinus_core.host.stream_session import CONSUMER
from photinus_core.model.ids import Epoch, Hash32, Namespace, Uuid, parse_hash
from photinus_core.ports.connectors import (
    BatchPinInput,
    CallKey,
    Endpoint,
    EventHandler,
    EventStream,
    Invocation,
    KeyIntent,
    Listener,
    Method,
    ResolvedKey,
    Submission,
    WorkState,
)
from photinus_core.ports.meter import UNMETERED, LedgerMeter

CHUNK_BYTES_MAX: Final = 1 << 20


class OpenStream(Protocol):
    """Opens the event stream of a namespace; see `ports.connectors.Streaming`."""

    async def __call__(
        self,
        namespace: Namespace,
        network_namespace: str,
        epoch: Epoch,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> EventStream: ...


class _Proxy:
    """What all proxies share."""

    def __init__(self, calls: Calls, cluster_id: str, open_stream: OpenStream) -> None:
        self._calls = calls
        self._cluster_id = cluster_id
        self._open_stream = open_stream

    async def open_stream(
        self,
        namespace: Namespace,
        network_namespace: str,
        epoch: Epoch,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> EventStream:
        """Opens the namespace's event stream and keeps it open."""
        return await self._open_stream(namespace, network_namespace, epoch, listeners, handler)


class BlockchainProxy(_Proxy):
    """`ports.connectors.BlockchainConnector` over gRPC."""

    def __init__(
        self,
        calls: Calls,
        cluster_id: str,
        open_stream: OpenStream,
        meter: LedgerMeter = UNMETERED,
    ) -> None:
        super().__init__(calls, cluster_id, open_stream)
        self._meter = meter

    async def resolve_key(self, key: str, intent: KeyIntent) -> ResolvedKey:
        """Turns what a user wrote into the canonical form of a key."""
        request = chain.ResolveKeyRequest(key=key, intent=convert.INTENTS[intent])
        answer = await self._calls.ask(lambda c: _chain(c).ResolveKey, request)
        return ResolvedKey(answer.key, answer.verifier_type)

    async def submit_batch_pin(
        self,
        call: CallKey,
        network_namespace: str,
        signing_key: str,
        pin: BatchPinInput,
        location: str,
    ) -> Submission:
        """Pins a batch. Calls of one signer reach the ledger in their order."""
        self._meter.ledger_transaction(location, "pinBatch")
        request = chain.SubmitBatchPinRequest(
            context=convert.mutation(self._cluster_id, call),
            network_namespace=network_namespace,
            signing_key=signing_key,
            pin=convert.batch_pin(pin),
            location_json=location,
        )
        return await self._calls.submit(lambda c: _chain(c).SubmitBatchPin, request)

    async def submit_network_action(
        self, call: CallKey, signing_key: str, action: str, payload: str, location: str
    ) -> Submission:
        """Records a network action."""
        self._meter.ledger_transaction(location, "networkAction")
        request = chain.SubmitNetworkActionRequest(
            context=convert.mutation(self._cluster_id, call),
            signing_key=signing_key,
            action=action,
            payload=payload,
            location_json=location,
        )
        return await self._calls.submit(lambda c: _chain(c).SubmitNetworkAction, request)

    async def invoke_contract(self, call: CallKey, invocation: Invocation) -> Submission:
        """Calls a method in a transaction."""
        self._meter.ledger_transaction(invocation.location, _method_name(invocation.method))
        pin = invocation.pin
        request = chain.InvokeContractRequest(
            context=convert.mutation(self._cluster_id, call),
            signing_key=invocation.signing_key,
            location_json=invocation.location,
            method=convert.method_ref(invocation.method),
            input_json=invocation.inputs,
            options_json=invocation.options,
            pin=None if pin is None else convert.batch_pin(pin),
        )
        return await self._calls.submit(lambda c: _chain(c).InvokeContract, request)

    async def deploy_contract(
        self,
        call: CallKey,
        signing_key: str,
        definition: str,
        contract: str,
        inputs: str,
        options: str,
    ) -> Submission:
        """Deploys a contract."""
        request = chain.DeployContractRequest(
            context=convert.mutation(self._cluster_id, call),
            signing_key=signing_key,
            definition_json=definition,
            contract_json=contract,
            input_json=inputs,
            options_json=options,
        )
        return await self._calls.submit(lambda c: _chain(c).DeployContract, request)

    async def query_contract(self, invocation: Invocation) -> str:
        """Calls a method without a transaction; gives the result as JSON."""
        self._meter.ledger_query(invocation.location, _method_name(invocation.method))
        request = chain.QueryContractRequest(
            signing_key=invocation.signing_key,
            location_json=invocation.location,
            method=convert.method_ref(invocation.method),
            input_json=invocation.inputs,
            options_json=invocation.options,
        )
        answer = await self._calls.ask(lambda c: _chain(c).QueryContract, request)
        return str(answer.output_json)

    async def normalize_location(self, location: str) -> str:
        """Gives the canonical form of a contract's location."""
        request = chain.NormalizeLocationRequest(location_json=location)
        answer = await self._calls.ask(lambda c: _chain(c).NormalizeLocation, request)
        return str(answer.location_json)

    async def network_version(self, location: str) -> int:
        """Asks a multiparty contract for its version, 1 or 2."""
        self._meter.ledger_query(location, "networkVersion")
        request = chain.GetNetworkVersionRequest(location_json=location)
        answer = await self._calls.ask(lambda c: _chain(c).GetNetworkVersion, request)
        return int(answer.version)

    async def transaction_status(self, namespace: Namespace, key: str) -> str:
        """Asks the ledger what it knows of a submission; JSON for people."""
        request = chain.GetTransactionStatusRequest(
            stream=convert.stream_ref(self._cluster_id, namespace, CONSUMER), idempotency_key=key
        )
        answer = await self._calls.ask(lambda c: _chain(c).GetTransactionStatus, request)
        return str(answer.status_json)

    async def withdraw(self, call: CallKey) -> WorkState:
        """Withdraws a submission by its key, unless it was sent."""
        request = operation.CancelRequest(context=convert.mutation(self._cluster_id, call))
        answer = await self._calls.change(lambda c: _operations(c).Cancel, request)
        return convert.work_state(answer.state)


class SharedStorageProxy(_Proxy):
    """`ports.connectors.SharedStorage` over gRPC."""

    async def upload(self, call: CallKey, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """Stores bytes; gives their reference and size."""

        async def frames() -> AsyncIterator[storage.UploadRequest]:
            context = convert.mutation(self._cluster_id, call)
            yield storage.UploadRequest(header=storage.UploadHeader(context=context))
            size = 0
            async for chunk in _cut(chunks):
                size += len(chunk)
                yield storage.UploadRequest(chunk=chunk)
            yield storage.UploadRequest(end=common.UploadEnd(size=size))

        answer = await self._calls.upload(lambda c: _storage(c).Upload, frames())
        return answer.payload_ref, answer.size

    async def download(self, payload_ref: str, max_bytes: int = 0) -> AsyncIterator[bytes]:
        """Reads verified bytes; `max_bytes` 0 takes any size."""
        request = storage.DownloadRequest(payload_ref=payload_ref, max_bytes=max_bytes)
        async for frame in self._calls.download(lambda c: _storage(c).Download, request):
            yield frame.chunk


class DataExchangeProxy(_Proxy):
    """`ports.connectors.DataExchangeConnector` over gRPC."""

    async def endpoint(self, node_name: str) -> Endpoint:
        """Gives this member's own endpoint, for the profile of its node."""
        request = exchange.GetEndpointRequest(node_name=node_name)
        answer = await self._calls.ask(lambda c: _exchange(c).GetEndpoint, request)
        return Endpoint(answer.peer_json, answer.peer_id, answer.certificate_expires_s)

    async def add_peer(self, call: CallKey, network_namespace: str, peer_json: str) -> None:
        """Makes a peer known or replaces it."""
        request = exchange.AddPeerRequest(
            context=convert.mutation(self._cluster_id, call),
            network_namespace=network_namespace,
            peer_json=peer_json,
        )
        await self._calls.change(lambda c: _exchange(c).AddPeer, request)

    async def remove_peer(self, call: CallKey, network_namespace: str, peer_id: str) -> None:
        """Forgets a peer."""
        request = exchange.RemovePeerRequest(
            context=convert.mutation(self._cluster_id, call),
            network_namespace=network_namespace,
            peer_id=peer_id,
        )
        await self._calls.change(lambda c: _exchange(c).RemovePeer, request)

    async def send_message(
        self, call: CallKey, recipient: str, sender: str, message: str
    ) -> Submission:
        """Queues a message; durable once answered."""
        request = exchange.SendMessageRequest(
            context=convert.mutation(self._cluster_id, call),
            recipient=recipient,
            sender=sender,
            message=message,
        )
        return await self._calls.submit(lambda c: _exchange(c).SendMessage, request)

    async def send_blob(
        self,
        call: CallKey,
        recipient: str,
        sender: str,
        network_namespace: str,
        data_id: Uuid,
        payload_ref: str,
    ) -> Submission:
        """Queues a blob; durable once answered."""
        request = exchange.SendBlobRequest(
            context=convert.mutation(self._cluster_id, call),
            recipient=recipient,
            sender=sender,
            network_namespace=network_namespace,
            data_id=data_id,
            payload_ref=payload_ref,
        )
        return await self._calls.submit(lambda c: _exchange(c).SendBlob, request)

    async def upload_blob(
        self, call: CallKey, data_id: Uuid, chunks: AsyncIterator[bytes]
    ) -> tuple[str, Hash32, int]:
        """Stores a blob; gives its reference, hash and size."""

        async def frames() -> AsyncIterator[exchange.UploadBlobRequest]:
            context = convert.mutation(self._cluster_id, call)
            header = exchange.UploadBlobHeader(context=context, data_id=data_id)
            yield exchange.UploadBlobRequest(header=header)
            size = 0
            async for chunk in _cut(chunks):
                size += len(chunk)
                yield exchange.UploadBlobRequest(chunk=chunk)
            yield exchange.UploadBlobRequest(end=common.UploadEnd(size=size))

        answer = await self._calls.upload(lambda c: _exchange(c).UploadBlob, frames())
        return answer.payload_ref, parse_hash(answer.hash), answer.size

    async def download_blob(self, payload_ref: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Reads a blob."""
        request = exchange.DownloadBlobRequest(payload_ref=payload_ref, offset=offset)
        async for frame in self._calls.download(lambda c: _exchange(c).DownloadBlob, request):
            if frame.chunk:
                yield frame.chunk

    async def delete_blob(self, call: CallKey, payload_ref: str) -> None:
        """Deletes a blob; an unknown one is success."""
        request = exchange.DeleteBlobRequest(
            context=convert.mutation(self._cluster_id, call), payload_ref=payload_ref
        )
        await self._calls.change(lambda c: _exchange(c).DeleteBlob, request)


def _method_name(method: Method) -> str:
    """Name of a method in FireFly's interface form; empty when it has none."""
    try:
        return msgspec.json.decode(method.method, type=_Named).name
    except msgspec.DecodeError:
        return ""


class _Named(msgspec.Struct):
    name: str = ""


def _chain(connection: Connection) -> chain_grpc.BlockchainServiceStub:
    return connection.stub(chain_grpc.BlockchainServiceStub)


def _operations(connection: Connection) -> operation_grpc.OperationServiceStub:
    return connection.stub(operation_grpc.OperationServiceStub)


def _exchange(connection: Connection) -> exchange_grpc.DataExchangeServiceStub:
    return connection.stub(exchange_grpc.DataExchangeServiceStub)


def _storage(connection: Connection) -> storage_grpc.SharedStorageServiceStub:
    return connection.stub(storage_grpc.SharedStorageServiceStub)


async def _cut(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        for start in range(0, len(chunk), CHUNK_BYTES_MAX):
            yield chunk[start : start + CHUNK_BYTES_MAX]
