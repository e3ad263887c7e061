"""What agreement is told: the inputs of `Agreement`, plain data without behaviour.

Hashes are 64 lower-case hex digits, ids are lower-case UUIDs, times are nanoseconds; a machine
never looks at a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from photinus_core.sequencing.position import OrderKey, Position


class NeedKind(StrEnum):
    """What kind of input of its own a message lacks; the value is what `explain` says."""

    DATA = "data missing"
    BLOB = "blob missing"
    TRANSFER = "transfer missing"
    POOL = "pool activating"


class Need(NamedTuple):
    """One input of a message's own that is not here yet.

    The key is free text on which the caller of `need_met` and the maker of the facts agree: for
    a blob `<data id>/<blob hash>` (see `blob_need`), for a transfer the message's hash, for a
    pool its id.
    """

    kind: NeedKind
    key: str


def blob_need(data_id: str, blob_hash: str) -> Need:
    """The need for one data item's blob."""
    return Need(NeedKind.BLOB, f"{data_id}/{blob_hash}")


class DefinitionReference(NamedTuple):
    """A definition that a message refers to, by the topic that orders it."""

    kind: str
    """`datatype`, `identity`, `tokenpool`, `ffi`, …; together with `name` what the view looks it up
    by.
    """
    name: str
    context: str
    """Hash of the definition's topic: undecided pins carry it."""

    @property
    def is_identity(self) -> bool:
        """Identities may be defined by a signer nobody knows; nothing else may."""
        return self.kind == "identity"


class KeyReference(NamedTuple):
    """The owner of a chain key as of the asking message; a verification asks for the child's."""

    key: str


Reference = DefinitionReference | KeyReference


class BatchKey(NamedTuple):
    """What names a batch by content.

    A batch under the same id with another hash is another batch (a forged one cannot take the
    true one's place). The hash does not cover a data item's datatype, but a broadcast is read
    from where the chain says, so the reference is part of the name: two pins that name different
    copies are different batches.
    """

    id: str
    hash: str
    payload_ref: str = ""
    """Where shared storage has it, as the chain says; empty for private batches."""


@dataclass(frozen=True, slots=True)
class PinEvent:
    """One batch-pin event of the chain."""

    position: Position
    signer: str
    batch: BatchKey
    contexts: tuple[str, ...]
    """One hash per message and topic, in the order of the event."""
    dispatched: frozenset[int] = frozenset()
    """Indexes that were decided before a restart."""

    @property
    def masked(self) -> bool:
        """Whether the contexts are masked: a private batch, its payload in no shared storage."""
        return not self.batch.payload_ref


@dataclass(frozen=True, slots=True)
class NetworkAction:
    """One network action event of the chain.

    `terminate` ends its contract; unknown kinds are ignored by all alike.
    """

    position: Position
    signer: str
    kind: str


ChainEvent = PinEvent | NetworkAction


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What agreement must know of one message.

    Everything but `needs`, `decided` and `payload` is covered by its hash.
    """

    id: str
    hash: str
    """Names the message: two messages may claim one id, but a hash is one message with one author
    and one key.
    """
    author: str
    key: str
    topics: tuple[str, ...]
    group: str | None = None
    """Hash of the group; None = broadcast."""
    is_identity: bool = False
    """An identity claim, verification or update."""
    is_claim: bool = False
    """An identity claim that its own key signs (org or custom identity): its signer need not be
    registered.
    """
    definition_topic: str | None = None
    """For a definition the one topic it must have, computed from its content; a definition
    elsewhere is rejected.
    """
    references: tuple[Reference, ...] = ()
    """Definitions it refers to beyond its author (which is always resolved)."""
    needs: frozenset[Need] = frozenset()
    """Inputs of its own that were missing when these facts were read."""
    cancels: str | None = None
    """Id of the message whose nonces a gap fill uses up."""
    decided: bool = False
    """Confirmed or rejected before; then another pin of it is void."""
    payload: object = None
    """Whatever the view wants to see again in `judge`."""


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch whose content was verified against its hash."""

    key: BatchKey
    messages: tuple[MessageFacts, ...]
    """In manifest order."""
    defect: str = ""
    """Why every member must refuse it, when what its hash covers breaks a rule; empty for a sound
    batch. A payload that does not recompute to the hash is not a defective batch, it is another
    one: do not hand it over.
    """
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Members' DIDs by group hash, of the groups known for these messages (a group is proven by its
    hash).
    """


@dataclass(frozen=True, slots=True)
class ChainState:
    """Where one author's nonces stand in a private context: a stored next-pin row."""

    nonce: int
    """The nonce expected next."""
    last_key: OrderKey | None
    """Key of the decision that used the nonce before it; None at nonce 0."""


class PrivateContext(NamedTuple):
    """A topic within a group."""

    topic: str
    group: str


@dataclass(frozen=True, slots=True)
class ContextState:
    """The stored next pins of a private context; authors without a row start at nonce 0."""

    context: PrivateContext
    chains: Mapping[str, ChainState] = field(default_factory=dict)
    """By author DID."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the machine lacks and only the database can say. Empty most of the time.

    Answer `batches` with `batch_available` for those that are stored (say nothing of the others),
    `contexts` with `contexts_loaded`, `pin_hashes` with `pins_found`. Batches are asked for once,
    the others until they are answered.
    """

    batches: tuple[BatchKey, ...] = ()
    """Batches of pins that arrived: their content may have come before their pins."""
    contexts: tuple[PrivateContext, ...] = ()
    pin_hashes: tuple[str, ...] = ()
    """Masked pins by hash: undispatched ones with any of these contexts."""

    def __bool__(self) -> bool:
        return bool(self.batches or self.contexts or self.pin_hashes)
