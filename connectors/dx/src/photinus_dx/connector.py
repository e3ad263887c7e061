"""The data-exchange contract over `Exchange`: requests in, events out, nothing decided here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import data_exchange_pb2 as pb
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus_sdk import (
    Acked,
    CallContext,
    DataExchange,
    Events,
    Passed,
    Rejected,
    SqliteJournal,
    Subscription,
    finding,
)

from photinus_dx.exchange import Exchange
from photinus_dx.model import Dispatch, Peer, Received, check_name
from photinus_dx.schema import SCHEMA
from photinus_dx.settings import MIB, Settings

READ_BYTES = MIB
RETENTION_S = 7 * 86_400


class DxConnector(
    DataExchange[Settings],
    name="dx",
    version="0.1.0",
    vendor="Photinus",
    stability=connector.STABILITY_BETA,
    multi_instance=True,
    capabilities=(connector.CAPABILITY_RECEIPTS, connector.CAPABILITY_RESUME),
    limits=connector.Limits(
        max_message_bytes=3 * MIB, max_in_flight=4096, idempotency_retention_s=RETENTION_S
    ),
):
    """Messages and blobs between members over mutual TLS, in FireFly's peer format."""

    _exchange: Exchange

    def open_journal(self, data_dir: Path) -> SqliteJournal:
        """The kit's journal with the exchange's tables beside its own."""
        path = data_dir / "journal.sqlite"
        self._journal = SqliteJournal(path, schema=SCHEMA, retention_s=RETENTION_S)
        return self._journal

    @classmethod
    async def validate(cls, settings: Settings) -> Iterable[common.Diagnostic]:
        """Findings that involve more than one setting, or files."""
        found = []
        if bool(settings.certificate_file) != bool(settings.key_file):
            found.append(finding("certificateFile and keyFile go together", "/keyFile"))
        if settings.certificate_file and (settings.organization or settings.organizational_unit):
            found.append(
                finding(
                    "The configured certificate names the peer; organization has no effect",
                    "/organization",
                    warning=True,
                )
            )
        if settings.listen.startswith(("0.0.0.0:", "[::]:")) and not settings.endpoint:
            found.append(
                finding("Peers cannot dial the wildcard address; give endpoint", "/endpoint")
            )
        return found

    async def start(self, settings: Settings) -> None:
        self._exchange = Exchange(
            settings, self.instance.data_dir, self._journal, self._peer_answers
        )
        await self._exchange.start()

    async def run(self) -> None:
        """Delivers what is queued."""
        await self._exchange.run()

    async def stop(self) -> None:
        if hasattr(self, "_exchange"):
            await self._exchange.aclose()

    # Peers

    async def get_endpoint(
        self,
        request: pb.GetEndpointRequest,
        call: CallContext,  # noqa: ARG002 - the kit's interface
    ) -> pb.GetEndpointResponse:
        endpoint = self._exchange.endpoint(request.node_name)
        return pb.GetEndpointResponse(
            peer_json=endpoint.peer_json,
            peer_id=endpoint.peer_id,
            certificate_expires_s=endpoint.expires_s,
        )

    async def add_peer(self, request: pb.AddPeerRequest, call: CallContext) -> pb.AddPeerResponse:
        known = await self._exchange.add_peer(
            call.scope, request.network_namespace, request.peer_json
        )
        return pb.AddPeerResponse(replayed=known)

    async def remove_peer(
        self, request: pb.RemovePeerRequest, call: CallContext
    ) -> pb.RemovePeerResponse:
        known = await self._exchange.remove_peer(call.scope, request.peer_id)
        return pb.RemovePeerResponse(replayed=not known)

    # Sending

    async def send_message(
        self, request: pb.SendMessageRequest, call: CallContext
    ) -> common.Submission:
        to, by = self._exchange.check_ends(call.scope, request.recipient, request.sender)
        dispatch = Dispatch(to, by, message=request.message)
        return await self._send(call, dispatch)

    async def send_blob(self, request: pb.SendBlobRequest, call: CallContext) -> common.Submission:
        to, by = self._exchange.check_ends(call.scope, request.recipient, request.sender)
        if not request.payload_ref:
            raise Rejected("A blob needs its payload_ref", reason="INVALID_ID")
        dispatch = Dispatch(
            to,
            by,
            network=request.network_namespace,
            data_id=request.data_id,
            payload_ref=request.payload_ref,
        )
        return await self._send(call, dispatch)

    async def cancel(self, operation: operations.Operation, call: CallContext) -> bool:
        """Withdraws a send nothing of which has left."""
        return await self._exchange.withdraw(call.scope, operation.idempotency_key)

    async def _send(self, call: CallContext, dispatch: Dispatch) -> common.Submission:
        item_id = await self._exchange.send(call.scope, call.idempotency_key, dispatch)
        return common.Submission(state=common.OPERATION_STATE_PENDING, external_id=item_id)

    # Blobs

    async def upload_blob(
        self, header: pb.UploadBlobHeader, chunks: AsyncIterator[bytes], call: CallContext
    ) -> pb.UploadBlobResponse:
        blob = await self._exchange.upload_blob(call.scope, header.data_id, chunks)
        return pb.UploadBlobResponse(payload_ref=blob.payload_ref, hash=blob.hash, size=blob.size)

    async def download_blob(
        self,
        request: pb.DownloadBlobRequest,
        call: CallContext,  # noqa: ARG002 - the kit's interface
    ) -> AsyncIterator[pb.DownloadBlobResponse]:
        blob = await self._exchange.find_blob(request.payload_ref)
        if request.offset > blob.size:
            raise Rejected(
                f"Offset {request.offset} is behind the end, {blob.size}", reason="INVALID_OFFSET"
            )
        yield pb.DownloadBlobResponse(size=blob.size)
        async for chunk in self._exchange.read_blob(blob, request.offset):
            yield pb.DownloadBlobResponse(chunk=chunk)

    async def delete_blob(
        self,
        request: pb.DeleteBlobRequest,
        call: CallContext,  # noqa: ARG002 - the kit's interface
    ) -> pb.DeleteBlobResponse:
        return pb.DeleteBlobResponse(
            replayed=not await self._exchange.delete_blob(request.payload_ref)
        )

    # Events

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        """What came for a node, from the oldest the core has not stored."""
        listener = subscription.listener
        if listener.WhichOneof("filter") != "destination":
            raise Rejected("A data exchange listens to destinations only", reason="WRONG_FILTER")
        wanted = listener.destination
        check_name(wanted.network_namespace, "network namespace")
        if wanted.node_name:
            check_name(wanted.node_name, "node name")
        async for found in self._exchange.receive(
            wanted.network_namespace, wanted.node_name, subscription.batch_size, READ_BYTES
        ):
            yield Events([self._event(received) for received in found])

    async def acked(self, acked: Acked) -> None:
        """The core has stored these: their senders are told."""
        await self._exchange.stored_by_core(
            {event_id: acked.receipts.get(event_id, "") for event_id in acked.event_ids}
        )

    def _event(self, received: Received) -> events.Event:
        event = events.Event(id=self._exchange.event_id(received))
        recipient = self._exchange.recipient(received)
        if received.payload_ref:
            event.blob_received.CopyFrom(
                events.BlobReceived(
                    sender=received.sender,
                    recipient=recipient,
                    network_namespace=received.network,
                    data_id=received.data_id,
                    hash=received.hash,
                    size=received.size,
                    payload_ref=received.payload_ref,
                )
            )
        else:
            event.message_received.sender = received.sender
            event.message_received.recipient = recipient
            event.message_received.message = received.message
            event.message_received.received.FromNanoseconds(received.received_ns)
        return event

    def _peer_answers(self, peer: Peer, reachable: bool, why: str) -> None:
        subject = f"{peer.scope.cluster_id}/{peer.scope.namespace}/{peer.id.text}"
        changed = events.PeerChanged(peer_id=peer.id.text, reachable=reachable, reason=why)
        event = events.Event(id=f"peer/{time.time_ns()}/{peer.id.text}"[:256], peer_changed=changed)
        self.instance.announce(subject, event)
