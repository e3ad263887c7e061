"""What the core asks of its database.

A session belongs to one namespace: every row it sees or writes carries it, so no caller can forget
the filter. Reads and writes inside one `write` block are one transaction; a leader passes its
fence, and the transaction fails with `Deposed` when the epoch is no longer the current one. Events
appended in a transaction get their sequences as its last statement before commit; the notifier
hears of them after the commit.

All `insert_*` and `set_*` methods take many rows and cost a constant number of statements.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from photinus_core.model.changes import Change
from photinus_core.model.events import DeadLetter, Event, NewEvent, Subscription
from photinus_core.model.ids import Epoch, Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import (
    BlockchainEvent,
    NamespaceRow,
    Operation,
    OperationStatus,
    OperationType,
    ReceivedBatchKey,
    Transaction,
    TransactionType,
)
from photinus_core.model.messages import (
    Batch,
    Blob,
    Data,
    Group,
    Message,
    MessageState,
    NextPin,
    Pin,
)
from photinus_core.model.network import Datatype, Identity, IdentityType, Verifier, VerifierType
from photinus_core.model.query import Page, Query


class Table(StrEnum):
    """Collections that clients can list with filters."""

    MESSAGES = "messages"
    DATA = "data"
    DATATYPES = "datatypes"
    BATCHES = "batches"
    PINS = "pins"
    NEXT_PINS = "nextpins"
    GROUPS = "groups"
    EVENTS = "events"
    SUBSCRIPTIONS = "subscriptions"
    DEAD_LETTERS = "deadletters"
    TRANSACTIONS = "transactions"
    OPERATIONS = "operations"
    BLOCKCHAIN_EVENTS = "blockchainevents"
    IDENTITIES = "identities"
    VERIFIERS = "verifiers"


class Charted(StrEnum):
    """Collections whose rows are counted over time."""

    MESSAGES = "messages"
    TRANSACTIONS = "transactions"
    OPERATIONS = "operations"
    EVENTS = "events"
    BLOCKCHAIN_EVENTS = "blockchainevents"
    TOKEN_TRANSFERS = "tokentransfers"  # noqa: S105 - a collection, not a secret


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was made in one interval of time.

    Attributes:
        begin: Where it begins.
        count: How many rows were counted.
        types: How many of them have a type, by type in alphabetical order.
        is_capped: Whether there are more, that were not counted.
    """

    begin: Nanoseconds
    count: int
    types: tuple[tuple[str, int], ...]
    is_capped: bool


