"""Goal: the folder of a network in memory goes with it, and with the next one when it was killed.

Method: another place stands for the machine's memory; a folder without a lock stands for one that was left.
"""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest
from photinus_core.app.devnet import in_memory
from photinus_core.app.devnet.in_memory import LOCK, PREFIX, vanishing_folder
from photinus_core.app.devnet.layout import MemberState
from photinus_core.app.memory_command import environment


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(in_memory, "IN_MEMORY", tmp_path)
    monkeypatch.setattr(in_memory, "ROOM_BYTES", 0)
    return tmp_path


def test_a_folder_is_private_and_goes(place: Path) -> None:
    with vanishing_folder() as folder:
        assert folder.parent == place
        assert folder.name.startswith(PREFIX)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
    assert not list(place.iterdir())


def test_a_folder_goes_after_a_failure(place: Path) -> None:
    with pytest.raises(OSError, match="full"), vanishing_folder():
        raise OSError("full")
    assert not list(place.iterdir())


def test_what_was_left_is_swept_and_what_lives_is_not(place: Path) -> None:
    left, other = place / f"{PREFIX}left", place / "other"
    for folder in (left, other):
        folder.mkdir()
        (folder / LOCK).touch()
    begun = place / f"{PREFIX}begun"
    begun.mkdir()
    with vanishing_folder() as first, vanishing_folder() as second:
        assert {*place.iterdir()} == {first, second, other, begun}
        with (first / LOCK).open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert {*place.iterdir()} == {other, begun}


@pytest.mark.parametrize("room", [True, False])
def test_without_room_in_memory_it_is_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, room: bool
) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    monkeypatch.setattr(in_memory, "IN_MEMORY", tmp_path if room else tmp_path / "absent")
    monkeypatch.setattr(in_memory, "ROOM_BYTES", 1 << 62)
    with vanishing_folder() as folder:
        assert folder.parent == tmp_path / "disk"


def test_a_command_finds_every_member() -> None:
    members = [MemberState(n, 5000 + 100 * n, 5001 + 100 * n, 0) for n in range(2)]
    assert environment(members) == {
        "PHOTINUS_URL_0": "http://127.0.0.1:5000",
        "PHOTINUS_WS_0": "ws://127.0.0.1:5000/ws",
        "PHOTINUS_API_0": "127.0.0.1:5001",
        "PHOTINUS_URL_1": "http://127.0.0.1:5100",
        "PHOTINUS_WS_1": "ws://127.0.0.1:5100/ws",
        "PHOTINUS_API_1": "127.0.0.1:5101",
    }
