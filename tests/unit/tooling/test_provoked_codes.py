"""Goal: a whole run fails for a code that nothing provoked, and no other run does.

Method: pytest on a small tree of its own, whose catalogue is two codes, of which its tests provoke one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest
from photinus_core.access.refusals import unauthorized
from photinus_core.model.errors import Rejected, Unauthenticated
from photinus_core.model.ids import parse_uuid
from photinus_ethereum.interfaces import parse_location
from photinus_sdk.errors import ConnectorError

from tests.support.code_texts import ROOT
from tests.support.provoked_codes import Recorder

FILES: Final = {
    "conftest.py": """
        from pathlib import Path
        from tests.support.provoked_codes import ProvokedCodes
        def pytest_configure(config):
            wanted = lambda: {"FF00138", "FF00107"}
            config.pluginmanager.register(ProvokedCodes(Path(__file__).parent, wanted))
    """,
    "unit/test_one.py": """
        import pytest
        from photinus_core.model.errors import Rejected
        from photinus_core.model.ids import parse_hash, parse_uuid
        def test_provoked():
            with pytest.raises(Rejected):
                parse_uuid("x")
        def test_only_made():
            assert Rejected("FF00107")
    """,
    "integration/test_two.py": "def test_two(): pass",
}
THE_OTHER: Final = """
def test_the_other():
    with pytest.raises(Rejected):
        parse_hash("x")
"""
TEST_S: Final = 120.0
MISSING: Final = "codes that no test provoked"


@pytest.mark.parametrize("own", [True, False])
def test_what_our_code_makes_counts_and_what_a_test_makes_does_not(own: bool) -> None:
    recorder = Recorder()
    recorder.start()
    try:
        if own:
            with pytest.raises(Rejected):
                parse_uuid("x")
            with pytest.raises(ConnectorError):
                parse_location("{}")
            made: list[Exception] = [unauthorized("why")]
        else:
            made = [Rejected("FF00107"), Unauthenticated("FF00169")]
            made.append(ConnectorError("FF10141: no"))
    finally:
        recorder.stop()
    assert recorder.codes == ({"FF00138", "FF10310", "FF00169"} if own else set())
    assert made


def run(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    """Exit code and output of pytest on the tree, with further lines at the end of its files."""
    for name, text in FILES.items():
        path = folder / "suites" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text) + more.get(path.stem, ""))
    options = ("-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={folder}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", *options, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=TEST_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_whole_run_fails_for_what_is_missing(tmp_path: Path) -> None:
    status, output = run(tmp_path, "suites")
    assert (status, "3 passed" in output) == (1, True), output
    section = output.partition(MISSING)[2]
    assert "FF00107" in section, output
    assert "FF00138" not in section, output


def test_a_whole_run_that_provokes_all_passes(tmp_path: Path) -> None:
    status, output = run(tmp_path, "suites", test_one=THE_OTHER)
    assert (status, MISSING in output) == (0, False), output


@pytest.mark.parametrize(
    ("arguments", "more", "status"),
    [
        (("suites/unit",), {}, 0),
        (("suites", "-k", "provoked or two"), {}, 0),
        (("suites", "-x"), {"test_two": "\ndef test_bad(): assert 0\ndef test_after(): pass"}, 1),
        (("suites",), {"test_two": "\nimport pytest\ndef test_end(): pytest.exit('now', 3)"}, 3),
    ],
)
def test_of_a_partial_run_nothing_is_asked(
    tmp_path: Path, arguments: tuple[str, ...], more: dict[str, str], status: int
) -> None:
    found, output = run(tmp_path, *arguments, **more)
    assert (found, MISSING in output) == (status, False), output
