"""What agreement asks about definitions while it decides.

Definitions (identities, datatypes, pools, …) are messages themselves, and a message confirmed
earlier in one pass may be what a later one refers to. So the machine asks a view, synchronously,
between decisions. The driver backs it with data it fetched before and with an overlay of what
the pass confirmed; nothing in a view may wait, read a clock or use chance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from photinus_core.sequencing.facts import DefinitionReference, MessageFacts, Need, Reference
from photinus_core.sequencing.position import Position


@dataclass(frozen=True, slots=True)
class Registration:
    """Who owns a chain key."""

    did: str
    position: Position
    """Where the ownership took effect: the claim's position, for a child the later one of claim and
    verification.
    """
    root: bool
    """A root organisation: an org without parent."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message whose turn it is, as `judge` sees it."""

    message: MessageFacts
    position: Position
    signer: str
    """Equals the message's key."""
    registered: str | None
    """DID that owned the signer's key before this batch: the author, except for claims.

    A claim finds in `resolved`, under the `KeyReference` of its own key, whether the key had an
    owner before the message itself.
    """
    resolved: Mapping[Reference, Position | None]
    """For each reference whether it existed before this message: its position, or None.

    For a key its owner's.
    """


@dataclass(frozen=True, slots=True)
class Confirm:
    """The message takes effect. The view has applied it: it answers accordingly from now on."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The message is refused, by every member alike."""

    reason: str


@dataclass(frozen=True, slots=True)
class Await:
    """It cannot be said yet (a pool activates, say): ask again after `need_met(need)`."""

    need: Need


Verdict = Confirm | Reject | Await


class DefinitionView(Protocol):
    """The definitions of a namespace as the chain made them.

    Answers must depend on the chain alone: on the content of decided messages and on positions,
    never on arrival, on local names or on what an operator configured. The first definition of a
    thing wins and never changes (profiles may, and decide nothing).
    """

    def registration(self, key: str) -> Registration | None:
        """Who owns the chain key in effect, as of all decisions made so far; None = nobody."""
        ...

    def open_claims(self, key: str) -> Collection[str]:
        """Contexts (topic hashes) of identities claimed by `key` that still lack a verification."""
        ...

    def effective_at(self, reference: DefinitionReference) -> Position | None:
        """Position at which the definition took effect; None if there is none so far."""
        ...

    def further_references(
        self, message: MessageFacts, position: Position
    ) -> Collection[Reference]:
        """References that only earlier definitions reveal.

        For a verification: the key of the claim it names, if that claim was confirmed. Asked when
        all earlier pins of the message's topics are decided.
        """
        ...

    def judge(self, candidate: Candidate) -> Verdict:
        """Says whether the message is good, and applies it if so.

        Called once all references are resolved and all needs met; signer and author have been
        checked. May look only at what took effect before `candidate.position`. Must not raise
        for anything a message can contain.
        """
        ...
