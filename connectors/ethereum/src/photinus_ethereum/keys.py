"""Signing keys. They are loaded here, used here, and shown nowhere: not in a repr, a log or an error."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import coincurve
from eth_hash.auto import keccak
from photinus_sdk.errors import NotFound, Rejected

from photinus_ethereum.hexes import ADDRESS_BYTES, WORD_BYTES, Address, parse_address

KEYSTORE_BYTES_MAX = 64 * 1024


class Signer(Protocol):
    """Holds one key. The engine knows no more of keys than this, so that an HSM can stand behind it."""

    @property
    def address(self) -> Address:
        """The account of the key."""
        ...

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """(r, s, parity) over a 32-byte digest, s in the lower half of the curve's order."""
        ...


class LocalSigner:
    """A key in memory."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        """Takes 32 bytes. Raises ValueError, without the bytes, when they are no key."""
        try:
            self._key = coincurve.PrivateKey(secret)
        except (ValueError, TypeError):
            raise ValueError("not a private key of the curve") from None
        public = self._key.public_key.format(compressed=False)[1:]
        self.address = Address("0x" + keccak(public)[-ADDRESS_BYTES:].hex())

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        signature = self._key.sign_recoverable(digest, hasher=None)
        return (
            int.from_bytes(signature[:WORD_BYTES]),
            int.from_bytes(signature[WORD_BYTES : 2 * WORD_BYTES]),
            signature[2 * WORD_BYTES],
        )

    def __repr__(self) -> str:
        return f"LocalSigner({self.address})"


def from_hex(text: str) -> LocalSigner:
    """A raw development key, 64 hex digits. The error does not repeat the text."""
    digits = text.strip()
    try:
        secret = bytes.fromhex(digits[2:] if digits[:2].lower() == "0x" else digits)
    except ValueError:
        raise ValueError("a raw key is 64 hex digits") from None
    if len(secret) != WORD_BYTES:
        raise ValueError("a raw key is 64 hex digits")
    return LocalSigner(secret)


def from_keystore(path: Path, password: str) -> LocalSigner:
    """A keystore V3 file (geth's, FireFly signer's). Takes about a second of CPU: key stretching.

    Raises ValueError with the file's name and what is wrong with it.
    """
    # Costs half a second: it brings a library for curves that nobody here uses.
    from eth_keyfile.keyfile import decode_keyfile_json  # noqa: PLC0415 - see above

    try:
        if path.stat().st_size > KEYSTORE_BYTES_MAX:
            raise ValueError(f"{path.name}: too large for a keystore file")
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or document.get("version") != 3:
            raise ValueError(f"{path.name}: not a keystore file of version 3")
        secret = decode_keyfile_json(document, password.encode())
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from None
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{path.name}: not a keystore file of version 3") from None
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise ValueError(f"{path.name}: the password does not fit") from None
        raise
    signer = LocalSigner(bytes(secret))
    claimed = document.get("address")
    if isinstance(claimed, str) and claimed and parse_address(claimed) != signer.address:
        raise ValueError(f"{path.name}: holds the key of another address than it says")
    return signer


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The signers of one instance, by address."""

    signers: dict[Address, Signer] = field(default_factory=dict)
    default: Address | None = None

    def resolve(self, text: str) -> Address:
        """The canonical form of what a user wrote; empty text means the default key."""
        if not text:
            if self.default is None:
                raise Rejected("FF10354: No key given, and no default key", reason="INVALID_KEY")
            return self.default
        try:
            return parse_address(text)
        except ValueError:
            raise Rejected(
                "FF10141: Supplied ethereum address is invalid", reason="INVALID_KEY"
            ) from None

    def signer(self, address: Address) -> Signer:
        """The signer of an address. NotFound / UNKNOWN_KEY when it is not held here."""
        found = self.signers.get(address)
        if found is None:
            raise NotFound(
                f"this connector does not hold the key of {address}", reason="UNKNOWN_KEY"
            )
        return found


def ring(signers: Iterable[Signer], default: str = "") -> KeyRing:
    """A key ring; the default is the first signer unless given. ValueError for a default not held."""
    held = {signer.address: signer for signer in signers}
    if default:
        chosen = parse_address(default)
        if chosen not in held:
            raise ValueError(f"the default key {chosen} is not among the keys")
        return KeyRing(held, chosen)
    return KeyRing(held, next(iter(held), None))


async def load_keystore(path: Path, password: str) -> LocalSigner:
    """`from_keystore` beside the event loop."""
    return await asyncio.to_thread(from_keystore, path, password)
