"""What comes in: the chain, what peers send, what must be downloaded.

As in production: stored with its checkpoint and its wake-ups in one transaction, acknowledged after
it; whatever comes twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from photinus_core.sequencing.facts import BatchKey, PinEvent

from tests.simulation.content import SimBatch, introduced_groups
from tests.simulation.database import Rows, Wakeup
from tests.simulation.process import DeposedError, Step, TroubleError, Wake
from tests.simulation.world import Told

if TYPE_CHECKING:
    from tests.simulation.leader import Leader


class ChainIntake:
    """Reads the ledger's stream."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.wake = Wake()

    def run(self) -> Step:
        leader = self.leader
        connectors = leader.member.connectors
        rng = leader.clock.rng
        while True:
            if connectors.owner is not leader and connectors.checks_epoch:
                raise DeposedError  # the stream was closed: superseded
            contracts = [
                contract
                for contract in range(leader.rows.contract + 1)
                if len(connectors.ledger.stream.get(contract, ()))
                > leader.rows.read.get(contract, 0)
            ]
            if not contracts:
                yield self.wake
                continue
            contract = rng.choice(contracts)
            begin = leader.rows.read.get(contract, 0)
            told = connectors.ledger.stream[contract][begin:]
            # What is gone by now is not told any more: connectors read the chain as it is.
            gone = {event.position for event, removed in told if removed}
            gone &= {event.position for event, removed in told if not removed}
            taken = [
                each if each.event.position not in gone else None
                for each in told[: rng.randint(1, len(told))]
            ]
            yield from leader.moment()
            try:
                yield from leader.write(partial(take, contract, begin, taken))
            except TroubleError:
                yield 2


def take(
    contract: int, begin: int, taken: Sequence[Told | None], rows: Rows, *, tells: bool = True
) -> None:
    """Stores what a stream told from an index on; what was stored since then changes nothing.

    Args:
        taken: None for what is to be passed over.
        tells: Whether agreement hears that something was taken back.
    """
    if rows.read.get(contract, 0) != begin:
        return
    rows.read[contract] = begin + len(taken)
    told = [each for each in taken if each is not None]
    for event, removed in told:
        if removed:
            rows.take_back(event.position)
        elif not isinstance(event, PinEvent):
            rows.actions[event.position] = event
        elif rows.insert_pins(event) and not event.masked and event.batch not in rows.batches:
            rows.insert_downloads([event.batch])
    if tells and any(removed for _, removed in told):
        rows.insert_wakeups(Wakeup("removed"))
    rows.insert_wakeups(Wakeup("pins"))


class PeerIntake:
    """Takes what other members send privately, in the order in which it comes."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self._queue: list[int] = []
        self._wake = Wake()

    def arrived(self, number: int) -> None:
        """The data exchange has something."""
        self._queue.append(number)
        self._wake.set()

    def run(self) -> Step:
        leader = self.leader
        connectors = leader.member.connectors
        while True:
            if not self._queue:
                yield self._wake
                continue
            number = self._queue.pop(0)
            item = connectors.inbox.get(number)
            if item is None:
                continue
            store = (
                partial(_store_batch, item)
                if isinstance(item, SimBatch)
                else partial(_store_blob, item)
            )
            yield from leader.write_surely(store)
            connectors.acknowledge(leader, number)


def _store_batch(batch: SimBatch, rows: Rows) -> None:
    """Stores a batch whose content recomputes to its hash."""
    if batch.key in rows.batches:
        return
    rows.batches[batch.key] = batch
    rows.downloads.pop(batch.key, None)
    wakeups = [Wakeup("batch", batch.key)]
    for group, members in introduced_groups(batch).items():
        rows.groups[group] = members
        wakeups.append(Wakeup("group", group))
    # Private blobs come by themselves.
    blobs = [m.body.blob for m in batch.messages if batch.group is None and m.body.blob]
    rows.insert_downloads(blob for blob in blobs if blob not in rows.blobs)
    rows.insert_wakeups(*wakeups)


def _store_blob(blob: str, rows: Rows) -> None:
    rows.blobs.add(blob)
    rows.downloads.pop(blob, None)
    rows.insert_wakeups(Wakeup("blob", blob))


class Downloads:
    """Fetches broadcast batches and their blobs, each until it is here."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.wake = Wake()
        self._running: set[BatchKey | str] = set()

    def run(self) -> Step:
        yield from self.leader.moment()
        while True:
            for wanted in [w for w in self.leader.rows.downloads if w not in self._running]:
                self._running.add(wanted)
                self.leader.spawn(self._fetch(wanted))
            yield self.wake

    def _fetch(self, wanted: BatchKey | str) -> Step:
        leader = self.leader
        storage = leader.member.connectors.storage
        if isinstance(wanted, BatchKey):
            there = Wake()
            storage.when_there(wanted.payload_ref, there.set)
            yield there
        yield 1
        while leader.clock.lost():
            yield 3
        if isinstance(wanted, str):
            yield from leader.write_surely(partial(_store_blob, wanted))
            return
        batch = storage.batches[wanted.payload_ref]
        if batch.key == wanted:
            yield from leader.write_surely(partial(_store_batch, batch))
