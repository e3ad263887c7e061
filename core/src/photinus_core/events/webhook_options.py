"""The options of webhook subscriptions, and what the configuration says of webhooks. Pure.

Options are checked when a subscription is made, and read again from what was stored when it is
served. What a subscription does not say is the configuration's.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from photinus_core.events.durations import milliseconds_of
from photinus_core.model.errors import Rejected

URL_CHARS_MAX: Final = 4_096
RETRIES_MAX: Final = 100
"""Most repetitions of a call that a subscription may ask for."""
WAIT_S_MAX: Final = 3_600.0
"""Longest time that a subscription may set for anything."""
CONNECTIONS_MAX: Final = 1_000
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
REPLY_TYPES: Final = frozenset({"", "none", "unpinned", "batch_pin"})

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

Pairs = tuple[tuple[str, str], ...]
"""Names with values, sorted by name."""


@dataclass(frozen=True, slots=True)
class TlsSet:
    """One `tls` section: texts in PEM, or the files that hold them.

    Attributes:
        verify_host: False when any certificate is taken for any host.
    """

    ca: str = ""
    ca_file: str = ""
    cert: str = ""
    cert_file: str = ""
    key: str = field(default="", repr=False)
    key_file: str = ""
    verify_host: bool = True

    def below(self, folder: PurePath) -> TlsSet:
        """The same, with relative paths of files made to begin at a folder."""

        def placed(path: str) -> str:
            return str(folder / path) if path else ""

        return replace(
            self,
            ca_file=placed(self.ca_file),
            cert_file=placed(self.cert_file),
            key_file=placed(self.key_file),
        )


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often a call is repeated and with what pauses, which double.

    Attributes:
        count: Repetitions after the first call; 0 for none.
        errors: Expression that finds the statuses worth a repetition; empty for all but 2xx.
    """

    count: int = 0
    first_s: float = 0.25
    cap_s: float = 30.0
    errors: str = ""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What the configuration says (`events.webhooks`, and a namespace's `tlsConfigs`).

    Attributes:
        url: In front of URLs that are only paths.
        headers: Sent with every call, unless the subscription has others.
        retries: Pauses and count of subscriptions that repeat and do not say how.
        retry: Whether those that say nothing repeat.
        connections_max: Connections kept of one subscription (`maxIdleConns`).
        tls_sets: By name, for `tlsConfigName`.
        allowed_hosts: Which hosts may be called: names, `*.example.com`, with `:port` or without;
            empty for all.
        calls_max: Calls under way at once, beside the one that each subscription may always have.
    """

    url: str = ""
    headers: Pairs = ()
    username: str = ""
    password: str = field(default="", repr=False)
    proxy_url: str = ""
    request_timeout_s: float = 30.0
    connection_timeout_s: float = 30.0
    idle_timeout_s: float = 0.475
    tls_handshake_timeout_s: float = 10.0
    connections_max: int = 100
    retry: bool = False
    retries: Retrying = Retrying(count=5)
    tls: TlsSet | None = None
    tls_sets: tuple[tuple[str, TlsSet], ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    calls_max: int = 50

    def below(self, folder: PurePath) -> WebhookSettings:
        """The same, with relative paths of files made to begin at a folder."""
        return replace(
            self,
            tls=None if self.tls is None else self.tls.below(folder),
            tls_sets=tuple((name, tls.below(folder)) for name, tls in self.tls_sets),
        )

    def allows(self, host: str, port: int | None) -> bool:
        """Whether a host may be called."""
        host = host.lower().rstrip(".")
        return not self.allowed_hosts or any(
            fnmatch.fnmatchcase(text, pattern.lower())
            for pattern in self.allowed_hosts
            for text in (host, f"{host}:{port}")
        )


WEBHOOK_DEFAULTS: Final = WebhookSettings()
"""What holds when the configuration says nothing."""


@dataclass(frozen=True, slots=True)
class InputNames:
    """Which members of the first value feed the call; empty for none."""

    query: str = ""
    headers: str = ""
    body: str = ""
    path: str = ""
    replytx: str = ""


@dataclass(frozen=True, slots=True)
class Connecting:
    """How the target is reached."""

    proxy_url: str
    request_timeout_s: float
    connection_timeout_s: float
    idle_timeout_s: float
    tls_handshake_timeout_s: float
    connections_max: int


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Options of one webhook subscription, the configuration's in place of those not given.

    Attributes:
        force_json: The answer's body is JSON whatever its type says.
        dead_letter: What the target does not take is parked, instead of acked and forgotten.
        tls: Certificates; None for the system's.
    """

    url: str
    method: str
    headers: Pairs
    query: Pairs
    force_json: bool
    reply: bool
    reply_tag: str
    reply_tx: str
    fast_ack: bool
    dead_letter: bool
    input: InputNames
    retrying: Retrying
    connecting: Connecting
    tls: TlsSet | None


class _Input(msgspec.Struct):
    query: str | None = None
    headers: str | None = None
    body: str | None = None
    path: str | None = None
    replytx: str | None = None


class _Retry(msgspec.Struct, rename="camel"):
    enabled: bool | None = None
    count: int | None = None
    initial_delay: str | None = None
    max_delay: str | None = None


class _Http(msgspec.Struct, rename="camel"):
    proxy_url: str | None = msgspec.field(default=None, name="proxyURL")
    tls_handshake_timeout: str | None = None
    request_timeout: str | None = None
    max_idle_conns: int | None = None
    idle_timeout: str | None = None
    connection_timeout: str | None = None
    expect_continue_timeout: str | None = None


class _Given(msgspec.Struct, rename="camel"):
    url: str | None = None
    method: str | None = None
    json: bool | None = None
    reply: bool | None = None
    replytag: str | None = None
    replytx: str | None = None
    fastack: bool | None = None
    dead_letter: bool | None = None
    tls_config_name: str | None = None
    input: _Input | None = None
    retry: _Retry | None = None
    http_options: _Http | None = None


T = TypeVar("T")


def read_webhook_options(members: Mapping[str, str], settings: WebhookSettings) -> WebhookOptions:
    """Reads the options.

    Args:
        members: JSON texts of all options by name; those of no meaning here are ignored.
        settings: What the configuration says.

    Raises:
        Rejected: FF10242 no URL, FF10243 headers or query that are no texts by name, FF10455
            unknown TLS set, FF00137 duration, FF19010 out of range, FF19002 all else.
    """
    given = _Given(
        **{
            name: _decode(members[key], kind, key)
            for name, key, kind in _MEMBERS
            if members.get(key, "null") != "null"
        }
    )
    reply, dead_letter = bool(given.reply), bool(given.dead_letter)
    fast_ack = bool(given.fastack) and not reply
    if fast_ack and dead_letter:
        raise Rejected("FF19002", "options.deadLetter", "cannot be combined with fastack")
    return WebhookOptions(
        url=_url(given.url or "", settings),
        method=_one_of("method", (given.method or "POST").upper(), METHODS),
        headers=_headers(members.get("headers", "null"), settings.headers),
        query=_pairs("query", members.get("query", "null")),
        force_json=bool(given.json),
        reply=reply,
        reply_tag=given.replytag or "",
        reply_tx=_one_of("replytx", given.replytx or "", REPLY_TYPES),
        fast_ack=fast_ack,
        dead_letter=dead_letter,
        input=_input_names(given.input or _Input()),
        retrying=_retrying(given.retry or _Retry(), settings, dead_letter=dead_letter),
        connecting=_connecting(given.http_options or _Http(), settings),
        tls=_tls(given.tls_config_name or "", settings),
    )


_MEMBERS: Final[tuple[tuple[str, str, type], ...]] = (
    ("url", "url", str),
    ("method", "method", str),
    ("json", "json", bool),
    ("reply", "reply", bool),
    ("replytag", "replytag", str),
    ("replytx", "replytx", str),
    ("fastack", "fastack", bool),
    ("dead_letter", "deadLetter", bool),
    ("tls_config_name", "tlsConfigName", str),
    ("input", "input", _Input),
    ("retry", "retry", _Retry),
    ("http_options", "httpOptions", _Http),
)


def _decode(text: str, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as failure:
        raise Rejected("FF19002", f"options.{name}", failure) from failure


def _one_of(name: str, value: str, known: frozenset[str]) -> str:
    if value not in known:
        listed = ", ".join(sorted(filter(None, known)))
        raise Rejected("FF19002", f"options.{name}", f"'{value[:100]}' is not one of {listed}")
    return value


def _url(text: str, settings: WebhookSettings) -> str:
    if not text:
        raise Rejected("FF10242")
    if settings.url and "://" not in text:
        text = f"{settings.url.rstrip('/')}/{text.lstrip('/')}"
    try:
        parts = check_url("url", text)
    except ValueError as failure:
        raise Rejected("FF19002", "options.url", failure) from failure
    _check_allowed(parts, settings)
    return text


def _check_allowed(parts: SplitResult, settings: WebhookSettings) -> None:
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    if not settings.allows(parts.hostname or "", port):
        raise Rejected("FF19017", parts.hostname)


def check_url(name: str, text: str) -> SplitResult:
    """Checks that a text is an HTTP URL that can be sent as it is.

    Raises:
        ValueError: what is wrong with it.
    """
    if len(text) > URL_CHARS_MAX:
        raise ValueError(f"is longer than {URL_CHARS_MAX} characters")
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError(f"{name} has blanks or characters that must be escaped")
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("must be like http://host/path")
    _ = parts.port  # raises ValueError for what is no port
    return parts


def _pairs(name: str, text: str) -> Pairs:
    try:
        found = msgspec.json.decode(text, type=dict[str, str] | None)
    except (msgspec.DecodeError, ValueError, RecursionError) as failure:
        raise Rejected("FF10243", name) from failure
    return tuple(sorted((found or {}).items()))


def _headers(text: str, defaults: Pairs) -> Pairs:
    given = _pairs("headers", text)
    for name, value in given:
        if not is_header(name, value):
            raise Rejected("FF19002", "options.headers", f"'{name[:100]}' is no header")
    taken = {name.lower() for name, _ in given}
    return (*(pair for pair in defaults if pair[0].lower() not in taken), *given)


def is_header(name: str, value: str) -> bool:
    """Whether a name with a value can stand in the head of a request."""
    return bool(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value))


def _input_names(given: _Input) -> InputNames:
    return InputNames(
        query=given.query or "",
        headers=given.headers or "",
        body=given.body or "",
        path=given.path or "",
        replytx=given.replytx or "",
    )


def _retrying(given: _Retry, settings: WebhookSettings, *, dead_letter: bool) -> Retrying:
    usual = settings.retries
    # Before something is put away the target gets a second chance, unless that is refused.
    wanted = (settings.retry or dead_letter) if given.enabled is None else given.enabled
    count = usual.count if not given.count else _within("retry.count", given.count, RETRIES_MAX)
    return Retrying(
        count=count if wanted else 0,
        first_s=_seconds("retry.initialDelay", given.initial_delay, usual.first_s),
        cap_s=_seconds("retry.maxDelay", given.max_delay, usual.cap_s),
        errors=usual.errors,
    )


def _connecting(given: _Http, settings: WebhookSettings) -> Connecting:
    # We never ask before we send a body: `expectContinueTimeout` is checked and has no effect.
    _seconds("httpOptions.expectContinueTimeout", given.expect_continue_timeout, 0.0)
    if given.proxy_url:
        try:
            _check_allowed(check_url("proxyURL", given.proxy_url), settings)
        except ValueError as failure:
            raise Rejected("FF19002", "options.httpOptions.proxyURL", failure) from failure
    most = given.max_idle_conns
    if most is not None:
        _within("httpOptions.maxIdleConns", most, CONNECTIONS_MAX)
    return Connecting(
        proxy_url=given.proxy_url or settings.proxy_url,
        request_timeout_s=_seconds(
            "httpOptions.requestTimeout", given.request_timeout, settings.request_timeout_s
        ),
        connection_timeout_s=_seconds(
            "httpOptions.connectionTimeout", given.connection_timeout, settings.connection_timeout_s
        ),
        idle_timeout_s=_seconds(
            "httpOptions.idleTimeout", given.idle_timeout, settings.idle_timeout_s
        ),
        tls_handshake_timeout_s=_seconds(
            "httpOptions.tlsHandshakeTimeout",
            given.tls_handshake_timeout,
            settings.tls_handshake_timeout_s,
        ),
        connections_max=most or settings.connections_max,
    )


def _within(name: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise Rejected("FF19010", f"options.{name}", 0, most, value)
    return value


def _seconds(name: str, text: str | None, default: float) -> float:
    """A duration; the default for none and for zero, as FireFly has it."""
    if not text:
        return default
    found = milliseconds_of(text) / 1e3
    if found > WAIT_S_MAX:
        raise Rejected("FF19010", f"options.{name}", 0, f"{WAIT_S_MAX:g}s", text[:100])
    return found or default


def _tls(name: str, settings: WebhookSettings) -> TlsSet | None:
    if not name:
        return settings.tls
    for known, found in settings.tls_sets:
        if known == name:
            return found
    raise Rejected("FF10455", name)
