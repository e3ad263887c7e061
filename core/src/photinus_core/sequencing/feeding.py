"""How far a machine of agreement was fed from what is stored, and what it may be told.

Its driver reads pins, network actions and wake-ups in pages, and looks others up when the machine
asks, all at different moments, while more arrives. This keeps what has been handed over, so that
every pin reaches the machine once its turn comes and none before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from photinus_core.sequencing.facts import ChainEvent, NetworkAction, PinEvent, Wanted
from photinus_core.sequencing.position import Position


@dataclass(slots=True)
class Feed:
    """Where the reading for one machine stands; made anew with it.

    Attributes:
        pins_at_start: Sequence of the newest pin when the machine was built. Of those up to it,
            strangers' masked ones are left out and found by their hashes; of later ones every
            single one is fed.
        pins_read: Sequence of the last pin fed.
        wakeups_taken: Fed up to here.
        wakeups_settled: All that followed from them is committed: may be deleted up to here.
        wakeups_kept: How many were taken and not deleted.
    """

    pins_at_start: int
    pins_read: int = -1
    _caught_up: bool = False
    wakeups_taken: int = -1
    wakeups_settled: int = -1
    wakeups_kept: int = 0
    _actions: set[Position] = field(default_factory=set)

    def may_know(self, sequence: int) -> bool:
        """Whether a pin is no newer than what the machine was fed.

        A question or a wake-up may come upon a newer one. Handing that over would have the machine
        decide without the pins between, which may define what it refers to, or be rivals whose
        hashes it asked for before they were there.
        """
        newest = max(self.pins_at_start, self.pins_read) if self._caught_up else self.pins_read
        return sequence <= newest

    def answerable(self, wanted: Wanted) -> Wanted:
        """What of the machine's questions can be answered now.

        Which pins carry a hash can be said only once all those at start were read: until then some
        are there that the machine may not know yet. It goes on asking.
        """
        return wanted if self._caught_up else replace(wanted, pin_hashes=())

    def read_page(self, last: int | None, *, full: bool) -> None:
        """A page of pins was read.

        Args:
            last: Sequence of its last pin; None if it is empty.
            full: Whether it may have left pins out.
        """
        if last is not None:
            self.pins_read = last
        if not full or self.pins_read >= self.pins_at_start:
            self._caught_up = True

    def chain(
        self,
        events: Sequence[PinEvent],
        before: Sequence[NetworkAction],
        after: Sequence[NetworkAction],
        *,
        full: bool,
    ) -> list[ChainEvent]:
        """What of a page of pins and the stored network actions is fed now, in chain order.

        Both come from different rows, so actions are read before the pins (of these, all pins below
        are in the page) and after them (these count only below the page's end).

        Args:
            events: The events of a page of pins, in chain order.
            before: Actions read before the page.
            after: Actions read after it.
            full: Whether the page may have left pins out.
        """
        end = events[-1].position if events else None
        complete = set() if full else {action.position for action in before}
        due = [
            action
            for action in after
            if action.position not in self._actions
            and ((end is not None and action.position < end) or action.position in complete)
        ]
        self._actions.update(action.position for action in due)
        return sorted([*events, *due], key=lambda event: event.position)

    def is_new(self, wakeup: int) -> bool:
        """Whether a wake-up was not taken yet."""
        return wakeup > self.wakeups_taken

    def took(self, wakeups: Iterable[int]) -> None:
        """The machine was told of these."""
        for sequence in wakeups:
            self.wakeups_taken = max(self.wakeups_taken, sequence)
            self.wakeups_kept += 1

    def settle(self) -> None:
        """Everything that was decided is committed, and nothing more can be."""
        self.wakeups_settled = self.wakeups_taken

    def forgot(self) -> None:
        """The settled wake-ups were deleted."""
        self.wakeups_kept = 0
