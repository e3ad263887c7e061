"""Goal: the certificates of a channel are those that belong to it, and bad ones are told by name.

Method: tables; certificates on disk; nothing is dialled.
"""

from pathlib import Path

import pytest
from cryptography import x509
from photinus_core.host.channels import Target, check_files, configured_target, launched_target
from photinus_core.host.instances import Category, InstanceConfig, TlsFiles
from photinus_core.host.one_time_tls import ONE_TIME_NAME, OneTimeTls
from photinus_core.model.errors import Rejected

from tests.support.certificates import self_signed


def test_both_sides_of_one_run_know_each_other_and_nobody_else(tmp_path: Path) -> None:
    made, other = OneTimeTls.make(), OneTimeTls.make()
    assert made.ca != other.ca
    authority = x509.load_pem_x509_certificate(made.ca)
    for pem in (made.core_certificate, made.child_certificate):
        x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)
    environment = made.hand_over(tmp_path / "tls")
    assert {path: Path(path).stat().st_mode & 0o777 for path in environment.values()} == (
        dict.fromkeys(environment.values(), 0o600)
    )
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert Path(environment["PHOTINUS_TLS_CLIENT_CA"]).read_bytes() == made.ca
    again = other.hand_over(tmp_path / "tls")
    assert again == environment, "what an earlier run left is replaced"
    assert made.child_key not in Path(environment["PHOTINUS_TLS_KEY"]).read_bytes()


def test_keys_are_not_shown() -> None:
    made = OneTimeTls.make()
    target = launched_target("127.0.0.1:1", made, serves_tls=True, insecure=False)
    assert "PRIVATE" not in repr(made)
    assert "PRIVATE" not in repr(target)
    assert target.server_name == ONE_TIME_NAME


@pytest.mark.parametrize(
    ("address", "serves_tls", "insecure", "has_tls"),
    [
        ("unix:/run/x.sock", False, False, False),
        ("unix:/run/x.sock", True, False, False),
        ("127.0.0.1:1", True, False, True),
        ("127.0.0.1:1", False, True, False),
        ("127.0.0.1:1", True, True, True),
    ],
)
def test_what_a_child_serves_is_dialled_so(
    address: str, serves_tls: bool, insecure: bool, has_tls: bool
) -> None:
    made = OneTimeTls.make()
    target = launched_target(address, made, serves_tls=serves_tls, insecure=insecure)
    assert bool(target.ca) is has_tls


def test_files_are_read_anew_each_time(tmp_path: Path) -> None:
    core, server = self_signed(tmp_path, "core"), self_signed(tmp_path, "server")
    files = TlsFiles(server.certificate, core.certificate, core.key, "a.name")
    config = InstanceConfig("x", Category.BLOCKCHAIN, address="dns:///a:1", tls=files)
    check_files(files)
    first = configured_target(config)
    assert (first.address, first.server_name) == ("dns:///a:1", "a.name")
    server.certificate.write_bytes(core.certificate.read_bytes())
    assert configured_target(config).ca != first.ca


def test_a_discovered_socket_is_dialled_plainly() -> None:
    config = InstanceConfig("x", Category.BLOCKCHAIN, discover=("x",))
    assert configured_target(config, "unix:/run/x.sock") == Target("unix:/run/x.sock")


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "word"),
    [
        ("none.pem", "a.pem", "a-key.pem", "none.pem"),
        ("a-key.pem", "a.pem", "a-key.pem", "no certificate"),
        ("a.pem", "a.pem", "b-key.pem", "with the key of"),
        ("a.pem", "a-key.pem", "a-key.pem", "with the key of"),
        ("binary.pem", "a.pem", "a-key.pem", "no certificate"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path, ca: str, certificate: str, key: str, word: str
) -> None:
    self_signed(tmp_path, "a")
    self_signed(tmp_path, "b")
    (tmp_path / "binary.pem").write_bytes(bytes(range(256)))
    with pytest.raises(Rejected) as caught:
        check_files(TlsFiles(tmp_path / ca, tmp_path / certificate, tmp_path / key))
    assert caught.value.code == "FF19214"
    assert word in str(caught.value)
