"""Connectors made with the author kit over the backends of the fakes.

They let the tests that the in-memory fakes pass run against the real host, wire and kit as well.
What a real connector would keep in a database is kept in the backend, which outlives the process.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import ClassVar

from photinus.connector.v1 import blockchain_pb2 as chain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import data_exchange_pb2 as exchange
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import shared_storage_pb2 as storage
from photinus_core.host.fakes.chain import FakeChain, Mined
from photinus_core.host.fakes.exchange import Delivery, FakeNetwork
from photinus_core.host.fakes.storage import FakeBucket
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.ports.connectors import (
    BatchPinInput,
    BatchPinned,
    CallKey,
    ChainEvent,
    NetworkActionSeen,
    PeerBlob,
    PeerMessage,
    WorkUpdate,
)
from photinus_sdk import (
    Acked,
    Blockchain,
    CallContext,
    Corrupted,
    DataExchange,
    Events,
    NotFound,
    Refused,
    Rejected,
    Settings,
    SharedStorage,
    StreamKey,
    Subscription,
)


@dataclass
class Backend:
    """What one member's connectors reach and remember."""

    name: str
    key: str
    chain: FakeChain
    bucket: FakeBucket
    network: FakeNetwork
    peers: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    inbox: list[Delivery] = field(default_factory=list)
    streams: dict[str, StreamKey] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class KitLedger(Blockchain[Settings], name="kit.ledger", version="0.1.0"):
    """A member's connector to a `FakeChain`."""

    backend: ClassVar[Backend]

    async def resolve_key(
        self, request: chain.ResolveKeyRequest, call: CallContext
    ) -> chain.ResolveKeyResponse:
        key = request.key.lower() or self.backend.key
        if not key.startswith("0x"):
            raise Rejected(f"{key!r} is no key", reason="INVALID_KEY")
        if request.intent == chain.KEY_INTENT_SIGN and key != self.backend.key:
            raise NotFound(f"The key {key} is not held here", reason="UNKNOWN_KEY")
        return chain.ResolveKeyResponse(key=key, verifier_type="ethereum_address")

    async def submit_batch_pin(
        self, request: chain.SubmitBatchPinRequest, call: CallContext
    ) -> common.Submission:
        pin = BatchPinInput(
            Uuid(request.pin.transaction_uuid),
            Uuid(request.pin.batch_id),
            Hash32(request.pin.batch_hash),
            request.pin.payload_ref,
            tuple(Hash32(context) for context in request.pin.contexts),
        )

        def pinned(event: ChainEvent) -> BatchPinned:
            return BatchPinned(
                event,
                pin.transaction,
                pin.batch,
                pin.batch_hash,
                pin.payload_ref,
                pin.contexts,
                "",
                contract_invoke=False,
            )

        self._check_key(request.signing_key)
        transaction = self.backend.chain.mine(request.location_json, request.signing_key, pinned)
        return common.Submission(state=common.OPERATION_STATE_SUCCEEDED, external_id=transaction)

    async def submit_network_action(
        self, request: chain.SubmitNetworkActionRequest, call: CallContext
    ) -> common.Submission:
        self._check_key(request.signing_key)
        transaction = self.backend.chain.mine(
            request.location_json,
            request.signing_key,
            lambda event: NetworkActionSeen(event, request.action, request.payload),
        )
        return common.Submission(state=common.OPERATION_STATE_SUCCEEDED, external_id=transaction)

    async def deploy_contract(
        self, request: chain.DeployContractRequest, call: CallContext
    ) -> common.Submission:
        address = "0x" + hashlib.sha256(call.idempotency_key.encode()).hexdigest()[:40]
        return common.Submission(
            state=common.OPERATION_STATE_SUCCEEDED,
            external_id="0x" + address[2:].rjust(64, "0"),
            output_json=json.dumps({"contractLocation": {"address": address}}),
        )

    async def normalize_location(
        self, request: chain.NormalizeLocationRequest, call: CallContext
    ) -> chain.NormalizeLocationResponse:
        try:
            address = json.loads(request.location_json)["address"]
        except (ValueError, KeyError, TypeError):
            raise Rejected("it names no address", reason="INVALID_LOCATION") from None
        return chain.NormalizeLocationResponse(
            location_json=json.dumps({"address": address.lower()}, separators=(",", ":"))
        )

    async def get_network_version(
        self, request: chain.GetNetworkVersionRequest, call: CallContext
    ) -> chain.GetNetworkVersionResponse:
        return chain.GetNetworkVersionResponse(version=2)

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events]:
        done = int(subscription.resume or b"0")
        while True:
            changed = self.backend.changed
            for mined in self.backend.chain.mined[done:]:
                done = mined.block
                if mined.location == subscription.listener.multiparty.location_json:
                    yield Events([_mined(mined)], str(done).encode())
            await changed.wait()

    def _check_key(self, key: str) -> None:
        if key != self.backend.key:
            raise NotFound(f"The key {key} is not held here", reason="UNKNOWN_KEY")


