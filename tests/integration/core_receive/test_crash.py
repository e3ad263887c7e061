"""Crashes between any two statements of intake and agreement lose nothing and do nothing twice.

Method: the store is wrapped so that the n-th call of a transaction, its commit, or the moment right
after the commit fails, once, for every n until no call is left to fail. Intake is then repeated as
a connector would, agreement starts over by itself. At the end the log and all states must be those
of a run without a failure.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from photinus_core.events import aggregator as aggregator_module
from photinus_core.model.errors import Unavailable
from photinus_core.ports.connectors import EventBatch
from photinus_core.ports.store import Fence

from tests.integration.core_receive.network import (
    Chain,
    Member,
    SharedDictionary,
    as_batch,
    member,
)
from tests.integration.core_receive.senders import (
    NS,
    Org,
    broadcast,
    claim_node,
    claim_org,
    define_datatype,
    group_of,
    private,
)


@pytest.fixture(autouse=True)
def databases() -> None:
    """On SQLite alone: hundreds of databases are made here, and what fails is the wrapper."""


LIMIT_S = 60.0
"""Of one run, with others beside it."""
AT_ONCE = 10
"""Runs at a time: they mostly wait for the disk."""


class FaultyStore:
    """A store whose writes fail once, at a counted point."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.left = -1
        """Points still to pass before the failure; -1 = no failure any more."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def point(self) -> None:
        if self.left == 0:
            self.left = -1
            raise Unavailable("FF19100")
        if self.left > 0:
            self.left -= 1

    @asynccontextmanager
    async def write(self, namespace: Any, fence: Fence | None = None) -> AsyncIterator[Any]:
        self.point()
        async with self._inner.write(namespace, fence) as tx:
            yield FaultyTransaction(tx, self.point)
            self.point()
        self.point()


class FaultyTransaction:
    """A transaction that asks before each call whether it is to fail."""

    def __init__(self, inner: Any, point: Callable[[], None]) -> None:
        self._inner = inner
        self._point = point

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self._point()
            return method(*args, **kwargs)

        return call


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregator_module, "RESTART_FIRST_S", 0.001)


def scenario(storage: SharedDictionary) -> tuple[Chain, list[Any], list[Any], Org]:
    """Claims, a datatype, broadcasts of two messages, private messages; with their chain."""
    chain, bob, alice = Chain(storage), Org("bob"), Org("alice")
    group = group_of(alice, bob)
    claims = [claim(org) for org in (alice, bob) for claim in (claim_org, claim_node)]
    sent = [
        *claims,
        define_datatype(bob, "widget", "1", {"type": "object"}),
        broadcast(bob, 1, 2, topics=["a", "b"]),
        private(bob, group, "p0", introduce=True),
        private(bob, group, "p1", "p2"),
        broadcast(Org("nobody"), "rejected"),
    ]
    for batch in sent:
        chain.pin(batch)
    return chain, sent, [s for s in sent if s.group], alice


async def until_taken(made: Member, batch: EventBatch, *, peer: bool = False) -> None:
    """Hands a batch over until it is taken, as a connector does."""
    while True:
        try:
            await (made.peers if peer else made.chain).handle(batch)
        except Unavailable:
            await asyncio.sleep(0)
        else:
            return


async def outcome(made: Member, sent: list[Any]) -> tuple[Any, ...]:
    """What must not depend on failures."""
    states = {i: await made.state(i) for s in sent for i in s.ids}
    log = [
        (kind, topic, sorted(states).index(ref) if ref in states else "")
        for kind, ref, topic in await made.log()
    ]
    messages = [entry for entry in log if entry[0].startswith("message_")]
    others = sorted(str(entry) for entry in log if not entry[0].startswith("message_"))
    async with made.store.read(NS) as reader:
        left = [pin.hash for pin in await reader.undispatched_pins(-1, 100)]
        wakeups = len(await reader.wakeups(1000))
        batches = [
            b.confirmed is not None
            for s in sent
            for b in (await reader.batches([s.wire.batch.id])).values()
        ]
    del wakeups
    return sorted(states.values()), messages, others, left, batches


async def run(folder: Path, name: str, fail_at: int) -> tuple[tuple[Any, ...], int]:
    """Runs the scenario with one failure; gives the outcome, and whether the failure happened."""
    storage = SharedDictionary()
    chain, sent, privates, alice = scenario(storage)
    async with member(folder, storage, alice, name=name) as plain:
        faulty = FaultyStore(plain.store)
        made = Member(faulty, storage, alice, plain.context.fence)
        faulty.left = fail_at
        for start in range(0, len(chain.events), 4):
            await until_taken(made, as_batch(chain.events[start : start + 4]))
        async with made.running():
            expected = {
                i: "rejected" if s is sent[-1] else "confirmed" for s in sent for i in s.ids
            }
            public = [i for s in sent if not s.group for i in s.ids]
            await wait(made, {i: expected[i] for i in public})
            for batch in privates:
                from photinus_core.model.ids import Nanoseconds
                from photinus_core.ports.connectors import ConnectorEvent, PeerMessage

                body = PeerMessage("bob_dx/bob_node", "x", batch.wrapper(), Nanoseconds(1))
                event = ConnectorEvent(batch.wire.batch.id, "dx", removed=False, body=body)
                await until_taken(made, EventBatch((event,), {"dx": b"1"}), peer=True)
            await wait(made, expected)
            await made.settle()
        return await outcome(made, sent), faulty.left


async def wait(made: Member, expected: dict[Any, str]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            async with made.store.read(NS) as reader:
                found = await reader.messages(list(expected))
            if {i: str(m.state) for i, m in found.items()} == expected:
                return
            await asyncio.sleep(0.002)


async def test_a_failure_at_any_statement_changes_nothing_in_the_end(tmp_path: Path) -> None:
    (want, _) = await run(tmp_path, "plain.db", -1)
    assert want[0].count("confirmed") == 11
    assert want[0].count("rejected") == 1
    assert want[3] == []
    points, passed = 0, False
    while not passed:
        numbers = range(points, points + AT_ONCE)
        runs = [run(tmp_path, f"fail{n}.db", n) for n in numbers]
        for number, (got, left) in zip(numbers, await asyncio.gather(*runs), strict=True):
            passed = passed or left >= 0
            if left < 0:
                points = number + 1
                assert _comparable(got) == _comparable(want), f"failure at point {number}"
    assert points > 60, "the scenario must have many points to fail at"


def _comparable(outcome: tuple[Any, ...]) -> tuple[Any, ...]:
    """Ids differ from run to run: the order of kinds and topics is compared."""
    states, messages, others, left, batches = outcome
    kinds = sorted((kind, topic if len(topic) < 10 else "hash") for kind, topic, _ in messages)
    return states, kinds, len(others), left, batches
