"""Goal: a connector serves TLS when it was told how, and says what is wrong when it cannot.

Method: tables of options and environments; certificates on disk.
"""

from pathlib import Path

import pytest
from photinus_sdk import Rejected
from photinus_sdk.sockets import prepare
from photinus_sdk.tls import TlsFiles, chosen_files

from tests.support.certificates import self_signed

TCP = "10.0.0.1:5310"
ENVIRONMENT = {
    "PHOTINUS_TLS_CERT": "/e/cert",
    "PHOTINUS_TLS_KEY": "/e/key",
    "PHOTINUS_TLS_CLIENT_CA": "/e/ca",
}
FROM_ENVIRONMENT = TlsFiles(Path("/e/cert"), Path("/e/key"), Path("/e/ca"))
OPTIONS = (Path("c"), Path("k"), Path("a"))
NO_OPTIONS = (None, None, None)


@pytest.mark.parametrize(
    ("given", "environment", "address", "insecure", "files"),
    [
        (OPTIONS, {}, TCP, False, TlsFiles(*OPTIONS)),
        (OPTIONS, ENVIRONMENT, TCP, False, TlsFiles(*OPTIONS)),
        (NO_OPTIONS, ENVIRONMENT, TCP, False, FROM_ENVIRONMENT),
        (NO_OPTIONS, ENVIRONMENT, "unix:/run/x.sock", False, None),
        (NO_OPTIONS, ENVIRONMENT, "", False, None),
        (NO_OPTIONS, ENVIRONMENT, TCP, True, None),
        (NO_OPTIONS, {}, TCP, False, None),
    ],
)
def test_where_the_files_come_from(
    given: tuple[Path | None, Path | None, Path | None],
    environment: dict[str, str],
    address: str,
    insecure: bool,
    files: TlsFiles | None,
) -> None:
    assert chosen_files(given, environment, address, insecure=insecure) == files


@pytest.mark.parametrize(
    ("given", "environment", "address", "insecure", "words"),
    [
        (OPTIONS, {}, "unix:/run/x.sock", False, "a socket needs none"),
        (OPTIONS, {}, "", False, "a socket needs none"),
        (OPTIONS, {}, TCP, True, "without --insecure"),
        ((Path("c"), None, None), {}, TCP, False, "three files"),
        (NO_OPTIONS, {"PHOTINUS_TLS_KEY": "/k"}, TCP, False, "three files"),
    ],
)
def test_what_contradicts_itself_is_refused(
    given: tuple[Path | None, Path | None, Path | None],
    environment: dict[str, str],
    address: str,
    insecure: bool,
    words: str,
) -> None:
    with pytest.raises(Rejected, match=words):
        chosen_files(given, environment, address, insecure=insecure)


def test_beyond_loopback_only_with_tls() -> None:
    assert prepare(TCP, insecure=False, tls=True) == TCP
    with pytest.raises(Rejected, match="--tls-cert"):
        prepare(TCP, insecure=True)
    with pytest.raises(Rejected, match="no address"):
        prepare("nonsense", insecure=False, tls=True)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    one, other = self_signed(tmp_path, "one"), self_signed(tmp_path, "other")
    TlsFiles(one.certificate, one.key, other.certificate).credentials()
    for files, words in (
        (TlsFiles(tmp_path / "no.pem", one.key, one.certificate), "no.pem cannot be read"),
        (TlsFiles(one.certificate, other.key, one.certificate), "with the key of"),
        (TlsFiles(one.certificate, one.key, one.key), "holds no certificate"),
    ):
        with pytest.raises(Rejected, match=words):
            files.credentials()
