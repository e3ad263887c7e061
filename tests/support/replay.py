"""Sends what was recorded from a real FireFly to two members, line by line, and compares what comes back.

Requests, WebSocket frames and webhook calls go in the order they happened, with our ids in place of theirs. After a
request that makes something the replay waits until both members have decided it; an answer to a GET may take a moment
to become the recorded one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any, Final, Self

import aiohttp

from scripts.recorded_scope import Expected, Scope, recording
from tests.support import golden
from tests.support.hooks import Hook, HookServer
from tests.support.likeness import Likeness
from tests.support.rest import ANSWER_S, Answer, Rest

SETTLE_S: Final = 20.0
STRANGER_S: Final = 1.0
"""How long a private message is awaited on a member that may be none of its group."""
SAME_S: Final = 30.0
"""How long a GET may take to be answered as recorded."""
FRAME_S: Final = 30.0
QUIET_S: Final = 0.2
POLL_S: Final = 0.1
NANOSECONDS: Final = {10: 10**9, 13: 10**6, 19: 1}
"""What one unit of a number in a query is worth, by its digits, when the number is a time."""
TIME_IN_QUERY: Final = re.compile(r"(?<=[=<>])(?:\d{10}|\d{13}|\d{19})\b")
Line = Mapping[str, Any]
"""A recorded line; `raw_body` is its request's body as it was sent."""


def recorded_lines() -> list[Line]:
    """All lines, in the order they happened."""
    raw = {
        line.id: bytes(line.request_body)
        for path in golden.GOLDEN.glob("*.jsonl")
        for line in golden.lines(path.stem)
    }
    return [{**line, "raw_body": raw[line["id"]]} for line in recording()]


