"""The connectors of one member: the ledger's, the data exchange's and the shared storage's.

They are processes of their own, which outlive the core's replicas. They remember operation keys and
the newest epoch, and keep what peers sent until the core has it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from tests.simulation.content import SimBatch
from tests.simulation.database import OwnBatch
from tests.simulation.process import DeposedError, RefusedError
from tests.simulation.world import Clock, Ledger, Storage

if TYPE_CHECKING:
    from tests.simulation.leader import Leader
    from tests.simulation.member import Member

Item: TypeAlias = SimBatch | str
"""What a peer sends: a batch, or a blob by name."""


class WithdrawnError(RefusedError):
    """A pin's key was withdrawn."""


class TakenError(RefusedError):
    """A pin is on its way to the chain."""


class Connectors:
    """What a member reaches the world through."""

    def __init__(
        self, clock: Clock, ledger: Ledger, storage: Storage, *, checks_epoch: bool = True
    ) -> None:
        self.clock = clock
        self.ledger = ledger
        self.storage = storage
        self.checks_epoch = checks_epoch
        self.epoch = 0
        self.owner: Leader | None = None
        """Who reads the streams."""
        self.refused = 0
        self.overruled = 0
        """Calls of deposed leaders that were taken: none, unless the check is off."""
        self.keys: set[str] = set()
        self.withdrawn: set[str] = set()
        """Keys under which nothing will ever be sent."""
        self.inbox: dict[int, Item] = {}
        self._numbers = count()
        ledger.listeners.append(self._on_chain)

    def check(self, epoch: int) -> None:
        """Refuses older leaders; the streams of an older leader end."""
        if epoch < self.epoch:
            if self.checks_epoch:
                self.refused += 1
                raise DeposedError
            self.overruled += 1
        self.epoch = max(self.epoch, epoch)
        if self.checks_epoch and self.owner is not None and self.owner.epoch < self.epoch:
            self.owner = None

    def open_streams(self, leader: Leader) -> None:
        """Sends a leader what the chain and the peers have, from now on."""
        self.check(leader.epoch)
        self.owner = leader
        for number in self.inbox:
            leader.peers.arrived(number)

    def submit_pin(self, epoch: int, key: str, contract: int, own: OwnBatch) -> None:
        """Takes a pin; a known key changes nothing."""
        self.check(epoch)
        if key in self.withdrawn:
            raise WithdrawnError
        if key not in self.keys:
            self.keys.add(key)
            self.ledger.submit_pin(key, contract, own.signer, own.batch.key, own.contexts)

    def withdraw(self, epoch: int, key: str) -> None:
        """Marks a key, unless its pin was taken."""
        self.check(epoch)
        if key in self.keys:
            raise TakenError
        self.withdrawn.add(key)

    def upload(self, epoch: int, batch: SimBatch) -> None:
        """Stores a broadcast batch and its blobs where all members find them."""
        self.check(epoch)
        self.storage.put(batch)

    def send(self, epoch: int, key: str, peer: Member, batch: SimBatch) -> None:
        """Takes a private batch for a peer; a known key changes nothing."""
        self.check(epoch)
        if key not in self.keys:
            self.keys.add(key)
            self.post(peer, batch)

    def post(self, peer: Member, batch: SimBatch) -> None:
        """The durable outbox: sends until the peer has it, blobs apart from the batch."""
        items: list[Item] = [batch, *(m.body.blob for m in batch.messages if m.body.blob)]
        for item in items:
            self.clock.soon(partial(self._attempt, peer, item))

    def _attempt(self, peer: Member, item: Item) -> None:
        if not self.clock.lost():
            peer.connectors.receive(item)
            if not self.clock.lost():
                return
        self.clock.soon(partial(self._attempt, peer, item), 3)

    def receive(self, item: Item) -> None:
        """Keeps what a peer sent until the core has it."""
        number = next(self._numbers)
        self.inbox[number] = item
        self._deliver(number)

    def acknowledge(self, leader: Leader, number: int) -> None:
        """The core has it, durably; only the owner of the stream can say so."""
        if leader is self.owner and not self.clock.lost():
            self.inbox.pop(number, None)
        elif number in self.inbox:
            self.clock.soon(partial(self._deliver, number), 5)

    def _deliver(self, number: int) -> None:
        owner = self.owner
        if owner is not None and number in self.inbox:
            self._tell(owner, lambda: owner.peers.arrived(number))

    def _on_chain(self) -> None:
        owner = self.owner
        if owner is not None:
            self._tell(owner, owner.chain.wake.set)

    @staticmethod
    def _tell(leader: Leader, news: Callable[[], None]) -> None:
        leader.replica.deliver(news)
