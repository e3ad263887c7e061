"""What the members of a test network share: a ledger, a storage, mailboxes. Synchronous, in one process.

Everything that changes the world is a fact (`facts`), so that a world can be told again from a file. Nothing is
deleted from the ledger or the storage: a world lives as long as a test.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_sdk import Exhausted

from photinus_memory.facts import (
    BlobKept,
    Ended,
    Fact,
    Founded,
    Mined,
    PeerKnown,
    Pinned,
    Sent,
    Stored,
    Told,
)

BYTES_MAX: Final = 1 << 30
"""Most bytes of files and blobs: a test that forgets to end must not take the machine's memory."""
LENGTH_BYTES: Final = 8
SOURCE: Final = "memory"


@dataclass(frozen=True, slots=True)
class Block:
    """A transaction with its event; `kind` is the name of the event's body, `pool` a token pool's locator."""

    number: int
    transaction: str
    kind: str
    pool: str
    chain: common.ChainEvent
    raw: bytes

    def event(self) -> events.Event:
        """A copy of the event, to be sent."""
        return events.Event.FromString(self.raw)


@dataclass(slots=True)
class Pool:
    """A token pool and who has what in it.

    Attributes:
        told: The event that created it.
        balances: By holder; of a non-fungible pool by `<holder>#<index>`.
        owners: Of a non-fungible pool, by index.
        approved: Pairs of holder and operator.
    """

    told: events.TokenPoolEvent
    balances: Counter[str] = field(default_factory=Counter)
    owners: dict[str, str] = field(default_factory=dict)
    approved: set[tuple[str, str]] = field(default_factory=set)


