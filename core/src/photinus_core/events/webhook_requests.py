"""What a webhook is asked, and what its answer is as a message. Pure: no network, no clock.

Bodies and results are FireFly's. Values go out as they are stored: neither the order of their
members nor their numbers change.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec

from photinus_core.events.webhook_options import (
    REPLY_TYPES,
    URL_CHARS_MAX,
    Pairs,
    WebhookOptions,
    is_header,
)
from photinus_core.model import canonical
from photinus_core.model.ids import Hash32, Uuid
from photinus_core.model.messages import Message

WITH_BODY: Final = frozenset({"PATCH", "POST", "PUT"})
JSON_TYPE: Final = "application/json"
BAD_GATEWAY: Final = 502
REPLY_KEY_PREFIX: Final = "webhook"

_PATH_SAFE: Final = "$&+:=@~"
"""What Go's PathEscape leaves as it is, beside letters, digits and `-_.`."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CannotCallError(Exception):
    """The event's data do not make a request; the text says why."""


class CallFailedError(Exception):
    """There is no answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One event as a webhook gets it.

    Attributes:
        event: JSON of the event with what it refers to.
        values: JSON of the message's values in order; empty without data.
    """

    event: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One call.

    Attributes:
        reply_tx: How the reply is to be pinned, when the data say so.
    """

    method: str
    url: str
    headers: Pairs
    body: str | None
    reply_tx: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the target answered; of headers that come several times, the first."""

    status: int
    headers: Pairs
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it says that all is well."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Reply:
    """A message that answers another one.

    Attributes:
        group: None for a broadcast.
        key: Idempotency key: an event is replied to once, whoever calls how often.
    """

    cid: Uuid
    topics: tuple[str, ...]
    tag: str
    group: Hash32 | None
    txtype: str
    value: str
    key: str


def build_request(
    options: WebhookOptions, payloads: Sequence[Payload], *, batch: bool
) -> WebhookRequest:
    """Makes the call for an event, or for a batch of them.

    Members of the first value of the first event feed it as `options.input` says.

    Raises:
        CannotCallError: what they hold cannot stand in a request.
    """
    names = options.input
    first = _members_of(payloads[0])
    query = dict(options.query) | _scalars(first, names.query, "query")
    headers = dict(options.headers)
    for name, value in _scalars(first, names.headers, "headers").items():
        if not is_header(name, value):
            raise CannotCallError(f"'{name[:100]}' in the data's headers is no header")
        for known in [known for known in headers if known.lower() == name.lower()]:
            del headers[known]
        headers[name] = value
    body = None
    if options.method in WITH_BODY:
        bodies = [_body(payload, names.body) for payload in payloads]
        body = f"[{','.join(bodies)}]" if batch else bodies[0]
        if all(name.lower() != "content-type" for name in headers):
            headers["Content-Type"] = JSON_TYPE
    if all(name.lower() != "accept" for name in headers):
        headers["Accept"] = JSON_TYPE
    reply_tx = _text(first, names.replytx)
    if reply_tx not in REPLY_TYPES:
        raise CannotCallError(f"'{reply_tx[:100]}' in the data is no way to pin a reply")
    return WebhookRequest(
        method=options.method,
        url=_url(options.url, _text(first, names.path), query),
        headers=tuple(sorted(headers.items())),
        body=body,
        reply_tx=reply_tx,
    )


def _body(payload: Payload, name: str) -> str:
    if name and name in (members := _members_of(payload)):
        return members[name]
    if not payload.values:
        return payload.event
    if len(payload.values) > 1:
        return f"[{','.join(payload.values)}]"
    value = payload.values[0]
    # FireFly loses a single value that is no object: it posts {"value":{}}.
    return value if value.startswith("{") else f'{{"value":{value}}}'


def _members_of(payload: Payload) -> dict[str, str]:
    """Members of the first value, as JSON; one that is no object is the member `value`."""
    if not payload.values:
        return {}
    value = payload.values[0]
    if not value.startswith("{"):
        return {"value": value}
    return _object_of(value)


def _object_of(text: str) -> dict[str, str]:
    try:
        return {name: bytes(raw).decode() for name, raw in _object.decode(text).items()}
    except (msgspec.DecodeError, RecursionError) as failure:
        # What anyone may send and every member must take: half a surrogate pair, deep nesting.
        raise CannotCallError(f"the data cannot be taken apart: {failure}") from failure


