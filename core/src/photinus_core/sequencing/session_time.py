"""How sure a replica may be that its session with the ensemble lives, by its own clock alone.

The ensemble ends a session that it has not heard of for the session's timeout. A replica counts from the moment it
*sent* the last question that was answered, so that it always thinks its session shorter than it is. Nothing here looks
at what another machine's clock says.
"""

from __future__ import annotations

from typing import Final

CERTAIN_PART: Final = 2 / 3
"""Part of the timeout after which leader work rests.

The rest is for what a server of the ensemble that is itself cut off may still answer.
"""
QUESTIONS_PER_TIMEOUT: Final = 6


class SessionTime:
    """The life of one session. All times are seconds of one monotonic clock."""

    def __init__(self, timeout_s: float, began_s: float) -> None:
        self.timeout_s = timeout_s
        self._confirmed_s = began_s

    @property
    def question_every_s(self) -> float:
        """How often to ask the ensemble."""
        return self.timeout_s / QUESTIONS_PER_TIMEOUT

    def confirmed(self, sent_s: float) -> None:
        """A question sent at that time was answered."""
        self._confirmed_s = max(self._confirmed_s, sent_s)

    def is_certain(self, now_s: float) -> bool:
        """Whether nobody else can lead: work may go on."""
        return now_s - self._confirmed_s < self.timeout_s * CERTAIN_PART

    def is_over(self, now_s: float) -> bool:
        """Whether the session must be given up: another may lead."""
        return now_s - self._confirmed_s >= self.timeout_s
