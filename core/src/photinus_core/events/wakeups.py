"""Wake-ups: rows by which intake and downloads tell agreement what arrived.

They are written in the transaction of their effect, so none is lost in a crash (FireFly internals
3.7 shows why memory is not enough).
"""

from __future__ import annotations

from enum import StrEnum

from photinus_core.model.ids import Hash32, Uuid
from photinus_core.ports.store import Wakeup


class WakeupKind(StrEnum):
    """What arrived."""

    PINS = "pins"
    """New pins or network actions; the key is empty."""
    BATCH = "batch"
    """A batch is stored; the key is `<id>/<hash>`."""
    BLOB = "blob"
    """A blob is here; the key is `<data id>/<blob hash>`."""
    GROUP = "group"
    """A group is known; the key is its hash."""
    REFUSED_BATCH = "refused_batch"
    """A pinned payload was read and can count for none of its pins; the key is JSON."""
    REMOVED = "removed"
    """A reorganisation took undecided pins back: agreement must start over."""


def batch_wakeup(batch: Uuid, batch_hash: Hash32) -> Wakeup:
    """A batch is stored."""
    return Wakeup(WakeupKind.BATCH, f"{batch}/{batch_hash}")


def blob_wakeup(data: Uuid, blob_hash: Hash32) -> Wakeup:
    """A blob is here."""
    return Wakeup(WakeupKind.BLOB, f"{data}/{blob_hash}")


def group_wakeup(group: Hash32) -> Wakeup:
    """A group is known."""
    return Wakeup(WakeupKind.GROUP, group)


def split_pair(key: str) -> tuple[Uuid, Hash32]:
    """Reads the key of a batch's or blob's wake-up."""
    first, _, second = key.partition("/")
    return Uuid(first), Hash32(second)
