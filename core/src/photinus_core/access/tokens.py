"""Bearer tokens: JSON Web Tokens of one issuer, verified with its public keys."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from typing import Any, Final

import jwt

from photinus_core.access.claims import read_claims, refused
from photinus_core.access.credentials import Credential, Token
from photinus_core.access.keys import SigningKeys
from photinus_core.access.roles import Proof
from photinus_core.access.settings import TokenSettings
from photinus_core.ports.clock import Clock

REMEMBERED_MAX: Final = 10_000
"""Verified tokens that need not be verified again."""
_SIGNATURES: Final = jwt.PyJWS(options={"enforce_minimum_key_length": True})


class Tokens:
    """Checks the tokens of an issuer.

    Args:
        name: Of the authenticator.
        settings: What a token must be like.
        clock: Tells whether it has expired.
    """

    scheme: Final = "Bearer"

    def __init__(self, name: str, settings: TokenSettings, clock: Clock) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._keys = SigningKeys(settings, clock)
        self._verified = OrderedDict[tuple[bytes, int], Proof]()

    @property
    def trouble(self) -> str:
        """Why its keys as they are now are not known; empty when they are."""
        return self._keys.trouble

    async def look(self) -> None:
        """Keeps the keys current."""
        await self._keys.look()

    async def prove(self, credential: Credential) -> Proof | None:
        """Gives the proof of a token's bearer; None for what is no token.

        Raises:
            Unauthenticated: FF00169, and what is wrong with the token.
            Unavailable: FF19060, the key it is signed with is not known and cannot be had.
        """
        if not isinstance(credential, Token):
            return None
        key = (hashlib.sha256(credential.text.encode()).digest(), self._keys.generation)
        proof = self._verified.get(key)
        if proof is None:
            proof = await self._verify(credential.text)
            key = (key[0], self._keys.generation)
            self._verified[key] = proof
            if len(self._verified) > REMEMBERED_MAX:
                self._verified.popitem(last=False)
        elif proof.expires_s is not None and self._now_s() >= proof.expires_s:
            del self._verified[key]
            raise refused("has expired")
        return proof

    async def aclose(self) -> None:
        """Holds nothing that must be closed."""

    async def _verify(self, token: str) -> Proof:
        header, claims = _unverified(token)
        if claims.get("iss") != self._settings.issuer:
            raise refused("is of another issuer")
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            raise refused("is signed by an algorithm that is not allowed here")
        if "crit" in header or not (key_id is None or isinstance(key_id, str)):
            raise refused("has a header that is not understood")
        keys = await self._keys.find(key_id, algorithm)
        if not keys:
            raise refused("is signed with a key its issuer does not have")
        if not any(_is_signed(token, key, algorithm) for key in keys):
            raise refused("has a wrong signature")
        claimed = read_claims(claims, self._settings, self._now_s())
        return Proof(self.name, claimed.subject, claimed.groups, claimed.expires_s)

    def _now_s(self) -> float:
        return self._clock.now() / 1e9


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as they stand there."""
    try:
        read = _SIGNATURES.decode_complete(token, options={"verify_signature": False})
        claims = json.loads(read["payload"])
    except (jwt.PyJWTError, ValueError, RecursionError) as failure:
        raise refused("cannot be read") from failure
    if not isinstance(claims, dict):
        raise refused("cannot be read")
    return read["header"], claims


def _is_signed(token: str, key: jwt.PyJWK, algorithm: str) -> bool:
    try:
        _SIGNATURES.decode(token, key=key, algorithms=[algorithm])
    except jwt.PyJWTError:
        return False
    return True
