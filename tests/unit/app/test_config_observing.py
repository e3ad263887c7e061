"""Goal: `log`, `monitoring`, `metrics` and `tracing` mean what FireFly's keys mean, and what is wrong is told.

Method: read pieces of configuration, as tables.
"""

from __future__ import annotations

import pytest
from photinus_core.app.config import ConfigError, NodeSettings, load_text

from tests.unit.app.test_config_rules import GOOD


def read(text: str, **environment: str) -> NodeSettings:
    return load_text(f"{text}\n{GOOD}", "f.yaml", environment)


def test_nothing_is_monitored_or_traced_unless_it_is_asked_for() -> None:
    settings = read("")
    assert not settings.monitoring.enabled
    assert not settings.tracing.is_wanted({})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("monitoring: {enabled: true}", ("127.0.0.1", 6000, "/metrics")),
        ("metrics: {enabled: true, port: 7, path: /m}", ("127.0.0.1", 7, "/m")),
        (
            "metrics: {enabled: true, port: 7}\nmonitoring: {address: 0.0.0.0, port: 8, metricsPath: /n}",
            ("0.0.0.0", 8, "/n"),
        ),
    ],
)
def test_where_numbers_are_served(text: str, shown: tuple[str, int, str]) -> None:
    found = read(text).monitoring
    assert found.enabled
    assert (found.address, found.port, found.metrics_path) == shown


def test_a_newer_section_switches_the_older_one_off() -> None:
    assert not read("metrics: {enabled: true}\nmonitoring: {enabled: false}").monitoring.enabled


def test_certificates_of_the_monitoring_port() -> None:
    tls = "enabled: true, certFile: c, keyFile: k, caFile: a"
    found = read(f"monitoring: {{enabled: true, tls: {{{tls}}}}}").monitoring
    assert (found.certificate_file, found.key_file, found.client_ca_file) == ("c", "k", "")
    found = read(f"monitoring: {{enabled: true, tls: {{{tls}, clientAuth: true}}}}").monitoring
    assert found.client_ca_file == "a"
    found = read("monitoring: {enabled: true, tls: {certFile: c, keyFile: k}}").monitoring
    assert found.certificate_file == "", "not enabled"


def test_fields_of_the_log_can_be_renamed() -> None:
    text = (
        "log: {json: {enabled: true, fields: {timestamp: ts, message: msg}}, includeCodeInfo: true}"
    )
    log = read(text, FIREFLY_LOG_JSON_FIELDS_LEVEL="severity").log
    assert log.json
    assert log.code_info
    assert log.fields == ("ts", "severity", "msg", "func", "file")
    assert read("").log.fields == ("@timestamp", "level", "message", "func", "file")


def test_rotation() -> None:
    log = read("log: {filename: a, maxAge: 36h, compress: true, maxBackups: 3, utc: true}").log
    assert (log.file_age_max_s, log.compress, log.files_kept, log.utc) == (36 * 3600, True, 3, True)
    assert read("").log.file_age_max_s == 24 * 3600


@pytest.mark.parametrize(
    ("text", "environment", "wanted"),
    [
        ("tracing: {enabled: true}", {}, True),
        ("tracing: {endpoint: 'http://c:4318'}", {}, True),
        ("tracing: {enabled: false, endpoint: 'http://c:4318'}", {}, False),
        ("tracing: {enabled: false}", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True),
        ("", {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ("", {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ("tracing: {endpoint: 'http://c'}", {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_whether_spans_are_wanted(text: str, environment: dict[str, str], wanted: bool) -> None:
    assert read(text).tracing.is_wanted(environment) is wanted


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("monitoring: {port: 70000}", "monitoring"),
        ("monitoring: {metricsPath: /livez}", "monitoring"),
        ("metrics: {path: m}", "monitoring"),
        ("monitoring: {tls: {enabled: true}}", "monitoring.tls"),
        ("monitoring: {auth: {type: basic}}", "monitoring.auth"),
        ("monitoring: {wrong: 1}", "monitoring.wrong"),
        ("log: {json: {fields: {level: message}}}", "log.json.fields"),
        ("log: {json: {fields: {wrong: a}}}", "log.json.fields.wrong"),
        ("log: {maxAge: soon}", "log"),
        ("tracing: {sampleRatio: 2}", "tracing"),
        ("tracing: {sampleRatio: some}", "tracing"),
        ("tracing: {endpoint: 'c:4318'}", "tracing"),
        ("tracing: {wrong: 1}", "tracing.wrong"),
    ],
)
def test_what_is_wrong_is_told(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(text)
    assert any(p.path.startswith(path) and p.line for p in told.value.problems), told.value
