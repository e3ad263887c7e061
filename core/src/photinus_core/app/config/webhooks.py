"""The section `events.webhooks`, FireFly's HTTP client block, and the `tlsConfigs` of a namespace."""

from __future__ import annotations

import re
from typing import Final

from photinus_core.app.config.tree import Node
from photinus_core.events.webhook_options import (
    CONNECTIONS_MAX,
    RETRIES_MAX,
    WEBHOOK_DEFAULTS,
    Pairs,
    Retrying,
    TlsSet,
    WebhookSettings,
    check_url,
    is_header,
)
from photinus_core.model.errors import Rejected

CALLS_MAX: Final = 10_000
_WITHOUT_EFFECT: Final = (
    "expectContinueTimeout",
    "maxConnsPerHost",
    "maxIdleConnsPerHost",
    "passthroughHeadersEnabled",
    "throttle",
)
_HOST_PATTERN: Final = re.compile(r"[A-Za-z0-9*._:\[\]-]{1,253}")


def read_webhooks(root: Node) -> WebhookSettings:
    """Reads what the configuration says of all webhooks."""
    section, usual = root.section("events").section("webhooks"), WEBHOOK_DEFAULTS
    auth, proxy = section.section("auth"), section.section("proxy")
    made = WebhookSettings(
        url=_url(section, "url"),
        headers=_headers(section.section("headers")),
        username=auth.text("username"),
        password=auth.text("password"),
        proxy_url=_url(proxy, "url"),
        request_timeout_s=section.duration_s("requestTimeout", usual.request_timeout_s),
        connection_timeout_s=section.duration_s("connectionTimeout", usual.connection_timeout_s),
        idle_timeout_s=section.duration_s("idleTimeout", usual.idle_timeout_s),
        tls_handshake_timeout_s=section.duration_s(
            "tlsHandshakeTimeout", usual.tls_handshake_timeout_s
        ),
        connections_max=section.integer("maxIdleConns", usual.connections_max, 0, CONNECTIONS_MAX),
        retry=section.section("retry").boolean("enabled", default=False),
        retries=_retrying(section.section("retry")),
        tls=_tls(section.section("tls")),
        allowed_hosts=_hosts(section),
        calls_max=section.integer("maxConcurrent", usual.calls_max, 1, CALLS_MAX),
    )
    section.without_effect(_WITHOUT_EFFECT, "has no effect on webhooks here")
    for part in (auth, proxy, section):
        part.check_unknown()
    return made


def read_tls_sets(entry: Node) -> tuple[tuple[str, TlsSet], ...]:
    """Reads the `tlsConfigs` of a namespace, by name."""
    found: dict[str, TlsSet] = {}
    for item in entry.list("tlsConfigs"):
        name = item.text("name")
        if not name or name in found:
            _wrong(item, "name", "is required" if not name else f"'{name}' is given twice")
        made = _tls(item.section("tls"))
        item.check_unknown()
        found[name] = made or TlsSet()
    return tuple(found.items())


def _retrying(section: Node) -> Retrying:
    usual = WEBHOOK_DEFAULTS.retries
    made = Retrying(
        count=section.integer("count", usual.count, 0, RETRIES_MAX),
        first_s=section.duration_s("initWaitTime", usual.first_s),
        cap_s=section.duration_s("maxWaitTime", usual.cap_s),
        errors=section.text("errorStatusCodeRegex"),
    )
    try:
        re.compile(made.errors)
    except re.error as failure:
        _wrong(section, "errorStatusCodeRegex", str(failure))
    section.without_effect(("factor",), "has no effect: pauses double")
    section.check_unknown()
    return made


def _tls(section: Node) -> TlsSet | None:
    made = TlsSet(
        ca=section.text("ca"),
        ca_file=section.text("caFile"),
        cert=section.text("cert"),
        cert_file=section.text("certFile"),
        key=section.text("key"),
        key_file=section.text("keyFile"),
        verify_host=not section.boolean("insecureSkipHostVerify", default=False),
    )
    enabled = section.boolean("enabled", default=bool(section.members))
    if bool(made.cert or made.cert_file) != bool(made.key or made.key_file):
        _wrong(section, "cert", "give a certificate and its key, or neither")
    if (made.cert and made.key_file) or (made.cert_file and made.key):
        _wrong(section, "key", "give certificate and key both as texts, or both as files")
    if section.section("requiredDNAttributes").members:
        # What would be checked in vain must not look as if it were.
        _wrong(section, "requiredDNAttributes", "is not supported for webhooks")
    section.without_effect(("clientAuth",), "has no effect on a client")
    section.check_unknown()
    return made if enabled else None


def _url(section: Node, key: str) -> str:
    text = section.text(key)
    if text:
        try:
            check_url(key, text)
        except ValueError as failure:
            _wrong(section, key, str(failure))
    return text


def _headers(section: Node) -> Pairs:
    found = []
    for name, value in (section.members or {}).values():
        text = section.text(name)
        if not is_header(name, text):
            _wrong(section, name, f"'{value.scalar}' is no value of a header")
        found.append((name, text))
    return tuple(sorted(found))


def _hosts(section: Node) -> tuple[str, ...]:
    found = []
    for item in section.list("allowedHosts"):
        if not _HOST_PATTERN.fullmatch(item.scalar or ""):
            wrong = Rejected(
                "FF19305", "allowedHosts", f"'{item.scalar}' is not like *.example.com"
            )
            item.report.add(item, wrong)
        found.append(item.scalar or "")
    return tuple(found)


def _wrong(section: Node, key: str, text: str) -> None:
    place = section.get(key) or section
    place.report.add(place, Rejected("FF19305", f"{section.path}.{key}", text))
