# ruff: noqa: ARG002 - the kit's interface: request and call, used or not
"""The data exchange contract: a mailbox for each member, from which its core takes what it has stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Final

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import data_exchange_pb2 as pb
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import (
    Acked,
    CallContext,
    DataExchange,
    Events,
    NotFound,
    Passed,
    Rejected,
    StreamKey,
    Subscription,
)

from photinus_memory.facts import BlobKept, Ended, PeerKnown, Sent, Told
from photinus_memory.member import Member, MemorySettings, read_object
from photinus_memory.world import member_of

MIB: Final = 1 << 20
MESSAGE_BYTES_MAX: Final = 3 * MIB


class MemoryExchange(Member, DataExchange[MemorySettings]):
    """Messages and blobs between members of one world."""

    @property
    def _member(self) -> str:
        return self.settings.member

    # Peers

    async def get_endpoint(
        self, request: pb.GetEndpointRequest, call: CallContext
    ) -> pb.GetEndpointResponse:
        peer_id = f"{self._member}/{request.node_name}" if request.node_name else self._member
        peer = {"id": peer_id, "endpoint": f"memory://{self._member}", "cert": ""}
        return pb.GetEndpointResponse(peer_json=json.dumps(peer), peer_id=peer_id)

    async def add_peer(self, request: pb.AddPeerRequest, call: CallContext) -> pb.AddPeerResponse:
        peer_id = read_object(request.peer_json, "peer").get("id")
        if not isinstance(peer_id, str) or not member_of(peer_id):
            raise Rejected("The peer has no id", reason="INVALID_PEER")
        place = (self._member, _scope(call), peer_id)
        known = self.world.peers.get(place) == request.peer_json
        if not known:
            self.world.record(PeerKnown(*place, request.peer_json))
        return pb.AddPeerResponse(replayed=known)

    async def remove_peer(
        self, request: pb.RemovePeerRequest, call: CallContext
    ) -> pb.RemovePeerResponse:
        place = (self._member, _scope(call), request.peer_id)
        known = place in self.world.peers
        if known:
            self.world.record(PeerKnown(*place, ""))
            left = [
                sent.id
                for sent in self.world.mail.values()
                if sent.instance == call.instance
                and sent.recipient == request.peer_id
                and _scope_of(StreamKey.parse(sent.stream)) == _scope(call)
            ]
            for name in left:
                self.world.record(Ended(name, error=f"The peer {request.peer_id} was removed"))
        return pb.RemovePeerResponse(replayed=not known)

    # Sending

    async def send_message(
        self, request: pb.SendMessageRequest, call: CallContext
    ) -> common.Submission:
        if len(request.message.encode()) > MESSAGE_BYTES_MAX:
            raise Rejected(
                f"The message has more than {MESSAGE_BYTES_MAX} bytes", reason="MESSAGE_TOO_LARGE"
            )
        batch = read_object(request.message, "message").get("batch")
        network = batch.get("namespace") if isinstance(batch, dict) else None
        if not isinstance(network, str):
            raise Rejected("The message names no namespace", reason="INVALID_INPUTS")
        self._check_known(request.recipient, call)
        told = events.MessageReceived(
            sender=self._sender(request.sender),
            recipient=request.recipient,
            message=request.message,
        )
        told.received.GetCurrentTime()
        name = self._name(call)
        event = events.Event(id=name, message_received=told)
        self._send(call, name, network, request.recipient, told.sender, event)
        return common.Submission()

    async def send_blob(self, request: pb.SendBlobRequest, call: CallContext) -> common.Submission:
        self._check_known(request.recipient, call)
        content = self._blob(request.payload_ref)
        self.world.check_room(len(content))
        name = self._name(call)
        told = events.BlobReceived(
            sender=self._sender(request.sender),
            recipient=request.recipient,
            network_namespace=request.network_namespace,
            data_id=request.data_id,
            hash=hashlib.sha256(content).hexdigest(),
            size=len(content),
            payload_ref=name,
        )
        event = events.Event(id=name, blob_received=told)
        network = request.network_namespace
        self._send(call, name, network, request.recipient, told.sender, event, content)
        return common.Submission()

    def _send(  # noqa: PLR0913 - the parts of one record
        self,
        call: CallContext,
        name: str,
        network: str,
        recipient: str,
        sender: str,
        event: events.Event,
        content: bytes | None = None,
    ) -> None:
        if name in self.world.mail or name in self.world.ended:
            return  # a call that was begun before, and did not come to an answer
        self.world.record(
            Sent(
                id=name,
                instance=call.instance,
                stream=call.scope.text,
                key=call.idempotency_key,
                sender=sender,
                recipient=recipient,
                network=network,
                event=event.SerializeToString(),
                digest=event.blob_received.hash,
                content=content,
            )
        )

    def _name(self, call: CallContext) -> str:
        return f"received/{self.transaction(call)}"

    def _sender(self, claimed: str) -> str:
        node = claimed.partition("/")[2]
        return f"{self._member}/{node}" if node else self._member

    def _check_known(self, recipient: str, call: CallContext) -> None:
        if (self._member, _scope(call), recipient) not in self.world.peers:
            raise NotFound(f"The peer {recipient[:200]} is not known", reason="UNKNOWN_PEER")

    # Receiving

    async def receive(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        """What lies in the mailbox for a listener's node and network, each once."""
        wanted = subscription.listener.destination
        recipient = f"{self._member}/{wanted.node_name}"
        given: set[str] = set()
        while True:
            changed = self.world.changed
            known = {
                member_of(peer) for owner, _, peer in self.world.peers if owner == self._member
            }
            given &= self.world.mail.keys()
            found = [
                sent
                for sent in self.world.mail.values()
                if sent.recipient == recipient
                and sent.network == wanted.network_namespace
                and member_of(sent.sender) in known
                and sent.id not in given
            ]
            for sent in found:
                given.add(sent.id)
                yield Events([events.Event.FromString(sent.event)])
            await changed.wait()

    async def acked(self, acked: Acked) -> None:
        for name in acked.event_ids:
            sent = self.world.mail.get(name)
            if sent is not None and member_of(sent.recipient) == self._member:
                self.world.record(Ended(name, manifest=acked.receipts.get(name, "")))

    async def run(self) -> None:
        """Tells the streams of this instance how its sends ended."""
        while True:
            changed = self.world.changed
            ours = [
                (sent, ended)
                for sent, ended in self.world.ended.values()
                if sent.instance == self.instance.name
            ]
            for sent, ended in ours:
                failed = bool(ended.error)
                update = events.OperationUpdate(
                    idempotency_key=sent.key,
                    state=common.OPERATION_STATE_FAILED
                    if failed
                    else common.OPERATION_STATE_SUCCEEDED,
                    external_id=sent.id,
                    error=ended.error,
                    manifest=ended.manifest,
                    hash="" if failed else sent.digest,
                )
                await self.instance.publish(StreamKey.parse(sent.stream), update)
                self.world.record(Told(sent.id))
            await changed.wait()

    # Blobs

    async def upload_blob(
        self, header: pb.UploadBlobHeader, chunks: AsyncIterator[bytes], call: CallContext
    ) -> pb.UploadBlobResponse:
        content = b"".join([chunk async for chunk in chunks])
        self.world.check_room(len(content))
        digest = hashlib.sha256(content).hexdigest()
        reference = f"{call.scope.namespace}/{header.data_id}/{digest[:16]}"
        self.world.record(BlobKept(self._member, reference, content))
        return pb.UploadBlobResponse(payload_ref=reference, hash=digest, size=len(content))

    async def download_blob(
        self, request: pb.DownloadBlobRequest, call: CallContext
    ) -> AsyncIterator[pb.DownloadBlobResponse]:
        content = self._blob(request.payload_ref)
        yield pb.DownloadBlobResponse(size=len(content), chunk=content[request.offset :])

    async def delete_blob(
        self, request: pb.DeleteBlobRequest, call: CallContext
    ) -> pb.DeleteBlobResponse:
        known = (self._member, request.payload_ref) in self.world.blobs
        if known:
            self.world.record(BlobKept(self._member, request.payload_ref, None))
        return pb.DeleteBlobResponse(replayed=not known)

    def _blob(self, reference: str) -> bytes:
        content = self.world.blobs.get((self._member, reference))
        if content is None:
            raise NotFound(f"There is no blob {reference[:200]}", reason="UNKNOWN_BLOB")
        return content


def _scope(call: CallContext) -> tuple[str, str]:
    return _scope_of(call.scope)


def _scope_of(stream: StreamKey) -> tuple[str, str]:
    return stream.cluster_id, stream.namespace
