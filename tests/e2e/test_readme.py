"""Goal: everything the README says to type works, and answers as it shows.

Method: all its shell blocks are typed into one shell, one after the other, against the shared network; the
fields of the answer shown below a block must be among those that come. Its links must lead somewhere.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.golden import REPOSITORY
from tests.support.network import RunningNetwork
from tests.support.rest import wait_until

README = (REPOSITORY / "README.md").read_text()
LINES_MAX = 150
SHELL_S = 200.0
WAIT_S = 20.0
BLOCK = re.compile(r"```sh\n(.*?)```(?:\n```json\n(.*?)```)?", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
FIELD = re.compile(r'"(\w+)":')
CHECKSUM = re.compile(r"^([0-9a-f]{64})  ", re.MULTILINE)
DOCUMENTED_PORTS = (5000, 5100)


@dataclass(frozen=True)
class Block:
    """A shell block and the answer shown below it."""

    commands: str
    answer: str

    def answered_by(self, output: str) -> bool:
        """Whether an output has the fields that are shown, no error, and one checksum at most."""
        shown = set(FIELD.findall(self.answer))
        same = len(set(CHECKSUM.findall(output))) <= 1
        return same and shown <= set(FIELD.findall(output)) and '"error"' not in output

    @property
    def only_asks(self) -> bool:
        """Whether it changes nothing, so that it may be typed again until the answer is there."""
        return all(line.startswith("curl -s ") for line in self.commands.splitlines())


BLOCKS = [Block(*found) for found in BLOCK.findall(README)]


class Shell:
    """A shell that is typed into."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "-eu"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._watchdog = threading.Timer(SHELL_S, self._process.kill)
        self._watchdog.start()

    def type(self, commands: str) -> str:
        """What the commands print. AssertionError when one of them fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{commands}\necho; echo '-- done'\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line == "-- done\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"a command failed in\n{commands}\nafter\n{''.join(lines)}")

    def close(self) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    started = Shell(tmp_path)
    yield started
    started.close()


def type_block(block: Block, network: RunningNetwork, shell: Shell) -> None:
    """Types a block; a question again until it is answered as shown, or the time is up."""
    commands = block.commands
    for port, member in zip(DOCUMENTED_PORTS, network.members, strict=True):
        commands = commands.replace(f"127.0.0.1:{port}", f"127.0.0.1:{member.http_port}")
    outputs = [shell.type(commands)]

    def answered() -> bool:
        if not block.answered_by(outputs[-1]) and block.only_asks:
            outputs.append(shell.type(commands))
        return block.answered_by(outputs[-1])

    wait_until(
        answered,
        WAIT_S if block.only_asks else 0.0,
        lambda: f"{commands}\nanswers\n{outputs[-1]}",
    )


def test_everything_to_type_works(network: RunningNetwork, shell: Shell) -> None:
    assert len(BLOCKS) >= 4
    for block in BLOCKS:
        type_block(block, network, shell)


def test_links_lead_somewhere() -> None:
    for link in LINK.findall(README):
        if not link.startswith("http"):
            assert (REPOSITORY / link).exists(), link


def test_is_short() -> None:
    assert len(README.splitlines()) <= LINES_MAX
