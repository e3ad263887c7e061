"""Goal: the in-memory fakes and the real host behave alike towards the rest of the core.

Method: the same tests over both: `fake` is photinus_core.host.fakes; `real` is the host, the wire and the
connector in memory, `photinus_memory`.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import pytest
from photinus_core.host import Category, ConnectorHost, InstanceConfig
from photinus_core.host.fakes import FakeWorld
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Epoch, Hash32, Namespace, Uuid
from photinus_core.ports.connectors import (
    BatchPinInput,
    BatchPinned,
    BlockchainConnector,
    CallKey,
    ConnectorFailure,
    DataExchangeConnector,
    DestinationListener,
    Disposition,
    KeyIntent,
    MultipartyListener,
    NetworkActionSeen,
    PeerBlob,
    PeerMessage,
    SharedStorage,
    Submission,
    WorkState,
    WorkUpdate,
)
from photinus_memory import MemoryConnector, World, connector_over
from photinus_memory.member import key_of
from photinus_sdk import ConnectorServer

from tests.support.host import StoringHandler, hosting, until_state
from tests.support.waiting import until

B = TypeVar("B")
NS, OTHER = Namespace("ns1"), Namespace("ns2")
LOCATION, ELSEWHERE = (f'{{"address":"0x{n:040x}"}}' for n in (1, 2))
TRANSACTION, BATCH, OTHER_BATCH = (Uuid(f"00000000-0000-4000-8000-{n:012}") for n in (1, 2, 3))
PIN = BatchPinInput(
    TRANSACTION, BATCH, Hash32("a" * 64), "ref", (Hash32("c" * 64), Hash32("d" * 64))
)
LISTENER = MultipartyListener("pins", LOCATION, 2, "oldest")


@dataclass
class Member:
    """A member's connectors as the core sees them, and a way to take them away."""

    key: str
    blockchain: BlockchainConnector
    data_exchange: DataExchangeConnector
    shared_storage: SharedStorage
    objects: dict[str, bytes]
    go_away: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


class FakeMembers:
    """Members of a `FakeWorld`."""

    def __init__(self, world: FakeWorld) -> None:
        self._world = world

    async def member(self, name: str) -> Member:
        made = self._world.member(name)

        async def go_away() -> None:
            made.blockchain.go_away()

        async def come_back() -> None:
            made.blockchain.come_back()

        return Member(
            made.key,
            made.blockchain,
            made.data_exchange,
            made.shared_storage,
            self._world.bucket.objects,
            go_away,
            come_back,
        )


class RealMembers:
    """Members with a host each, which dials connectors in memory; their ledger is a process of its own."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory, self._stack = directory, stack
        # Kept, so that a ledger which was away knows its keys again.
        self._world = World(directory / "world")
        stack.callback(self._world.close)
        self._kind = connector_over(self._world)

    async def member(self, name: str) -> Member:
        ledger = await self._serve(f"{name[:1]}l")
        others = await self._serve(f"{name[:1]}o")
        configs = [
            InstanceConfig(
                str(category),
                category,
                address=(ledger if category is Category.BLOCKCHAIN else others).address,
                instance=f"{name}-{category}",
                config={"member": name},
            )
            for category in (Category.BLOCKCHAIN, Category.DATA_EXCHANGE, Category.SHARED_STORAGE)
        ]
        host: ConnectorHost = await self._stack.enter_async_context(
            hosting(self._directory / name, *configs)
        )
        for config in configs:
            await host.wait_ready(config.name, 10)

        async def go_away() -> None:
            await ledger.stop()
            await until_state(host, "blockchain", "unreachable")

        async def come_back() -> None:
            await ledger.start()
            await host.wait_ready("blockchain", 10)

        return Member(
            key_of(name),
            host.blockchain("blockchain"),
            host.data_exchange("dataexchange"),
            host.shared_storage("sharedstorage"),
            self._world.files,
            go_away,
            come_back,
        )

    async def _serve(self, name: str) -> "_Restartable":
        address = f"unix:{self._directory}/{name}.sock"
        made = _Restartable(self._kind, address, self._directory / name)
        return await self._stack.enter_async_context(made)


class _Restartable:
    """A connector's server that can be ended and started again on the same data."""

    def __init__(self, kind: type[MemoryConnector], address: str, data_dir: Path) -> None:
        self.address = address
        self._parts = (kind, address, data_dir)
        self._server: ConnectorServer | None = None

    async def start(self) -> None:
        self._server = ConnectorServer(*self._parts)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(drain_grace_s=0.2)
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@asynccontextmanager
async def fake_members() -> AsyncIterator[FakeMembers]:
    async with FakeWorld() as world:
        yield FakeMembers(world)