class Replay:
    """One replay, of all lines from the first one on.

    Args:
        members: Those that requests go to; a line names its member by index.
        hooks: What webhooks call.
        scope: Says what is expected.
        is_allowed: Whether a line's difference is known.
    """

    def __init__(
        self,
        members: Sequence[Rest],
        hooks: HookServer,
        scope: Scope,
        is_allowed: Callable[[Line, str], bool],
    ) -> None:
        self._members = members
        self._hooks = hooks
        self._scope = scope
        self._is_allowed = is_allowed
        self._likeness = Likeness()
        self._hooked = 0
        self._batched: list[Any] = []
        self._under_way: dict[str, asyncio.Task[Answer]] = {}
        self._sockets: dict[int, aiohttp.ClientWebSocketResponse] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self._stack.aclose()

    def begin(self, line: Line) -> None:
        """Sends a request whose answer comes only after lines that follow."""
        self._under_way[line["id"]] = asyncio.create_task(asyncio.to_thread(self._send, line))

    async def play(self, line: Line) -> list[str]:
        """Does what a line says, and gives where that came out otherwise."""
        expected = self._scope.expected(line)
        if "ws" in line:
            return await self._on_socket(line)
        if "hook" in line:
            return await self._called(line)
        answer, found = await self._answered(line, expected)
        if line["method"] in ("POST", "PATCH", "PUT"):
            await asyncio.to_thread(self._settle, answer)
        return found

    def pass_over(self, line: Line) -> None:
        """Leaves a line out, with what came of it."""
        self._scope.expected(line)

    def called_besides(self) -> list[str]:
        """What webhooks were called with that no line has asked for."""
        calls = [f"{got.method} {got.path}" for got in self._hooks.got[self._hooked :]]
        return calls + [f"event {event!r}" for event in self._batched]

    async def _answered(self, line: Line, expected: Expected) -> tuple[Answer, list[str]]:
        deadline = time.monotonic() + SAME_S
        while True:
            if line["id"] in self._under_way:
                answer = await self._under_way.pop(line["id"])
            else:
                answer = await asyncio.to_thread(self._send, line)
            learning = self._likeness.copy()
            found = list(_differences(learning, line, self._placed(expected), answer))
            surprising = [each for each in found if not self._is_allowed(line, each)]
            if not surprising or line["method"] != "GET" or time.monotonic() > deadline:
                self._likeness = learning
                return answer, found
            await asyncio.sleep(POLL_S)

    def _send(self, line: Line) -> Answer:
        member = self._members[line["member"]]
        path = TIME_IN_QUERY.sub(self._moved, self._ours(line["path"]))
        body, headers = request_body(line)
        if body is not None and "multipart" not in str(headers):
            body = self._ours(body.decode()).encode()
        return ask(member.url, line["method"], path, body, headers)

    def _ours(self, text: str) -> str:
        for index, member in enumerate(self._members):
            text = text.replace(f"{{member{index}}}", member.url)
        return self._likeness.translated(text).replace("{webhook}", self._hooks.url)

    def _placed(self, expected: Expected) -> Expected:
        text = json.dumps(expected.body).replace("{webhook}", self._hooks.url)
        return replace(expected, body=json.loads(text))

    def _moved(self, found: re.Match[str]) -> str:
        unit = NANOSECONDS[len(found[0])]
        return str(self._likeness.moved(int(found[0]) * unit) // unit)

    def _settle(self, answer: Answer) -> None:
        """Waits until what was sent is decided on both members, but not for ever: some never get it."""
        answered = answer.json if answer.body else None
        if not isinstance(answered, dict):
            return
        header, messages = answered.get("header", {}), answered.get("messages") or {}
        late = re.search(r"FF10260: The request with id '([^']+)'", str(answered.get("error")))
        limit_s = STRANGER_S if header.get("type") == "private" else SETTLE_S
        named = (header.get("id"), answered.get("message"), *messages.values(), late and late[1])
        for identifier in filter(None, named):
            for member in self._members:
                _decided(member, identifier, limit_s)

    async def _called(self, line: Line) -> list[str]:
        if _is_batch(line["request_body"]):
            return await self._called_with_events(line)
        got = await self._next_call()
        if different := _another_call(got, line):
            return different
        return list(self._likeness.differences(line["request_body"], got.json))

    async def _called_with_events(self, line: Line) -> list[str]:
        """Compares the next events, in whatever calls they come: batches end as fast as they are read."""
        wanted = line["request_body"]
        while len(self._batched) < len(wanted):
            got = await self._next_call()
            if different := _another_call(got, line):
                return different
            if not _is_batch(got.json):
                return [f"{got.body[:60]!r}, recorded a batch of events"]
            self._batched += got.json
        events, self._batched = self._batched[: len(wanted)], self._batched[len(wanted) :]
        pairs = enumerate(zip(wanted, events, strict=True))
        return [
            found
            for index, (recorded, event) in pairs
            for found in self._likeness.differences(recorded, event, f"$[{index}]")
        ]

    async def _next_call(self) -> Hook:
        async with asyncio.timeout(FRAME_S):
            while len(self._hooks.got) <= self._hooked:
                await asyncio.sleep(POLL_S)
        self._hooked += 1
        return self._hooks.got[self._hooked - 1]

    async def _on_socket(self, line: Line) -> list[str]:
        number = line["ws"]
        match line["event"]:
            case "open":
                url = self._members[line["member"]].url + self._ours(line["path"])
                try:
                    opened = self._session.ws_connect(url)
                    self._sockets[number] = await self._stack.enter_async_context(opened)
                except aiohttp.WSServerHandshakeError as refused:
                    wanted = line["status"]
                    return [] if refused.status == wanted else [f"{refused.status}, not {wanted}"]
            case "send":
                frame = line["frame"]
                text = frame["$text"] if "$text" in frame else self._ours(json.dumps(frame))
                await self._sockets[number].send_str(text)
            case "recv":
                frame = await self._sockets[number].receive(FRAME_S)
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    return [f"{frame.type.name}, recorded a frame"]
                return list(self._likeness.differences(line["frame"], frame.json()))
            case "close" if line["by"] == "client":
                await self._sockets[number].close()
            case "close":
                frame = await self._sockets[number].receive(FRAME_S)
                return [] if self._sockets[number].closed else [f"{frame.type.name}, not closed"]
            case "quiet":
                return await self._is_quiet(number)
            case unknown:
                raise AssertionError(unknown)
        return []

    async def _is_quiet(self, number: int) -> list[str]:
        try:
            frame = await self._sockets[number].receive(QUIET_S)
        except TimeoutError:
            return []
        return [f"{frame.type.name} {frame.data!r}, recorded silence"]


def ask(url: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    """Sends one request as it is, and gives what comes back, redirections too."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=ANSWER_S)
    with closing(connection):
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        given = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read(), given)


def request_body(line: Line) -> tuple[bytes | None, dict[str, str]]:
    """The bytes of a recorded request, and its headers."""
    headers, body = dict(line["request_headers"]), line["request_body"]
    if isinstance(body, dict) and "$text" in body:
        return body["$text"].encode(), headers
    if isinstance(body, dict) and "$multipart" in body:
        headers["content-type"] = "multipart/form-data; boundary=cut"
        return b"".join(map(_part, body["$multipart"])) + b"--cut--\r\n", headers
    if body is None and line["raw_body"] == b"null":
        return None, headers
    return line["raw_body"], headers


def _part(named: tuple[str, Any]) -> bytes:
    name, value = named
    head = f'--cut\r\nContent-Disposition: form-data; name="{name}"'
    if isinstance(value, str):
        return f"{head}\r\n\r\n{value}\r\n".encode()
    kind = value.get("content_type") or "application/octet-stream"
    head += f'; filename="{value["filename"]}"\r\nContent-Type: {kind}'
    return f"{head}\r\n\r\n".encode() + base64.b64decode(value["base64"]) + b"\r\n"


def _is_batch(body: Any) -> bool:
    """Whether it is what a webhook gets in batches: a list of events."""
    return (
        isinstance(body, list)
        and bool(body)
        and all(isinstance(each, dict) and "subscription" in each for each in body)
    )


def _another_call(got: Hook, line: Line) -> list[str]:
    hook = line["hook"]
    if (got.method, got.path) == (hook["method"], hook["path"]):
        return []
    return [f"{got.method} {got.path}, recorded {hook['method']} {hook['path']}"]


def _differences(
    likeness: Likeness, line: Line, expected: Expected, answer: Answer
) -> Collection[str]:
    if answer.status != line["status"]:
        return [f"{answer.status}, recorded {line['status']}: {answer.body[:150]!r}"]
    named = line["response_headers"]
    if "location" in named and named["location"] != answer.headers.get("location"):
        return [f"to {answer.headers.get('location')}, recorded {named['location']}"]
    if "stored_as" in line or line["method"] == "HEAD":
        return []
    body = expected.body
    if isinstance(body, dict) and body.keys() & {"$text", "$base64"}:
        raw = body["$text"].encode() if "$text" in body else base64.b64decode(body["$base64"])
        return [] if answer.body == raw else [f"{answer.body[:60]!r}, recorded {raw[:60]!r}"]
    if body is None and not answer.body:
        return []
    try:
        answered = answer.json
    except ValueError:
        return [f"no JSON but {answer.body[:60]!r}"]
    if expected.is_open:
        answered = _cut(answered, body)
    if expected.removed and isinstance(answered, dict) and "total" not in body:
        answered = {name: value for name, value in answered.items() if name != "total"}
    return list(likeness.differences(body, answered))


def _cut(answered: Any, body: Any) -> Any:
    """A page without what the removed items had pushed off the recorded one."""
    if isinstance(answered, list):
        return answered[: len(body)]
    kept = answered["items"][: len(body["items"])]
    return {**answered, "items": kept, "count": len(kept)}


def _decided(member: Rest, identifier: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answer = member.request("GET", f"/messages/{identifier}")
        if answer.status == 200 and answer.json["state"] in {"confirmed", "rejected"}:
            return
        time.sleep(POLL_S)  # tidy: asks again
