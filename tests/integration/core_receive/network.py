"""A small network for tests of the receiving side: a chain, members with real stores, fakes of their connectors.

The chain is a list of events with positions; members take them through their intakes. Shared
storage is a dictionary, the data exchange hands bytes over when the test says so. Payloads are
built with the product's own encoders, so what is tested is what travels.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from photinus_core.events.aggregator import Aggregator, AgreementSettings
from photinus_core.events.chain import ChainIntake, contract_listener
from photinus_core.events.downloads import DownloadLimits, Downloads
from photinus_core.events.intake import IntakeContext
from photinus_core.events.node_registry import ExchangePeers
from photinus_core.events.peers import PeerIntake
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Hash32, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import NamespaceRow, NetworkContract
from photinus_core.model.messages import (
    Data,
    Message,
)
from photinus_core.model.network import VerifierType
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import (
    BatchPinned,
    CallKey,
    ChainEvent,
    ConnectorEvent,
    ConnectorFailure,
    Disposition,
    EventBatch,
    NetworkActionSeen,
    PeerBlob,
    PeerMessage,
)
from photinus_core.ports.store import Fence, Store, WriteTransaction

from tests.integration.core_receive.senders import NETWORK, NS, Org, Sent, peer_of
from tests.support.databases import Databases, SqliteDatabases

databases: Databases = SqliteDatabases()
"""Where members keep their rows; tests run with one kind, then the other (conftest)."""


async def open_store(path: Path) -> Store:
    """Opens a database by path."""
    return await databases.open(path)


class SharedDictionary:
    """Shared storage: content by reference, with failures on demand."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.hidden: set[str] = set()
        self.reads: list[str] = []

    def put(self, content: bytes) -> str:
        ref = f"Qm{hashlib.sha256(content).hexdigest()}"
        self.content[ref] = content
        return ref

    async def upload(self, call: CallKey, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        content = b"".join([c async for c in chunks])
        return self.put(content), len(content)

    async def download(self, payload_ref: str, max_bytes: int = 0) -> AsyncIterator[bytes]:
        self.reads.append(payload_ref)
        await asyncio.sleep(0)
        if payload_ref in self.hidden or payload_ref not in self.content:
            raise ConnectorFailure("NOT_FOUND", f"{payload_ref} is not there", Disposition.NOT_SENT)
        content = self.content[payload_ref]
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]


class FakeExchange:
    """Data exchange of one member: remembers blobs and peers."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.peers: dict[str, str] = {}
        self.largest_piece = 0

    async def add_peer(self, call: CallKey, network_namespace: str, peer_json: str) -> None:
        self.peers[json.loads(peer_json)["id"]] = peer_json

    async def upload_blob(
        self, call: CallKey, data_id: Uuid, chunks: AsyncIterator[bytes]
    ) -> tuple[str, Hash32, int]:
        content = b""
        async for chunk in chunks:
            self.largest_piece = max(self.largest_piece, len(chunk))
            content += chunk
        ref = f"blob/{data_id}"
        self.blobs[ref] = content
        return ref, Hash32(hashlib.sha256(content).hexdigest()), len(content)

    async def delete_blob(self, call: CallKey, payload_ref: str) -> None:
        self.blobs.pop(payload_ref, None)


class Chain:
    """The ledger: events in order, each in a block of its own unless told otherwise."""

    def __init__(self, storage: SharedDictionary) -> None:
        self.storage = storage
        self.events: list[ConnectorEvent] = []
        self.block = 0

    def _place(self, signer: str, name: str = "BatchPin", block: int | None = None) -> ChainEvent:
        self.block = block if block is not None else self.block + 1
        position = f"{self.block:012d}/000000/{len(self.events):06d}"
        return ChainEvent(
            block=self.block,
            transaction_index=0,
            log_index=len(self.events),
            protocol_id=position,
            transaction_id=f"0xAB{len(self.events)}",
            name=name,
            location='{"address":"0x1"}',
            signature="BatchPin(…)",
            output='{"a":1}',
            info="{}",
            timestamp=Nanoseconds(self.block * 1_000_000_000),
            signer=signer,
            source="ethereum",
        )

    def pin(
        self,
        sent: Sent,
        signer: str | None = None,
        contract: int = 0,
        payload_ref: str | None = None,
        contexts: Sequence[str] | None = None,
    ) -> ConnectorEvent:
        """Pins a batch; a broadcast's payload goes to shared storage first."""
        if payload_ref is None:
            payload_ref = "" if sent.group else self.storage.put(sent.payload())
        chain = self._place(sent.wire.batch.key if signer is None else signer)
        body = BatchPinned(
            chain=chain,
            transaction=sent.wire.batch.tx.id,
            batch=sent.wire.batch.id,
            batch_hash=sent.wire.batch.hash,
            payload_ref=payload_ref,
            contexts=tuple(sent.contexts if contexts is None else contexts),
            network_namespace="",
            contract_invoke=False,
        )
        return self._add(chain, contract, body)

    def terminate(
        self, signer: str, contract: int = 0, action: str = "terminate"
    ) -> ConnectorEvent:
        chain = self._place(signer, "NetworkAction")
        return self._add(chain, contract, NetworkActionSeen(chain, action, ""))

    def _add(self, chain: ChainEvent, contract: int, body: Any) -> ConnectorEvent:
        event = ConnectorEvent(
            chain.protocol_id, contract_listener(contract), removed=False, body=body
        )
        self.events.append(event)
        return event


