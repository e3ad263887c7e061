"""The connector ports in memory, for unit tests that take milliseconds: no process, no socket, no wire.

    async with FakeWorld() as world:
        alice = world.member("alice")
        await alice.shared_storage.upload(call, chunks)

Whatever can afford a connection uses `photinus_memory` instead, which speaks the protocol and passes its conformance
suite. These here stand in where a test has the services of the core in its own hands and takes connectors away, or
changes what is behind them, between two lines. They keep the rules that the rest of the core relies on (idempotency
keys, epochs, checkpoints, events again until they are stored), and pass the tests that `photinus_memory` passes behind
the real host (tests/integration/host/test_contract.py). Nothing in them is durable, and nothing takes time.
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
