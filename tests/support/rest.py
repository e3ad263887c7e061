"""A member over REST, for tests: blocking, so that a fixture of any scope and a test of any kind can use it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

ANSWER_S: Final = 60.0
WAIT_S: Final = 60.0
POLL_S: Final = 0.05


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


class Rest:
    """Asks whoever serves REST at `url`."""

    __slots__ = ()

    @property
    def url(self) -> str:
        """Where the gateway is; REST paths begin with `/api/v1`."""
        raise AssertionError("whoever is asked says where its gateway is")

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

        wait_until(asked, timeout_s, lambda: f"GET {self.url} {path} still gives {last[0]}")
        return last[0]

    def wait_message(self, message_id: str, state: str = "confirmed") -> dict[str, Any]:
        """Waits until a message has a state on this member, and gives the message."""
        found: dict[str, Any] = self.wait_for(
            f"/messages/{message_id}", lambda message: message.get("state") == state
        )
        return found


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


def _expect(asked: str, answer: Answer, status: int | None) -> Any:
    fits = 200 <= answer.status < 300 if status is None else answer.status == status
    assert fits, f"{asked}: {answer.status} {answer.body.decode(errors='replace')}"
    return answer.json if answer.body else None


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