class KitStorage(SharedStorage[Settings], name="kit.storage", version="0.1.0"):
    """A member's connector to a `FakeBucket`."""

    backend: ClassVar[Backend]

    async def upload(
        self, header: storage.UploadHeader, chunks: AsyncIterator[bytes], call: CallContext
    ) -> storage.UploadResponse:
        data = b"".join([chunk async for chunk in chunks])
        reference = hashlib.sha256(data).hexdigest()
        self.backend.bucket.objects[reference] = data
        return storage.UploadResponse(payload_ref=reference, size=len(data))

    async def download(
        self, request: storage.DownloadRequest, call: CallContext
    ) -> AsyncIterator[bytes]:
        data = self.backend.bucket.objects.get(request.payload_ref)
        if data is None:
            raise NotFound("Nobody holds it", reason="UNKNOWN_PAYLOAD")
        if hashlib.sha256(data).hexdigest() != request.payload_ref:
            raise Corrupted("It is not what its hash says")
        if request.max_bytes and len(data) > request.max_bytes:
            raise Refused("It is larger than that", reason="PAYLOAD_TOO_LARGE")
        yield data


class KitExchange(DataExchange[Settings], name="kit.exchange", version="0.1.0"):
    """A member's data exchange on a `FakeNetwork`."""

    backend: ClassVar[Backend]

    async def start(self, settings: Settings) -> None:
        self.backend.network.join(f"{self.backend.name}_dx", self)

    async def get_endpoint(
        self, request: exchange.GetEndpointRequest, call: CallContext
    ) -> exchange.GetEndpointResponse:
        peer = f"{self.backend.name}_dx"
        peer_id = f"{peer}/{request.node_name}" if request.node_name else peer
        profile = json.dumps({"id": peer_id, "endpoint": f"https://{peer}", "cert": "PEM"})
        return exchange.GetEndpointResponse(peer_json=profile, peer_id=peer_id)

    async def add_peer(
        self, request: exchange.AddPeerRequest, call: CallContext
    ) -> exchange.AddPeerResponse:
        self.backend.peers.add(json.loads(request.peer_json)["id"])
        return exchange.AddPeerResponse()

    async def remove_peer(
        self, request: exchange.RemovePeerRequest, call: CallContext
    ) -> exchange.RemovePeerResponse:
        self.backend.peers.discard(request.peer_id)
        return exchange.RemovePeerResponse()

    async def send_message(
        self, request: exchange.SendMessageRequest, call: CallContext
    ) -> common.Submission:
        namespace = json.loads(request.message)["batch"]["namespace"]
        body = PeerMessage(request.sender, request.recipient, request.message, Nanoseconds(0))
        return self._send(call, request.recipient, namespace, body)

    async def send_blob(
        self, request: exchange.SendBlobRequest, call: CallContext
    ) -> common.Submission:
        data = self._blob(request.payload_ref)
        body = PeerBlob(
            request.sender,
            request.recipient,
            request.network_namespace,
            request.data_id,
            hashlib.sha256(data).hexdigest(),
            len(data),
            f"received/{next(self.backend.network.numbers)}",
        )
        return self._send(call, request.recipient, request.network_namespace, body, data)

    async def upload_blob(
        self,
        header: exchange.UploadBlobHeader,
        chunks: AsyncIterator[bytes],
        call: CallContext,
    ) -> exchange.UploadBlobResponse:
        data = b"".join([chunk async for chunk in chunks])
        reference = f"{call.scope.namespace}/{header.data_id}"
        self.backend.blobs[reference] = data
        return exchange.UploadBlobResponse(
            payload_ref=reference, hash=hashlib.sha256(data).hexdigest(), size=len(data)
        )

    async def download_blob(
        self, request: exchange.DownloadBlobRequest, call: CallContext
    ) -> AsyncIterator[exchange.DownloadBlobResponse]:
        data = self._blob(request.payload_ref)
        yield exchange.DownloadBlobResponse(size=len(data), chunk=data[request.offset :])

    async def delete_blob(
        self, request: exchange.DeleteBlobRequest, call: CallContext
    ) -> exchange.DeleteBlobResponse:
        known = self.backend.blobs.pop(request.payload_ref, None) is not None
        return exchange.DeleteBlobResponse(replayed=not known)

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events]:
        wanted = subscription.listener.destination
        sent: set[str] = set()
        while True:
            changed = self.backend.changed
            for entry in list(self.backend.inbox):
                fits = (entry.network_namespace, entry.node) == (
                    wanted.network_namespace,
                    wanted.node_name,
                )
                if fits and entry.id not in sent:
                    sent.add(entry.id)
                    yield Events([_delivered(entry)])
            await changed.wait()

    async def acked(self, acked: Acked) -> None:
        for entry in [entry for entry in self.backend.inbox if entry.id in acked.event_ids]:
            self.backend.inbox.remove(entry)
            digest = entry.body.hash if isinstance(entry.body, PeerBlob) else ""
            update = events.OperationUpdate(
                idempotency_key=entry.call.key,
                state=common.OPERATION_STATE_SUCCEEDED,
                manifest=acked.receipts.get(entry.id, ""),
                hash=digest,
            )
            sender = entry.sender
            assert isinstance(sender, KitExchange)
            await sender.instance.publish(sender.backend.streams[entry.call.key], update)

    def receive(self, delivery: Delivery) -> None:
        if isinstance(delivery.body, PeerBlob):
            self.backend.blobs[delivery.body.payload_ref] = delivery.data
        self.backend.inbox.append(delivery)
        self.backend.wake()

    def delivered(self, call: CallKey, update: WorkUpdate) -> None:
        raise AssertionError("told by publish")

    def _send(
        self,
        call: CallContext,
        recipient: str,
        network_namespace: str,
        body: PeerMessage | PeerBlob,
        data: bytes = b"",
    ) -> common.Submission:
        if recipient not in self.backend.peers:
            raise NotFound(f"The peer {recipient} is not known", reason="UNKNOWN_PEER")
        peer, _, node = recipient.partition("/")
        name = f"{peer}/{next(self.backend.network.numbers)}"
        self.backend.streams[call.idempotency_key] = call.scope
        key = CallKey(call.idempotency_key, Namespace(call.scope.namespace))
        delivery = Delivery(name, network_namespace, node, body, self, key, data)
        self.backend.network.send(peer, delivery)
        return common.Submission()

    def _blob(self, reference: str) -> bytes:
        if reference not in self.backend.blobs:
            raise NotFound(f"There is no blob {reference}", reason="UNKNOWN_BLOB")
        return self.backend.blobs[reference]


