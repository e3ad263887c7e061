"""Names for the strings and numbers that identify things, and how new ones are made.

All identifiers travel as text in the form FireFly prints them; the NewTypes keep one kind from being passed for
another.
"""

from __future__ import annotations

import os
import re
import time
from typing import Final, NewType

from photinus_core.model.errors import Rejected

Uuid = NewType("Uuid", str)
"""A UUID in lower case with dashes."""

Hash32 = NewType("Hash32", str)
"""32 bytes as 64 lower-case hex digits, without `0x`."""

Did = NewType("Did", str)
"""A decentralised identifier, `did:firefly:org/<name>` and its like."""

Nanoseconds = NewType("Nanoseconds", int)
"""A time: nanoseconds since the Unix epoch, UTC."""

Namespace = NewType("Namespace", str)
"""Local name of a namespace: the key of every row. The name on the wire is the network name, a plain string."""

Epoch = NewType("Epoch", int)
"""Fencing number of a leadership; higher is later."""

ZERO_HASH: Final = Hash32("0" * 64)

INTEGER_MAX: Final = 2**63 - 1
"""Largest integer that the databases can store, times included."""

UUID_CHARS = 36
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HASH = re.compile(r"[0-9a-f]{64}")


_last_stamp = 0


def new_uuid() -> Uuid:
    """Makes a UUID of version 7: it begins with the time, so that ids made one after the other sort so.

    Database indexes then grow at their end; with random ids each insert touches pages of its own, which costs two to
    three times the CPU and most of the disk writes. 62 bits are random.
    """
    global _last_stamp
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    # 48 bits of milliseconds and 12 of their fraction; two ids of one moment count on.
    stamp = max(milliseconds << 12 | rest * 4096 // 1_000_000, _last_stamp + 1)
    _last_stamp = stamp
    random = int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{stamp >> 12 << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 2 << 62 | random:032x}"
    return Uuid(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")


def is_uuid(text: str) -> bool:
    """Tells whether the text is a UUID with dashes, in any case."""
    return _UUID.fullmatch(text.lower()) is not None


def parse_uuid(text: str) -> Uuid:
    """Reads a UUID from outside; case does not matter.

    Raises:
        Rejected: FF00138, it is none.
    """
    lower = text.strip().lower()
    if _UUID.fullmatch(lower) is None:
        size = len(text.encode())
        wrong = "invalid UUID format" if size == UUID_CHARS else f"invalid UUID length: {size}"
        raise Rejected("FF00138", wrong)
    return Uuid(lower)


def parse_hash(text: str) -> Hash32:
    """Reads a 32 byte hash from outside; `0x` in front and upper case are accepted.

    Raises:
        Rejected: FF00107, it does not have 64 hex digits.
    """
    lower = text.strip().lower().removeprefix("0x")
    if _HASH.fullmatch(lower) is None:
        raise Rejected("FF00107")
    return Hash32(lower)


def seconds_between(earlier: Nanoseconds, later: Nanoseconds) -> float:
    """How many seconds lie between two times; 0 when a clock went back between them."""
    return max(0.0, (later - earlier) / 1_000_000_000)
