"""What a token says, once its signature is believed: whether it is for us, and for whom. Pure.

RFC 7519 §4.1, RFC 9068 §4 as far as they apply to a resource.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from photinus_core.access.refusals import unauthorized
from photinus_core.access.settings import TokenSettings
from photinus_core.model.errors import Unauthenticated

NAME_CHARS_MAX: Final = 1024
GROUPS_MAX: Final = 1_000
"""Groups of one token beyond these are not looked at."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a token says of its bearer."""

    subject: str
    groups: frozenset[str]
    expires_s: float


def refused(why: str) -> Unauthenticated:
    """A token that is not taken; the text goes to the client and holds nothing of the token."""
    return unauthorized(f"the token {why}")


def read_claims(claims: Mapping[str, Any], settings: TokenSettings, now_s: float) -> Claimed:
    """Checks the claims of a token whose signature was verified.

    Args:
        claims: Its payload.
        settings: Of its issuer.
        now_s: The time, in seconds of the epoch.

    Raises:
        Unauthenticated: FF00169 with what is wrong.
    """
    if claims.get("iss") != settings.issuer:
        raise refused("is of another issuer")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(each in settings.audiences for each in named if isinstance(each, str)):
        raise refused("is for another audience")
    expires_s = _time(claims, "exp")
    if expires_s is None:
        raise refused("never expires")
    if now_s >= expires_s + settings.leeway_s:
        raise refused("has expired")
    for claim in ("nbf", "iat"):
        begins_s = _time(claims, claim)
        if begins_s is not None and now_s < begins_s - settings.leeway_s:
            raise refused("is not valid yet")
    subject = _found(claims, settings.subject)
    if not isinstance(subject, str) or not 0 < len(subject) <= NAME_CHARS_MAX:
        raise refused(f"has no claim '{settings.subject}' that names somebody")
    return Claimed(subject, _groups(_found(claims, settings.groups)), expires_s + settings.leeway_s)


def _time(claims: Mapping[str, Any], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(f"has a claim '{claim}' that is no time")
    return float(value)


def _found(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, which may hold dots, or by a path of names."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _groups(value: object) -> frozenset[str]:
    """Groups as a list, or as one text with blanks between them, as `scope` has them."""
    listed = value.split() if isinstance(value, str) else value
    if not isinstance(listed, list):
        return frozenset()
    return frozenset(each for each in listed[:GROUPS_MAX] if isinstance(each, str))
