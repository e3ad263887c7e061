"""Goal: `make proto` leaves exactly what it made, and its check sees every kind of difference.

Method: the comparing and installing halves over temporary folders; protoc itself is proven by the
check that the committed code is current.
"""

from pathlib import Path

import pytest

from scripts.generate_protos import differences, install

KEPT = frozenset({"py.typed"})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    made, committed = tmp_path / "made", tmp_path / "committed"
    for folder in (made, committed):
        (folder / "v1").mkdir(parents=True)
        (folder / "v1" / "same_pb2.py").write_text("same")
    (committed / "py.typed").touch()
    return made, committed


def test_equal_folders_have_no_differences(folders: tuple[Path, Path]) -> None:
    assert differences(*folders, KEPT) == []


def test_new_changed_and_stale_files_are_differences(folders: tuple[Path, Path]) -> None:
    made, committed = folders
    (made / "v1" / "new_pb2.py").write_text("new")
    (made / "v1" / "changed_pb2.py").write_text("after")
    (committed / "v1" / "changed_pb2.py").write_text("before")
    (committed / "v1" / "stale_pb2.py").write_text("stale")
    changed = differences(made, committed, KEPT)
    assert [path.name for path in changed] == ["changed_pb2.py", "new_pb2.py", "stale_pb2.py"]

    install(made, committed, changed)
    assert differences(made, committed, KEPT) == []
    assert (committed / "py.typed").exists()
    assert not (committed / "v1" / "stale_pb2.py").exists()


def test_equal_files_are_not_rewritten(folders: tuple[Path, Path]) -> None:
    made, committed = folders
    before = (committed / "v1" / "same_pb2.py").stat().st_mtime_ns
    install(made, committed, differences(made, committed, KEPT))
    assert (committed / "v1" / "same_pb2.py").stat().st_mtime_ns == before
