"""The four kinds of connector, and their event stream, as the core sees them.

`host` implements these over `photinus.connector.v1`; in-memory fakes implement them for tests.
Calls that change something carry a `CallKey`; repeating one with the same key is safe. Failures are
`ConnectorFailure`, whose disposition alone says whether a call may be sent again; `Unavailable`
means the connector itself is away and nothing was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from photinus_core.model.ids import Epoch, Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import OperationStatus


class Disposition(StrEnum):
    """How far a failed call came."""

    NOT_SENT = "not_sent"
    MAYBE_SENT = "maybe_sent"
    SENT = "sent"


class ConnectorFailure(Exception):
    """A connector answered a call with an error.

    Attributes:
        reason: The connector's reason, e.g. `TRANSACTION_REVERTED`; `CONNECTOR_LOST` when it went
            away meanwhile.
        disposition: How far the call came.
        retry_after_s: When to try again; None when trying again does not help.
        details: The error's metadata.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        disposition: Disposition,
        retry_after_s: float | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.disposition = disposition
        self.retry_after_s = retry_after_s
        self.details = dict(details or {})


@dataclass(frozen=True, slots=True)
class CallKey:
    """What a changing call is known by at the connector.

    Attributes:
        key: Idempotency key; for operations `<namespace>:<operation id>`.
        namespace: Local namespace; scopes key and stream.
        epoch: Epoch of the leader that calls; 0 for calls that any replica may make.
        consumer: Stream on which the end of the work is told.
    """

    key: str
    namespace: Namespace
    epoch: Epoch = Epoch(0)
    consumer: str = "core"


class WorkState(StrEnum):
    """Where a piece of a connector's work stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPERATION_STATUS: Final = {
    WorkState.PENDING: OperationStatus.PENDING,
    WorkState.SUCCEEDED: OperationStatus.SUCCEEDED,
    WorkState.FAILED: OperationStatus.FAILED,
    WorkState.CANCELLED: OperationStatus.FAILED,
}
"""What an operation shows of the work done for it."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A connector has taken on a piece of work."""

    replayed: bool
    state: WorkState
    external_id: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class BatchPinInput:
    """What is pinned."""

    transaction: Uuid
    batch: Uuid
    batch_hash: Hash32
    payload_ref: str
    contexts: tuple[Hash32, ...]


@dataclass(frozen=True, slots=True)
class ResolvedKey:
    """A signing key in canonical form."""

    key: str
    verifier_type: str


class KeyIntent(StrEnum):
    """What a key is resolved for."""

    SIGN = "sign"
    QUERY = "query"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a contract in FireFly's interface form."""

    method: str
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call of a contract's method.

    Attributes:
        signing_key: Who calls, in canonical form.
        location: The contract, JSON.
        inputs: JSON object by parameter name.
        options: JSON object of the ledger's own options; empty for none.
        pin: Appended as the last parameter when the call also pins a batch.
    """

    signing_key: str
    location: str
    method: Method
    inputs: str
    options: str = ""
    pin: BatchPinInput | None = None


class Blockchain(Protocol):
    """A ledger."""

    async def resolve_key(self, key: str, intent: KeyIntent) -> ResolvedKey:
        """Turns what a user wrote into the canonical form of a key.

        Empty gives the connector's default.
        """
        ...

    async def submit_batch_pin(
        self,
        call: CallKey,
        network_namespace: str,
        signing_key: str,
        pin: BatchPinInput,
        location: str,
    ) -> Submission:
        """Pins a batch. Calls of one signer reach the ledger in their order."""
        ...

    async def submit_network_action(
        self, call: CallKey, signing_key: str, action: str, payload: str, location: str
    ) -> Submission:
        """Records a network action."""
        ...

    async def invoke_contract(self, call: CallKey, invocation: Invocation) -> Submission:
        """Calls a method in a transaction."""
        ...

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
        ...

    async def query_contract(self, invocation: Invocation) -> str:
        """Calls a method without a transaction; gives the result as JSON."""
        ...

    async def normalize_location(self, location: str) -> str:
        """Gives the canonical form of a contract's location."""
        ...

    async def network_version(self, location: str) -> int:
        """Asks a multiparty contract for its version, 1 or 2."""
        ...

    async def transaction_status(self, namespace: Namespace, key: str) -> str:
        """Asks the ledger what it knows of a submission; JSON for people."""
        ...

    async def withdraw(self, call: CallKey) -> WorkState:
        """Withdraws a submission by its key, known or not.

        Returns:
            CANCELLED: nothing was sent under the key, and durably nothing ever will be. Otherwise
            how the work stands, and nothing has changed.
        """
        ...


