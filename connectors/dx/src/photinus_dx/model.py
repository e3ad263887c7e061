"""The words of the data exchange: scopes, peers, what is sent and what is received. Plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from photinus_sdk.errors import Rejected

from photinus_dx.certificates import PinnedCertificate, pinned_certificates

# FireFly's rule for names of namespaces and nodes; it also keeps them from meaning anything to a file system.
NAME_FORM = re.compile(r"[0-9A-Za-z]([0-9A-Za-z._-]{0,62}[0-9A-Za-z])?")
UUID_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PEER_ID_BYTES_MAX = 256


class Scope(NamedTuple):
    """One namespace of one core: peers, queues and own blobs of two scopes never meet."""

    cluster_id: str
    namespace: str


class PeerId(NamedTuple):
    """`<peer>` or `<peer>/<node>`: the name a certificate proves, and the node behind it."""

    peer: str
    node: str

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Split an id.

        Raises:
            Rejected: INVALID_PEER_ID.
        """
        peer, slash, node = text.partition("/")
        if (
            not peer
            or len(text.encode()) > PEER_ID_BYTES_MAX
            or not text.isprintable()
            or (slash and not NAME_FORM.fullmatch(node))
        ):
            raise Rejected(
                f"{text!r} is no peer id: <peer> or <peer>/<node>", reason="INVALID_PEER_ID"
            )
        return cls(peer, node)

    @property
    def text(self) -> str:
        """The id as one string."""
        return f"{self.peer}/{self.node}" if self.node else self.peer


class PeerDocument(msgspec.Struct, frozen=True):
    """What FireFly's node profile says of a peer."""

    id: str
    endpoint: str
    cert: str


@dataclass(frozen=True)
class Peer:
    """A registered peer of one namespace.

    Attributes:
        scope: Namespace that registered it.
        network: Network name of that namespace.
        id: Its id.
        endpoint: Base URL of its data exchange, without a slash at the end.
        pins: Certificates it may show.
    """

    scope: Scope
    network: str
    id: PeerId
    endpoint: str
    pins: tuple[PinnedCertificate, ...]
    certificate_pem: str

    @classmethod
    def parse(cls, scope: Scope, network: str, peer_json: str) -> Peer:
        """Read and check a peer's own description.

        Raises:
            Rejected: INVALID_PEER, INVALID_PEER_ID, INVALID_CERTIFICATE, INVALID_NAME.
        """
        check_name(network, "network namespace")
        try:
            document = msgspec.json.decode(peer_json, type=PeerDocument)
        except msgspec.MsgspecError as error:
            raise Rejected(
                f"A peer is a JSON object with id, endpoint and cert: {error}",
                reason="INVALID_PEER",
            ) from error
        endpoint = document.endpoint.rstrip("/")
        if not re.fullmatch(r"https://[^/?#\s@]+(/[^?#\s]*)?", endpoint):
            raise Rejected(
                f"The endpoint {document.endpoint!r} is no https URL", reason="INVALID_PEER"
            )
        return cls.restore(scope, network, document.id, endpoint, document.cert)

    @classmethod
    def restore(cls, scope: Scope, network: str, peer_id: str, endpoint: str, pem: str) -> Peer:
        """Build a peer from checked parts; raises as `parse` for its id and certificate."""
        parsed = PeerId.parse(peer_id)
        return cls(scope, network, parsed, endpoint, pinned_certificates(pem, parsed.peer), pem)


@dataclass(frozen=True)
class Dispatch:
    """What is to be queued: a message, or a blob with its place at the peer."""

    recipient: PeerId
    sender: PeerId
    message: str = ""
    network: str = ""
    data_id: str = ""
    payload_ref: str = ""


@dataclass(frozen=True)
class Outgoing:
    """One row of the outbox.

    Attributes:
        seq: Its place; sends to one peer leave in this order.
        item_id: UUID the receiver recognises repetitions by.
        recipient: Id of the receiver.
        sender: Id of the sending node.
        message: The text of a message; empty for a blob.
        network: Network name the blob belongs to; empty for a message.
        data_id: UUID of the blob's data item; empty for a message.
        payload_ref: The blob; empty for a message.
        created_s: When it was queued.
    """

    seq: int
    item_id: str
    recipient: PeerId
    sender: PeerId
    message: str
    network: str
    data_id: str
    payload_ref: str
    created_s: float

    @property
    def is_blob(self) -> bool:
        """Whether it is a blob rather than a message."""
        return bool(self.payload_ref)


@dataclass(frozen=True)
class Incoming:
    """What a peer sent, before it is in the inbox.

    Attributes:
        sender: Peer the certificate proves, with the node it named.
        node: Node it is for; empty when the peer named none.
        network: Network name of the namespace.
        item_id: UUID the sender repeats it by; empty for a peer that does not number its messages.
        repeat_key: What a repetition has in common with the first.
        message: The text of a message; empty for a blob.
        data_id: UUID of the blob's data item; empty for a message.
        hash: SHA-256 of the blob in hex.
        size: Bytes of the message or blob.
        payload_ref: The stored blob.
    """

    sender: PeerId
    node: str
    network: str
    item_id: str
    repeat_key: str
    message: str
    data_id: str
    hash: str
    size: int
    payload_ref: str


@dataclass(frozen=True)
class Received:
    """One row of the inbox: durable until the core has stored it."""

    seq: int
    sender: str
    node: str
    network: str
    message: str
    data_id: str
    hash: str
    size: int
    payload_ref: str
    received_ns: int


@dataclass(frozen=True)
class Receipt:
    """The receiving core's word on one item: it is stored there.

    Attributes:
        seq: Place in the receiver's queue of receipts.
        item_id: The item, as its sender numbered it.
        recipient: Id of the node that stored it.
        manifest: Manifest of the stored batch; empty when the core gave none.
        hash: SHA-256 of the stored blob; empty for messages.
    """

    seq: int
    item_id: str
    recipient: str
    manifest: str
    hash: str


def check_name(text: str, what: str) -> str:
    """A namespace or node name by FireFly's rule.

    Raises:
        Rejected: INVALID_NAME.
    """
    if not NAME_FORM.fullmatch(text):
        raise Rejected(f"{text!r} is no {what}", reason="INVALID_NAME")
    return text


def check_uuid(text: str, what: str) -> str:
    """A lower-case UUID.

    Raises:
        Rejected: INVALID_ID.
    """
    if not UUID_FORM.fullmatch(text):
        raise Rejected(f"{text!r} is no {what}", reason="INVALID_ID")
    return text
