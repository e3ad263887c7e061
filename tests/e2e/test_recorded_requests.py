"""Goal: a client of FireFly is answered here as there.

Method: requests recorded from a real FireFly are sent to a running network in the order they happened,
ids and hashes replaced by those that came instead. Status and code must be the recorded ones, and an
answer must have the recorded members. `DIFFERENT` says where we differ, and why; docs/divergences.md
has the rows. What depends on what was there before (lists, status) is compared by status only.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any, Final

from tests.support import golden
from tests.support.golden import Line
from tests.support.network import Member, RunningNetwork
from tests.support.rest import Answer

AREAS: Final = (
    *("broadcast", "private", "datatypes", "data"),
    *("queries", "ledger", "subscriptions", "errors"),
)
COMPARED_MIN: Final = 280
SETTLE_S: Final = 20.0
STRANGER_S: Final = 3.0
"""How long a private message is awaited on a member that may be none of its group."""
KNOWN: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"
)
CODE: Final = re.compile(r"FF\d{5}")

SERVER_ERROR: Final = "FireFly answers a mistake of the client's with 500, or drops the connection"
DECODER: Final = "FireFly answers with the text of Go's decoder, without a code"
PINS: Final = "nonces are recomputed, a payload's are ignored: receivers show none"
BLOBS: Final = "data inside a message names its blob"
DIFFERENT: Final = {
    "a00117": "whether the connector holds the key is asked first",
    "a00132": "nobody means an unpinned broadcast",
    "a00133": "the recorded request was shortened",
    **dict.fromkeys(("a00140", "a00144", "a00150", "a00154", "a00270", "a00274"), PINS),
    "a00147": "a member's node may be a name",
    "a00172": "the transaction of unpinned messages is shown to their receivers",
    "a00178": SERVER_ERROR,
    "a00198": "a datatype that exists is refused at once",
    "a00231": "a missing blob is told from missing data",
    "a00233": SERVER_ERROR,
    **dict.fromkeys(("a00257", "a00262", "a00269"), BLOBS),
    "a00284": "data is not published yet",
    "a00318": SERVER_ERROR,
    "a00350": SERVER_ERROR,
    "a00352": "the details of a chain event are those of our connector",
    "a00364": "a pin's operation is made before its batch is uploaded",
    "a00365": "the live status is our connector's",
    "a00368": "the copy is answered as it stands when it was carried out",
    "a00371": SERVER_ERROR,
    "a00374": "the event at this place is another one",
    **dict.fromkeys(("a00389", "a00390"), SERVER_ERROR),
    **dict.fromkeys(("a00760", "a00761", "a00762", "a00763"), DECODER),
    "a00764": SERVER_ERROR,
    "a00765": "what stands behind the end of the JSON is refused",
    "a00775": "there are no tokens yet",
}
"""Lines that are answered otherwise, and why."""
SKIPPED: Final = frozenset({"a00119"})
"""It asks for a confirmation within 20 ms, which sometimes comes."""


class Replay:
    """Sends recorded requests and remembers what our answers call the things of the recording."""

    def __init__(self, network: RunningNetwork) -> None:
        self._members = network.members
        self._ours: dict[str, str] = {}

    def send(self, member: Member, line: Line) -> Answer:
        """Sends one request and waits until what it started is done on all members."""
        path = self.translated(line.path).removeprefix("/api/v1")
        body, headers = _body(line)
        if body is not None and "multipart" not in str(headers):
            body = self.translated(body.decode()).encode()
        answer = member.request(line.method, path, body, headers)
        if answer.status in (200, 202) and line.method in ("POST", "PATCH"):
            self._settle(answer.json)
        return answer

    def learn(self, recorded: Any, answered: Any) -> None:
        """Remembers which of our ids and hashes stand for recorded ones."""
        match recorded, answered:
            case dict(), dict():
                for name in recorded.keys() & answered.keys():
                    self.learn(recorded[name], answered[name])
            case list(), list():
                for one, other in zip(recorded, answered, strict=False):
                    self.learn(one, other)
            case str(), str() if KNOWN.fullmatch(recorded) and KNOWN.fullmatch(answered):
                self._ours.setdefault(recorded, answered)
            case _:
                pass

    def translated(self, text: str) -> str:
        return KNOWN.sub(lambda found: self._ours.get(found[0], found[0]), text)

    def _settle(self, answered: Any) -> None:
        header = answered.get("header", {})
        limit_s = STRANGER_S if header.get("type") == "private" else SETTLE_S
        for identifier in filter(None, (header.get("id"), answered.get("message"))):
            for member in self._members:
                _decided(member, identifier, limit_s)


def _decided(member: Member, identifier: str, limit_s: float) -> None:
    """Waits for a message, but not for ever: some members never get it."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answer = member.request("GET", f"/messages/{identifier}")
        if answer.status == 200 and answer.json["state"] in {"confirmed", "rejected"}:
            return
        time.sleep(0.02)  # tidy: asks again


