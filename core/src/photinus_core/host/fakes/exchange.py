"""Data exchange in memory: members hand messages and blobs to each other through one network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol

from photinus_core.host.fakes.instance import FakeInstance, Found, refusal, worked
from photinus_core.model.ids import Hash32, Nanoseconds, Uuid
from photinus_core.ports.connectors import (
    CallKey,
    ConnectorEvent,
    DestinationListener,
    Endpoint,
    Listener,
    PeerBlob,
    PeerMessage,
    Submission,
    WorkUpdate,
)
from photinus_core.ports.tasks import Background

CHUNK_BYTES: Final = 1 << 20
BATCH_MAX: Final = 50


class Party(Protocol):
    """What the network knows of a member."""

    def receive(self, delivery: Delivery) -> None:
        """Takes something; it stays until it is stored."""
        ...

    def delivered(self, call: CallKey, update: WorkUpdate) -> None:
        """Hears that something it sent was stored."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something under way to a member, with who waits for its end, and a blob's bytes."""

    id: str
    network_namespace: str
    node: str
    body: PeerMessage | PeerBlob
    sender: Party
    call: CallKey
    data: bytes = b""


@dataclass(slots=True)
class FakeNetwork:
    """What connects the members; what is sent to one that is not there yet waits."""

    members: dict[str, Party] = field(default_factory=dict)
    waiting: list[tuple[str, Delivery]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=lambda: count(1))

    def join(self, peer: str, member: Party) -> None:
        """Adds a member; what waited for it arrives."""
        self.members[peer] = member
        arrived = [delivery for waiting, delivery in self.waiting if waiting == peer]
        self.waiting = [entry for entry in self.waiting if entry[0] != peer]
        for delivery in arrived:
            member.receive(delivery)

    def send(self, peer: str, delivery: Delivery) -> None:
        """Hands something to a member."""
        member = self.members.get(peer)
        if member is None:
            self.waiting.append((peer, delivery))
        else:
            member.receive(delivery)


