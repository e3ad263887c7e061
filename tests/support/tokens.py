"""An issuer of tokens: signing keys, their public set, and tokens as one likes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import bcrypt
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER: Final = "https://login.example.org/realms/acme"
AUDIENCE: Final = "photinus"
BEGUN_S: Final = 1_700_000_000
COST: Final = 4
"""bcrypt's cheapest: tests check many passwords."""


class Issuer:
    """Signs tokens. Keys are named, and may be added and dropped as an issuer rotates them."""

    def __init__(self, *names: str) -> None:
        self._keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {}
        for name in names or ("first",):
            self.add(name)

    def add(self, name: str) -> None:
        """Has one more key, for ES256."""
        self._keys[name] = ec.generate_private_key(ec.SECP256R1())

    def add_rsa(self, name: str, bits: int = 2048) -> None:
        """Has one more key, for RS256 and PS256."""
        self._keys[name] = rsa.generate_private_key(65537, bits)

    def drop(self, name: str) -> None:
        """Publishes a key no more."""
        del self._keys[name]

    def key_set(self, *others: Mapping[str, Any]) -> str:
        """What it publishes."""
        keys: list[Mapping[str, Any]] = list(others)
        for name, key in self._keys.items():
            if isinstance(key, ec.EllipticCurvePrivateKey):
                made = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            else:
                made = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append({**made, "kid": name, "use": "sig"})
        return json.dumps({"keys": keys})

    def token(
        self,
        subject: str = "alice",
        *,
        key: str = "first",
        algorithm: str = "ES256",
        groups: Sequence[str] = (),
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A token that is good for an hour from `BEGUN_S`; what is given as None is left out."""
        named = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "groups": list(groups),
            "iat": BEGUN_S,
            "exp": BEGUN_S + 3600,
            **claims,
        }
        return jwt.encode(
            {name: value for name, value in named.items() if value is not None},
            self._keys[key],
            algorithm=algorithm,
            headers={n: v for n, v in {"kid": key, **(header or {})}.items() if v is not None},
        )


def password_file(**users: str) -> str:
    """The text of an htpasswd file."""
    lines = (
        f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode()}\n"
        for user, password in users.items()
    )
    return "".join(lines)


def basic(user: str, password: str) -> str:
    """`Authorization` of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    """`Authorization` of a bearer."""
    return f"Bearer {token}"
