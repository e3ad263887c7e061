"""Programs run to their end, as processes of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
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


async def output_of(
    folder: Path, *command: str, environment: Mapping[str, str], limit_s: float
) -> str:
    """What a program prints in a folder; it must end well, in time, and leaves nothing behind."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    return said.decode()
