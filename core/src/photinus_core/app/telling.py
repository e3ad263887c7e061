"""What the commands say to people; everything else logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import grpc

CALL_S: Final = 10.0
"""Longest wait for a node's answer."""


def tell(text: str = "") -> None:
    """Prints one line for a person."""
    print(text, flush=True)  # noqa: T201 - the command line's own output


def complain(text: str) -> None:
    """Prints one line about something that went wrong."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - likewise


def why(api: object, failure: grpc.aio.AioRpcError) -> str:
    """Why a call to a node failed."""
    if failure.code().name == "UNAVAILABLE":
        return f"photinus: no node answers on {api}: {failure.details()}"
    return f"photinus: {failure.details()}"
