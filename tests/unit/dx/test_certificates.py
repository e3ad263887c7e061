"""Goal: a certificate proves exactly the name in its subject, and our own is made once and kept private.

Method: certificates made on the spot, good and bad.
"""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from photinus_dx.certificates import (
    client_context,
    load_identity,
    own_identity,
    peer_name,
    pinned_certificates,
    self_signed,
    server_context,
)
from photinus_sdk import Rejected


def certificate(organization: str, unit: str = "") -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return self_signed(key, organization, unit, "dx.example.com").decode()


@pytest.mark.parametrize(
    ("organization", "unit", "name"),
    [
        ("org1", "", "org1"),
        ("org1", "unit1", "org1-unit1"),
        ("Ünïcode & Söhne, Inc.", "", "Ünïcode & Söhne, Inc."),
    ],
)
def test_the_subject_names_the_peer(organization: str, unit: str, name: str) -> None:
    parsed = x509.load_pem_x509_certificate(certificate(organization, unit).encode())
    assert peer_name(parsed) == name


def test_a_name_with_a_slash_names_nobody() -> None:
    parsed = x509.load_pem_x509_certificate(certificate("org1/node2").encode())
    with pytest.raises(Rejected):
        peer_name(parsed)


def test_only_leaves_with_the_right_name_are_pinned() -> None:
    mine, other = certificate("org1"), certificate("org2")
    (pin,) = pinned_certificates(other + mine, "org1")
    assert pin.pem.strip() == mine.strip()
    for pem in (other, "", "nonsense", mine[:100]):
        with pytest.raises(Rejected) as refused:
            pinned_certificates(pem, "org1")
        assert refused.value.reason == "INVALID_CERTIFICATE"


def test_the_own_identity_is_made_once(tmp_path: Path) -> None:
    first = own_identity(tmp_path, "org1", "", "127.0.0.1")
    again = own_identity(tmp_path, "another name", "", "elsewhere")
    assert first == again
    assert first.peer == "org1"
    assert first.key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_crash_between_key_and_certificate_is_repaired(tmp_path: Path) -> None:
    own_identity(tmp_path, "org1", "", "127.0.0.1")
    key = (tmp_path / "key.pem").read_bytes()
    (tmp_path / "certificate.pem").unlink()
    assert own_identity(tmp_path, "org1", "", "127.0.0.1").peer == "org1"
    assert (tmp_path / "key.pem").read_bytes() == key


def test_a_random_name_where_none_is_given(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert len({own_identity(tmp_path / name, "", "", "h").peer for name in ("a", "b")}) == 2


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        own_identity(tmp_path / name, name, "", "h")
    with pytest.raises(Rejected):
        load_identity(tmp_path / "a" / "certificate.pem", tmp_path / "b" / "key.pem")
    with pytest.raises(Rejected):
        load_identity(tmp_path / "missing", tmp_path / "a" / "key.pem")


def test_contexts_ask_for_certificates_and_give_no_tickets(tmp_path: Path) -> None:
    identity = own_identity(tmp_path, "org1", "", "127.0.0.1")
    pins = list(pinned_certificates(certificate("org2"), "org2"))
    serving, dialling = server_context(identity, pins), client_context(identity, pins)
    for context in (serving, dialling):
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert len(context.get_ca_certs()) <= 1  # nothing but the pins
    assert serving.num_tickets == 0
    assert serving.options & ssl.OP_NO_TICKET
