"""The transactions that are under way, in memory: per signer in the order of their nonces, and by hash.

Bookkeeping only: who sends, watches and repairs is in `sender`, `settlement` and `upkeep`. Everything here
can be rebuilt from the journal.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from photinus_ethereum.hexes import Address, BlockHash, TxHash
from photinus_ethereum.journal import INTERNAL_SCOPE, PENDING, Entry, Submitted
from photinus_ethereum.keys import Signer


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction was found on the chain."""

    hash: TxHash
    block: int
    block_hash: BlockHash
    index: int
    succeeded: bool
    contract: Address | None


@dataclass(slots=True, eq=False)
class Transaction:
    """One journaled transaction until its nonce is finally used up.

    `hashes` has every attempt, with whether it was an empty one. `told` says that the key's end is already
    in the journal. `attempted` is False only while it is certain that no node has seen any of it.
    """

    submitted: Submitted
    id: int = 0
    hashes: dict[TxHash, bool] = field(default_factory=dict)
    told: bool = False
    attempted: bool = False
    queued: bool = False
    suspect: bool = False
    held: bool = False
    refusals: int = 0
    lost_looks: int = 0
    lost_since: int | None = None
    first_sent: float | None = None
    last_sent: float = 0.0
    mined: Mined | None = None

    @property
    def nonce(self) -> int:
        return self.submitted.nonce

    def take(self, submitted: Submitted) -> None:
        """Makes another attempt the current one."""
        self.submitted = submitted
        self.hashes[submitted.hash] = submitted.noop
        self.refusals = 0


def from_entry(entry: Entry) -> Transaction:
    """A transaction as recovery finds it: some node may have seen any attempt."""
    hashes = dict(entry.former)
    hashes[entry.submitted.hash] = entry.submitted.noop
    return Transaction(
        entry.submitted, entry.id, hashes, told=entry.state != PENDING, attempted=True
    )


class Lane:
    """The transactions of one signer.

    Calls take turns (`turn`) so that nonces follow the order of the calls however long each is prepared.
    """

    def __init__(self, address: Address, signer: Signer | None) -> None:
        self.address = address
        self.signer = signer
        self.next_nonce: int | None = None
        self.open: dict[int, Transaction] = {}
        self.wake = asyncio.Event()
        self.unfunded = False
        self.waiting = 0
        # What upkeep last saw as the lowest open nonce, how often, and when it will look again.
        self.watched, self.looks, self.look_due = -1, 0, 0.0
        self._queue: list[Transaction] = []
        self._last_turn: asyncio.Future[None] | None = None

    @contextmanager
    def turn(self) -> Iterator["Turn"]:
        """A place in the order, from now until the block is left."""
        turn = Turn(self._last_turn, asyncio.get_running_loop().create_future())
        self._last_turn = turn.done
        self.waiting += 1
        try:
            yield turn
        finally:
            self.waiting -= 1
            turn.leave()

    def add(self, transaction: Transaction) -> None:
        """Takes a transaction that is journaled."""
        self.open[transaction.nonce] = transaction

    def queue(self, transaction: Transaction) -> None:
        """Has a transaction sent (again)."""
        if not transaction.queued and not transaction.held and transaction.mined is None:
            transaction.queued = True
            self._queue.append(transaction)
            self.wake.set()

    def unqueue(self, transaction: Transaction) -> None:
        """Keeps a queued transaction from being sent."""
        if transaction.queued:
            transaction.queued = False
            self._queue.remove(transaction)

    def take_queued(self, limit: int) -> list[Transaction]:
        """The next transactions to send, lowest nonces first."""
        if len(self._queue) > 1:
            self._queue.sort(key=lambda waiting: waiting.nonce)
        taken, self._queue = self._queue[:limit], self._queue[limit:]
        for transaction in taken:
            transaction.queued = False
        return [waiting for waiting in taken if waiting.mined is None]

    @property
    def has_queued(self) -> bool:
        return bool(self._queue)

    def unmined(self, limit: int) -> list[Transaction]:
        """The lowest nonces that are not seen on the chain."""
        found = [self.open[nonce] for nonce in sorted(self.open) if self.open[nonce].mined is None]
        return found[:limit]


@dataclass(frozen=True, slots=True)
class Turn:
    """A place in a lane's order."""

    before: asyncio.Future[None] | None
    done: asyncio.Future[None]

    async def wait(self) -> None:
        """Returns when all that came earlier have their nonce, or have given up."""
        if self.before is not None and not self.before.done():
            await asyncio.wait([self.before])

    def leave(self) -> None:
        """Lets the next one pass, but not before those that are still ahead of this one."""
        if self.before is None or self.before.done():
            self.done.set_result(None)
        else:
            self.before.add_done_callback(lambda _: self.done.set_result(None))


class Pool:
    """All lanes of an instance."""

    def __init__(self, signers: Iterable[Signer]) -> None:
        self._signers = {signer.address: signer for signer in signers}
        self.lanes: dict[Address, Lane] = {}
        self.by_hash: dict[TxHash, Transaction] = {}
        self._by_key: dict[tuple[str, str], Transaction] = {}

    def lane(self, address: Address) -> Lane:
        """The lane of a signer; also of one whose key is gone, for what it has under way."""
        found = self.lanes.get(address)
        if found is None:
            found = self.lanes[address] = Lane(address, self._signers.get(address))
        return found

    def add(self, transaction: Transaction) -> Lane:
        """Takes a journaled transaction."""
        lane = self.lane(transaction.submitted.signer)
        transaction.hashes.setdefault(transaction.submitted.hash, transaction.submitted.noop)
        lane.add(transaction)
        for tx_hash in transaction.hashes:
            self.by_hash[tx_hash] = transaction
        if transaction.submitted.scope != INTERNAL_SCOPE:
            self._by_key[transaction.submitted.scope, transaction.submitted.key] = transaction
        return lane

    def index(self, transaction: Transaction) -> None:
        """Finds a transaction by its newest hash too."""
        self.by_hash[transaction.submitted.hash] = transaction

    def drop(self, transaction: Transaction) -> None:
        """Lets go of a transaction whose nonce is used up."""
        lane = self.lane(transaction.submitted.signer)
        lane.unqueue(transaction)
        if lane.open.get(transaction.nonce) is transaction:
            del lane.open[transaction.nonce]
        for tx_hash in transaction.hashes:
            self.by_hash.pop(tx_hash, None)
        self._by_key.pop((transaction.submitted.scope, transaction.submitted.key), None)

    def with_key(self, scope: str, key: str) -> Transaction | None:
        """The transaction under way for a key."""
        return self._by_key.get((scope, key))

    @property
    def size(self) -> int:
        """Transactions under way."""
        return sum(len(lane.open) for lane in self.lanes.values())
