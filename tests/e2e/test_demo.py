"""Goal: `photinus demo` tells its story, says what went wrong when it cannot, and leaves nothing behind.

Method: the real command as a process, marked by a variable that everything it starts inherits, with a
folder for temporary files of its own. What it says to type next is typed, against the shared network.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from tests.support.golden import REPOSITORY
from tests.support.network import RunningNetwork
from tests.support.rest import wait_until

README = (REPOSITORY / "README.md").read_text()
RUN_S = 200.0
COMMAND = [sys.executable, "-m", "photinus_core.app.cli", "demo"]
ROW = re.compile(r" {3}(\w+) +(org_\d)  ([0-9a-f]{8}…[0-9a-f]{4})  (\S+)  (\S+) +(\d+)  (0x\S+)")


class Demo:
    """One run of the command, and what it leaves behind."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._mark = f"photinus-test-{uuid.uuid4()}"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        environment: Mapping[str, str] = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "PHOTINUS_TEST_MARK": self._mark,
            **variables,
        }
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        with self.start(*arguments, **variables) as process:
            try:
                output, errors = process.communicate(timeout=RUN_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                raise
        return process.returncode, output, errors

    def processes(self) -> list[str]:
        """Whatever still runs of it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PHOTINUS_TEST_MARK") == self._mark:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found

    def left(self) -> tuple[list[str], list[str]]:
        """Processes and folders that are still there; the lock of starting networks is one for all and stays."""
        folders = [path.name for path in self.temporary.iterdir() if path.suffix != ".lock"]
        return self.processes(), folders


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def skeleton(output: str) -> list[str]:
    """The lines without what differs between two runs."""
    plain = re.sub(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(0x)?[0-9a-f]{6,8}…[0-9a-f]{4}", "#", output
    )
    plain = re.sub(r"org_\d", "org", plain)
    return [re.sub(r" *[0-9a-f.#]*\d[0-9a-f.]*", " #", line) for line in plain.splitlines()]


def tables(output: str) -> list[list[tuple[str, ...]]]:
    """The rows of the tables, for each member."""
    parts = output.split("What org_")[1:]
    return [[found.groups() for found in ROW.finditer(part)] for part in parts]


def test_both_see_the_same_and_nothing_stays(demo: Demo) -> None:
    code, output, errors = demo.run()
    assert (code, errors) == (0, ""), output
    seller, buyer = tables(output)
    assert seller == buyer
    assert [row[0] for row in seller] == [
        "catalogue",
        "contract",
        "answer",
        "signature",
        "signature",
    ]
    assert [row[1] for row in seller][:3] == ["org_0", "org_0", "org_1"]
    assert {row[1] for row in seller[3:]} == {"org_0", "org_1"}
    for column in (2, 3, 4, 6):
        assert len({row[column] for row in seller}) == 5, "ids, hashes, pins, transactions differ"
    blocks = [int(row[5]) for row in seller]
    assert blocks == sorted(blocks)
    assert "5 MB, sha256" in output
    assert "50 MB, sha256" in output
    assert "nothing is left running" in output
    assert demo.left() == ([], [])
    shown = next(block for block in README.split("```") if block.startswith("text\nTwo org"))
    told = output[: output.index("\n\nWhat next")]
    assert skeleton(shown.removeprefix("text\n")) == skeleton(told), (
        "the README shows another output"
    )


def test_a_folder_is_kept_and_used_again(demo: Demo, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    for registers in (True, False):  # the second run goes on with the members of the first
        code, output, errors = demo.run("--dir", str(folder))
        assert (code, errors) == (0, ""), output
        assert ("registering organisations" in output) is registers
        assert f"photinus up --dir {folder}" in output
        first, second = tables(output)
        assert first == second
        assert len(first) == 5, "only what this run sent"
        assert demo.left() == ([], [])
    assert (folder / "logs" / "member1-core.log").exists()


def test_ended_in_the_middle(demo: Demo) -> None:
    with demo.start() as process:
        wait_until(lambda: any("photinus-gateway" in each for each in demo.processes()))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=RUN_S)
    assert process.returncode == 130, output
    assert errors == ""
    assert demo.left() == ([], [])


def test_says_what_is_missing(demo: Demo, tmp_path: Path) -> None:
    absent = str(tmp_path / "no-such-program")
    code, output, errors = demo.run(PHOTINUS_ANVIL=absent)
    assert code == 1, output
    assert errors.startswith("photinus: ")
    assert absent in errors
    assert "Traceback" not in errors
    assert demo.left() == ([], [])


def test_a_member_that_dies(demo: Demo) -> None:
    with demo.start() as process:
        wait_until(lambda: any("-listen" in each for each in demo.processes()))
        output = ""
        assert process.stdout is not None
        while "publishes its catalogue" not in output:
            output += process.stdout.readline()
        gateway = next(each for each in demo.processes() if "-listen" in each)
        os.kill(int(gateway.split()[0]), signal.SIGKILL)
        rest, errors = process.communicate(timeout=RUN_S)
    assert process.returncode == 1, output + rest
    assert errors.startswith("photinus: the demo failed: "), errors
    assert "Traceback" not in errors
    assert demo.left() == ([], [])


def test_what_it_says_to_type_next(network: RunningNetwork) -> None:
    from photinus_core.app.demo.run import WHAT_NEXT

    text = WHAT_NEXT.replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("curl")]
    assert len(commands) == 3
    answers = []
    for command in commands:
        typed = command.replace("127.0.0.1:5000", f"127.0.0.1:{network.members[0].http_port}")
        typed = typed.replace("127.0.0.1:5100", f"127.0.0.1:{network.members[1].http_port}")
        done = subprocess.run(
            ["/bin/sh", "-c", typed], capture_output=True, text=True, check=True, timeout=60
        )
        answers.append(json.loads(done.stdout))
    status, sent, listed = answers
    assert status["org"]["registered"]
    assert sent["state"] == "confirmed"
    assert isinstance(listed, list)
