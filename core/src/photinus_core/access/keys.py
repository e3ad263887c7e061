"""The public keys of a token issuer: a JWK set (RFC 7517) in a file or behind a URL, kept current.

Known keys go on counting while the set cannot be had, for a limited time. A key id nobody knows has
the set fetched at once, but not more often than every `MISS_PAUSE_S`: anybody can invent one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import jwt

from photinus_core.access.files import WatchedFile
from photinus_core.access.settings import TokenSettings
from photinus_core.model.errors import Unavailable
from photinus_core.ports.clock import Clock
from photinus_core.ports.tasks import Backoff

log: Final = logging.getLogger(__name__)

SET_BYTES_MAX: Final = 1024 * 1024
KEYS_MAX: Final = 100
FETCH_S: Final = 5.0
"""Longest time for one fetch."""
MISS_PAUSE_S: Final = 10.0
RETRY_FIRST_S: Final = 1.0
RETRY_CAP_S: Final = 60.0

_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class KeySet:
    """The keys of one set that can verify."""

    def __init__(self, keys: Sequence[Mapping[str, Any]]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def fitting(self, key_id: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """Keys that a token with this header may be signed with; without a key id, all of its kind."""
        found = []
        for key in self._keys:
            if (key_id is not None and key.get("kid") != key_id) or not _suits(key, algorithm):
                continue
            try:
                found.append(jwt.PyJWK(dict(key), algorithm=algorithm))
            except jwt.PyJWTError as failure:
                log.warning("a key of a JWK set cannot be used: %s", type(failure).__name__)
        return found


def read_keys(text: str) -> KeySet:
    """Reads a JWK set. Shared secrets and what is not for signatures are left out.

    Raises:
        ValueError: it is none, or holds no key that could verify.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise ValueError("it is no JSON") from failure
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise ValueError(f"it is no JWK set of at most {KEYS_MAX} keys")
    keys = [key for key in listed if isinstance(key, dict) and _verifies(key)]
    if not keys:
        raise ValueError("it holds no public key for signatures")
    return KeySet(keys)


def _verifies(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops")
    for_this = not isinstance(operations, list) or "verify" in operations
    return key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig" and for_this


def _suits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Whether a key is of the kind that an algorithm works with, and for no other by its own word."""
    if key.get("alg", algorithm) != algorithm:
        return False
    match algorithm[:2]:
        case "RS" | "PS":
            return bool(key["kty"] == "RSA")
        case "ES":
            return bool(key["kty"] == "EC") and key.get("crv") == _CURVES[algorithm]
        case _:
            return bool(key["kty"] == "OKP")


class SigningKeys:
    """The keys of one issuer.

    Args:
        settings: Where they are.
        clock: For how long they count.
    """

    def __init__(self, settings: TokenSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._file = (
            None if settings.jwks_file is None else WatchedFile(settings.jwks_file, SET_BYTES_MAX)
        )
        self._keys: KeySet | None = None
        self._fetched_s = 0.0
        self._asked_s: float | None = None
        self._next_s = 0.0
        self._pauses = Backoff(RETRY_FIRST_S, RETRY_CAP_S)
        self._asking = asyncio.Lock()
        self.generation = 0
        """Counts the sets: what was verified with another one is to be verified again."""
        self.trouble = ""
        """Why the set as it is now is not known; empty when it is."""

    @property
    def place(self) -> str:
        """Where they are, for people."""
        return self._settings.jwks_url or str(self._settings.jwks_file)

    async def look(self) -> None:
        """Reads or fetches the set when it is due."""
        if self._file is not None:
            await self._read(self._file)
        elif self._clock.monotonic_s() >= self._next_s:
            await self._fetch()
        age_s = self._clock.monotonic_s() - self._fetched_s
        if self._file is None and self._keys is not None and age_s > self._settings.keep_s:
            log.error("the keys of %s count no more: they are %d s old", self.place, age_s)
            self._put(None)

    async def find(self, key_id: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """Keys that a token may be signed with; none when the issuer has no such key.

        Raises:
            Unavailable: FF19060, the keys cannot be had, and this one is not known.
        """
        found = self._keys.fitting(key_id, algorithm) if self._keys else []
        if not found and self._may_ask():
            await (self._fetch() if self._file is None else self._read(self._file))
            found = self._keys.fitting(key_id, algorithm) if self._keys else []
        if not found and self.trouble:
            raise Unavailable("FF19060", self._settings.issuer, self.trouble)
        return found

    def _may_ask(self) -> bool:
        return self._asked_s is None or self._clock.monotonic_s() - self._asked_s >= MISS_PAUSE_S

    async def _read(self, file: WatchedFile) -> None:
        try:
            text = await file.changed()
        except OSError as failure:
            self._fail(f"{file.path}: {failure.strerror or failure}")
            return
        if text is None:
            return
        try:
            self._take(read_keys(text))
        except ValueError as failure:
            self._fail(f"{file.path}: {failure}")

    async def _fetch(self) -> None:
        """Fetches the set; of those who ask at once, one does."""
        before = self._asked_s
        async with self._asking:
            if self._asked_s != before:
                return
            try:
                keys = await self._download()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as failure:
                self._fail(str(failure) or type(failure).__name__)
                self._next_s = self._clock.monotonic_s() + self._pauses.next_s()
            else:
                self._take(keys)
                self._next_s = self._clock.monotonic_s() + self._settings.refresh_s
            finally:
                self._asked_s = self._clock.monotonic_s()

    async def _download(self) -> KeySet:
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        ca = self._settings.jwks_ca
        context = await asyncio.to_thread(ssl.create_default_context, cafile=ca)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self._settings.jwks_url, ssl=context, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"{self.place} answers {answer.status}")
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > SET_BYTES_MAX:
                    raise ValueError(f"{self.place} gives more than {SET_BYTES_MAX} bytes")
        try:
            return read_keys(content.decode())
        except ValueError as failure:
            raise ValueError(f"{self.place}: {failure}") from failure

    def _take(self, keys: KeySet) -> None:
        self._fetched_s = self._clock.monotonic_s()
        self._pauses.reset()
        if self.trouble:
            log.info("the keys of %s are known", self.place)
        self.trouble = ""
        self._put(keys)

    def _put(self, keys: KeySet | None) -> None:
        self._keys = keys
        self.generation += 1

    def _fail(self, why: str) -> None:
        known = "known keys go on counting" if self._keys else "no token can be checked"
        self.trouble = f"{why} ({known})"
