"""What can go wrong between two data exchanges, on either side of a request.

Errors towards the core are the kit's (`photinus_sdk.errors`).
"""

from __future__ import annotations


class PeerRefusal(Exception):
    """A peer's request that is not carried out; nothing of it remains.

    Args:
        status: HTTP status of the answer. 400, 413 and 422 tell the peer that trying again is no use.
        reason: stable, upper-case name of the rule.
        message: what happened, for the peer's operator.
        retry_after_s: when trying again may help; 0 to say nothing.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s

    @property
    def final(self) -> bool:
        """Whether the same request can never succeed."""
        return self.status in FINAL_STATUSES


class PeerFailure(Exception):
    """A peer that did not take what was sent.

    Args:
        message: what happened, for our operator.
        final: the peer will never take this item; others may still pass.
        retry_after_s: the pause the peer asked for; 0 for none.
    """

    def __init__(self, message: str, *, final: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.final = final
        self.retry_after_s = retry_after_s


FINAL_STATUSES = frozenset({400, 413, 422})