@pytest.fixture(params=["fake", "real"])
async def members(
    request: pytest.FixtureRequest, run_dir: Path
) -> AsyncIterator[FakeMembers | RealMembers]:
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            yield await stack.enter_async_context(fake_members())
        else:
            yield RealMembers(run_dir, stack)


@pytest.fixture
async def alice(members: FakeMembers | RealMembers) -> Member:
    return await members.member("alice")


@pytest.fixture
async def bob(members: FakeMembers | RealMembers) -> Member:
    return await members.member("bob")


def call(key: str, namespace: Namespace = NS, epoch: int = 0) -> CallKey:
    return CallKey(f"{namespace}:{key}", namespace, Epoch(epoch))


async def pinned(member: Member, key: str = "k1", epoch: int = 1) -> Submission:
    return await member.blockchain.submit_batch_pin(
        call(key, epoch=epoch), "net1", member.key, PIN, LOCATION
    )


async def followed(member: Member, namespace: Namespace = NS, epoch: int = 1) -> StoringHandler:
    handler = StoringHandler()
    await member.blockchain.open_stream(namespace, "net1", Epoch(epoch), [LISTENER], handler)
    return handler


def bodies(handler: StoringHandler, kind: type[B]) -> list[B]:
    return [e.body for b in handler.batches for e in b.events if isinstance(e.body, kind)]


async def failure_of(call_made: Awaitable[object]) -> ConnectorFailure:
    with pytest.raises(ConnectorFailure) as caught:
        await call_made
    return caught.value


