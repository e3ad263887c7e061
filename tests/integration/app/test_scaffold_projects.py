"""Goal: a project that `photinus connector new` made works as it is: built, installed, and by its own tests.

Method: for each contract make one, build its wheel, unpack that where Python finds it, and run the project's own tests,
of which the quick profile of the conformance suite is one per check.
"""

import asyncio
import os
import re
import sys
import zipfile
from pathlib import Path

import pytest
from photinus_core.app.scaffold import create_project, offered

from tests.support.commands import output_of

LIMIT_S = 240
BUILD = (
    "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]), end='')"
)
SAID = re.compile(r"(\d+) passed(?:, (\d+) skipped)? in ")


async def run(folder: Path, *arguments: str, path: Path | None = None) -> str:
    """What a Python program prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    return await output_of(
        folder, sys.executable, *arguments, environment=environment, limit_s=LIMIT_S
    )


async def verify(contract: str, folder: Path) -> None:
    project = create_project(f"acme-{contract}", contract, "python", folder)
    installed = folder / f"installed-{contract}"
    wheel = await run(project, "-c", BUILD, str(folder))
    with zipfile.ZipFile(folder / wheel) as packed:
        packed.extractall(installed)
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-W", "error")
    said = await run(project, "-m", "pytest", *options, path=installed)
    found = SAID.search(said)
    assert found is not None, said
    # What every connector is asked, whatever its contract, is more than this.
    assert int(found[1]) > 45, said


@pytest.mark.timeout(900)
async def test_generated_projects_pass_their_tests(tmp_path: Path) -> None:
    """Two at a time: most of it is waiting, but the suite's patience ends somewhere."""
    room = asyncio.Semaphore(2)

    async def one(contract: str) -> None:
        async with room:
            await verify(contract, tmp_path)

    async with asyncio.TaskGroup() as group:
        for contract in offered()["python"]:
            group.create_task(one(contract))
