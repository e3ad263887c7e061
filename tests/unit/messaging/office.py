"""A sending member for tests: the real SQLite store, connectors in memory that fail when told to.

`Office` is one process' life: sender, sealer, dispatcher and batch manager on one store and epoch. A
crash is its manager cancelled and another office opened on the same store.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photinus_core.data.inputs import DataInput
from photinus_core.data.service import DataService
from photinus_core.host.fakes import FakeMember, FakeWorld
from photinus_core.host.fakes.chain import Mined
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.messaging.assembly import BatchManager
from photinus_core.messaging.dispatch import BatchDispatcher, Connectors
from photinus_core.messaging.groups import GroupResolver
from photinus_core.messaging.inputs import GroupInput, MemberInput, MessageInput
from photinus_core.messaging.receipts import ReceiptService
from photinus_core.messaging.sealing import BatchSealer, Plugins
from photinus_core.messaging.sender import BatchLimits, MessageSender
from photinus_core.model.ids import Did, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import NetworkContract, Operation
from photinus_core.model.messages import Batch, Message, MessageState
from photinus_core.model.network import Identity, IdentityBase, IdentityType, Verifier, VerifierType
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import BatchPinned
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, Store
from photinus_core.store import SqliteStore

from tests.support.store_records import new_hash

NS = Namespace("alpha")
NETWORK = "net"
ROLE = f"namespace/{NS}"
CONTRACT = NetworkContract(0, '{"address":"0x1"}', "oldest")
PLUGINS = Plugins("ethereum", "ffdx", "ipfs")


class Crash(BaseException):
    """Ends the process at a step."""


@dataclass
class Steps:
    """Counts calls that go out (writes, connector calls), and fails the one it is told to."""

    calls: list[str] = field(default_factory=list)
    fail_at: int = -1
    failure: Callable[[], BaseException] = Crash
    after: bool = False
    """Fails behind the call instead of before it."""

    def before(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) - 1 == self.fail_at and not self.after:
            raise self.failure()

    def behind(self, place: int) -> None:
        if place == self.fail_at and self.after:
            raise self.failure()


class Watched:
    """A connector or store whose calls are steps."""

    def __init__(self, inner: Any, steps: Steps, names: frozenset[str]) -> None:
        self._inner, self._steps, self._names = inner, steps, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found
        steps = self._steps

        async def call(*arguments: Any, **named: Any) -> Any:
            steps.before(name)
            place = len(steps.calls) - 1
            result = await found(*arguments, **named)
            steps.behind(place)
            return result

        return call


class WatchedStore:
    """A store whose commits are steps."""

    def __init__(self, inner: Store, steps: Steps) -> None:
        self._inner, self._steps = inner, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @asynccontextmanager
    async def write(self, namespace: Namespace, fence: Fence | None = None) -> AsyncIterator[Any]:
        self._steps.before("commit")
        place = len(self._steps.calls) - 1
        async with self._inner.write(namespace, fence) as tx:
            yield tx
        self._steps.behind(place)


@dataclass
class Member:
    """An organisation of the network with its node."""

    name: str
    key: str
    peer: str
    org: Uuid = field(default_factory=new_uuid)
    node: Uuid = field(default_factory=new_uuid)

    @property
    def did(self) -> Did:
        return Did(f"did:firefly:org/{self.name}")

    def identities(self) -> list[Identity]:
        org = IdentityBase(self.org, self.did, IdentityType.ORG, NETWORK, self.name)
        did = Did(f"did:firefly:node/{self.name}_node")
        node = IdentityBase(
            self.node, did, IdentityType.NODE, NETWORK, f"{self.name}_node", self.org
        )
        return [
            Identity(org, NS, Nanoseconds(1), Nanoseconds(1)),
            Identity(node, NS, Nanoseconds(2), Nanoseconds(2)),
        ]

    def verifiers(self) -> list[Verifier]:
        address, peer = VerifierType.ETHEREUM_ADDRESS, VerifierType.DX_PEER_ID
        return [
            Verifier(new_hash(), self.org, NS, address, self.key, Nanoseconds(1)),
            Verifier(new_hash(), self.node, NS, peer, self.peer, Nanoseconds(1)),
        ]


class Office:
    """What one process of the first member sends with."""

    def __init__(self, place: "Place", steps: Steps, limits: BatchLimits, epoch: Any) -> None:
        store: Any = WatchedStore(place.store, steps)
        own = place.own
        self.steps = steps
        self.fence = Fence(ROLE, epoch)
        self.contract = CONTRACT
        self.scope = Scope(store, SystemClock(), NS, NETWORK)
        self.quiet = Scope(place.store, SystemClock(), NS, NETWORK)
        self.identities = IdentityResolver(
            place.store, NS, own.blockchain, org_name="alice", org_key=own.key
        )
        self.data = DataService(place.store, NS, SystemClock(), own.data_exchange)
        self.groups = GroupResolver(self.quiet, self.identities, "alice_node")
        self.sender = MessageSender(self.quiet, self.identities, self.data, self.groups, limits)
        self.receipts = ReceiptService(place.store, NS, self.identities, "alice_node")
        self.sealer = BatchSealer(self.scope, self.identities, PLUGINS, "alice_node")
        connectors: Any = Connectors(
            Watched(own.blockchain, steps, frozenset({"submit_batch_pin"})),
            Watched(own.data_exchange, steps, frozenset({"send_message", "send_blob"})),
            Watched(own.shared_storage, steps, frozenset({"upload"})),
        )
        self.dispatcher = BatchDispatcher(
            self.scope, connectors, self.identities, self.active_contract, self.fence
        )
        self.manager = BatchManager(self.scope, self.sealer, self.dispatcher, self.fence, limits)

    async def active_contract(self) -> NetworkContract:
        return self.contract


@dataclass
class Place:
    """The database of the first member, and the world it lives in."""

    store: Store
    world: FakeWorld
    own: FakeMember
    members: dict[str, Member]

    async def office(self, steps: Steps | None = None, **limits: int) -> Office:
        epoch = await self.store.raise_epoch(ROLE, None)
        return Office(self, steps or Steps(), BatchLimits(**limits), epoch)

    # What tests look at

    def pins(self) -> list[BatchPinned]:
        return [m.body for m in self.mined() if isinstance(m.body, BatchPinned)]

    def mined(self) -> list[Mined]:
        return self.world.chain.mined

    async def batches(self) -> list[Batch]:
        async with self.store.read(NS) as reader:
            rows = await reader.own_batches_off_chain()
            return sorted(rows, key=lambda b: b.seal_order)

    async def operations(self, batch: Batch) -> list[Operation]:
        async with self.store.read(NS) as reader:
            return await reader.operations_of(batch.tx.id)

    async def message(self, message: Uuid) -> Message:
        async with self.store.read(NS) as reader:
            return (await reader.messages([message]))[message]

    async def wait_state(self, *ids: Uuid, state: MessageState = MessageState.SENT) -> None:
        async with asyncio.timeout(10):
            while True:
                async with self.store.read(NS) as reader:
                    found = await reader.messages(ids)
                if all(i in found and found[i].state is state for i in ids):
                    return
                await asyncio.sleep(0.002)


@asynccontextmanager
async def open_place(folder: Path) -> AsyncIterator[Place]:
    """Three members; the first has a store in the folder."""
    store = await SqliteStore.open(folder / "core.db")
    try:
        async with place_over(store) as place:
            yield place
    finally:
        await store.aclose()


@asynccontextmanager
async def place_over(store: Store) -> AsyncIterator[Place]:
    """Three members; the first has the store, which is empty."""
    async with FakeWorld() as world:
        made = {n: world.member(n) for n in ("alice", "bob", "carol")}
        members = {n: Member(n, m.key, f"{m.data_exchange.peer}/{n}_node") for n, m in made.items()}
        async with store.write(NS) as tx:
            for member in members.values():
                for identity in member.identities():
                    await tx.upsert_identity(identity)
                await tx.insert_verifiers(member.verifiers())
        own = made["alice"]
        own.data_exchange._peers |= {m.peer for m in members.values()}
        yield Place(store, world, own, members)


@asynccontextmanager
async def running(office: Office) -> AsyncIterator[asyncio.Task[None]]:
    """Runs the batch manager; leaving the block ends it as a crash would."""
    task = asyncio.get_running_loop().create_task(office.manager.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception, Crash, BaseExceptionGroup):
            await task


def text(value: object = 1, **fields: Any) -> MessageInput:
    return MessageInput(data=(DataInput(value=json.dumps(value)),), **fields)


def to(*names: str, value: object = 1, name: str = "", **fields: Any) -> MessageInput:
    members = tuple(MemberInput(n) for n in names)
    return text(value, group=GroupInput(members, name), **fields)