class FakeDataExchange(FakeInstance):
    """One member's data exchange. Its peer id is the member's name with `_dx` behind it."""

    def __init__(self, name: str, work: Background, network: FakeNetwork) -> None:
        super().__init__(name, work)
        self.peer = f"{name}_dx"
        self._network = network
        self._peers: set[str] = set()
        self._blobs: dict[str, bytes] = {}
        self._inbox: list[Delivery] = []
        network.join(self.peer, self)

    async def endpoint(self, node_name: str) -> Endpoint:
        """This member's own endpoint."""
        self.check_present()
        peer_id = f"{self.peer}/{node_name}" if node_name else self.peer
        profile = {"id": peer_id, "endpoint": f"https://{self.peer}", "cert": "PEM"}
        return Endpoint(json.dumps(profile), peer_id, 0)

    async def add_peer(self, call: CallKey, network_namespace: str, peer_json: str) -> None:
        """Makes a peer known."""
        if self.begin(call, "AddPeer", (network_namespace, peer_json)) is None:
            self._peers.add(str(json.loads(peer_json)["id"]))

    async def remove_peer(self, call: CallKey, network_namespace: str, peer_id: str) -> None:
        """Forgets a peer."""
        if self.begin(call, "RemovePeer", (network_namespace, peer_id)) is None:
            self._peers.discard(peer_id)

    async def send_message(
        self, call: CallKey, recipient: str, sender: str, message: str
    ) -> Submission:
        """Hands a message over; its end is told when the receiver has stored it."""
        self._check_known(recipient)
        known = self.begin(call, "SendMessage", (recipient, sender, message))
        if known is not None:
            return known
        body = PeerMessage(sender, recipient, message, Nanoseconds(0))
        return self._send(call, recipient, _network_namespace(message), body)

    async def send_blob(
        self,
        call: CallKey,
        recipient: str,
        sender: str,
        network_namespace: str,
        data_id: Uuid,
        payload_ref: str,
    ) -> Submission:
        """Hands a copy of a blob over."""
        self._check_known(recipient)
        data = self._blob(payload_ref)
        arguments = (recipient, sender, network_namespace, data_id, payload_ref)
        known = self.begin(call, "SendBlob", arguments)
        if known is not None:
            return known
        reference = f"received/{next(self._network.numbers)}"
        body = PeerBlob(
            sender=sender,
            recipient=recipient,
            network_namespace=network_namespace,
            data_id=data_id,
            hash=hashlib.sha256(data).hexdigest(),
            size=len(data),
            payload_ref=reference,
        )
        return self._send(call, recipient, network_namespace, body, data)

    async def upload_blob(
        self, call: CallKey, data_id: Uuid, chunks: AsyncIterator[bytes]
    ) -> tuple[str, Hash32, int]:
        """Stores a blob; nothing stays behind when the chunks break off."""
        self.check_present()
        data = b"".join([chunk async for chunk in chunks])
        digest = Hash32(hashlib.sha256(data).hexdigest())
        reference = f"{call.namespace}/{data_id}"
        if self.begin(call, "UploadBlob", (data_id, digest)) is None:
            self._blobs[reference] = data
        return reference, digest, len(data)

    async def download_blob(self, payload_ref: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Reads a blob."""
        self.check_present()
        data = self._blob(payload_ref)
        for start in range(offset, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    async def delete_blob(self, call: CallKey, payload_ref: str) -> None:
        """Deletes a blob; an unknown one is success."""
        if self.begin(call, "DeleteBlob", payload_ref) is None:
            self._blobs.pop(payload_ref, None)

    def receive(self, delivery: Delivery) -> None:
        """Takes something from the network; it stays until the core has stored it."""
        if isinstance(delivery.body, PeerBlob):
            self._blobs[delivery.body.payload_ref] = delivery.data
        self._inbox.append(delivery)
        self.wake()

    def found(self, listener: Listener, network_namespace: str, behind: bytes) -> list[Found]:  # noqa: ARG002 - the inbox is the position
        """What waits in the inbox for the listener's node."""
        if not isinstance(listener, DestinationListener):
            return []
        return [
            Found(ConnectorEvent(entry.id, listener.id, removed=False, body=entry.body))
            for entry in self._inbox
            if entry.node == listener.node_name
            and entry.network_namespace == listener.network_namespace
        ][:BATCH_MAX]

    def acked(self, event: ConnectorEvent, manifest: str) -> None:
        """Takes it out of the inbox and tells the sender."""
        for entry in [entry for entry in self._inbox if entry.id == event.id]:
            self._inbox.remove(entry)
            digest = entry.body.hash if isinstance(entry.body, PeerBlob) else ""
            update = worked(entry.call.key, manifest=manifest, content_hash=digest)
            entry.sender.delivered(entry.call, update)

    def delivered(self, call: CallKey, update: WorkUpdate) -> None:
        """Something it sent was stored."""
        self.finish(call, update)

    def _send(
        self,
        call: CallKey,
        recipient: str,
        network_namespace: str,
        body: PeerMessage | PeerBlob,
        data: bytes = b"",
    ) -> Submission:
        peer, _, node = recipient.partition("/")
        name = f"{peer}/{next(self._network.numbers)}"
        delivery = Delivery(name, network_namespace, node, body, self, call, data)
        self._network.send(peer, delivery)
        return self.scope(call.namespace).work[call.key].submission

    def _check_known(self, recipient: str) -> None:
        self.check_present()
        if recipient not in self._peers:
            raise refusal("UNKNOWN_PEER", f"The peer {recipient} is not known")

    def _blob(self, reference: str) -> bytes:
        data = self._blobs.get(reference)
        if data is None:
            raise refusal("UNKNOWN_BLOB", f"There is no blob {reference}")
        return data


def _network_namespace(message: str) -> str:
    """The network name in FireFly's transport wrapper."""
    try:
        return str(json.loads(message)["batch"]["namespace"])
    except (ValueError, KeyError, TypeError):
        raise refusal("INVALID_INPUTS", "The message is no transport wrapper") from None