async def some(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_keys_are_resolved(alice: Member, bob: Member) -> None:
    chain = alice.blockchain
    assert (await chain.resolve_key("", KeyIntent.SIGN)).key == alice.key
    upper = "0x" + alice.key[2:].upper()
    assert (await chain.resolve_key(upper, KeyIntent.SIGN)).key == alice.key
    assert (await chain.resolve_key(bob.key, KeyIntent.LOOKUP)).key == bob.key
    assert (await failure_of(chain.resolve_key(bob.key, KeyIntent.SIGN))).reason == "UNKNOWN_KEY"
    failure = await failure_of(chain.resolve_key("nonsense", KeyIntent.LOOKUP))
    assert (failure.reason, failure.disposition) == ("INVALID_KEY", Disposition.NOT_SENT)


async def test_a_pin_is_seen_by_all_and_its_end_by_its_namespace(
    alice: Member, bob: Member
) -> None:
    mine, theirs = await followed(alice), await followed(bob)
    other = await followed(alice, OTHER)
    await pinned(alice)
    await until(lambda: bodies(mine, WorkUpdate))
    for handler in (mine, theirs, other):
        await until(partial(bodies, handler, BatchPinned))
        (seen,) = bodies(handler, BatchPinned)
        assert (seen.transaction, seen.batch, seen.batch_hash) == (TRANSACTION, BATCH, "a" * 64)
        assert seen.contexts == PIN.contexts
        assert (seen.chain.block, seen.chain.signer) == (1, alice.key)
    (update,) = bodies(mine, WorkUpdate)
    assert (update.key, update.state) == ("ns1:k1", WorkState.SUCCEEDED)
    assert update.external_id == bodies(mine, BatchPinned)[0].chain.transaction_id
    assert not bodies(theirs, WorkUpdate)
    assert not bodies(other, WorkUpdate)


async def test_a_key_is_carried_out_once(alice: Member) -> None:
    first, again = await pinned(alice), await pinned(alice)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.external_id == first.external_id
    assert again.state is WorkState.SUCCEEDED
    other = replace(PIN, batch=OTHER_BATCH)
    failure = await failure_of(
        alice.blockchain.submit_batch_pin(call("k1", epoch=1), "net1", alice.key, other, LOCATION)
    )
    assert (failure.reason, failure.disposition) == ("KEY_REUSED", Disposition.NOT_SENT)
    handler = await followed(alice)
    await until(lambda: bodies(handler, BatchPinned))
    assert len(bodies(handler, BatchPinned)) == 1


async def test_keys_of_two_namespaces_do_not_meet(alice: Member) -> None:
    for namespace in (NS, OTHER):
        result = await alice.blockchain.submit_network_action(
            CallKey("same", namespace, Epoch(1)), alice.key, "terminate", "", LOCATION
        )
        assert not result.replayed


async def test_an_old_epoch_is_refused(alice: Member) -> None:
    await pinned(alice, epoch=5)
    failure = await failure_of(pinned(alice, "k2", epoch=4))
    assert (failure.reason, failure.disposition) == ("STALE_EPOCH", Disposition.NOT_SENT)
    late = StoringHandler()
    await alice.blockchain.open_stream(NS, "net1", Epoch(4), [LISTENER], late)
    await until(lambda: late.troubles)
    assert not late.troubles[0][2]


async def test_a_higher_epoch_takes_the_stream(alice: Member) -> None:
    old = await followed(alice, epoch=1)
    await pinned(alice, epoch=1)
    await until(lambda: bodies(old, BatchPinned))
    new = StoringHandler(old.checkpoints)
    await alice.blockchain.open_stream(NS, "net1", Epoch(2), [LISTENER], new)
    await until(lambda: old.troubles)
    await pinned(alice, "k2", epoch=2)
    await until(lambda: bodies(new, BatchPinned))
    assert len(bodies(old, BatchPinned)) == len(bodies(new, BatchPinned)) == 1


async def test_a_stream_resumes_behind_its_checkpoint(alice: Member) -> None:
    first = await followed(alice)
    await pinned(alice, "k1")
    await until(lambda: first.checkpoints)
    second = StoringHandler(first.checkpoints)
    await pinned(alice, "k2")
    await alice.blockchain.open_stream(OTHER, "net1", Epoch(1), [LISTENER], second)
    await until(lambda: bodies(second, BatchPinned))
    (seen,) = bodies(second, BatchPinned)
    assert seen.chain.block == 2


async def test_what_cannot_be_stored_comes_again(alice: Member) -> None:
    handler = StoringHandler()
    handler.failures = [OSError("disk full")] * 2
    await alice.blockchain.open_stream(NS, "net1", Epoch(1), [LISTENER], handler)
    await pinned(alice)
    await until(lambda: bodies(handler, WorkUpdate) and bodies(handler, BatchPinned))
    assert len(bodies(handler, BatchPinned)) == len(bodies(handler, WorkUpdate)) == 1


async def test_network_actions_are_seen(alice: Member) -> None:
    handler = await followed(alice)
    await alice.blockchain.submit_network_action(
        call("k", epoch=1), alice.key, "terminate", "why", LOCATION
    )
    await until(lambda: bodies(handler, NetworkActionSeen))
    (seen,) = bodies(handler, NetworkActionSeen)
    assert (seen.action, seen.payload) == ("terminate", "why")


async def test_listeners_of_other_contracts_see_nothing(alice: Member) -> None:
    handler = StoringHandler()
    elsewhere = replace(LISTENER, location=ELSEWHERE)
    stream = await alice.blockchain.open_stream(NS, "net1", Epoch(1), [elsewhere], handler)
    await pinned(alice)
    await until(lambda: bodies(handler, WorkUpdate))
    assert not bodies(handler, BatchPinned)
    await stream.add_listener(replace(LISTENER, id="late"))
    await until(lambda: bodies(handler, BatchPinned))
    await stream.aclose()


async def test_a_deployment_tells_its_location(alice: Member) -> None:
    handler = await followed(alice)
    await alice.blockchain.deploy_contract(call("k"), alice.key, "[]", '"0x00"', "[]", "")
    await until(lambda: bodies(handler, WorkUpdate))
    (update,) = bodies(handler, WorkUpdate)
    assert json.loads(update.output)["contractLocation"]["address"].startswith("0x")


async def test_locations_and_versions(alice: Member) -> None:
    found = await alice.blockchain.normalize_location('{"address": "0x%s"}' % ("AB" * 20))
    assert found == '{"address":"0x%s"}' % ("ab" * 20)
    assert (await failure_of(alice.blockchain.normalize_location("{}"))).reason == (
        "INVALID_LOCATION"
    )
    assert await alice.blockchain.network_version(LOCATION) == 2


async def test_while_it_is_away_questions_fail_and_streams_wait(alice: Member) -> None:
    handler = await followed(alice)
    await pinned(alice, "k1")
    await until(lambda: bodies(handler, BatchPinned))
    await alice.go_away()
    with pytest.raises(Unavailable) as caught:
        await alice.blockchain.network_version(LOCATION)
    assert caught.value.code == "FF19200"
    await alice.come_back()
    assert await alice.blockchain.network_version(LOCATION) == 2
    await pinned(alice, "k2")
    await until(lambda: len(bodies(handler, BatchPinned)) == 2)
    assert len({e.id for b in handler.batches for e in b.events}) == len(handler.ids)


async def test_bytes_are_stored_once_and_read_back(alice: Member, bob: Member) -> None:
    data = bytes(range(256)) * 20_000
    ref, size = await alice.shared_storage.upload(call("u"), some(data[:100], data[100:]))
    assert size == len(data)
    assert b"".join([c async for c in bob.shared_storage.download(ref)]) == data
    assert await alice.shared_storage.upload(call("u"), some(data)) == (ref, size)
    assert (await failure_of(alice.shared_storage.upload(call("u"), some(b"x")))).reason == (
        "KEY_REUSED"
    )
    assert (await failure_of(read(alice.shared_storage, ref, 10))).reason == "PAYLOAD_TOO_LARGE"
    assert (await failure_of(read(alice.shared_storage, "0" * 64))).reason == "UNKNOWN_PAYLOAD"
    alice.objects[ref] = b"changed"
    assert (await failure_of(read(alice.shared_storage, ref))).reason == "HASH_MISMATCH"


async def read(storage: SharedStorage, ref: str, limit: int = 0) -> bytes:
    return b"".join([chunk async for chunk in storage.download(ref, limit)])


async def test_a_source_that_breaks_off_leaves_nothing(alice: Member) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"some"
        raise OSError("the client went away")

    with pytest.raises(OSError, match="went away"):
        await alice.shared_storage.upload(call("u"), breaking())
    assert not alice.objects
    with pytest.raises(OSError, match="went away"):
        await alice.data_exchange.upload_blob(call("b"), Uuid("d1"), breaking())
    ref, _, size = await alice.data_exchange.upload_blob(call("b"), Uuid("d1"), some(b"whole"))
    assert size == 5
    assert [c async for c in alice.data_exchange.download_blob(ref)] == [b"whole"]


async def acquainted(alice: Member, bob: Member) -> tuple[str, str]:
    """Peer ids of two nodes that know each other."""
    mine = await alice.data_exchange.endpoint("node_a")
    theirs = await bob.data_exchange.endpoint("node_b")
    await alice.data_exchange.add_peer(call("p"), "net1", theirs.peer_json)
    await bob.data_exchange.add_peer(call("p"), "net1", mine.peer_json)
    return mine.peer_id, theirs.peer_id


def wrapper(text: str) -> str:
    return json.dumps({"batch": {"namespace": "net1", "payload": text}})


async def test_a_message_arrives_and_its_sender_hears_of_it(alice: Member, bob: Member) -> None:
    mine, theirs = await acquainted(alice, bob)
    sender, receiver = StoringHandler(), StoringHandler()
    await alice.data_exchange.open_stream(NS, "net1", Epoch(1), [], sender)
    sent = await alice.data_exchange.send_message(
        call("m", epoch=1), theirs, mine, wrapper("hello")
    )
    assert sent.state is WorkState.PENDING
    elsewhere = DestinationListener("other", "net2", "node_b")
    node = DestinationListener("node", "net1", "node_b")
    receiver.failures = [OSError("disk full")]
    receiver.receipts = ReceiptForAll()
    await bob.data_exchange.open_stream(NS, "net1", Epoch(1), [elsewhere, node], receiver)
    await until(lambda: bodies(receiver, PeerMessage))
    (arrived,) = bodies(receiver, PeerMessage)
    assert (arrived.sender, arrived.recipient) == (mine, theirs)
    assert json.loads(arrived.message)["batch"]["payload"] == "hello"
    assert receiver.batches[0].events[0].listener == "node"
    await until(lambda: bodies(sender, WorkUpdate))
    (update,) = bodies(sender, WorkUpdate)
    assert (update.key, update.state, update.manifest) == (
        "ns1:m",
        WorkState.SUCCEEDED,
        "manifest",
    )


class ReceiptForAll(dict[str, str]):
    """A manifest for every event."""

    def __contains__(self, _: object) -> bool:
        return True

    def __getitem__(self, _: str) -> str:
        return "manifest"


async def test_a_blob_arrives_with_its_hash(alice: Member, bob: Member) -> None:
    mine, theirs = await acquainted(alice, bob)
    data = b"blob" * 500_000
    ref, digest, size = await alice.data_exchange.upload_blob(call("u"), Uuid("d1"), some(data))
    assert (digest, size) == (hashlib.sha256(data).hexdigest(), len(data))
    sender, receiver = StoringHandler(), StoringHandler()
    await alice.data_exchange.open_stream(NS, "net1", Epoch(1), [], sender)
    node = DestinationListener("node", "net1", "node_b")
    await bob.data_exchange.open_stream(NS, "net1", Epoch(1), [node], receiver)
    await alice.data_exchange.send_blob(call("b", epoch=1), theirs, mine, "net1", Uuid("d1"), ref)
    await until(lambda: bodies(receiver, PeerBlob))
    (arrived,) = bodies(receiver, PeerBlob)
    assert (arrived.data_id, arrived.hash, arrived.size) == ("d1", digest, len(data))
    received = [c async for c in bob.data_exchange.download_blob(arrived.payload_ref, 4)]
    assert b"".join(received) == data[4:]
    await until(lambda: bodies(sender, WorkUpdate))
    (update,) = bodies(sender, WorkUpdate)
    assert update.hash == digest
    await bob.data_exchange.delete_blob(call("d1"), arrived.payload_ref)
    await bob.data_exchange.delete_blob(call("d2"), arrived.payload_ref)
    gone = bob.data_exchange.download_blob(arrived.payload_ref)
    assert (await failure_of(anext(aiter(gone)))).reason == "UNKNOWN_BLOB"


async def test_only_known_peers_are_sent_to(alice: Member, bob: Member) -> None:
    mine, theirs = await acquainted(alice, bob)
    await alice.data_exchange.remove_peer(call("r"), "net1", theirs)
    failure = await failure_of(
        alice.data_exchange.send_message(call("m", epoch=1), theirs, mine, wrapper("x"))
    )
    assert (failure.reason, failure.disposition) == ("UNKNOWN_PEER", Disposition.NOT_SENT)


async def test_many_calls_at_once(alice: Member) -> None:
    handler = await followed(alice)
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(pinned(alice, f"k{number}"))
    await until(lambda: len(bodies(handler, BatchPinned)) == 100)
    await until(lambda: len(bodies(handler, WorkUpdate)) == 100)
    blocks = [b.chain.block for b in bodies(handler, BatchPinned)]
    assert blocks == list(range(1, 101))