class SharedStorage(Protocol):
    """Storage that all members can read."""

    async def upload(self, call: CallKey, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """Stores bytes; gives their reference and size."""
        ...

    def download(self, payload_ref: str, max_bytes: int = 0) -> AsyncIterator[bytes]:
        """Reads verified bytes; `max_bytes` 0 takes any size."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What other members must know of this one's data exchange."""

    peer_json: str
    peer_id: str
    certificate_expires_s: int


class DataExchange(Protocol):
    """Private delivery between members."""

    async def endpoint(self, node_name: str) -> Endpoint:
        """Gives this member's own endpoint, for the profile of its node."""
        ...

    async def add_peer(self, call: CallKey, network_namespace: str, peer_json: str) -> None:
        """Makes a peer known or replaces it."""
        ...

    async def remove_peer(self, call: CallKey, network_namespace: str, peer_id: str) -> None:
        """Forgets a peer."""
        ...

    async def send_message(
        self, call: CallKey, recipient: str, sender: str, message: str
    ) -> Submission:
        """Queues a message; durable once answered."""
        ...

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
        ...

    async def upload_blob(
        self, call: CallKey, data_id: Uuid, chunks: AsyncIterator[bytes]
    ) -> tuple[str, Hash32, int]:
        """Stores a blob.

        Gives its reference, hash and size. Nothing stays behind when the chunks break off.
        """
        ...

    def download_blob(self, payload_ref: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Reads a blob."""
        ...

    async def delete_blob(self, call: CallKey, payload_ref: str) -> None:
        """Deletes a blob; an unknown one is success."""
        ...


class ChainEvent(msgspec.Struct, frozen=True, gc=False):
    """What every event of a ledger carries. JSON fields are text as the connector sent it."""

    block: int
    transaction_index: int
    log_index: int
    protocol_id: str
    transaction_id: str
    name: str
    location: str
    signature: str
    output: str
    info: str
    timestamp: Nanoseconds
    signer: str
    source: str


class BatchPinned(msgspec.Struct, frozen=True, gc=False):
    """A pin on the multiparty contract."""

    chain: ChainEvent
    transaction: str
    batch: str
    batch_hash: str
    payload_ref: str
    contexts: tuple[str, ...]
    network_namespace: str
    contract_invoke: bool


class NetworkActionSeen(msgspec.Struct, frozen=True, gc=False):
    """A network action on the multiparty contract."""

    chain: ChainEvent
    action: str
    payload: str


class ContractEventSeen(msgspec.Struct, frozen=True, gc=False):
    """An event of a smart contract."""

    chain: ChainEvent


class WorkUpdate(msgspec.Struct, frozen=True, gc=False):
    """Progress or end of a piece of work."""

    key: str
    state: WorkState
    external_id: str
    output: str
    error: str
    manifest: str
    hash: str


class PeerMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of a peer, durable at the connector until acked."""

    sender: str
    recipient: str
    message: str
    received: Nanoseconds


class PeerBlob(msgspec.Struct, frozen=True, gc=False):
    """A blob of a peer, complete and hashed."""

    sender: str
    recipient: str
    network_namespace: str
    data_id: str
    hash: str
    size: int
    payload_ref: str


class PeerChange(msgspec.Struct, frozen=True, gc=False):
    """A peer came, went or changed."""

    peer: str
    reachable: bool
    reason: str


EventBody = (
    BatchPinned
    | NetworkActionSeen
    | ContractEventSeen
    | WorkUpdate
    | PeerMessage
    | PeerBlob
    | PeerChange
)


class ConnectorEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a connector's stream."""

    id: str
    listener: str
    removed: bool
    body: EventBody


@dataclass(frozen=True, slots=True)
class EventBatch:
    """A batch to be stored in one transaction, checkpoints included."""

    events: tuple[ConnectorEvent, ...]
    checkpoints: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """Positions without events. Checkpoints may be stored at leisure."""

    checkpoints: Mapping[str, bytes]
    final_blocks: Mapping[str, int]
    catching_up: bool
    gap_possible: bool


@dataclass(frozen=True, slots=True)
class MultipartyListener:
    """Listen to the multiparty contract of a namespace."""

    id: str
    location: str
    version: int
    first_event: str
    options: str = ""
    """JSON object of the configuration; the connector knows what it means."""


@dataclass(frozen=True, slots=True)
class DestinationListener:
    """Listen to what peers send to one node of this member."""

    id: str
    network_namespace: str
    node_name: str


@dataclass(frozen=True, slots=True)
class ContractListener:
    """Listen to events of smart contracts: (event JSON, location JSON or empty) each."""

    id: str
    filters: tuple[tuple[str, str], ...]
    first_event: str


Listener = MultipartyListener | DestinationListener | ContractListener


class EventHandler(Protocol):
    """The consumer of a connector's stream: the leader of a namespace."""

    async def resume(self) -> Mapping[str, bytes]:
        """Gives the stored checkpoints, by listener id; asked before each (re)opening."""
        ...

    async def handle(self, batch: EventBatch) -> Mapping[str, str]:
        """Stores a batch durably; the stream is acked after it returns.

        Returns:
            Receipts: manifests of stored batches by event id, for the senders.

        Raises:
            Exception: the batch is sent again after a delay; `Deposed` ends the stream.
        """
        ...

    async def progress(self, progress: StreamProgress) -> None:
        """Hears of positions without events."""
        ...

    async def trouble(self, listener: str, reason: str, *, fatal: bool) -> None:
        """Hears that a listener does not work; `fatal` when only an operator can help."""
        ...


class EventStream(Protocol):
    """An open stream; it reconnects by itself until closed."""

    async def add_listener(self, listener: Listener) -> None:
        """Adds a listener; it stays across reconnects."""
        ...

    async def remove_listener(self, listener: str) -> None:
        """Removes a listener."""
        ...

    async def aclose(self) -> None:
        """Ends the stream: no handler runs after it returns."""
        ...


class Streaming(Protocol):
    """What all connectors with events can do."""

    async def open_stream(
        self,
        namespace: Namespace,
        network_namespace: str,
        epoch: Epoch,
        listeners: Sequence[Listener],
        handler: EventHandler,
    ) -> EventStream:
        """Opens the namespace's event stream and keeps it open.

        Returns at once; troubles go to the handler.
        """
        ...


class BlockchainConnector(Blockchain, Streaming, Protocol):
    """A ledger with its events."""


class DataExchangeConnector(DataExchange, Streaming, Protocol):
    """A data exchange with its events."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What an operator sees of an event stream.

    Attributes:
        namespace: Whose it is.
        state: `open`, or what it waits for.
        position: Last event that was stored: its place on the ledger, or its id.
        final_blocks: Last final block each listener has passed, by listener id.
        batches, events: How many were stored since the stream was begun here.
        waiting: Batches that are here and not stored yet.
        lag_s: Age of the oldest of them; 0 when none waits.
        catching_up: Whether the connector is far behind the head of what it reads.
        trouble: Last thing that went wrong; empty while batches are stored.
    """

    namespace: Namespace
    state: str
    position: str
    final_blocks: Mapping[str, int]
    batches: int
    events: int
    waiting: int
    lag_s: float
    catching_up: bool
    trouble: str


@dataclass(frozen=True, slots=True)
class ConnectorInfo:
    """What an operator sees of a connector."""

    instance: str
    kind: str
    plugin_type: str
    address: str
    state: str
    since: Nanoseconds
    version: str
    capabilities: tuple[str, ...]
    limits: Mapping[str, int]
    last_error: str
    store_id: str
    streams: tuple[StreamInfo, ...]
    restarts: int = 0
