"""Errors of PostgreSQL and of its library, as errors of the core."""

from __future__ import annotations

from typing import Final

import asyncpg

from photinus_core.model.errors import (
    Conflict,
    Deposed,
    PhotinusError,
    Rejected,
    TimedOut,
    Unavailable,
)

_NO_DATABASE: Final = "3D000"
_TOO_MANY: Final = "53300"
_DISK_FULL: Final = "53100"
_READ_ONLY: Final = "25006"
_CANCELLED: Final = "57014"
_IDLE_IN_TRANSACTION: Final = "25P03"
_LOCK_NOT_AVAILABLE: Final = "55P03"
_DIVISION_BY_ZERO: Final = "22012"
_REPEAT: Final = frozenset({"40001", "40P01"})
_LOGIN: Final = frozenset({"28000", "28P01"})
_AWAY: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006", "08001"})
_BAD_VALUE_CLASSES: Final = frozenset({"22", "54"})
"""What a value can do wrong: not storable as text, out of range, too large for an index."""

# The last is what a statement gets that is sent while the library reads the session's end.
_NO_ANSWER: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)

LIBRARY_ERRORS: Final = (asyncpg.PostgresError, *_NO_ANSWER)
"""Everything that the library raises when a call fails."""


def sqlstate(failure: BaseException) -> str:
    """The server's error code; empty when the error is not the server's."""
    return str(getattr(failure, "sqlstate", "") or "")


def is_broken(failure: BaseException) -> bool:
    """Whether the connection is of no use any more: lost, ended by the server, or without an answer."""
    if isinstance(failure, asyncpg.PostgresError):
        code = sqlstate(failure)
        return code in _AWAY or code in (_READ_ONLY, _IDLE_IN_TRANSACTION) or code.startswith("08")
    return isinstance(failure, _NO_ANSWER)


def is_lost(failure: BaseException) -> bool:
    """Whether the connection was gone when the statement came: the same one may work on another."""
    return is_broken(failure) and not isinstance(failure, TimeoutError)


def is_read_only(failure: BaseException) -> bool:
    """Whether the server takes no writes: it was made a standby, or another one was made the primary."""
    return sqlstate(failure) == _READ_ONLY


def is_deposed(failure: BaseException) -> bool:
    """Whether a transaction's opening statement found no lease to hold."""
    return sqlstate(failure) == _DIVISION_BY_ZERO


def translate_error(
    failure: BaseException, place: str, read_timeout_s: float | None = None
) -> PhotinusError:
    """Gives the error of the core for a statement that failed.

    Args:
        failure: What the library raised.
        place: Where the database is, for people.
        read_timeout_s: How long a client's query was allowed to take; None for other statements.
    """
    if isinstance(failure, PhotinusError):
        return failure
    if not isinstance(failure, asyncpg.PostgresError):
        return Unavailable("FF19135", place, _text(failure))
    code = sqlstate(failure)
    if code in _REPEAT:
        return Unavailable("FF19137", place, failure)
    if code == _DISK_FULL:
        return Unavailable("FF19101", f"PostgreSQL at {place}, {_headline(failure)}")
    if code == _CANCELLED and read_timeout_s is not None:
        return TimedOut("FF19111", read_timeout_s)
    if code in (_CANCELLED, _IDLE_IN_TRANSACTION, _LOCK_NOT_AVAILABLE):
        return Unavailable("FF19138", place, failure)
    if code in _AWAY or code == _READ_ONLY or code.startswith("08"):
        return Unavailable("FF19135", place, failure)
    if code.startswith("23"):
        return Conflict("FF19108", f"{failure} ({getattr(failure, 'detail', '')})")
    if code[:2] in _BAD_VALUE_CLASSES:
        return Rejected("FF19112", failure)
    return Unavailable("FF19107", f"PostgreSQL at {place}", failure)


def translate_connect_error(failure: BaseException, place: str, timeout_s: float) -> PhotinusError:
    """Gives the error of the core for a connection that could not be made."""
    code = sqlstate(failure)
    if isinstance(failure, asyncpg.ClientConfigurationError):
        return Rejected("FF19130", failure)
    if isinstance(failure, TimeoutError):
        return Unavailable("FF19131", place, f"no answer within {timeout_s:g} s")
    if isinstance(failure, asyncpg.PostgresError):
        if code in _LOGIN:
            return Unavailable("FF19132", place, failure)
        if code == _NO_DATABASE:
            return Unavailable("FF19133", place, failure)
        if code == _TOO_MANY:
            return Unavailable("FF19134", place, failure)
        if code == _DISK_FULL:
            return Unavailable("FF19101", f"PostgreSQL at {place}, {_headline(failure)}")
        if code.startswith("42"):
            return Rejected("FF19130", failure)
        return Unavailable("FF19131", place, failure)
    if isinstance(failure, ValueError) and not isinstance(failure, asyncpg.InterfaceError):
        return Rejected("FF19130", failure)
    return Unavailable("FF19131", place, _text(failure))


def deposed(role: str, epoch: int) -> Deposed:
    """The error of a leader whose time is over."""
    return Deposed("FF19120", role, epoch)


def is_transient(failure: PhotinusError) -> bool:
    """Whether a start should wait and try again."""
    return failure.code in ("FF19131", "FF19134", "FF19135", "FF19137")


def _headline(failure: asyncpg.PostgresError) -> str:
    """What the server said, without its hints: those of the core's own text follow."""
    return str(failure.args[0]) if failure.args else type(failure).__name__


def _text(failure: BaseException) -> str:
    return str(failure) or type(failure).__name__
