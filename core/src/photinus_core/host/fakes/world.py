"""Members that share a chain, a storage and a network, all in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from photinus_core.host.fakes.chain import FakeBlockchain, FakeChain
from photinus_core.host.fakes.exchange import FakeDataExchange, FakeNetwork
from photinus_core.host.fakes.storage import FakeBucket, FakeSharedStorage
from photinus_core.ports.tasks import Background


@dataclass(frozen=True, slots=True)
class FakeMember:
    """The connectors of one member."""

    name: str
    key: str
    blockchain: FakeBlockchain
    data_exchange: FakeDataExchange
    shared_storage: FakeSharedStorage


class FakeWorld:
    """What the members share. An async context manager; leaving it ends all streams."""

    def __init__(self) -> None:
        self.chain = FakeChain()
        self.bucket = FakeBucket()
        self.network = FakeNetwork()
        self._work = Background("fakes")

    async def __aenter__(self) -> Self:
        await self._work.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.__aexit__(kind, failure, trace)

    def member(self, name: str) -> FakeMember:
        """A new member, with a signing key made from its name."""
        key = "0x" + hashlib.sha256(name.encode()).hexdigest()[:40]
        return FakeMember(
            name,
            key,
            FakeBlockchain(name, self._work, self.chain, (key,)),
            FakeDataExchange(name, self._work, self.network),
            FakeSharedStorage(name, self._work, self.bucket),
        )