def _body(line: Line) -> tuple[bytes | None, dict[str, str]]:
    headers = dict(line.request_headers)
    raw = bytes(line.request_body)
    if raw == b"null":
        return None, headers
    if golden.is_json(raw):
        return raw, headers
    special = json.loads(raw)
    if "$text" in special:
        return special["$text"].encode(), headers
    parts = []
    for name, value in special["$multipart"]:
        head = f'--cut\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(value, str):
            parts.append(f"{head}\r\n\r\n{value}\r\n".encode())
            continue
        kind = value.get("content_type") or "application/octet-stream"
        head += f'; filename="{value["filename"]}"\r\nContent-Type: {kind}'
        parts.append(f"{head}\r\n\r\n".encode() + base64.b64decode(value["base64"]) + b"\r\n")
    headers["content-type"] = "multipart/form-data; boundary=cut"
    return b"".join(parts) + b"--cut--\r\n", headers


def _members_of(value: Any, path: str = "") -> set[str]:
    """Paths of all members; arrays by their first item."""
    if isinstance(value, dict):
        return {f"{path}.{name}" for name in value}.union(
            *(_members_of(each, f"{path}.{name}") for name, each in value.items())
        )
    return _members_of(value[0], f"{path}[]") if isinstance(value, list) and value else set()


def _differences(line: Line, answer: Answer) -> Iterator[str]:
    if answer.status != line.status:
        yield f"{answer.status}, recorded {line.status}"
        return
    recorded = bytes(line.response_body)
    if answer.status == 204 or not golden.is_json(recorded):
        return
    known = json.loads(recorded)
    if answer.status >= 400:
        wanted, found = CODE.findall(known["error"]), CODE.findall(answer.json["error"])
        if wanted != found:
            yield f"{found}, recorded {wanted}"
    elif isinstance(known, dict) and "items" not in known:
        missing = _members_of(known) - _members_of(answer.json)
        extra = _members_of(answer.json) - _members_of(known)
        if missing or extra:
            yield f"without {sorted(missing)}, with {sorted(extra)}"


def test_recorded_requests_are_answered_as_recorded(network: RunningNetwork) -> None:
    replay, compared, differing = Replay(network), 0, {}
    recorded = sorted((line for area in AREAS for line in golden.lines(area)), key=lambda x: x.id)
    for line in recorded:
        is_ours = bool(line.method) and golden.find_route(line.method, line.path) is not None
        if not is_ours or line.id in SKIPPED:
            continue
        answer = replay.send(network.members[line.member], line)
        found = list(_differences(line, answer))
        if found:
            differing[line.id] = f"{line.method} {line.path}: {found[0]}: {answer.body[:200]!r}"
        elif answer.status < 300 and golden.is_json(bytes(line.response_body)):
            replay.learn(json.loads(bytes(line.response_body)), answer.json)
        compared += 1
    assert compared >= COMPARED_MIN
    surprising = {k: v for k, v in differing.items() if k not in DIFFERENT}
    assert not surprising, json.dumps(surprising, indent=1)
    assert DIFFERENT.keys() <= differing.keys(), "rows that are not needed any more"
