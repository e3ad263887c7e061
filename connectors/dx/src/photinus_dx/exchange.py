"""The data exchange as a whole, put together from its parts; what the binding to the core talks to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from photinus_journal import SqliteJournal
from photinus_sdk.context import StreamKey
from photinus_sdk.errors import Exhausted, NotFound, Refused, Rejected

from photinus_dx.blobs import BlobStore
from photinus_dx.certificates import Identity, load_identity, own_identity
from photinus_dx.delivery import Sender
from photinus_dx.errors import PeerRefusal
from photinus_dx.inbox import Inbox
from photinus_dx.model import (
    Dispatch,
    Peer,
    PeerDocument,
    PeerId,
    Received,
    Scope,
    check_name,
    check_uuid,
)
from photinus_dx.peers import PeerRegistry
from photinus_dx.server import PeerServer
from photinus_dx.settings import Settings
from photinus_dx.store import Store
from photinus_dx.store_blobs import BlobIndex, StoredBlob
from photinus_dx.store_inbox import InboxStore
from photinus_dx.wire import network_of

PORT_NAME = "port"
OUTBOX_RETRY_S = 1.0


@dataclass(frozen=True)
class Endpoint:
    """What other members must know of us."""

    peer_id: str
    peer_json: str
    expires_s: int


def scope_of(stream: StreamKey) -> Scope:
    """Whose peers, queues and blobs a call is about."""
    return Scope(stream.cluster_id, stream.namespace)


class Exchange:
    """One data exchange: `start`, then `run` in a task, at the end `aclose`."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        journal: SqliteJournal,
        reachable: Callable[[Peer, bool, str], None] = lambda _peer, _answers, _why: None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._journal = journal
        self._store = Store(journal)
        incoming = InboxStore(journal)
        self._incoming = incoming
        self._reachable = reachable
        self._blobs = BlobStore(
            folder, BlobIndex(journal), max_bytes=settings.limits.max_blob_bytes
        )
        self._inbox = Inbox(
            incoming,
            settings.limits,
            settings.delivery,
            self._receipt_due,
        )
        self._registry: PeerRegistry
        self._sender: Sender
        self._server: PeerServer
        self._identity: Identity
        self._endpoint = ""

    async def start(self) -> None:
        """Open the store, make or load the identity, and listen.

        Raises:
            Rejected: INVALID_CERTIFICATE.
            Refused: ADDRESS_IN_USE.
        """
        settings = self._settings
        await self._store.open()
        host, port = _host_port(settings.listen)
        if not port:
            port = int(await self._store.recall(PORT_NAME) or 0)
        listening = await asyncio.to_thread(_bind, host, port)
        try:
            port = listening.getsockname()[1]
            await self._store.remember(PORT_NAME, str(port))
            self._endpoint = settings.endpoint.rstrip("/") or f"https://{_bracketed(host)}:{port}"
            self._identity = await asyncio.to_thread(self._load_identity)
            self._registry = PeerRegistry(self._identity, await self._store.peers())
            await self._blobs.open(settings.delivery.partial_retention_s)
            await self._inbox.open()
            self._sender = Sender(
                self._store,
                self._incoming,
                self._registry,
                self._blobs,
                settings.delivery,
                self._reachable,
            )
            self._server = PeerServer(
                self._store,
                self._registry,
                self._inbox,
                self._blobs,
                settings.limits,
                settings.delivery,
            )
            await self._server.start(listening)
        except BaseException:
            listening.close()
            raise

    async def run(self) -> None:
        """Deliver what is queued until cancelled."""
        await self._sender.run()

    async def aclose(self) -> None:
        """Stop listening and finish work on the disk."""
        if hasattr(self, "_server"):
            await self._server.aclose()
        await self._blobs.aclose()

    # Peers

    def endpoint(self, node_name: str) -> Endpoint:
        """What other members must know of a node of ours.

        Raises:
            Rejected: INVALID_NAME.
        """
        if node_name:
            check_name(node_name, "node name")
        peer_id = PeerId(self._identity.peer, node_name).text
        document = PeerDocument(peer_id, self._endpoint, self._identity.certificate_pem)
        return Endpoint(peer_id, msgspec.json.encode(document).decode(), self._identity.expires_s)

    async def add_peer(self, stream: StreamKey, network: str, peer_json: str) -> bool:
        """Make a peer known or replace what is known of it, durably and at once; True when nothing changed.

        Raises:
            Rejected: INVALID_PEER, INVALID_PEER_ID, INVALID_CERTIFICATE, INVALID_NAME.
            Exhausted: TOO_MANY_PEERS.
        """
        peer = Peer.parse(scope_of(stream), network, peer_json)
        known = self._registry.get(peer.scope, peer.id)
        if known == peer:
            return True
        limit = self._settings.limits.max_peers
        if known is None and self._registry.count(peer.scope) >= limit:
            raise Exhausted(f"The namespace has {limit} peers already", reason="TOO_MANY_PEERS")
        await self._store.put_peer(peer)
        self._registry.put(peer)
        return False

    async def remove_peer(self, stream: StreamKey, peer_id: str) -> bool:
        """Forget a peer; its queued sends end as failed. False when it was not known."""
        parsed = PeerId.parse(peer_id)
        known = self._registry.get(scope_of(stream), parsed) is not None
        await self._store.remove_peer(scope_of(stream), parsed)
        self._registry.remove(scope_of(stream), parsed)
        return known

    # Sending

    def check_ends(self, stream: StreamKey, recipient: str, sender: str) -> tuple[PeerId, PeerId]:
        """Receiver and sender of a send.

        Raises:
            NotFound: UNKNOWN_PEER.
            Rejected: INVALID_PEER_ID, UNKNOWN_SENDER.
        """
        to, by = PeerId.parse(recipient), PeerId.parse(sender)
        if by.peer != self._identity.peer:
            raise Rejected(
                f"This exchange is {self._identity.peer}; it cannot send as {sender}",
                reason="UNKNOWN_SENDER",
            )
        if self._registry.get(scope_of(stream), to) is None:
            raise NotFound(f"There is no peer {recipient!r}", reason="UNKNOWN_PEER")
        return to, by

    async def send(self, stream: StreamKey, key: str, dispatch: Dispatch) -> str:
        """Queue a message or blob, durably; returns the id the peer will know it by. Idempotent by key.

        Raises:
            NotFound: UNKNOWN_BLOB.
            Rejected: MESSAGE_TOO_LARGE, MALFORMED_MESSAGE, INVALID_NAME, INVALID_ID.
            Exhausted: OUTBOX_FULL.
        """
        if dispatch.payload_ref:
            check_name(dispatch.network, "network namespace")
            check_uuid(dispatch.data_id, "data id")
            await self._blobs.find(dispatch.payload_ref)
        else:
            self._check_message(dispatch.message)
        limit = self._settings.limits.outbox_messages
        if self._store.waiting >= limit:
            raise Exhausted(
                f"{limit} sends wait already", reason="OUTBOX_FULL", retry_after_s=OUTBOX_RETRY_S
            )
        item_id = await self._store.enqueue(stream, key, dispatch)
        self._sender.wake(scope_of(stream), dispatch.recipient)
        return item_id

    async def withdraw(self, stream: StreamKey, key: str) -> bool:
        """Take back a send nothing of which has left; True when it is gone for ever."""
        return await self._store.withdraw(stream, key)

    def _receipt_due(self, network: str, sender: PeerId) -> None:
        self._sender.wake_receipts(network, sender)

    def _check_message(self, message: str) -> None:
        limit = self._settings.limits.max_message_bytes
        if len(message.encode()) > limit:
            raise Rejected(f"A message may have {limit} bytes", reason="MESSAGE_TOO_LARGE")
        try:
            network_of(message)
        except PeerRefusal as refusal:
            raise Rejected(str(refusal), reason=refusal.reason) from refusal

    # Receiving

    async def receive(
        self, network: str, node: str, items: int, size: int
    ) -> AsyncIterator[list[Received]]:
        """What came for a node and is not stored by its core yet, oldest first, then what comes. Endless."""
        await self._inbox.claim(network, node)
        after = 0
        while True:
            found = await self._inbox.next(network, node, after, items, size)
            after = found[-1].seq
            yield found

    def event_id(self, received: Received) -> str:
        """Unique, sortable, and the same whenever the item is sent to the core."""
        return f"inbox/{self._journal.store_id}/{received.seq:020d}"

    def recipient(self, received: Received) -> str:
        """Peer id of the node an item is for."""
        return PeerId(self._identity.peer, received.node).text

    async def stored_by_core(self, manifests: Mapping[str, str]) -> None:
        """The core has committed events (id → manifest, empty for none): forget them and tell their senders."""
        rows = {
            int(event_id.rpartition("/")[2]): manifest for event_id, manifest in manifests.items()
        }
        await self._inbox.stored_by_core(rows, self._identity.peer)

    # Blobs

    async def upload_blob(
        self, stream: StreamKey, data_id: str, chunks: AsyncIterator[bytes]
    ) -> StoredBlob:
        """Store an own blob; see `BlobStore.upload`."""
        check_uuid(data_id, "data id")
        return await self._blobs.upload(scope_of(stream), data_id, chunks)

    async def find_blob(self, payload_ref: str) -> StoredBlob:
        """A stored blob. Raises NotFound: UNKNOWN_BLOB."""
        return await self._blobs.find(payload_ref)

    def read_blob(self, blob: StoredBlob, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a blob from `offset`. Raises NotFound: UNKNOWN_BLOB."""
        return self._blobs.read(blob, offset)

    async def delete_blob(self, payload_ref: str) -> bool:
        """Delete a blob; False when there is none."""
        return await self._blobs.delete(payload_ref)

    def _load_identity(self) -> Identity:
        settings = self._settings
        if settings.certificate_file:
            return load_identity(Path(settings.certificate_file), Path(settings.key_file))
        host = urlsplit(self._endpoint).hostname or "localhost"
        return own_identity(self._folder, settings.organization, settings.organizational_unit, host)


def _host_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise Refused(
            f"Cannot listen on {_bracketed(host)}:{port}: {error}", reason="ADDRESS_IN_USE"
        ) from error
    return listening
