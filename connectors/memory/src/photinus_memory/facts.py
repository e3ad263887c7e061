"""What can happen in a world, as records: the world is what follows from them in order.

They are also what `--keep` writes to its file. Events are protobufs as bytes: a listener's copy is read from them.
"""

from __future__ import annotations

import msgspec


class Founded(msgspec.Struct, tag=True, frozen=True):
    """The world began; its id is part of every checkpoint."""

    world: str


class Mined(msgspec.Struct, tag=True, frozen=True):
    """A transaction is on the ledger: a block of its own, final at once, with one event."""

    transaction: str
    event: bytes


class Stored(msgspec.Struct, tag=True, frozen=True):
    """A member put a file into shared storage and keeps it."""

    reference: str
    content: bytes
    member: str


class Pinned(msgspec.Struct, tag=True, frozen=True):
    """A member keeps a file, or no longer."""

    reference: str
    member: str
    kept: bool


class PeerKnown(msgspec.Struct, tag=True, frozen=True):
    """A member knows a peer; an empty document means: no longer."""

    member: str
    scope: tuple[str, str]
    peer: str
    document: str


class BlobKept(msgspec.Struct, tag=True, frozen=True):
    """A blob lies in a member's data exchange; without content it is gone."""

    member: str
    reference: str
    content: bytes | None


class Sent(msgspec.Struct, tag=True, frozen=True):
    """Something is on its way to a peer: it lies in the peer's mailbox until the peer's core has stored it.

    Attributes:
        id: Of the event that tells the receiver; follows from the key of the call.
        instance: Instance that sends, which hears of the end.
        stream: Its stream, as text.
        key: Idempotency key of the call.
        sender, recipient: Peer ids.
        network: Network name that the receiver's listener must have.
        event: `MessageReceived` or `BlobReceived`.
        digest: Of a blob.
        content: Of a blob.
    """

    id: str
    instance: str
    stream: str
    key: str
    sender: str
    recipient: str
    network: str
    event: bytes
    digest: str = ""
    content: bytes | None = None


class Ended(msgspec.Struct, tag=True, frozen=True):
    """The receiver's core stored what was sent, or (with an error) never will."""

    id: str
    manifest: str = ""
    error: str = ""


class Told(msgspec.Struct, tag=True, frozen=True):
    """The sender's journal knows the end: nothing of the delivery is needed any more."""

    id: str


Fact = Founded | Mined | Stored | Pinned | PeerKnown | BlobKept | Sent | Ended | Told
