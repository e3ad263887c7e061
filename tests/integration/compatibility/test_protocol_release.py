"""Goal: what breaks the released protocol is refused, what only adds to it is not.

Method: `buf breaking`, as `make check` runs it, over copies of the protos with one edit each.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.run_checks import RELEASED_PROTOS, ROOT, static_checks

BUF = Path(sys.executable).parent / "buf"
EVENT = Path("proto/photinus/connector/v1/event.proto")


def breaks(folder: Path, edit: tuple[str, str] | None) -> str:
    """What buf has against the protos with an edit; empty for nothing."""
    shutil.copy(ROOT / "buf.yaml", folder)
    shutil.copytree(ROOT / "proto", folder / "proto", ignore=shutil.ignore_patterns("gen", "rest"))
    if edit is not None:
        text = (folder / EVENT).read_text()
        assert edit[0] in text
        (folder / EVENT).write_text(text.replace(*edit))
    command = [str(BUF), "breaking", "--against", str(RELEASED_PROTOS)]
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, timeout=120
    )
    assert bool(done.returncode) == bool(done.stdout), done.stderr
    return done.stdout


def test_the_check_is_one_of_those_that_make_check_runs() -> None:
    assert RELEASED_PROTOS.is_file()
    commands = [list(check.command) for check in static_checks()]
    assert ["buf", "breaking", "--against", str(RELEASED_PROTOS)] in commands


@pytest.mark.parametrize(
    "edit",
    [
        None,
        (
            "message DrainStream {}",
            "// One more.\nmessage More {}\n\n// Stop.\nmessage DrainStream {}",
        ),
        (
            "  uint64 through_seq = 1;",
            "  uint64 through_seq = 1;\n  // New.\n  string added = 100;",
        ),
    ],
    ids=["as it is", "a message more", "a field more"],
)
def test_additions_are_taken(tmp_path: Path, edit: tuple[str, str] | None) -> None:
    assert breaks(tmp_path, edit) == ""


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("  uint64 through_seq = 1;", "  uint64 through_seq = 9;"), "through_seq"),
        (("  uint64 through_seq = 1;", "  string through_seq = 1;"), "through_seq"),
        (("  uint64 through_seq = 1;", "  uint64 through = 1;"), "through"),
        (("  TOKEN_TRANSFER_KIND_BURN = 2;", ""), "TokenTransferKind"),
        (("    ListenerError listener_error = 5;", ""), "listener_error"),
    ],
    ids=["another number", "another type", "another name", "no value", "no case"],
)
def test_what_breaks_the_release_is_refused(
    tmp_path: Path, edit: tuple[str, str], told: str
) -> None:
    assert told in breaks(tmp_path, edit)
