"""The configuration of webhooks: FireFly's client block, TLS sets, and the limits that are ours. Table-driven."""

from __future__ import annotations

import pytest
from photinus_core.app.config import ConfigError, load_text
from photinus_core.events.webhook_options import WEBHOOK_DEFAULTS, Retrying, TlsSet, WebhookSettings

from tests.support.configs import BASE


def read(
    text: str = "", namespace: str = "", environment: dict[str, str] | None = None
) -> WebhookSettings:
    settings = load_text(BASE + namespace + text, "f.yaml", environment or {})
    return settings.namespaces[0].webhooks


def test_defaults_are_fireflys() -> None:
    made = read()
    assert made == WEBHOOK_DEFAULTS
    assert (made.request_timeout_s, made.connection_timeout_s) == (30, 30)
    assert (made.idle_timeout_s, made.connections_max) == (0.475, 100)
    assert made.retries == Retrying(5, 0.25, 30.0)
    assert not made.retry


def test_everything_is_read() -> None:
    made = read("""\
events:
  websockets: {readBufferSize: 16Kb}
  webhooks:
    url: https://base/
    headers: {X-A: "1"}
    auth: {username: u, password: p}
    proxy: {url: "http://proxy:3128"}
    requestTimeout: 5s
    connectionTimeout: 250ms
    idleTimeout: 1s
    tlsHandshakeTimeout: 3s
    maxIdleConns: 7
    maxConnsPerHost: 3
    retry: {enabled: true, count: 2, initWaitTime: 1s, maxWaitTime: 4s, factor: 2,
            errorStatusCodeRegex: "5.."}
    tls: {caFile: ca.pem}
    allowedHosts: ["*.example.com", "10.0.0.1:8080"]
    maxConcurrent: 9
""")
    assert made == WebhookSettings(
        url="https://base/",
        headers=(("X-A", "1"),),
        username="u",
        password="p",
        proxy_url="http://proxy:3128",
        request_timeout_s=5,
        connection_timeout_s=0.25,
        idle_timeout_s=1,
        tls_handshake_timeout_s=3,
        connections_max=7,
        retry=True,
        retries=Retrying(2, 1.0, 4.0, "5.."),
        tls=TlsSet(ca_file="ca.pem"),
        allowed_hosts=("*.example.com", "10.0.0.1:8080"),
        calls_max=9,
    )


def test_tls_sets_are_a_namespaces() -> None:
    made = read(
        namespace="""\
    tlsConfigs:
    - name: own
      tls: {enabled: true, caFile: ca.pem, certFile: c.pem, keyFile: k.pem}
    - name: loose
      tls: {insecureSkipHostVerify: true}
"""
    )
    assert made.tls_sets == (
        ("own", TlsSet(ca_file="ca.pem", cert_file="c.pem", key_file="k.pem")),
        ("loose", TlsSet(verify_host=False)),
    )


def test_the_environment_overrides() -> None:
    made = read(environment={"FIREFLY_EVENTS_WEBHOOKS_REQUESTTIMEOUT": "3s"})
    assert made.request_timeout_s == 3


@pytest.mark.parametrize(
    ("webhooks", "key"),
    [
        ("{url: nowhere}", "url"),
        ("{proxy: {url: 'ftp://x'}}", "proxy.url"),
        ("{headers: {'a b': '1'}}", "a b"),
        ("{requestTimeout: soon}", "requestTimeout"),
        ("{maxConcurrent: 0}", "maxConcurrent"),
        ("{maxIdleConns: -1}", "maxIdleConns"),
        ("{retry: {count: 1000}}", "count"),
        ("{retry: {errorStatusCodeRegex: '('}}", "errorStatusCodeRegex"),
        ("{allowedHosts: ['http://x/']}", "allowedHosts"),
        ("{tls: {certFile: c.pem}}", "cert"),
        ("{tls: {cert: c, keyFile: k.pem}}", "key"),
        ("{tls: {requiredDNAttributes: {CN: x}}}", "requiredDNAttributes"),
        ("{unknown: 1}", "unknown"),
    ],
)
def test_what_is_wrong_is_named(webhooks: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"events:\n  webhooks: {webhooks}\n")
    assert any(key in str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize("sets", ["[{tls: {}}]", "[{name: a}, {name: a}]"])
def test_tls_sets_have_names_of_their_own(sets: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        read(namespace=f"    tlsConfigs: {sets}\n")