def _mined(mined: Mined) -> events.Event:
    event = events.Event(id=f"{mined.block:012d}/000000/000000")
    match mined.body:
        case BatchPinned() as pin:
            event.batch_pin.transaction_uuid = pin.transaction
            event.batch_pin.batch_id = pin.batch
            event.batch_pin.batch_hash = pin.batch_hash
            event.batch_pin.payload_ref = pin.payload_ref
            event.batch_pin.contexts.extend(pin.contexts)
            event.batch_pin.chain.CopyFrom(_chain(pin.chain))
        case NetworkActionSeen() as action:
            event.network_action.action = action.action
            event.network_action.payload = action.payload
            event.network_action.chain.CopyFrom(_chain(action.chain))
        case _:
            raise AssertionError("the tests mine nothing else")
    return event


def _chain(found: ChainEvent) -> common.ChainEvent:
    made = common.ChainEvent(
        position=common.Position(block=found.block),
        protocol_id=found.protocol_id,
        transaction_id=found.transaction_id,
        location_json=found.location,
        output_json=found.output,
        info_json=found.info,
        signer=found.signer,
        source=found.source,
    )
    made.timestamp.FromNanoseconds(found.timestamp)
    return made


def _delivered(entry: Delivery) -> events.Event:
    event = events.Event(id=entry.id)
    match entry.body:
        case PeerMessage() as message:
            event.message_received.sender = message.sender
            event.message_received.recipient = message.recipient
            event.message_received.message = message.message
        case PeerBlob() as blob:
            event.blob_received.sender = blob.sender
            event.blob_received.recipient = blob.recipient
            event.blob_received.network_namespace = blob.network_namespace
            event.blob_received.data_id = blob.data_id
            event.blob_received.hash = blob.hash
            event.blob_received.size = blob.size
            event.blob_received.payload_ref = blob.payload_ref
    return event