def _scalars(members: dict[str, str], name: str, what: str) -> dict[str, str]:
    """The object of a member with its values as texts."""
    if not name or members.get(name, "null") == "null":
        return {}
    if not members[name].startswith("{"):
        raise CannotCallError(f"member '{name}' of the data is to hold the {what}, but no object")
    return {key: _as_text(raw) for key, raw in _object_of(members[name]).items()}


def _text(members: dict[str, str], name: str) -> str:
    """A member as a text; empty when it is not wanted or not there."""
    return _as_text(members.get(name, "null")) if name else ""


def _as_text(raw: str) -> str:
    """A JSON value as a text: what is no text is taken as it is written, null as empty."""
    if raw.startswith('"'):
        try:
            return msgspec.json.decode(raw, type=str)
        except msgspec.DecodeError as failure:
            raise CannotCallError(f"a text in the data cannot be read: {failure}") from failure
    return "" if raw == "null" else raw


def _url(url: str, path: str, query: dict[str, str]) -> str:
    base, _, _ = url.partition("#")
    base, _, own = base.partition("?")
    segments = path.strip("/").split("/") if path.strip("/") else []
    if any(segment in {".", ".."} for segment in segments):
        raise CannotCallError("the path in the data leaves that of the webhook")
    if segments:
        base = "/".join((base.rstrip("/"), *(quote(s, safe=_PATH_SAFE) for s in segments)))
    added = "&".join(f"{quote_plus(n)}={quote_plus(query[n])}" for n in sorted(query))
    joined = "&".join(filter(None, (own, added)))
    made = f"{base}?{joined}" if joined else base
    if len(made) > 2 * URL_CHARS_MAX:
        raise CannotCallError(f"the URL with the data's part has {len(made):,} characters")
    return made


def is_failure(answer: Answer, errors: str) -> bool:
    """Whether an answer is worth another call: no 2xx, or what the expression finds."""
    if answer.is_success:
        return False
    return not errors or re.search(errors, str(answer.status)) is not None


def result_of(answer: Answer, *, force_json: bool) -> str:
    """The result of a call as JSON: status, headers, body; what is not JSON in base64.

    Raises:
        CannotCallError: the body is to be JSON and is not.
    """
    headers = {_canonical_name(name): value for name, value in reversed(answer.headers)}
    kind = JSON_TYPE if force_json else headers.get("Content-Type", "")
    headers["Content-Type"] = kind
    if kind.startswith(JSON_TYPE):
        try:
            body = canonical.compact(answer.body)
        except (ValueError, RecursionError) as failure:
            raise CannotCallError(f"the answer is not JSON: {failure}") from failure
    else:
        body = f'"{base64.b64encode(answer.body).decode()}"'
    return _result(answer.status, headers, body)


def failed_result(why: str) -> str:
    """The result of a call without an answer: as if a gateway had answered."""
    return _result(BAD_GATEWAY, {"Content-Type": JSON_TYPE}, f'{{"error":{canonical.quote(why)}}}')


def _result(status: int, headers: dict[str, str], body: str) -> str:
    written = ",".join(
        f"{canonical.quote(name)}:{canonical.quote(headers[name])}" for name in sorted(headers)
    )
    return f'{{"status":{status},"headers":{{{written}}},"body":{body}}}'


def _canonical_name(name: str) -> str:
    """A header's name as Go spells it: `X-Sample`."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def make_reply(
    options: WebhookOptions, subscription: Uuid, event: Uuid, message: Message, result: str, tx: str
) -> Reply:
    """The reply to a message, which inherits what the options leave open.

    Args:
        options: Of the subscription.
        subscription: Whose webhook was called.
        event: What it was called for.
        message: What is replied to.
        result: JSON of the result.
        tx: How the data want the reply pinned; empty when they do not say.
    """
    header = message.header
    wanted = tx or options.reply_tx
    private = header.group is not None
    txtype = {"none": "unpinned"}.get(wanted, wanted) if private else ""
    return Reply(
        cid=header.id,
        topics=header.topics,
        tag=options.reply_tag or header.tag,
        group=header.group,
        txtype=txtype,
        value=result,
        key=f"{REPLY_KEY_PREFIX}/{subscription}/{event}",
    )


def is_reply(message: Message | None) -> bool:
    """Whether a message answers another one: replying to replies would never end."""
    return message is not None and message.header.cid is not None


def values_of(values: Iterable[str | None]) -> tuple[str, ...]:
    """The values of a message's data that are there at all."""
    return tuple(value for value in values if value is not None and value != "null")
