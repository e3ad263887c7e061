"""What agreement answers: decisions to commit, and why the rest waits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from photinus_core.sequencing.facts import BatchKey, MessageFacts, Need, NetworkAction
from photinus_core.sequencing.position import OrderKey, Position


class Outcome(StrEnum):
    """How one occurrence of a message on chain ends."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    VOID = "void"
    """This pin does not count and says nothing of the message: it repeats a decided one, or was not
    made by the message's own key, or its batch does not match its contexts. Another pin of the same
    message may still decide it.
    """


@dataclass(frozen=True, slots=True)
class NextPinUpdate:
    """A next-pin row to store."""

    topic: str
    group: str
    context: str
    """Hash of topic and group."""
    author: str
    nonce: int
    hash: str
    last_key: OrderKey


@dataclass(frozen=True, slots=True)
class MessageDecision:
    """One occurrence of a message is decided.

    Mark its pins dispatched, store the next pins, and unless it is void set the message's state.
    A void decision can carry next pins: a message pinned twice under two nonces uses up both.
    """

    message: MessageFacts
    outcome: Outcome
    position: Position
    batch: BatchKey
    pins: range
    """Indexes of its pins within the event at `position` (with `pin` 0)."""
    reason: str = ""
    next_pins: tuple[NextPinUpdate, ...] = ()

    @property
    def cancels(self) -> str | None:
        """Id of the message whose gap this fills: cancelled if undecided and of the same author."""
        return self.message.cancels if self.outcome is Outcome.CONFIRMED else None


@dataclass(frozen=True, slots=True)
class BatchVoided:
    """A whole pin event does not count: mark all its pins that are left dispatched.

    Its messages are not decided by it.
    """

    position: Position
    batch: BatchKey
    reason: str
    messages: tuple[MessageFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionDecision:
    """A network action is decided.

    An applied `terminate` makes its position the contract's final event.
    """

    action: NetworkAction
    applied: bool
    reason: str = ""


Decision = MessageDecision | BatchVoided | ActionDecision


class WaitReason(StrEnum):
    """Why something on chain is undecided."""

    BATCH_MISSING = "batch missing"
    DATA_MISSING = "data missing"
    BLOB_MISSING = "blob missing"
    TRANSFER_MISSING = "transfer missing"
    POOL_ACTIVATING = "pool activating"
    DEFINITION_UNDECIDED = "definition undecided"
    BEHIND_PIN = "behind pin"
    BEHIND_ACTION = "behind network action"
    GROUP_UNKNOWN = "group unknown"
    EARLIER_NONCE_MISSING = "earlier nonce not on chain"
    LOOKUP = "being looked up"


@dataclass(frozen=True, slots=True)
class Wait:
    """What one undecided message, pin or action waits for."""

    reason: WaitReason
    since: int
    """Nanoseconds: when it began to wait for this (`at` of the input that came last before)."""
    behind: Position | None = None
    """The undecided pin or action it waits behind."""
    need: Need | None = None

    def __str__(self) -> str:
        about = self.need.key if self.need else self.behind
        return f"{self.reason}: {about}" if about else str(self.reason)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a pinned message, or a pinned batch whose content is not here, is undecided."""

    position: Position
    batch: BatchKey
    wait: Wait
    message: MessageFacts | None = None
