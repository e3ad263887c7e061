"""Messages, data, batches, pins and groups as the core keeps them.

Frozen records: a change makes a new one. Field names are FireFly's; times are nanoseconds since the epoch; the order of
header fields is the order in which they are hashed (`canonical`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from photinus_core.model.ids import Did, Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import TransactionType


class MessageType(StrEnum):
    """What a message is for."""

    DEFINITION = "definition"
    BROADCAST = "broadcast"
    PRIVATE = "private"
    GROUP_INIT = "groupinit"
    TRANSFER_BROADCAST = "transfer_broadcast"
    TRANSFER_PRIVATE = "transfer_private"
    APPROVAL_BROADCAST = "approval_broadcast"
    APPROVAL_PRIVATE = "approval_private"


BROADCAST_TYPES: Final = frozenset(
    {
        MessageType.DEFINITION,
        MessageType.BROADCAST,
        MessageType.TRANSFER_BROADCAST,
        MessageType.APPROVAL_BROADCAST,
    }
)


class MessageState(StrEnum):
    """Where a message stands on this member."""

    STAGED = "staged"
    READY = "ready"
    SENT = "sent"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


DECIDED_STATES: Final = frozenset(
    {MessageState.CONFIRMED, MessageState.REJECTED, MessageState.CANCELLED}
)


class SystemTag(StrEnum):
    """Tags of messages that the nodes themselves exchange."""

    DEFINE_DATATYPE = "ff_define_datatype"
    DEFINE_GROUP = "ff_define_group"
    DEFINE_POOL = "ff_define_pool"
    DEFINE_FFI = "ff_define_ffi"
    DEFINE_CONTRACT_API = "ff_define_contract_api"
    IDENTITY_CLAIM = "ff_identity_claim"
    IDENTITY_VERIFICATION = "ff_identity_verification"
    IDENTITY_UPDATE = "ff_identity_update"
    GAP_FILL = "ff_gap_fill"


class Validator(StrEnum):
    """How a data value is checked."""

    JSON = "json"
    NONE = "none"
    DEFINITION = "definition"


class Record(msgspec.Struct, frozen=True, gc=False):
    """Base of all records: immutable, compared by value."""


class TransactionRef(Record, frozen=True):
    """Names a FireFly transaction."""

    type: TransactionType
    id: Uuid


class MessageHeader(Record, frozen=True):
    """The part of a message that is hashed. `None` and empty fields are left out of the hashed bytes."""

    id: Uuid
    type: MessageType
    txtype: TransactionType
    author: str
    key: str
    created: Nanoseconds
    namespace: str
    """Network name of the namespace."""
    topics: tuple[str, ...]
    datahash: Hash32
    cid: Uuid | None = None
    group: Hash32 | None = None
    tag: str = ""
    txparent: TransactionRef | None = None


class DataRef(Record, frozen=True):
    """Names a data item and fixes its content."""

    id: Uuid
    hash: Hash32


class Message(Record, frozen=True):
    """A message with its state on this member."""

    header: MessageHeader
    hash: Hash32
    data: tuple[DataRef, ...]
    namespace: Namespace
    """Local name of the namespace."""
    state: MessageState
    batch: Uuid | None = None
    txid: Uuid | None = None
    confirmed: Nanoseconds | None = None
    reject_reason: str = ""
    pins: tuple[str, ...] = ()
    """Private pins, `<hash>:<16-digit nonce>`, once the batch is sealed."""
    idempotency_key: str = ""
    sequence: int = -1
    """Order of insertion in the local database; -1 before it is stored."""


class DatatypeRef(Record, frozen=True):
    """Names a datatype."""

    name: str
    version: str


class BlobRef(Record, frozen=True):
    """What a data item says of its blob."""

    hash: Hash32
    size: int
    name: str = ""
    path: str = ""
    public: str = ""
    """Reference in shared storage; empty until published."""


class Data(Record, frozen=True):
    """A data item: a JSON value, a blob, or both."""

    id: Uuid
    validator: Validator
    namespace: Namespace
    hash: Hash32
    created: Nanoseconds
    value: str | None
    """JSON text as canonical.compact left it; None when there is none (FireFly shows null)."""
    datatype: DatatypeRef | None = None
    blob: BlobRef | None = None
    public: str = ""

    @property
    def value_size(self) -> int:
        """Length of the value in characters, for batch assembly."""
        return len(self.value) if self.value is not None else 0


class Blob(Record, frozen=True):
    """Bytes that the data exchange connector holds for one data item."""

    namespace: Namespace
    data_id: Uuid
    hash: Hash32
    payload_ref: str
    size: int
    created: Nanoseconds
    peer: str = ""


class BatchType(StrEnum):
    """How a batch travels."""

    BROADCAST = "broadcast"
    PRIVATE = "private"


class Batch(Record, frozen=True):
    """A sealed batch, its own or received. The payload is not kept: messages and data are."""

    id: Uuid
    type: BatchType
    namespace: Namespace
    author: str
    key: str
    created: Nanoseconds
    hash: Hash32
    manifest: str
    """Manifest JSON, byte for byte; its SHA-256 is `hash`."""
    tx: TransactionRef
    node: Uuid | None = None
    group: Hash32 | None = None
    confirmed: Nanoseconds | None = None
    payload_ref: str = ""
    """Where shared storage has it, once known."""
    dispatched: bool = True
    """False while this member, its sender, still has to send or pin it."""
    cancelled: bool = False
    seal_order: int = -1
    """Order of sealing on this member; -1 for received batches."""


class Pin(Record, frozen=True):
    """One context of one message as found on chain."""

    namespace: Namespace
    hash: Hash32
    batch: Uuid
    batch_hash: Hash32
    index: int
    """Place among the contexts of the batch."""
    signer: str
    masked: bool
    """True for private batches."""
    created: Nanoseconds
    contract_index: int = 0
    """Which of the namespace's contracts carried it."""
    block: int = 0
    transaction_index: int = 0
    log_index: int = 0
    protocol_id: str = ""
    payload_ref: str = ""
    """Where shared storage has the batch, as the chain says; empty for private batches."""
    dispatched: bool = False
    sequence: int = -1

    @property
    def position(self) -> tuple[int, int, int, int, int]:
        """What orders pins, equal on all members: contract, block, transaction, log, index in the batch."""
        return (self.contract_index, self.block, self.transaction_index, self.log_index, self.index)


class NextPin(Record, frozen=True):
    """The pin a member of a private context is expected to use next."""

    namespace: Namespace
    context: Hash32
    identity: Did
    hash: Hash32
    nonce: int
    decided_key: tuple[int, ...] = ()
    """Order key of that member's last decision in the context (see sequencing.agreement); empty at nonce 0."""


class GroupMember(Record, frozen=True):
    """One member of a group: who, and at which node."""

    identity: str
    node: Uuid


class Group(Record, frozen=True):
    """A privacy group. Its hash covers network namespace, name and members."""

    namespace: Namespace
    network_namespace: str
    name: str
    members: tuple[GroupMember, ...]
    hash: Hash32
    created: Nanoseconds
    message: Uuid | None = None
