"""The `photinus` command, run as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

COMMAND_S: Final = 60.0


def photinus(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; gives what it said and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "photinus_core.app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
