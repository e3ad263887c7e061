"""What the configuration says of authentication and authorization, checked and typed.

Reading it from YAML is `app.config`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from photinus_core.access.roles import Grant

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures that a token may have. None of them works with a shared secret, and `none` is none."""
ALGORITHMS_USUAL: Final = ("RS256", "PS256", "ES256", "EdDSA")


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """Users with passwords.

    Attributes:
        file: htpasswd file with bcrypt hashes; read again when it changes.
    """

    file: Path


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Tokens of one issuer.

    Attributes:
        issuer: What `iss` must be.
        audiences: Of which `aud` must name one.
        jwks_url: Where its keys are fetched; empty when they are in a file.
        jwks_file: Where they are otherwise; read again when it changes.
        jwks_ca: Certificates that the server of the URL must descend from; None for the system's.
        algorithms: Signatures taken.
        refresh_s: How often the keys are fetched.
        keep_s: How long known keys count while they cannot be fetched.
        leeway_s: How far clocks may be apart.
        subject: Claim with the caller's name.
        groups: Claim with its groups; a path like `realm_access.roles` is followed.
    """

    issuer: str
    audiences: tuple[str, ...]
    jwks_url: str = ""
    jwks_file: Path | None = None
    jwks_ca: Path | None = None
    algorithms: tuple[str, ...] = ALGORITHMS_USUAL
    refresh_s: float = 300.0
    keep_s: float = 86_400.0
    leeway_s: float = 30.0
    subject: str = "sub"
    groups: str = "groups"


@dataclass(frozen=True, slots=True)
class AuthenticatorSettings:
    """One way to prove who one is, and what that is good for.

    Attributes:
        name: Of the plugin, or the section (`http.auth`).
        grants: Who may do what; None gives all who prove themselves the rights FireFly gives them.
    """

    name: str
    how: PasswordSettings | TokenSettings
    grants: tuple[Grant, ...] | None = None


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may use this node.

    Attributes:
        default_namespace: The one that calls without a namespace mean.
        authenticators: Those of the plugins.
        namespaces: By which of them each namespace's callers prove themselves; none opens it to all.
        http: What every call needs besides (`http.auth`).
        spi: What calls of the SPI need instead (`spi.auth`).
    """

    default_namespace: str = ""
    authenticators: tuple[AuthenticatorSettings, ...] = ()
    namespaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    http: AuthenticatorSettings | None = None
    spi: AuthenticatorSettings | None = None

    @property
    def rules(self) -> object:
        """What differs when somebody may do more or less than before."""
        return self.all, {name: used for name, used in self.namespaces.items() if used}

    @property
    def all(self) -> tuple[AuthenticatorSettings, ...]:
        """All authenticators that anything asks."""
        named = {name for names in self.namespaces.values() for name in names}
        used = tuple(each for each in self.authenticators if each.name in named)
        return (*used, *(each for each in (self.http, self.spi) if each is not None))