def ref_of(event: ConnectorEvent) -> str:
    """Where the payload of a pinned broadcast is stored."""
    assert isinstance(event.body, BatchPinned)
    return event.body.payload_ref


def as_batch(events: Sequence[ConnectorEvent], checkpoint: bytes = b"c") -> EventBatch:
    return EventBatch(tuple(events), {event.listener: checkpoint for event in events})


CONTRACTS = (
    NetworkContract(index=0, location='{"address":"0x1"}', first_event="oldest"),
    NetworkContract(index=1, location='{"address":"0x2"}', first_event="oldest"),
)


class Member:
    """The receiving side of one member, over a real store."""

    def __init__(self, store: Store, storage: SharedDictionary, org: Org, fence: Fence) -> None:
        self.store = store
        self.org = org
        self.clock = SystemClock()
        self.exchange = FakeExchange()
        self.switched: list[NamespaceRow] = []
        self.ending: list[NamespaceRow] = []
        self.fail_next_switch = False
        self.context = IntakeContext(store, NS, NETWORK, fence, self.clock)
        self.peers = PeerIntake(self.context, f"{org.name}_node")
        self.downloads = Downloads(
            self.context,
            storage,
            self.exchange,  # type: ignore[arg-type]  # a fake of what is used
            DownloadLimits(first_pause_s=0.005, pause_max_s=0.05, poll_s=0.2),
        )
        self.decided: set[Uuid] = set()
        self.chain = ChainIntake(self.context, "shared0", self.downloads.queued)
        self.registry = ExchangePeers(
            self.context,
            self.exchange,  # type: ignore[arg-type]  # a fake of what is used
            f"{org.name}_node",
            self.peers.retry_parked,
        )
        self.aggregator = Aggregator(
            self.context,
            AgreementSettings(
                VerifierType.ETHEREUM_ADDRESS,
                CONTRACTS,
                self._contract_ended,
                self.registry,
                self.decided.update,
                self._contract_ending,
            ),
        )

    async def _contract_ended(self, row: NamespaceRow) -> None:
        self.switched.append(row)
        if self.fail_next_switch:
            self.fail_next_switch = False
            raise Unavailable("FF19100")

    async def _contract_ending(self, tx: WriteTransaction) -> None:
        row = await tx.namespace_row()
        assert row is not None
        self.ending.append(row)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Member"]:
        """Runs the leader's tasks."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.aggregator.run()),
                group.create_task(self.downloads.run()),
                group.create_task(self.registry.run()),
            ]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    async def take(self, events: Iterable[ConnectorEvent], size: int = 50) -> None:
        """Takes chain events in connector batches."""
        listed = list(events)
        for start in range(0, len(listed), size):
            await self.chain.handle(as_batch(listed[start : start + size]))

    async def receive(self, sent: Sent, sender: Org, event_id: str = "") -> Mapping[str, str]:
        """Takes a private batch from a peer; gives the receipts."""
        return await self.receive_text(sent.wrapper(), peer_of(sender.name), event_id)

    async def receive_text(self, text: str, sender: str, event_id: str = "") -> Mapping[str, str]:
        body = PeerMessage(sender, peer_of(self.org.name), text, Nanoseconds(1))
        event = ConnectorEvent(event_id or new_uuid(), "dx", removed=False, body=body)
        return await self.peers.handle(EventBatch((event,), {}))

    async def receive_blob(self, sender: Org, item: Data, content: bytes, **fields: Any) -> None:
        ref = f"received/{new_uuid()}"
        self.exchange.blobs[ref] = content
        body = PeerBlob(
            sender=peer_of(sender.name),
            recipient=peer_of(self.org.name),
            network_namespace=fields.pop("network_namespace", NETWORK),
            data_id=fields.pop("data_id", item.id),
            hash=fields.pop("hash", hashlib.sha256(content).hexdigest()),
            size=len(content),
            payload_ref=ref,
        )
        event = ConnectorEvent(new_uuid(), "dx", removed=False, body=body)
        await self.peers.handle(EventBatch((event,), {}))

    # What the tests look at

    async def message(self, message_id: Uuid) -> Message | None:
        async with self.store.read(NS) as reader:
            return (await reader.messages([message_id])).get(message_id)

    async def state(self, message_id: Uuid) -> str:
        found = await self.message(message_id)
        return "" if found is None else str(found.state)

    async def wait_state(
        self, *sents: Sent, state: str = "confirmed", limit_s: float = 30.0
    ) -> None:
        """Waits until all messages of some batches are in a state."""
        ids = [i for sent in sents for i in sent.ids]
        async with asyncio.timeout(limit_s):
            while True:
                async with self.store.read(NS) as reader:
                    found = await reader.messages(ids)
                if all(i in found and found[i].state == state for i in ids):
                    return
                await asyncio.sleep(0.01)

    async def wait_reason(self, message_id: Uuid, reason: str) -> None:
        """Waits until `explain` gives this reason for a message."""
        seen: list[str] = []
        try:
            async with asyncio.timeout(30):
                while reason not in seen:
                    seen = [str(e.wait.reason) for e in self.aggregator.explain(message_id)]
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"explained by {seen}, not by {reason}") from None

    async def settle(self) -> None:
        """Waits until everything that arrived has been looked at:

        no wake-up and no download is left fresh.
        """
        async with asyncio.timeout(30):
            while True:
                state = self.aggregator._state
                async with self.store.read(NS) as reader:
                    wakeups = await reader.wakeups(1000)
                if state is not None and all(
                    w.sequence <= state.feed.wakeups_settled for w in wakeups
                ):
                    return
                await asyncio.sleep(0.01)

    async def wait_all_decided(self) -> None:
        """Waits until no pin is left."""
        async with asyncio.timeout(30):
            while True:
                async with self.store.read(NS) as reader:
                    if not await reader.undispatched_pins(-1, 1):
                        return
                await asyncio.sleep(0.01)

    async def log(self) -> list[tuple[str, str, str]]:
        """The event log: (type, reference, topic)."""
        async with self.store.read(NS) as reader:
            events = await reader.events_after(0, 10_000)
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))
        return [(str(e.type), e.reference, e.topic) for e in events]

    async def order(self, topic: str = "default") -> list[Uuid]:
        """Messages decided on a topic, in order."""
        return [
            Uuid(reference)
            for kind, reference, event_topic in await self.log()
            if kind.startswith("message_") and event_topic == topic
        ]


async def begin_namespace(store: Store) -> None:
    """Stores the namespace's row, if it is not there yet."""
    async with store.write(NS) as tx:
        if await tx.namespace_row() is None:
            row = NamespaceRow(NS, NETWORK, "", Nanoseconds(1), CONTRACTS[:1])
            await tx.save_namespace_row(row)


@asynccontextmanager
async def member(
    folder: Path, storage: SharedDictionary, org: Org, *, name: str = "core.db"
) -> AsyncIterator[Member]:
    """Opens a member's store and makes it leader of its namespace."""
    store = await open_store(folder / name)
    try:
        epoch = await store.raise_epoch(f"namespace/{NS}", None)
        await begin_namespace(store)
        yield Member(store, storage, org, Fence(f"namespace/{NS}", epoch))
    finally:
        await store.aclose()
