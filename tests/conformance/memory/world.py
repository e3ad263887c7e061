"""What outlives a connector in memory: the ledger, the storage, the other members, and each instance's own store."""

import asyncio
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events

KEY, OTHER_KEY = "0xaa", "0xbb"
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED

Scope = tuple[str, str, str]


def scope_of(ref: common.StreamRef) -> Scope:
    return ref.cluster_id, ref.namespace, ref.consumer


@dataclass
class Operation:
    """A key and what it stands for."""

    key: str
    method: str
    arguments: bytes
    answer: bytes = b""
    state: common.OperationState.ValueType = common.OPERATION_STATE_PENDING
    external_id: str = ""


@dataclass
class Received:
    """Something a peer sent, kept until the core acks it."""

    id: str
    network: str
    node: str
    event: events.Event
    acked: Callable[[str], None]


@dataclass
class Store:
    """What one instance keeps on its disk."""

    store_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    epochs: dict[Scope, int] = field(default_factory=dict)
    operations: dict[tuple[Scope, str], Operation] = field(default_factory=dict)
    updates: dict[Scope, list[tuple[int, events.Event]]] = field(default_factory=dict)
    peers: dict[tuple[str, str, str], str] = field(default_factory=dict)
    inbox: list[Received] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    pins: set[str] = field(default_factory=set)


@dataclass
class Pool:
    """A token pool."""

    locator: str
    symbol: str
    kind: str


class World:
    """The systems behind the connector, and the faults it has.

    Attributes:
        faults: Names of what is wrong with it.
        contracts: Names of the contracts it fulfils.
        ledger: Events in order; the index is the block.
        said: What the connector has logged.
    """

    def __init__(self, *faults: str, contracts: tuple[str, ...] = ("blockchain",)) -> None:
        self.faults = frozenset(faults)
        self.contracts = contracts
        self.ledger: list[events.Event] = []
        self.pools: dict[str, Pool] = {}
        self.stores: dict[str, Store] = {}
        self.said: list[str] = []
        self.numbers = itertools.count(1)
        self.changed = asyncio.Event()
        self.streams_opened = 0
        self.restarts = 0
        self.writing = asyncio.Lock()
        self.held: list[Received] = []

    def has(self, fault: str) -> bool:
        return fault in self.faults

    def store_of(self, instance: str) -> Store:
        name = "one" if self.has("shared-store") else instance
        return self.stores.setdefault(name, Store())

    def wake(self) -> None:
        """Wakes every stream."""
        self.changed.set()
        self.changed = asyncio.Event()

    def mine(self, event: events.Event, chain: common.ChainEvent) -> str:
        """Puts an event on the ledger; the id of its transaction."""
        block = len(self.ledger)
        chain.position.block = block
        chain.position.SetInParent()
        chain.protocol_id = f"{block:012d}/000000/000000"
        chain.signer, chain.source = chain.signer or KEY, "memory"
        chain.transaction_id = f"tx-{block}"
        chain.timestamp.GetCurrentTime()
        if self.has("no-timestamp"):
            chain.ClearField("timestamp")
        chain.location_json = chain.location_json or '{"address":"0x1"}'
        chain.output_json = chain.info_json = "{}"
        event.id = f"{block:012d}" if not self.has("ids-reused") else "same"
        self.ledger.append(event)
        if self.has("signer-reordered") and block % 2:
            self.ledger[-2:] = reversed(self.ledger[-2:])
        self.wake()
        return chain.transaction_id

    def update(self, store: Store, scope: Scope, update: events.OperationUpdate) -> None:
        """Tells a stream how an operation stands."""
        if self.has("ends-failed"):
            update.state = common.OPERATION_STATE_FAILED
        operation = store.operations.get((scope, update.idempotency_key))
        if operation is not None:
            operation.state = update.state
        row = next(self.numbers)
        event = events.Event(id=f"update/{store.store_id}/{row}", operation_update=update)
        store.updates.setdefault(scope, []).append((row, event))
        self.wake()

    def tell(self, store: Store, scope: Scope, event: events.Event) -> None:
        """Sends an event without a listener."""
        row = next(self.numbers)
        event.id = f"told/{row}"
        store.updates.setdefault(scope, []).append((row, event))
        self.wake()

    def restart(self) -> None:
        """The process ends: what is not durable, by fault, is lost."""
        self.restarts += 1
        for store in self.stores.values():
            if self.has("store-id-lost"):
                store.store_id = str(uuid.uuid4())
            if self.has("keys-in-memory") or (self.has("once-forgetful") and self.restarts == 2):
                store.operations.clear()
            if self.has("epoch-in-memory"):
                store.epochs.clear()
            if self.has("files-in-memory"):
                store.files.clear()
            if self.has("inbox-in-memory"):
                store.inbox.clear()
