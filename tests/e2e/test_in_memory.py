"""Goal: a network in memory is to applications what any other network is, and nothing of it stays.

Method: `photinus up --in-memory` as a process; the tests of messages, data and events run on it as they do on members
with a chain. Ends by Ctrl-C, by kill -9 and with a command are looked at from outside.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from photinus_core.app.devnet.in_memory import CONTRACT, PREFIX

from tests.e2e.test_data import *  # noqa: F403 - the same tests, on the network of this module
from tests.e2e.test_events import *  # noqa: F403 - likewise
from tests.e2e.test_messages import *  # noqa: F403 - likewise
from tests.support.network import Member, RunningNetwork
from tests.support.rest import wait_until

UP_S = 120.0
END_S = 60.0
COMMAND = [sys.executable, "-m", "photinus_core.app.cli", "up", "--in-memory"]
PLACES = re.compile(r"REST +http://127\.0\.0\.1:(\d+)/.*?gRPC +127\.0\.0\.1:(\d+)", re.DOTALL)
FOLDER = re.compile(r"logs +(\S+)/logs")


@contextmanager
def up(work: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Runs the command in an empty folder; gives the process and what it said when it was up."""
    output = work / "up.log"
    (work / "here").mkdir()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=work / "here",
            start_new_session=True,
        )

    def is_up() -> bool:
        assert process.poll() is None, output.read_text()
        return "Ctrl-C ends it" in output.read_text()

    try:
        wait_until(is_up, UP_S, output.read_text)
        yield process, output.read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """Two members in memory; after Ctrl-C nothing of them may be left."""
    work = tmp_path_factory.mktemp("in-memory")
    with up(work) as (process, said):
        folder = Path(FOLDER.findall(said)[0])
        members = tuple(
            Member(index, int(http), int(grpc), 0, folder=folder)
            for index, (http, grpc) in enumerate(PLACES.findall(said))
        )
        assert len(members) == 2
        children = psutil.Process(process.pid).children(recursive=True)
        yield RunningNetwork(members, "", CONTRACT, folder, process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(END_S)
    assert not folder.exists()
    assert not [child for child in children if child.is_running()]
    assert not list((work / "here").iterdir())


def test_the_end_of_a_part_is_told_and_ends_the_network(tmp_path: Path) -> None:
    with up(tmp_path, "--members", "1") as (process, said):
        children = psutil.Process(process.pid).children(recursive=True)
        (connector,) = (c for c in children if any("photinus-memory" in a for a in c.cmdline()))
        connector.kill()
        assert process.wait(END_S) == 1
        assert "memory has ended; what was in memory is gone" in (tmp_path / "up.log").read_text()
    assert not Path(FOLDER.findall(said)[0]).exists()


def test_a_command_runs_with_the_members_around_it(tmp_path: Path) -> None:
    """It finds the URLs in its environment, its words alone are said, and its exit code is given.

    What another network left that was killed is gone then.
    """
    with up(tmp_path, "--members", "1") as (process, said):
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    wait_until(lambda: not [child for child in children if child.is_running()], END_S)
    ask = "import os, urllib.request as u; print(u.urlopen(os.environ['PHOTINUS_URL_0'] + '/livez').status)"
    done = subprocess.run(
        [*COMMAND, "--members", "1", "--", sys.executable, "-c", f"{ask}; raise SystemExit(3)"],
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=False,
        timeout=UP_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "200\n", "")
    assert not list((tmp_path / "here").iterdir())
    folder = Path(FOLDER.findall(said)[0])
    assert folder.name.startswith(PREFIX)
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--cluster"], ["--fresh"], ["--replicas", "2"], ["--members", "0"], ["--members", "99"]),
        ["--dir", "somewhere"],
        ["--", "no-such-command"],
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=UP_S,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("photinus: ")
    assert not list(tmp_path.iterdir())
