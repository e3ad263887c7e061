"""The options of webhooks: FireFly's codes for wrong ones, the configuration for those not given. Table-driven."""

from __future__ import annotations

import json
from pathlib import PurePath

import pytest
from photinus_core.events.subscriptions import parse_options, settle_options, show_options
from photinus_core.events.webhook_options import (
    WEBHOOK_DEFAULTS,
    Retrying,
    TlsSet,
    WebhookOptions,
    WebhookSettings,
    read_webhook_options,
)
from photinus_core.model.errors import Rejected


def read(settings: WebhookSettings = WEBHOOK_DEFAULTS, **given: object) -> WebhookOptions:
    members = {"url": "http://h/", **given}
    return read_webhook_options({n: json.dumps(v) for n, v in members.items()}, settings)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"url": ""}, "FF10242"),
        ({"url": None}, "FF10242"),
        ({"url": 5}, "FF19002"),
        ({"url": "/only/a/path"}, "FF19002"),
        ({"url": "ftp://h/x"}, "FF19002"),
        ({"url": "http://"}, "FF19002"),
        ({"url": "http://h:99999/"}, "FF19002"),
        ({"url": "http://h/ü"}, "FF19002"),
        ({"url": "http://h/a b"}, "FF19002"),
        ({"url": "http://h/" + "x" * 5_000}, "FF19002"),
        ({"headers": {"a": 1}}, "FF10243"),
        ({"headers": "x"}, "FF10243"),
        ({"query": ["x"]}, "FF10243"),
        ({"query": {"a": None}}, "FF10243"),
        ({"headers": {"a b": "1"}}, "FF19002"),
        ({"headers": {"a": "1\r\nb: 2"}}, "FF19002"),
        ({"method": "FLY"}, "FF19002"),
        ({"replytx": "gold"}, "FF19002"),
        ({"reply": "yes"}, "FF19002"),
        ({"input": 3}, "FF19002"),
        ({"input": {"query": 3}}, "FF19002"),
        ({"retry": {"count": -1}}, "FF19010"),
        ({"retry": {"count": 101}}, "FF19010"),
        ({"retry": {"initialDelay": "soon"}}, "FF00137"),
        ({"retry": {"maxDelay": "2h"}}, "FF19010"),
        ({"httpOptions": {"requestTimeout": "x"}}, "FF00137"),
        ({"httpOptions": {"expectContinueTimeout": "x"}}, "FF00137"),
        ({"httpOptions": {"maxIdleConns": -1}}, "FF19010"),
        ({"httpOptions": {"proxyURL": "nowhere"}}, "FF19002"),
        ({"tlsConfigName": "missing"}, "FF10455"),
        ({"deadLetter": True, "fastack": True}, "FF19002"),
        ({"deadLetter": 1}, "FF19002"),
    ],
)
def test_wrong_options(given: dict[str, object], code: str) -> None:
    with pytest.raises(Rejected, match=code):
        read(**given)  # type: ignore[arg-type]  # as they are written


def test_what_is_not_given_is_the_configurations() -> None:
    tls = TlsSet(ca_file="ca.pem")
    settings = WebhookSettings(
        url="https://base/api/",
        proxy_url="http://proxy:1/",
        request_timeout_s=7,
        retries=Retrying(4, 0.1, 2.0, "5.."),
        tls_sets=(("own", tls),),
    )
    plain = read(settings, url="/hook")
    assert (plain.url, plain.method, plain.tls) == ("https://base/api/hook", "POST", None)
    assert plain.connecting.proxy_url == "http://proxy:1/"
    assert plain.connecting.request_timeout_s == 7
    assert plain.retrying == Retrying(0, 0.1, 2.0, "5..")
    own = read(
        settings,
        tlsConfigName="own",
        method="put",
        retry={"enabled": True, "initialDelay": "5ms"},
        httpOptions={"proxyURL": "http://other/", "requestTimeout": "1.5s", "maxIdleConns": 3},
    )
    assert (own.tls, own.method, own.retrying) == (tls, "PUT", Retrying(4, 0.005, 2.0, "5.."))
    assert own.connecting.proxy_url == "http://other/"
    assert own.connecting.request_timeout_s == 1.5
    assert own.connecting.connections_max == 3
    assert read(settings, retry={"enabled": True, "count": 2}).retrying.count == 2
    assert read(WebhookSettings(retry=True)).retrying.count == 5


def test_dead_letters_come_with_repetitions_unless_those_are_refused() -> None:
    assert read(deadLetter=True).retrying.count == WEBHOOK_DEFAULTS.retries.count > 0
    assert read(deadLetter=True, retry={"enabled": False}).retrying.count == 0


def test_fast_acks_are_ignored_with_replies() -> None:
    assert read(fastack=True).fast_ack
    assert not read(fastack=True, reply=True).fast_ack


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("http://api.example.com/x", True),
        ("https://API.Example.COM./x", True),
        ("http://example.com/", False),
        ("http://api.example.com.evil.org/", False),
        ("http://10.0.0.1:8080/", True),
        ("http://10.0.0.1/", False),
        ("http://user@10.0.0.1:8080@evil.org/", False),
    ],
)
def test_hosts_that_may_be_called(host: str, allowed: bool) -> None:
    settings = WebhookSettings(allowed_hosts=("*.example.com", "10.0.0.1:8080"))
    if allowed:
        assert read(settings, url=host).url == host
    else:
        with pytest.raises(Rejected, match="FF19017"):
            read(settings, url=host)


def test_a_subscriptions_own_proxy_must_be_allowed_too() -> None:
    settings = WebhookSettings(allowed_hosts=("h",), proxy_url="http://proxy:1/")
    assert read(settings).connecting.proxy_url == "http://proxy:1/"
    with pytest.raises(Rejected, match="FF19017"):
        read(settings, httpOptions={"proxyURL": "http://inside:80/"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{}", '{"firstEvent":"1","url":"http://h/","withData":true}'),
        ('{"withData":false}', '{"firstEvent":"1","url":"http://h/","withData":false}'),
        (
            '{"batch":true,"readAhead":3}',
            (
                '{"batch":true,"batchTimeout":"50ms","firstEvent":"1","readAhead":3,'
                '"url":"http://h/","withData":false}'
            ),
        ),
    ],
)
def test_data_come_along_unless_that_is_refused(text: str, shown: str) -> None:
    given = json.dumps({**json.loads(text), "url": "http://h/"})
    assert show_options(settle_options(parse_options(given), "webhooks"), 1) == shown


def test_batches_go_without_data() -> None:
    given = parse_options('{"batch":true,"withData":true,"url":"http://h/"}')
    with pytest.raises(Rejected, match="FF10460"):
        settle_options(given, "webhooks")


def test_relative_files_begin_at_the_configurations_folder() -> None:
    given = TlsSet(ca="PEM", ca_file="ca.pem", cert_file="/abs/c.pem", key_file="k/k.pem")
    wanted = TlsSet(
        ca="PEM", ca_file="/etc/p/ca.pem", cert_file="/abs/c.pem", key_file="/etc/p/k/k.pem"
    )
    settings = WebhookSettings(tls=given, tls_sets=(("own", given),)).below(PurePath("/etc/p"))
    assert (settings.tls, settings.tls_sets) == (wanted, (("own", wanted),))
    assert WebhookSettings().below(PurePath("/etc/p")) == WebhookSettings()


def test_secrets_are_not_printed() -> None:
    shown = repr(WebhookSettings(password="hush", tls=TlsSet(key="hush")))
    assert "hush" not in shown
