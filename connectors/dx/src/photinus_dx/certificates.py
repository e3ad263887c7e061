"""Keys and certificates: the own identity, the peers' pins, and the TLS contexts made from both.

A peer is trusted by exactly the leaf certificate it registered. What its certificate signs is not: peers register
self-signed certificates that are often CA certificates too, and such a peer could otherwise issue certificates in other
peers' names.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from photinus_sdk.errors import Rejected

VALIDITY = dt.timedelta(days=3650)
CLOCK_SKEW = dt.timedelta(days=1)
MAX_CERTIFICATE_BYTES = 64 * 1024
MAX_CERTIFICATES_IN_BUNDLE = 8


@dataclass(frozen=True)
class PinnedCertificate:
    """A leaf certificate of a peer, with the peer id its subject proves."""

    peer: str
    fingerprint: str
    pem: str


@dataclass(frozen=True)
class Identity:
    """Own key and certificate, as files OpenSSL can load, and what follows from them."""

    peer: str
    certificate_file: Path
    key_file: Path
    certificate_pem: str
    expires_s: int


def fingerprint(der: bytes) -> str:
    """Name of a certificate: SHA-256 of its DER form in hex."""
    return hashlib.sha256(der).hexdigest()


def peer_name(certificate: x509.Certificate) -> str:
    """Peer id a certificate proves: subject O, with `-OU` when there is one.

    Raises:
        Rejected: INVALID_CERTIFICATE when the subject has neither or the name has a slash.
    """
    organization = _attribute(certificate, NameOID.ORGANIZATION_NAME)
    unit = _attribute(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    name = "-".join(part for part in (organization, unit) if part)
    if not name or "/" in name:
        raise Rejected(
            "the certificate's subject must name the peer in O or OU, without a slash",
            reason="INVALID_CERTIFICATE",
        )
    return name


def pinned_certificates(pem: str, peer: str) -> tuple[PinnedCertificate, ...]:
    """Leaf certificates of a peer in a PEM bundle: those whose subject proves the peer's name.

    Raises:
        Rejected: INVALID_CERTIFICATE when the bundle cannot be read or holds none.
    """
    data = pem.encode()
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise Rejected("the certificate is too large", reason="INVALID_CERTIFICATE")
    try:
        bundle = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise Rejected(
            f"the certificate cannot be read: {error}", reason="INVALID_CERTIFICATE"
        ) from error
    pins = []
    for certificate in bundle[:MAX_CERTIFICATES_IN_BUNDLE]:
        with contextlib.suppress(Rejected):  # a CA of the bundle need not name a peer
            if peer_name(certificate) == peer:
                der = certificate.public_bytes(serialization.Encoding.DER)
                text = certificate.public_bytes(serialization.Encoding.PEM).decode()
                pins.append(PinnedCertificate(peer, fingerprint(der), text))
    if not pins:
        raise Rejected(
            f"no certificate of the bundle proves the name {peer!r} by its subject",
            reason="INVALID_CERTIFICATE",
        )
    return tuple(pins)


def load_identity(certificate_file: Path, key_file: Path) -> Identity:
    """Read a configured identity.

    Raises:
        Rejected: INVALID_CERTIFICATE when a file cannot be read or the two do not belong together.
    """
    try:
        pem = certificate_file.read_text()
        certificates = x509.load_pem_x509_certificates(pem.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ValueError) as error:
        raise Rejected(
            f"the own certificate is not usable: {error}", reason="INVALID_CERTIFICATE"
        ) from error
    leaf = certificates[0]
    return Identity(
        peer=peer_name(leaf),
        certificate_file=certificate_file,
        key_file=key_file,
        certificate_pem=pem,
        expires_s=int(leaf.not_valid_after_utc.timestamp()),
    )


def own_identity(folder: Path, organization: str, unit: str, host: str) -> Identity:
    """Identity kept in a folder; made at the first call, the key readable by its owner only.

    A crash between the two files is repaired at the next call: the key comes first and the certificate is made for it.
    """
    key_file = folder / "key.pem"
    certificate_file = folder / "certificate.pem"
    if not certificate_file.exists():
        if key_file.exists():
            loaded = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise Rejected(f"{key_file} is not a key of ours", reason="INVALID_CERTIFICATE")
            key = loaded
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            _write_private(
                key_file,
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
            )
        name = organization or f"peer-{secrets.token_hex(8)}"
        _write_private(certificate_file, self_signed(key, name, unit, host))
    return load_identity(certificate_file, key_file)


def self_signed(key: ec.EllipticCurvePrivateKey, organization: str, unit: str, host: str) -> bytes:
    """Self-signed certificate in PEM for both ends of a connection to `host`."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    if unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, host[:64] or "dx"))
    subject = x509.Name(attributes)
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        # A FireFly peer checks the name it dialled.
        .add_extension(x509.SubjectAlternativeName(_alternative_names(host)), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def server_context(identity: Identity, pins: list[PinnedCertificate]) -> ssl.SSLContext:
    """TLS for incoming connections that lets in exactly the pinned certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, identity, pins)
    # A resumed session skips the certificate check, and with it the removal of a peer.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def client_context(identity: Identity, pins: list[PinnedCertificate]) -> ssl.SSLContext:
    """TLS for connections to one peer: only its pinned certificates are accepted, whatever its host is called."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    _prepare(context, identity, pins)
    return context


def _prepare(context: ssl.SSLContext, identity: Identity, pins: list[PinnedCertificate]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    # Lets a leaf be its own trust anchor, so that no issuer needs to be trusted.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    if pins:
        context.load_verify_locations(cadata="\n".join(sorted({pin.pem for pin in pins})))


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    values = certificate.subject.get_attributes_for_oid(oid)
    return str(values[0].value) if values else ""


def _alternative_names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((host.strip("[]"), "localhost", "127.0.0.1")):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return names


def _write_private(path: Path, content: bytes) -> None:
    """Write a file only its owner can read, whole or not at all."""
    temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