@dataclass(frozen=True, slots=True)
class Fence:
    """What a leader's transaction must still hold when it begins."""

    role: str
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class MessageWrite:
    """A message to store together with the data items that are new with it."""

    message: Message
    new_data: tuple[Data, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadyMessage:
    """What batch assembly needs to know of a message that waits to be sent."""

    sequence: int
    id: Uuid
    type: str
    txtype: TransactionType
    author: str
    key: str
    group: Hash32 | None
    topics: int
    data_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of agreement for one message, named by id and hash (hard case 16)."""

    message: Uuid
    hash: Hash32
    state: MessageState
    at: Nanoseconds
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Something arrived that undecided pins may wait for; a row until the leader has taken it."""

    kind: str
    key: str
    sequence: int = -1


@dataclass(frozen=True, slots=True)
class OperationChange:
    """A new status for an operation.

    Final statuses are kept: a change to one that is final has no effect.

    Attributes:
        corrects: Whether it may replace one final status by another, as an operator does. Then
            one that says nothing new has no effect.
    """

    id: Uuid
    status: OperationStatus
    at: Nanoseconds
    output: str | None = None
    error: str | None = None
    corrects: bool = False


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """A peer's message that cannot be judged yet (its sender is no known node), kept as it came."""

    id: str
    peer: str
    recipient: str
    payload: str
    received: Nanoseconds


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a namespace.

    Attributes:
        undecided_pins: Pins without a decision.
        unsent_messages: Own messages that no batch holds yet.
        events_behind: Events between the slowest durable subscription and the end of the log.
    """

    undecided_pins: int
    unsent_messages: int
    events_behind: int


@dataclass(frozen=True, slots=True)
class SubscriptionLag:
    """How many events lie between a durable subscription's offset and the end of the log."""

    name: str
    events: int


class Prunable(StrEnum):
    """Collections whose old rows can be deleted; all others hold what decisions rest on."""

    EVENTS = "events"
    BLOCKCHAIN_EVENTS = "blockchainevents"
    OPERATIONS = "operations"
    TRANSACTIONS = "transactions"


@dataclass(frozen=True, slots=True)
class PruneWindow:
    """Some rows of a collection, looked at for pruning.

    Attributes:
        free: Sequences of those that are old and not needed.
        kept: How many are old and needed.
        last: Sequence of the last row looked at.
        more: Whether there may be old rows behind it.
    """

    free: tuple[int, ...]
    kept: int
    last: int
    more: bool


class MessageReads(Protocol):
    """Messages, data, batches, pins, groups."""

    async def messages(self, ids: Sequence[Uuid]) -> dict[Uuid, Message]:
        """Finds messages by id; unknown ids are missing from the answer."""
        ...

    async def ready_messages(self, after: int, limit: int) -> list[ReadyMessage]:
        """Messages in state `ready` that no batch holds, above a sequence, in order of sequence."""
        ...

    async def batch_messages(self, batch: Uuid) -> list[Message]:
        """Messages assigned to a batch of this member, in manifest order (order of sequence)."""
        ...

    async def data(self, ids: Sequence[Uuid]) -> dict[Uuid, Data]:
        """Finds data items by id."""
        ...

    async def blobs(self, data_ids: Sequence[Uuid]) -> dict[Uuid, Blob]:
        """Finds the blobs that are here, by data id.

        Those with the hash that the data item names.
        """
        ...

    async def received_blobs(
        self, refs: Sequence[tuple[Uuid, Hash32]]
    ) -> dict[tuple[Uuid, Hash32], Blob]:
        """Finds blobs by data id and blob hash, whether or not a data item names them yet."""
        ...

    async def blob_paths(self, parent: str, limit: int) -> list[str]:
        """Folders of blobs below a folder, in alphabetical order, each once.

        Args:
            parent: Without a slash at its end; empty for the root, below which everything is, itself
                too.
            limit: Most to find.
        """
        ...

    async def batches(self, ids: Sequence[Uuid]) -> dict[Uuid, Batch]:
        """Finds confirmed or own batches by id."""
        ...

    async def received_batches(
        self, keys: Sequence[ReceivedBatchKey]
    ) -> dict[ReceivedBatchKey, Batch]:
        """Finds batches, own or received, by id and hash."""
        ...

    async def received_messages(
        self, keys: Sequence[ReceivedBatchKey]
    ) -> dict[ReceivedBatchKey, list[Message]]:
        """Messages of batches, own or received, in manifest order."""
        ...

    async def received_data(
        self, refs: Sequence[tuple[Uuid, Hash32]]
    ) -> dict[tuple[Uuid, Hash32], Data]:
        """Data items by id and hash, whether or not their message is decided."""
        ...

    async def open_batches(self) -> list[Batch]:
        """Own batches that are sealed but not dispatched, in seal order."""
        ...

    async def batches_of(self, transaction: Uuid) -> list[Batch]:
        """Own or confirmed batches of a transaction."""
        ...

    async def own_batches_off_chain(
        self, final: tuple[int, int, int, int] | None = None
    ) -> list[Batch]:
        """Own pinned batches, not cancelled, that no stored pin of theirs names, in seal order.

        Dispatched or not. A pin is theirs if it names id and hash and was signed by the batch's
        key: anybody can pin what was sent to them. A leader looks here before it resends, and when
        the contract changed (hard cases 7 and 9).

        Args:
            final: Where the last ended contract ended (contract, block, transaction index, log
                index); its pins beyond that are void.
        """
        ...

    async def last_pin_sequence(self) -> int:
        """Sequence of the newest pin; 0 when there is none."""
        ...

    async def undispatched_pins(
        self, after: int, limit: int, all_after: int | None = None
    ) -> list[Pin]:
        """Undecided pins with a sequence above `after`, in order of sequence.

        All that are not masked, those masked ones whose batch (id and hash) is stored here, and
        every one with a sequence above `all_after`. Masked pins of strangers' batches may be many.
        """
        ...

    async def pins_of_batches(self, batches: Sequence[Uuid]) -> list[Pin]:
        """All pins of some batches, by chain position."""
        ...

    async def pins_by_hash(self, hashes: Sequence[Hash32]) -> list[Pin]:
        """Undecided masked pins that carry one of these hashes, by chain position."""
        ...

    async def next_pins(self, contexts: Sequence[Hash32]) -> list[NextPin]:
        """Expected pins of private contexts."""
        ...

    async def nonces(self, keys: Sequence[Hash32]) -> dict[Hash32, int]:
        """Last nonce used, by nonce key; unused keys are missing."""
        ...

    async def groups(self, hashes: Sequence[Hash32]) -> dict[Hash32, Group]:
        """Finds groups by hash."""
        ...

    async def parked_messages(self, peer: str | None, limit: int) -> list[ParkedMessage]:
        """Parked messages of one peer, or of all, oldest first."""
        ...

    async def parked_size(self, peer: str) -> tuple[int, int]:
        """Number and total bytes of what one peer has parked here."""
        ...

    async def wakeups(self, limit: int) -> list[Wakeup]:
        """Wake-ups not yet taken, oldest first."""
        ...


class NetworkReads(Protocol):
    """Identities, verifiers, datatypes."""

    async def identity(self, identity: Uuid) -> Identity | None:
        """Finds an identity by id."""
        ...

    async def identity_by_did(self, did: str) -> Identity | None:
        """Finds an identity by DID."""
        ...

    async def identity_by_name(self, kind: IdentityType, name: str) -> Identity | None:
        """Finds an identity by type and name."""
        ...

    async def identities(self, kind: IdentityType | None = None) -> list[Identity]:
        """All identities, or all of one type, oldest first."""
        ...

    async def verifier(self, kind: VerifierType, value: str) -> Verifier | None:
        """Finds a verifier by its key."""
        ...

    async def verifiers_of(self, identities: Sequence[Uuid]) -> dict[Uuid, list[Verifier]]:
        """Verifiers of identities."""
        ...

    async def datatype(self, name: str, version: str) -> Datatype | None:
        """Finds a datatype."""
        ...

    async def datatypes(self) -> list[Datatype]:
        """All datatypes, oldest first."""
        ...


class LedgerReads(Protocol):
    """Transactions, operations, blockchain events, checkpoints."""

    async def transactions(self, ids: Sequence[Uuid]) -> dict[Uuid, Transaction]:
        """Finds transactions by id."""
        ...

    async def transaction_by_key(self, idempotency_key: str) -> Transaction | None:
        """Finds a transaction by the client's idempotency key."""
        ...

    async def operations(self, ids: Sequence[Uuid]) -> dict[Uuid, Operation]:
        """Finds operations by id."""
        ...

    async def operations_of(self, transaction: Uuid) -> list[Operation]:
        """Operations of a transaction, oldest first."""
        ...

    async def unfinished_operations(
        self, types: Collection[OperationType], limit: int
    ) -> list[Operation]:
        """Operations of some types that are unfinished and not retried, oldest first."""
        ...

    async def unsubmitted_operations(self, limit: int) -> list[Operation]:
        """What was stored for the leader to send, oldest first.

        Network actions, publications of data and retries of operations.
        """
        ...

    async def blockchain_events(self, ids: Sequence[Uuid]) -> dict[Uuid, BlockchainEvent]:
        """Finds blockchain events by id."""
        ...

    async def blockchain_events_of(self, transaction: Uuid) -> list[BlockchainEvent]:
        """Blockchain events of a transaction, in chain order."""
        ...

    async def notes(self, kind: str) -> dict[str, str]:
        """What leader work noted for itself under a kind (open identity claims, say), by key."""
        ...

    async def checkpoints(self, consumer: str) -> dict[str, bytes]:
        """Checkpoints of an event stream, by listener id."""
        ...

    async def namespace_row(self) -> NamespaceRow | None:
        """The namespace's own row; None before it first started."""
        ...


class EventReads(Protocol):
    """The event log and subscriptions."""

    async def events(self, ids: Sequence[Uuid]) -> dict[Uuid, Event]:
        """Finds events by id."""
        ...

    async def events_after(
        self, sequence: int, limit: int, types: Collection[str] | None = None
    ) -> list[Event]:
        """Events with a sequence above the given one, in order; only some types when given."""
        ...

    async def last_event_sequence(self) -> int:
        """Sequence of the newest event; 0 when there is none."""
        ...

    async def subscriptions(self) -> list[Subscription]:
        """All durable subscriptions."""
        ...

    async def subscription(self, subscription: Uuid) -> Subscription | None:
        """Finds a subscription by id."""
        ...

    async def subscription_by_name(self, name: str) -> Subscription | None:
        """Finds a subscription by name."""
        ...

    async def offset(self, subscription: Uuid) -> int | None:
        """Stored offset of a subscription: all events up to it are acked."""
        ...

    async def dead_letter(self, subscription: Uuid, letter: Uuid) -> DeadLetter | None:
        """Finds a dead letter of a subscription."""
        ...

    async def queued_dead_letters(self, subscription: Uuid, limit: int) -> list[DeadLetter]:
        """Dead letters of a subscription that are to be tried again, oldest first."""
        ...

    async def dead_letter_count(self, subscription: Uuid) -> int:
        """How many dead letters a subscription has."""
        ...


class UpkeepReads(Protocol):
    """What operators ask."""

    async def backlog(self) -> Backlog:
        """Counts what waits."""
        ...

    async def subscription_lags(self, limit: int) -> list[SubscriptionLag]:
        """How far durable subscriptions are behind the log, the slowest first."""
        ...

    async def prune_window(self, collection: Prunable, after: int, before: int) -> PruneWindow:
        """Looks at the next rows of a collection, in order of sequence.

        Needed, however old, are events that a durable subscription has not acknowledged, operations
        that are unfinished or whose own batch is not decided, failed downloads, blockchain events
        of undecided pins, and transactions that something else refers to.

        Args:
            collection: Which one.
            after: Sequence behind which to begin.
            before: Rows are old that were last changed before this moment.
        """
        ...


class Reader(MessageReads, NetworkReads, LedgerReads, EventReads, UpkeepReads, Protocol):
    """Everything that can be read, in one namespace."""

    async def histogram(
        self, collection: Charted, bounds: Sequence[Nanoseconds], rows_max: int
    ) -> list[Bucket]:
        """Counts the rows of a collection between each two neighbours of some bounds, in one statement.

        Of each interval so many rows are counted, the oldest first.
        """
        ...

    async def query(self, table: Table, query: Query) -> Page[Any]:
        """Lists a collection with a client's filter, order and paging.

        Rows are the table's records.

        Raises:
            Rejected: an FF00 code, the filter does not fit the table.
        """
        ...


class MessageWrites(Protocol):
    """Messages, data, batches, pins, groups."""

    async def insert_messages(self, writes: Sequence[MessageWrite]) -> list[Uuid | None]:
        """Stores new messages of this member with their data.

        Returns:
            For each write None when it was stored, or, when its idempotency key is taken, the id of
                the message that has
            it; then nothing of that write was stored. Of two writes with one key in one call the
                first wins.

        Raises:
            Rejected: FF10204, data that a message refers to were deleted meanwhile.
        """
        ...

    async def insert_data(self, data: Sequence[Data], blobs: Sequence[Blob] = ()) -> None:
        """Stores new data items of this member."""
        ...

    async def set_data_public(self, refs: Mapping[Uuid, str]) -> None:
        """Notes where blobs of data items were published."""
        ...

    async def set_value_public(self, refs: Mapping[Uuid, str]) -> None:
        """Notes where values of data items were published."""
        ...

    async def insert_blobs(self, blobs: Sequence[Blob]) -> None:
        """Notes blobs that arrived; those known already (same data id and hash) are skipped."""
        ...

    async def undecided_message_of(self, data: Uuid) -> Uuid | None:
        """Finds a message that carries a data item and is neither confirmed nor rejected.

        Until the transaction ends no other one can be stored.
        """
        ...

    async def delete_data(self, data: Uuid) -> Blob | None:
        """Deletes a data item and its blob's row, which is returned so that the bytes can follow."""
        ...

    async def seal_batch(
        self,
        batch: Batch,
        messages: Sequence[tuple[Uuid, tuple[str, ...]]],
        nonces: Mapping[Hash32, int],
    ) -> None:
        """Stores an own batch, assigns messages (with their pins) to it and moves nonces."""
        ...

    async def finish_batch(self, batch: Uuid, state: MessageState, at: Nanoseconds) -> list[Uuid]:
        """Marks an own batch dispatched and moves its messages from `ready` to the state.

        The state is `sent`, or `confirmed` when the batch is not pinned. Messages that agreement
        has decided meanwhile keep their state.

        Returns:
            Ids of the messages that moved.
        """
        ...

    async def cancel_batch(self, batch: Uuid) -> list[Uuid]:
        """Gives up an own batch that is not dispatched; its messages that are `ready` are cancelled.

        Returns:
            Ids of the messages that were cancelled, in the order in which they were stored.
        """
        ...

    async def set_batch_payload_ref(self, batch: Uuid, payload_ref: str) -> None:
        """Notes where shared storage has an own batch."""
        ...

    async def insert_received(
        self, batch: Batch, messages: Sequence[Message], data: Sequence[Data]
    ) -> bool:
        """Stores a received batch with its messages (`pending`) and data, keyed by id and hash.

        Returns:
            False when this very batch (id and hash) was known; then nothing changed.
        """
        ...

    async def decide(self, decisions: Sequence[Decision]) -> None:
        """Moves messages to their final state. What is confirmed or rejected stays so.

        A cancelled message may still be: the chain decides, whatever its sender said.
        """
        ...

    async def confirm_batches(self, batches: Sequence[ReceivedBatchKey], at: Nanoseconds) -> None:
        """Notes that all messages of batches are decided."""
        ...

    async def insert_pins(self, pins: Sequence[Pin]) -> list[Pin]:
        """Stores pins; those known already (batch, batch hash, index, protocol id) are skipped.

        Returns:
            The new ones, with their sequences, in the order given.
        """
        ...

    async def mark_dispatched(self, sequences: Sequence[int]) -> int:
        """Marks pins as decided; nobody deletes them from then on.

        Returns:
            How many of them there are.
        """
        ...

    async def delete_pins(self, protocol_ids: Sequence[str]) -> None:
        """Deletes undecided pins of events that a reorganisation removed."""
        ...

    async def set_next_pins(self, pins: Sequence[NextPin]) -> None:
        """Stores or replaces expected pins, by context and identity."""
        ...

    async def insert_groups(self, groups: Sequence[Group]) -> None:
        """Stores groups; known ones are skipped."""
        ...

    async def insert_wakeups(self, wakeups: Sequence[Wakeup]) -> None:
        """Stores wake-ups for the leader."""
        ...

    async def delete_wakeups(self, through: int) -> None:
        """Deletes wake-ups up to a sequence: they have been taken."""
        ...

    async def park_messages(self, parked: Sequence[ParkedMessage]) -> None:
        """Keeps messages of unknown senders; known ids are skipped."""
        ...

    async def unpark_messages(self, ids: Sequence[str]) -> None:
        """Deletes parked messages."""
        ...


class NetworkWrites(Protocol):
    """Identities, verifiers, datatypes."""

    async def upsert_identity(self, identity: Identity) -> None:
        """Stores an identity or replaces the mutable part of a known one."""
        ...

    async def insert_verifiers(self, verifiers: Sequence[Verifier]) -> None:
        """Stores verifiers.

        Of two owners of one value the one with the lower position keeps it (hard case 6).
        """
        ...

    async def insert_datatype(self, datatype: Datatype) -> None:
        """Stores a datatype."""
        ...


class LedgerWrites(Protocol):
    """Transactions, operations, blockchain events, checkpoints."""

    async def insert_transactions(self, transactions: Sequence[Transaction]) -> None:
        """Stores transactions; known ids are skipped."""
        ...

    async def add_blockchain_ids(
        self, ids: Mapping[Uuid, str], transactions: Sequence[Transaction] = ()
    ) -> None:
        """Adds a ledger's transaction id to transactions, made first where they are unknown."""
        ...

    async def insert_operations(self, operations: Sequence[Operation]) -> None:
        """Stores operations."""
        ...

    async def lock_operations(self, ids: Sequence[Uuid]) -> dict[Uuid, Operation]:
        """Reads operations as they are now; nobody else changes them until this transaction ends."""
        ...

    async def change_operations(self, changes: Sequence[OperationChange]) -> list[Operation]:
        """Changes statuses; final ones stay.

        Returns:
            The operations that changed, as they are now.
        """
        ...

    async def set_operation_retry(self, operation: Uuid, by: Uuid) -> None:
        """Notes that an operation was replaced."""
        ...

    async def insert_blockchain_events(
        self, events: Sequence[BlockchainEvent]
    ) -> list[BlockchainEvent]:
        """Stores events of a ledger; those known already (listener, protocol id) are skipped.

        Returns:
            The new ones.
        """
        ...

    async def set_checkpoints(self, consumer: str, checkpoints: Mapping[str, bytes]) -> None:
        """Stores checkpoints of an event stream, by listener id."""
        ...

    async def set_notes(self, kind: str, notes: Mapping[str, str]) -> None:
        """Stores or replaces notes of a kind."""
        ...

    async def delete_notes(self, kind: str, keys: Sequence[str]) -> int:
        """Deletes notes of a kind; unknown keys are skipped. Gives how many there were."""
        ...

    async def save_namespace_row(self, row: NamespaceRow) -> None:
        """Stores the namespace's own row."""
        ...


class EventWrites(Protocol):
    """The event log and subscriptions."""

    def append_events(self, events: Sequence[NewEvent]) -> None:
        """Appends to the event log; sequences are allocated when the transaction commits."""
        ...

    async def save_subscription(self, subscription: Subscription, offset: int | None) -> None:
        """Stores or replaces a subscription; an offset is stored when given."""
        ...

    async def delete_subscription(self, subscription: Uuid) -> bool:
        """Deletes a subscription, its offset and dead letters; False when there was none."""
        ...

    async def set_offset(self, subscription: Uuid, offset: int, fence: Fence | None = None) -> None:
        """Moves the offset of a subscription; of one that is deleted there is none.

        Of one that is served under a lease only while the fence's epoch is the current one; else
        nothing happens, and the other offsets of the transaction are stored.
        """
        ...

    async def save_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Stores dead letters; of an event that a subscription has one of, that one is replaced."""
        ...

    async def queue_dead_letters(
        self, subscription: Uuid, letter: Uuid | None, now: Nanoseconds
    ) -> int:
        """Has one dead letter of a subscription tried again, or all; gives how many there are."""
        ...

    async def delete_dead_letter(self, subscription: Uuid, letter: Uuid) -> bool:
        """Deletes a dead letter; False when there was none."""
        ...


class UpkeepWrites(Protocol):
    """What operators have deleted."""

    async def prune(self, collection: Prunable, sequences: tuple[int, ...]) -> None:
        """Deletes rows that `prune_window` found free in the same transaction."""
        ...


class WriteTransaction(
    Reader, MessageWrites, NetworkWrites, LedgerWrites, EventWrites, UpkeepWrites, Protocol
):
    """One transaction: all or nothing."""


Notification = tuple[str, str, int]
"""(namespace, topic, number): `events` with the newest sequence, `messages` with the newest
sequence, `wakeups`, `operations`, `submissions` (operations that the leader is to send),
`subscriptions`, `definitions`.
"""


class ChangeWatcher(Protocol):
    """Hears of changes, in the event loop; it must not wait, nor raise."""

    def changed(self, changes: Sequence[Change]) -> None:
        """What one or more transactions changed, here or on another replica."""
        ...

    def lost(self, count: int) -> None:
        """Changes happened that cannot be told; 0 when nobody knows how many."""
        ...


class Store(Protocol):
    """The database of one core."""

    @property
    def cluster_id(self) -> str:
        """UUID of the core cluster, made when the database was."""
        ...

    def read(self, namespace: Namespace) -> AbstractAsyncContextManager[Reader]:
        """Opens a read session: each statement sees what is committed when it runs."""
        ...

    def write(
        self, namespace: Namespace, fence: Fence | None = None
    ) -> AbstractAsyncContextManager[WriteTransaction]:
        """Opens a transaction, which commits when the block ends and rolls back when it raises.

        Raises:
            Deposed: the fence's epoch is not the current one.
            Unavailable: FF00176-like, the database cannot be used now; nothing was written.
        """
        ...

    async def raise_epoch(self, role: str, epoch: Epoch | None) -> Epoch:
        """Makes a new leadership of a role the current one.

        The given epoch, or, for None, the last one plus one.

        Raises:
            Deposed: the given epoch is not higher than the current one.
        """
        ...

    def subscribe(self, callback: Callable[[Notification], None]) -> Callable[[], None]:
        """Calls back in the event loop after each commit, until the returned function is called."""
        ...

    def notifications(
        self, namespace: Namespace, topics: Collection[str]
    ) -> AsyncIterator[Notification]:
        """The same as a stream, coalesced.

        A slow reader gets the newest number per topic, never a queue.
        """
        ...

    def watch_changes(self, watcher: ChangeWatcher) -> Callable[[], None]:
        """Tells of all rows that change, in all namespaces, until the returned function is called.

        After the commit, in no order that anything may rest on, and without any promise: what
        happens while nobody watches, or while another replica cannot be heard, is not told later.
        As long as nobody watches, nothing is collected, here or on other replicas.
        """
        ...

    async def aclose(self) -> None:
        """Waits for transactions under way and closes the database."""
        ...
