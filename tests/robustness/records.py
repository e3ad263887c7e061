"""What a run leaves behind: one JSON line for each call, delivery, fault and stored row.

Times are seconds of the machine's monotonic clock, so that lines of one run can be compared. The checkers
see nothing but these records; a history file can be checked again on its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal, Self, TypeAlias, TypeVar

import msgspec

Kind: TypeAlias = Literal["broadcast", "private"]
Outcome: TypeAlias = Literal["acked", "unclear", "refused"]


class Subscribed(msgspec.Struct, frozen=True, tag_field="record", tag="subscribed"):
    """A durable subscription that matches every message of the load."""

    subscription: str
    member: int
    via: str


class Call(msgspec.Struct, frozen=True, tag_field="record", tag="call"):
    """One attempt to send a message.

    Attributes:
        op: What the client wants done once: idempotency key and tag of the message.
        client: Who calls; one client's calls carry its order.
        group: Name of the private group; empty for a broadcast.
        value: Digest of the value sent.
        blob: SHA-256 of the blob sent with it; empty for none.
        outcome: `acked`: a success, or the answer that the key is taken by `message`; `unclear`: it may have been
            done; `refused`: the answer says that it never will be.
        message: Id of the message, when acked.
    """

    op: str
    client: str
    member: int
    kind: Kind
    topics: tuple[str, ...]
    group: str
    value: str
    blob: str
    attempt: int
    called: float
    returned: float
    outcome: Outcome
    message: str = ""
    error: str = ""


class Delivery(msgspec.Struct, frozen=True, tag_field="record", tag="delivery"):
    """An event that came to a subscriber.

    Attributes:
        connection: Number of the connection it came by, growing.
        group: Hash of the private group; empty for a broadcast.
        value: Digest of the value received.
    """

    time: float
    subscription: str
    member: int
    connection: int
    sequence: int
    event: str
    type: str
    message: str
    op: str
    kind: str
    topic: str
    group: str
    value: str


class EventAck(msgspec.Struct, frozen=True, tag_field="record", tag="ack"):
    """A subscriber said that it is done with an event."""

    time: float
    subscription: str
    connection: int
    sequence: int


class Fault(msgspec.Struct, frozen=True, tag_field="record", tag="fault"):
    """Something the harness did, from its begin until it was healed."""

    kind: str
    target: str
    begin: float
    end: float
    detail: str = ""


class Ended(msgspec.Struct, frozen=True, tag_field="record", tag="ended"):
    """A process ended that nobody had killed; the harness started it again.

    Attributes:
        log: The last lines it wrote.
    """

    time: float
    name: str
    code: int
    log: str = ""


class Trouble(msgspec.Struct, frozen=True, tag_field="record", tag="trouble"):
    """A client of ours lost its connection or was told off, and tried again; told for the one who reads."""

    time: float
    who: str
    text: str


class Mark(msgspec.Struct, frozen=True, tag_field="record", tag="mark"):
    """A turning point of the run: `start`, `heal` (no more faults), `quiet` (everything decided)."""

    time: float
    what: str


class Pending(msgspec.Struct, frozen=True, tag_field="record", tag="pending"):
    """How much is undecided on a member: calls without an answer, messages, pins.

    Attributes:
        head: The oldest of it; empty when there is nothing.
    """

    time: float
    member: int
    count: int
    head: str


class LoggedEvent(msgspec.Struct, frozen=True, tag_field="record", tag="event"):
    """A row of a member's event log at the end."""

    member: int
    sequence: int
    type: str
    message: str
    topic: str


class StoredMessage(msgspec.Struct, frozen=True, tag_field="record", tag="message"):
    """A message as a member has it at the end.

    Attributes:
        op: Its idempotency key; only the sender has it.
        pins: `hash:nonce` for each topic; only the sender of a private message has them.
    """

    member: int
    id: str
    op: str
    state: str
    type: str
    author: str
    group: str
    topics: tuple[str, ...]
    pins: tuple[str, ...]


class StoredBatch(msgspec.Struct, frozen=True, tag_field="record", tag="batch"):
    """A batch as a member has it at the end, with the messages of its manifest."""

    member: int
    id: str
    messages: tuple[str, ...]


class StoredPin(msgspec.Struct, frozen=True, tag_field="record", tag="pin"):
    """A pin as a member has it at the end."""

    member: int
    batch: str
    index: int
    hash: str
    dispatched: bool


class StoredBlob(msgspec.Struct, frozen=True, tag_field="record", tag="blob"):
    """A blob downloaded from a member at the end; an empty digest when there was none."""

    member: int
    op: str
    digest: str


class Mined(msgspec.Struct, frozen=True, tag_field="record", tag="mined"):
    """A batch pin on the chain, read from the chain itself."""

    transaction: str
    block: int
    batch: str
    contexts: tuple[str, ...]


class LeaderWrite(msgspec.Struct, frozen=True, tag_field="record", tag="leader_write"):
    """A leader-only row was written, as the database saw it.

    Attributes:
        order: Position in the order of commits, or of writes where the database tells no more.
        epoch: The role's epoch at that time.
        writer: Which database session wrote.
    """

    member: int
    order: int
    role: str
    epoch: int
    writer: str
    table: str


Record: TypeAlias = (
    Subscribed
    | Call
    | Delivery
    | EventAck
    | Fault
    | Ended
    | Trouble
    | Mark
    | Pending
    | LoggedEvent
    | StoredMessage
    | StoredBatch
    | StoredPin
    | StoredBlob
    | Mined
    | LeaderWrite
)
R = TypeVar("R", bound=msgspec.Struct)

_DECODER = msgspec.json.Decoder(Record)


class History:
    """All records of a run, in the order they were written; kept in a file as they come."""

    def __init__(self, path: Path | None = None) -> None:
        self.records: list[Record] = []
        self._file: IO[bytes] | None = None if path is None else path.open("wb", buffering=0)

    def add(self, record: Record) -> None:
        """Writes one record."""
        self.records.append(record)
        if self._file is not None:
            self._file.write(msgspec.json.encode(record) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def read_history(path: Path) -> list[Record]:
    """Reads a history; a last line cut short by the end of the run is left out."""
    found: list[Record] = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(_DECODER.decode(line))
        except msgspec.DecodeError as failure:
            print(f"{path}: left out: {failure}", file=sys.stderr)
    return found


def of(records: Iterable[Record], kind: type[R]) -> Sequence[R]:
    """The records of one type, in order."""
    return [record for record in records if isinstance(record, kind)]
