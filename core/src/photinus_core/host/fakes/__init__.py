"""Connectors in memory, for tests: a small world in which members share a chain, a storage, a network.

    async with FakeWorld() as world:
        alice = world.member("alice")
        await alice.shared_storage.upload(call, chunks)

They keep the rules the rest of the core relies on (idempotency keys, epochs, checkpoints, events
again until they are stored) and pass the tests that connectors behind the real host pass. Nothing
in them is durable, and nothing takes time.
"""

from photinus_core.host.fakes.chain import FakeBlockchain, FakeChain
from photinus_core.host.fakes.exchange import FakeDataExchange, FakeNetwork
from photinus_core.host.fakes.storage import FakeBucket, FakeSharedStorage
from photinus_core.host.fakes.world import FakeMember, FakeWorld

__all__ = [
    "FakeBlockchain",
    "FakeBucket",
    "FakeChain",
    "FakeDataExchange",
    "FakeMember",
    "FakeNetwork",
    "FakeSharedStorage",
    "FakeWorld",
]
