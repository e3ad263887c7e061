"""What a journal refuses. The kit gives each its code on the wire; `reason` is the protocol's word."""


class JournalError(Exception):
    """Root of them.

    Args:
        message: What happened and what to do, for an operator.
        reason: UPPER_SNAKE_CASE, stable.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class KeyReused(JournalError):
    """The key was used for another call, or for other arguments."""


class TooLarge(JournalError):
    """No stream could carry it."""


class Unusable(JournalError):
    """The store is another process's (STORE_IN_USE), no store (STORE_UNUSABLE), or closed (STORE_CLOSED)."""