class World:
    """The world. All its methods return at once; who waits for something waits for `changed`.

    Args:
        file: Where facts are kept as well, told again by the next world on the same file; None for nowhere. They
            survive the end of the process, not that of the machine.

    Attributes:
        ledger: Blocks in order; the first has number 1.
        contracts: What was last given to contracts, by location and name.
        pools: By locator.
        files: Shared storage, by reference.
        kept: Who keeps a file: pairs of reference and member.
        peers: Documents by member, scope (cluster, namespace) and peer id.
        blobs: Of data exchanges, by member and reference.
        mail: What is on its way, by id, in the order of sending.
        ended: What arrived, by id, until the sender has been told.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.id = ""
        self.ledger: list[Block] = []
        self.contracts: dict[str, dict[str, Any]] = {}
        self.pools: dict[str, Pool] = {}
        self.files: dict[str, bytes] = {}
        self.kept: set[tuple[str, str]] = set()
        self.peers: dict[tuple[str, tuple[str, str], str], str] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.mail: dict[str, Sent] = {}
        self.ended: dict[str, tuple[Sent, Ended]] = {}
        self.changed = asyncio.Event()
        self._blocks: dict[str, Block] = {}
        self._bytes = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._file: BinaryIO | None = None
        if file is not None:
            self._open(file)
        if not self.id:
            self.record(Founded(str(uuid.uuid4())))

    @property
    def is_kept(self) -> bool:
        """Whether it outlives the process."""
        return self._file is not None

    def close(self) -> None:
        """Closes the file. Idempotent."""
        if self._file is not None:
            self._file.close()

    def record(self, fact: Fact) -> None:
        """Makes something happen, durably where the world is kept, and wakes whoever waits."""
        if self._file is not None:
            data = self._encoder.encode(fact)
            self._file.write(len(data).to_bytes(LENGTH_BYTES) + data)
        self._apply(fact)
        self.changed.set()
        self.changed = asyncio.Event()

    def check_room(self, size: int) -> None:
        """Raises Exhausted when the world cannot hold so many bytes more."""
        if self._bytes + size > BYTES_MAX:
            raise Exhausted(f"This world holds {BYTES_MAX} bytes; use a real storage for more")

    # The ledger

    @property
    def head(self) -> int:
        """Number of the last block; 0 for none."""
        return len(self.ledger)

    def block_of(self, transaction: str) -> Block | None:
        """The block of a transaction."""
        return self._blocks.get(transaction)

    def mine(
        self,
        transaction: str,
        signer: str,
        location: str,
        event: events.Event,
        find: Callable[[events.Event], common.ChainEvent],
    ) -> Block:
        """Puts a transaction with its event on the ledger; a known one is found again.

        Args:
            transaction: Its id, made from the key of the call, so that a repeated call finds it.
            signer: Canonical key.
            location: Canonical JSON of the contract.
            event: The event; its place is filled in here.
            find: Finds the place in it.
        """
        known = self._blocks.get(transaction)
        if known is not None:
            return known
        number = self.head + 1
        chain = find(event)
        chain.position.block = number
        chain.protocol_id = f"{number:012d}/000000/000000"
        chain.transaction_id, chain.signer, chain.source = transaction, signer, SOURCE
        chain.location_json = location
        chain.output_json = chain.output_json or "{}"
        chain.info_json = json.dumps({"blockNumber": str(number)})
        chain.timestamp.GetCurrentTime()
        event.id = chain.protocol_id
        self.record(Mined(transaction, event.SerializeToString(deterministic=True)))
        return self.ledger[-1]

    # Facts

    def _apply(self, fact: Fact) -> None:
        match fact:
            case Founded():
                self.id = fact.world
            case Mined():
                self._mined(fact)
            case Stored():
                self._bytes += 0 if fact.reference in self.files else len(fact.content)
                self.files[fact.reference] = fact.content
                self.kept.add((fact.reference, fact.member))
            case Pinned():
                change = self.kept.add if fact.kept else self.kept.discard
                change((fact.reference, fact.member))
            case PeerKnown():
                place = (fact.member, fact.scope, fact.peer)
                if fact.document:
                    self.peers[place] = fact.document
                else:
                    self.peers.pop(place, None)
            case BlobKept():
                self._blob(fact.member, fact.reference, fact.content)
            case Sent():
                self.mail[fact.id] = fact
                if fact.content is not None:
                    self._blob(member_of(fact.recipient), fact.id, fact.content)
            case Ended():
                sent = self.mail.pop(fact.id, None)
                if sent is not None:
                    self.ended[fact.id] = (msgspec.structs.replace(sent, content=None), fact)
            case Told():
                self.ended.pop(fact.id, None)

    def _blob(self, member: str, reference: str, content: bytes | None) -> None:
        former = self.blobs.pop((member, reference), None)
        self._bytes -= len(former or b"")
        if content is not None:
            self.blobs[member, reference] = content
            self._bytes += len(content)

    def _mined(self, fact: Mined) -> None:
        event = events.Event.FromString(fact.event)
        kind = event.WhichOneof("body")
        assert kind is not None
        body = getattr(event, kind)
        pool = str(getattr(body, "pool_locator", ""))
        block = Block(self.head + 1, fact.transaction, kind, pool, body.chain, fact.event)
        self.ledger.append(block)
        self._blocks[fact.transaction] = block
        match kind:
            case "contract_event":
                values = json.loads(body.chain.output_json)
                self.contracts.setdefault(body.chain.location_json, {}).update(values)
            case "token_pool":
                self.pools[body.pool_locator] = Pool(body)
            case "token_transfer":
                _move(self.pools[body.pool_locator], body)
            case "token_approval":
                approved = self.pools[body.pool_locator].approved
                change = approved.add if body.approved else approved.discard
                change((body.signer, body.operator))
            case _:
                pass  # pins and network actions change nothing here

    def _open(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        size = 0
        if file.exists():
            for fact, end in _facts(file):
                self._apply(fact)
                size = end
            os.truncate(file, size)  # what a kill left half-written
        # Unbuffered: what was written is the kernel's, and survives a kill.
        self._file = file.open("ab", buffering=0)


def member_of(peer_id: str) -> str:
    """The member behind a peer id: `alice` of `alice/node1`."""
    return peer_id.partition("/")[0]


def _move(pool: Pool, moved: events.TokenTransferEvent) -> None:
    amount, holder = int(moved.amount), getattr(moved, "from")
    if moved.token_index:
        if moved.to:
            pool.owners[moved.token_index] = moved.to
        else:
            del pool.owners[moved.token_index]
    for name, change in ((holder, -amount), (moved.to, amount)):
        if name:
            pool.balances[name] += change


def _facts(file: Path) -> Iterator[tuple[Fact, int]]:
    """The facts of a file in order, each with the place behind it; ends at the first incomplete one."""
    decoder, data, place = msgspec.msgpack.Decoder(Fact), file.read_bytes(), 0
    while place + LENGTH_BYTES <= len(data):
        start = place + LENGTH_BYTES
        end = start + int.from_bytes(data[place:start])
        if end > len(data):
            return
        yield decoder.decode(data[start:end]), end
        place = end
