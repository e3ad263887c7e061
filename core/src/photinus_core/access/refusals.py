"""FireFly's two refusals, with a reason behind its text where that helps nobody who should not know."""

from __future__ import annotations

from photinus_core.model.errors import Forbidden, Unauthenticated


def unauthorized(*why: str) -> Unauthenticated:
    """FF00169: the caller has not proven itself."""
    return Unauthenticated("FF00169", *why)


def forbidden(*why: str) -> Forbidden:
    """FF00170: the caller may not do this."""
    return Forbidden("FF00170", *why)
