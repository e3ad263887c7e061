"""Goal: addresses that are unsafe or would surprise are refused with what to do about it.

Method: real sockets in temporary directories; nothing is served.
"""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from photinus_sdk import Rejected
from photinus_sdk.sockets import keep_private, prepare, remove


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        yield Path(name)


def test_the_directory_is_made_private(short_dir: Path) -> None:
    address = prepare(f"unix:{short_dir}/run/x.sock", insecure=False)
    assert address == f"unix:{short_dir}/run/x.sock"
    assert (short_dir / "run").stat().st_mode & 0o777 == 0o700


def test_a_directory_open_to_others_is_refused(short_dir: Path) -> None:
    (short_dir / "run").mkdir(mode=0o755)
    with pytest.raises(Rejected, match="chmod 700"):
        prepare(f"unix:{short_dir}/run/x.sock", insecure=False)


def test_a_long_path_is_refused(short_dir: Path) -> None:
    with pytest.raises(Rejected, match="longer than 100 bytes"):
        prepare(f"unix:{short_dir}/{'a' * 100}.sock", insecure=False)


def test_a_served_socket_is_left_alone_and_a_stale_one_removed(short_dir: Path) -> None:
    path = short_dir / "x.sock"
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(path))
        served.listen()
        with pytest.raises(Rejected, match="Another process serves"):
            prepare(f"unix:{path}", insecure=False)
        assert path.exists()
    prepare(f"unix:{path}", insecure=False)
    assert not path.exists()


def test_a_file_in_the_way_is_left_alone(short_dir: Path) -> None:
    path = short_dir / "x.sock"
    path.write_text("precious")
    with pytest.raises(Rejected, match="no socket"):
        prepare(f"unix:{path}", insecure=False)
    assert path.read_text() == "precious"


def test_a_bound_socket_is_made_private_and_removed(short_dir: Path) -> None:
    path = short_dir / "x.sock"
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(path))
        keep_private(f"unix:{path}")
        assert path.stat().st_mode & 0o777 == 0o600
    remove(f"unix:{path}")
    remove(f"unix:{path}")
    assert not path.exists()


@pytest.mark.parametrize(
    ("address", "insecure", "words"),
    [
        ("127.0.0.1:0", False, "--insecure"),
        ("0.0.0.0:5000", True, "not loopback"),
        ("example.com:5000", True, "not loopback"),
        ("nonsense", True, "no address"),
        (":5000", True, "no address"),
    ],
)
def test_plain_tcp_is_for_loopback_and_said_explicitly(
    address: str, insecure: bool, words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        prepare(address, insecure=insecure)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:5000", "[::1]:5000"])
def test_loopback_is_taken(address: str) -> None:
    assert prepare(address, insecure=True) == address
