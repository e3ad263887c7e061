"""The position of a listener, as bytes only this connector reads (hard case 15).

It names the last block that was looked at, and the recent blocks that held events, each with its hash and the
events' places. That is enough to find out, after any time away, whether the chain still holds what the core
was told, and to take back exactly what it does not.
"""

from dataclasses import dataclass, replace

VERSION = 1
HASH_BYTES = 16
"""Half a hash tells two blocks apart; nobody gains by colliding with his own checkpoint."""

CHECKPOINT_BYTES_MAX = 1024 * 1024
"""Far more than one block can fill, whose events are never dropped from a checkpoint."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stood in its block, and whether it was a network action."""

    transaction_index: int
    log_index: int
    is_action: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """A block that held events of the listener."""

    block: int
    hash: bytes
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything before block `next_block` was looked at.

    `before` is the hash of the block before it, NO_HASH where that is not known. `first` is where the listener
    began. `rungs` ascend; they are all there ever were when `complete`, else the oldest one bounds how deep a
    reorganisation can be undone.
    """

    next_block: int
    before: bytes
    first: int
    complete: bool = True
    rungs: tuple[Rung, ...] = ()


NO_HASH = bytes(HASH_BYTES)


class CheckpointError(Exception):
    """Bytes that are no checkpoint of this connector."""


def short_hash(block_hash: str) -> bytes:
    """A block hash as checkpoints keep it."""
    return bytes.fromhex(block_hash[2 : 2 + 2 * HASH_BYTES])


def encode(checkpoint: Checkpoint) -> bytes:
    """The bytes for the core."""
    out = bytearray((VERSION,))
    _put(out, checkpoint.next_block)
    out += checkpoint.before
    _put(out, checkpoint.first * 2 + checkpoint.complete)
    _put(out, len(checkpoint.rungs))
    for rung in checkpoint.rungs:
        _put(out, rung.block)
        out += rung.hash
        _put(out, len(rung.places))
        for place in rung.places:
            _put(out, place.transaction_index)
            _put(out, place.log_index * 2 + place.is_action)
    return bytes(out)


def decode(raw: bytes) -> Checkpoint:
    """What `encode` made. CheckpointError for anything else."""
    if not raw or len(raw) > CHECKPOINT_BYTES_MAX or raw[0] != VERSION:
        raise CheckpointError("not a checkpoint of this connector")
    reader = _Reader(raw)
    next_block, before, packed_first = reader.number(), reader.hash(), reader.number()
    rungs = []
    for _ in range(reader.number()):
        rung_block, rung_hash = reader.number(), reader.hash()
        places = []
        for _ in range(reader.number()):
            transaction_index, packed = reader.number(), reader.number()
            places.append(Place(transaction_index, packed // 2, bool(packed % 2)))
        rungs.append(Rung(rung_block, rung_hash, tuple(places)))
    if reader.at != len(raw):
        raise CheckpointError("bytes left over behind a checkpoint")
    return Checkpoint(next_block, before, packed_first // 2, bool(packed_first % 2), tuple(rungs))


def trimmed(checkpoint: Checkpoint, *, keep_from: int, events_max: int) -> Checkpoint:
    """The checkpoint without rungs below `keep_from`, nor the oldest beyond `events_max` events.

    One rung below the limit stays, to tell whether a reorganisation reached that deep.
    """
    rungs = checkpoint.rungs
    events = sum(len(rung.places) for rung in rungs)
    drop = 0
    while drop + 1 < len(rungs) and (rungs[drop + 1].block < keep_from or events > events_max):
        events -= len(rungs[drop].places)
        drop += 1
    if not drop:
        return checkpoint
    return replace(checkpoint, complete=False, rungs=rungs[drop:])


def _put(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 1

    def number(self) -> int:
        value, shift = 0, 0
        while True:
            if self.at >= len(self._raw) or shift > 63:
                raise CheckpointError("a checkpoint that breaks off")
            byte = self._raw[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def hash(self) -> bytes:
        found = self._raw[self.at : self.at + HASH_BYTES]
        if len(found) != HASH_BYTES:
            raise CheckpointError("a checkpoint that breaks off")
        self.at += HASH_BYTES
        return found
