"""Certificates for one run of a launched connector: nobody else can dial it, or answer for it.

An authority is made, signs one certificate for each side, and its key is forgotten. The child finds
its side in files named by its environment, which are removed once it has said where it listens;
files rather than a certificate of its own making, since not every language can make one.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ONE_TIME_NAME: Final = "connector.photinus.internal"
CERTIFICATE_VARIABLE: Final = "PHOTINUS_TLS_CERT"
KEY_VARIABLE: Final = "PHOTINUS_TLS_KEY"
CLIENT_CA_VARIABLE: Final = "PHOTINUS_TLS_CLIENT_CA"

_VALID: Final = dt.timedelta(days=3650)
_CLOCKS_APART: Final = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class OneTimeTls:
    """Both sides' certificates, PEM."""

    ca: bytes
    core_certificate: bytes
    core_key: bytes = field(repr=False)
    child_certificate: bytes
    child_key: bytes = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """Makes them; takes some milliseconds."""
        authority = ec.generate_private_key(ec.SECP256R1())
        issuer = _name("photinus one-time authority")
        ca = _builder(issuer, issuer, authority.public_key())
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = [_pem(ca.sign(authority, hashes.SHA256()))]
        for subject in ("core.photinus.internal", ONE_TIME_NAME):
            key = ec.generate_private_key(ec.SECP256R1())
            names = x509.SubjectAlternativeName([x509.DNSName(subject)])
            signed = _builder(_name(subject), issuer, key.public_key())
            signed = signed.add_extension(names, critical=False)
            made += [_pem(signed.sign(authority, hashes.SHA256())), _private(key)]
        return cls(*made)

    def hand_over(self, folder: Path) -> Mapping[str, str]:
        """Writes the child's side into a folder of its own; gives the environment that names it."""
        remove(folder)
        folder.mkdir(mode=0o700, parents=True)
        environment = {}
        for variable, name, content in (
            (CERTIFICATE_VARIABLE, "cert.pem", self.child_certificate),
            (KEY_VARIABLE, "key.pem", self.child_key),
            (CLIENT_CA_VARIABLE, "client-ca.pem", self.ca),
        ):
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            environment[variable] = str(path.absolute())
        return environment


def remove(folder: Path) -> None:
    """Removes what was handed over."""
    shutil.rmtree(folder, ignore_errors=True)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + _VALID)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
