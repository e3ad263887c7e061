"""Keeps what a hostile schema does to the schema checker from doing it to us."""

from __future__ import annotations

from collections.abc import Callable

from photinus_core.model.errors import PhotinusError, Rejected


def guarded(name: str, check: Callable[[], object]) -> None:
    """Runs a check of a value or schema; whatever goes wrong is a refusal, the same everywhere.

    Args:
        name: The datatype, `<name>/<version>`.
        check: Raises Rejected when the value or schema is refused.

    Raises:
        Rejected: what the check said, or FF10196 when the checker itself broke.
    """
    try:
        check()
    except PhotinusError:
        raise
    except Exception as failure:
        raise Rejected("FF10196", name, type(failure).__name__) from failure
