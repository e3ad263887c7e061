"""What a client says of itself: the `Authorization` of HTTP and of gRPC's metadata. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from photinus_core.access.refusals import unauthorized

CREDENTIAL_BYTES_MAX: Final = 16 * 1024
"""Longest `Authorization` that is looked at; tokens with many groups have a few KiB."""


@dataclass(frozen=True, slots=True)
class Password:
    """A user's name and password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, as yet believed in nothing."""

    text: str = field(repr=False)


Credential = Password | Token


def read_credential(authorization: str) -> Credential | None:
    """Reads the value of `Authorization`; None when it is empty.

    Raises:
        Unauthenticated: FF00169, too long, of another scheme, or not readable.
    """
    if not authorization:
        return None
    if len(authorization) > CREDENTIAL_BYTES_MAX:
        raise unauthorized(f"more than {CREDENTIAL_BYTES_MAX} bytes of credentials")
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        return Token(rest)
    if scheme.lower() == "basic":
        return _password(rest)
    raise unauthorized("use the scheme Basic or Bearer")


def _password(text: str) -> Password:
    try:
        plain = base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError) as failure:
        raise unauthorized("the Basic credentials cannot be read") from failure
    user, colon, password = plain.partition(":")
    if not colon or not user:
        raise unauthorized("the Basic credentials cannot be read")
    return Password(user, password)
