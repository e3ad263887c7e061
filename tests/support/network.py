"""A whole network for tests: `photinus up` as a process of its own, and its members over REST.

Everything here is synchronous, so that a fixture of any scope and a test of any kind can use it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

START_S: Final = 120.0
STOP_S: Final = 60.0
ANSWER_S: Final = 60.0
WAIT_S: Final = 60.0
POLL_S: Final = 0.05

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a member answered.

    Attributes:
        status: HTTP status.
        body: The body as it came.
        headers: Names in lower case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a running network.

    Attributes:
        index: Its number, from 0.
        http_port: Port of REST and WebSocket.
        grpc_port: Port of the gRPC API.
        folder: Its configuration and databases.
    """

    index: int
    http_port: int
    grpc_port: int
    folder: Path

    @property
    def org(self) -> str:
        return f"org_{self.index}"

    @property
    def node(self) -> str:
        return f"node_{self.index}"

    @property
    def url(self) -> str:
        """Where the gateway is; REST paths begin with `/api/v1`."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.http_port}/ws"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends one request and gives whatever comes back, errors too.

        Args:
            method: HTTP method.
            path: Below `/api/v1`, with its query: `/messages?tag=a`.
            body: Sent as it is.
            headers: Sent as they are.
        """
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}", data=body, headers=dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
                return Answer(response.status, response.read(), _lower(response.headers))
        except urllib.error.HTTPError as failure:
            with failure:
                return Answer(failure.code, failure.read(), _lower(failure.headers))

    def get(self, path: str, status: int = 200) -> Any:
        """Parsed JSON of a GET. AssertionError, with the body, when another status comes."""
        return _expect(f"GET {path}", self.request("GET", path), status)

    def post(self, path: str, body: Any, status: int | None = None) -> Any:
        """Parsed JSON of a POST of JSON; None when nothing comes.

        Args:
            path: Below `/api/v1`.
            body: Made into JSON.
            status: The status to expect; any of success when left out.
        """
        answer = self.request(
            "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return _expect(f"POST {path}", answer, status)

    def wait_for(self, path: str, found: Callable[[Any], bool], timeout_s: float = WAIT_S) -> Any:
        """Asks until the answer is as wanted, and gives that; whatever its status is."""
        last: list[Any] = [None]

        def asked() -> bool:
            answer = self.request("GET", path)
            last[0] = answer.json if answer.body else None
            return answer.status < 300 and found(last[0])

        wait_until(asked, timeout_s, lambda: f"{self.org}: GET {path} still gives {last[0]}")
        return last[0]

    def wait_message(self, message_id: str, state: str = "confirmed") -> dict[str, Any]:
        """Waits until a message has a state on this member, and gives the message."""
        found: dict[str, Any] = self.wait_for(
            f"/messages/{message_id}", lambda message: message.get("state") == state
        )
        return found


@dataclass(frozen=True, slots=True)
class RunningNetwork:
    """A network that is up.

    Attributes:
        members: Its members, in order.
        chain_url: JSON-RPC of its chain.
        contract: Address of the multiparty contract.
        folder: Its `--dir`; `logs` below has a file for each process.
        pid: Process of `photinus up`.
    """

    members: tuple[Member, ...]
    chain_url: str
    contract: str
    folder: Path
    pid: int


@contextmanager
def network_up(folder: Path, members: int = 2, *arguments: str) -> Iterator[RunningNetwork]:
    """Runs `photinus up` on a folder; on leaving it is ended, and nothing of it may stay behind."""
    output = folder.with_name(f"{folder.name}.up.log")
    command = [sys.executable, "-m", "photinus_core.app.cli", "up", "--dir", str(folder)]
    with output.open("ab") as file:
        earlier = file.tell()  # what former runs on this folder have said
        process = subprocess.Popen(
            [*command, "--members", str(members), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        _wait_up(process, output, earlier)
        yield _read(folder, process.pid)
    finally:
        _end(process)


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float = WAIT_S,
    explain: Callable[[], str] = lambda: "the condition did not come true",
) -> None:
    """Waits for a condition. AssertionError with the explanation when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:.0f} s: {explain()}")
        time.sleep(POLL_S)


def _wait_up(process: subprocess.Popen[bytes], output: Path, earlier: int) -> None:
    def is_up() -> bool:
        text = output.read_bytes()[earlier:].decode(errors="replace")
        if process.poll() is not None:
            raise AssertionError(f"`photinus up` ended with {process.returncode}:\n{text}")
        return "Ctrl-C ends it" in text

    wait_until(is_up, START_S, lambda: f"the network is not up:\n{output.read_text()}")


def _read(folder: Path, pid: int) -> RunningNetwork:
    state = json.loads((folder / "network.json").read_text())
    members = tuple(
        Member(each["index"], each["http_port"], each["grpc_port"], folder / f"member{index}")
        for index, each in enumerate(state["members"])
    )
    chain_url = f"http://127.0.0.1:{state['chain_port']}"
    return RunningNetwork(members, chain_url, state["contract"], folder, pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command as Ctrl-C would; what it leaves behind is ended too, and is a failure."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    left = [child for child in children if child.is_running()]
    names = [f"{child.pid} {child.name()}" for child in left]
    for child in left:
        child.kill()
    assert not left, f"`photinus up` left processes behind: {names}"


def _expect(asked: str, answer: Answer, status: int | None) -> Any:
    fits = 200 <= answer.status < 300 if status is None else answer.status == status
    assert fits, f"{asked}: {answer.status} {answer.body.decode(errors='replace')}"
    return answer.json if answer.body else None


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
