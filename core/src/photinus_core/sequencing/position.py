"""What orders things: chain positions, and the keys of private messages that are made of them."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """Where a pin stands on chain; equal on all members, compared field by field.

    Only this orders pins. A ledger's own event id does not (Fabric's is a transaction hash). The
    position of a pinned batch, as of a network action, has `pin` 0; the position of a message is
    that of its first pin.
    """

    contract: int
    """Index of the namespace's multiparty contract: all of an older contract is before all of a
    newer one.
    """
    block: int
    transaction: int
    log: int
    pin: int = 0
    """Index among the contexts of the batch."""

    def __str__(self) -> str:
        return f"{self.block:012}/{self.transaction:06}/{self.log:06}, context {self.pin}"


class OrderKey(NamedTuple):
    """The key that orders the messages of a private context; depends on the chain alone."""

    latest: Position
    """T: the highest position among the message and all its nonce predecessors."""
    depth: int
    """D: 0 if `latest` is the message's own position, else 1 + the largest depth of predecessors
    with this `latest`.
    """
    own: Position

    def flat(self) -> tuple[int, ...]:
        """The key as eleven integers, the form in which next-pin rows keep it."""
        return (*self.latest, self.depth, *self.own)

    @classmethod
    def from_flat(cls, numbers: tuple[int, ...]) -> OrderKey:
        """Reads what `flat` made."""
        return cls(Position(*numbers[:5]), numbers[5], Position(*numbers[6:11]))
