"""Goal: the listings of docs/in-memory.md run as they stand.

Method: one network in memory for all of them; each listing is written to a folder and run as its line above says. The
last one, a fixture, starts a network itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.golden import REPOSITORY

PAGE = (REPOSITORY / "docs/in-memory.md").read_text()
LISTING = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
SDK = REPOSITORY / ".toolchain" / "firefly-sdk" / "node_modules"
RUN_S = 240.0
PYTEST = f"{sys.executable} -m pytest -q -p no:cacheprovider --rootdir=. -c /dev/null"
USE = """

def test_members(members):
    assert sorted(members) == [f"PHOTINUS_{what}_{n}" for what in ("API", "URL", "WS") for n in (0, 1)]
"""


def test_the_listings_run(tmp_path: Path) -> None:
    found = LISTING.findall(PAGE)
    assert [kind for kind, _ in found] == ["sh", "python", "js", "python"]
    shell, python, script, fixture = (text for _, text in found)
    (tmp_path / "test_order.sh").write_text(shell)
    (tmp_path / "test_order.py").write_text(python)
    (tmp_path / "order.test.js").write_text(script)
    steps = f"sh -eu test_order.sh && {PYTEST} test_order.py && node --test"
    done = run(tmp_path, ["photinus", "up", "--in-memory", "--", "sh", "-euc", steps])
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "org_1 has the order" in said
    assert "1 passed" in said
    (tmp_path / "test_members.py").write_text(fixture + USE)
    done = run(tmp_path, [*PYTEST.split(), "test_members.py"])
    assert done.returncode == 0, done.stdout + done.stderr


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
        env={**os.environ, "PATH": path, "NODE_PATH": str(SDK), "PYTHONDONTWRITEBYTECODE": "1"},
    )
