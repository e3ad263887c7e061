"""Goal: what the authors' guide shows is true: its listings, put together, are a project that works, and its commands
do what the text says.

Method: a listing with `file=` is (part of) that file; `sh` is run, in the order of the page and in the project's
folder, `background` until the next one of its kind or the end. The project is installed for real, into an environment
that sees the development one, without asking any registry. A listing of a kind this test does not know fails.
"""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import sysconfig
import time
import venv
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.wire import ROOT

GUIDE = ROOT / "docs/connectors/guide.md"
LISTING = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT_S = 200


@dataclass(frozen=True)
class Listing:
    """A fenced block: its language, what stands behind that, and its text."""

    language: str
    mark: str
    text: str

    @property
    def file(self) -> str:
        return self.mark.removeprefix("file=") if self.mark.startswith("file=") else ""


LISTINGS = [Listing(*found) for found in LISTING.findall(GUIDE.read_text())]


def write_files(folder: Path) -> None:
    """The files of the page; several listings of one file follow each other."""
    parts: dict[str, list[str]] = {}
    for listing in LISTINGS:
        if listing.file:
            parts.setdefault(listing.file, []).append(listing.text)
    for name, texts in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(texts))


def environment(folder: Path) -> dict[str, str]:
    """An environment to install into, over the development one; `pip` takes nothing but the project."""
    venv.create(folder, symlinks=True)
    found = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}, scheme="venv"))
    (found / "development.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    uv = shlex.join([str(Path(sys.executable).parent / "uv"), "pip"])
    pip = folder / "bin/pip"
    options = f"--python {shlex.quote(str(folder / 'bin/python'))} --quiet --offline"
    pip.write_text(
        f'#!/bin/sh\nexec {uv} "$1" {options} --no-deps --no-build-isolation "$2" "$3"\n'
    )
    pip.chmod(0o755)
    path = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**os.environ, "PATH": os.pathsep.join(path)}


class Shell:
    """Runs the page's commands in one folder."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder, self._env = folder, env

    async def run(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command that ends."""
        process = await self._start(command, asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(LIMIT_S):
                said, _ = await process.communicate()
        finally:
            await _kill(process)
        return process.returncode or 0, said.decode()

    @asynccontextmanager
    async def running(self, command: str) -> AsyncIterator[None]:
        """A command that serves while the body runs."""
        with (self._folder / "background").open("ab") as log:
            process = await self._start(f"exec env {command}", log.fileno())
        try:
            yield
            assert process.returncode is None, self.log
            process.terminate()
            async with asyncio.timeout(LIMIT_S):
                await process.wait()
        finally:
            await _kill(process)

    @property
    def log(self) -> str:
        """What has been printed in the background."""
        return (self._folder / "background").read_text()

    async def _start(self, command: str, out: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_shell(
            command,
            cwd=self._folder,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends a process that is still there, and all it has started."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.timeout(900)
async def test_the_commands_of_the_guide_work(run_dir: Path, tmp_path: Path) -> None:
    """In `run_dir`, because the page's sockets need a short path."""
    write_files(run_dir)
    shell = Shell(run_dir, await asyncio.to_thread(environment, tmp_path / "env"))
    answers = await follow(shell)
    assert (run_dir / "acme-store/README.md").is_file()
    assert "0 failed, 0 warnings" in answers["connector-sanity run"]
    assert '"writeOnly":true' in answers["mkdir office"]
    assert re.search(r"(\d+) passed", answers["python -m"])
    # Launched the first time, with the core's log for its own; attached the second time.
    assert answers["photinus connectors"].count("blockchain0") >= 2
    assert "photinus.connector.blockchain0: configure" in shell.log
    assert '"message": "configure", "instance": "blockchain0"' in shell.log


async def follow(shell: Shell) -> dict[str, str]:
    """Runs the page from above to below; what each command said, by its first two words."""
    answers: dict[str, str] = {}
    async with AsyncExitStack() as serving:
        last_background = False
        for listing in (listing for listing in LISTINGS if listing.language == "sh"):
            if listing.mark == "background":
                if not last_background:
                    await serving.aclose()
                await serving.enter_async_context(shell.running(listing.text.strip()))
            else:
                name = " ".join(listing.text.split()[:2])
                said = await shown(shell, listing.text)
                answers[name] = f"{answers[name]}\n\n{said}" if name in answers else said
            last_background = listing.mark == "background"
    return answers


async def shown(shell: Shell, text: str) -> str:
    """What a listing says; one that looks at a network is repeated until that is up."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        code, found = await shell.run(f"set -e\n{text}")
        looking = text.startswith("photinus connectors")
        if code == 0 and (" ready" in found or not looking):
            return found.strip()
        assert looking, f"{text}{found}"
        assert "failed:" not in shell.log, shell.log
        assert time.monotonic() < deadline, f"{found}{shell.log}"


async def test_the_handshake_of_the_guide_is_the_kits(run_dir: Path) -> None:
    (listing,) = [listing for listing in LISTINGS if listing.mark == "handshake"]
    write_files(run_dir)
    command = (sys.executable, "hello.py", "--address", f"unix:{run_dir}/x.sock")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=run_dir, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            line = json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()
    shown = json.loads(listing.text)
    assert line.keys() == shown.keys()
    assert (line["handshake"], line["protocol"]) == (shown["handshake"], shown["protocol"])


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.mark or listing.language)
def test_every_listing_is_of_a_kind_that_is_run(listing: Listing) -> None:
    match listing:
        case Listing("sh", "" | "background") | Listing("json", "handshake"):
            pass
        case Listing("python" | "json" | "toml" | "yaml"):
            assert listing.file
        case _:
            pytest.fail(f"what is {listing.language} {listing.mark}?")
