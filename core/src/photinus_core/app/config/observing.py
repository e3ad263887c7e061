"""Reads `log`, `monitoring` (and `metrics`, its former name) and `tracing`."""

from __future__ import annotations

from typing import Final

from photinus_core.app.config.settings import (
    LogFields,
    LogSettings,
    MonitoringSettings,
    TracingSettings,
)
from photinus_core.app.config.tree import Node
from photinus_core.model.errors import Rejected

LOG_FILES_MAX: Final = 1_000
PORT_MAX: Final = 65_535

LOG_LEVELS: Final = frozenset({"trace", "debug", "info", "warn", "warning", "error"})

LOG_WITHOUT_EFFECT: Final = ("noColor", "forceColor")
"""Keys of `log` that change nothing here, where nothing is coloured; accepted with a warning."""

LISTENER_WITHOUT_EFFECT: Final = ("publicURL", "readTimeout", "writeTimeout", "shutdownTimeout")
"""Keys of a listener that change nothing for one that answers in a moment."""


def read_log(log: Node) -> LogSettings:
    """How the core logs."""
    level = log.text("level", "info").lower()
    if level not in LOG_LEVELS:
        wrong = f"'{level}' is not one of {', '.join(sorted(LOG_LEVELS))}"
        log.report.add(log, Rejected("FF19305", "log.level", wrong))
    json_section, defaults = log.section("json"), LogSettings()
    settings = LogSettings(
        level=level,
        json=json_section.boolean("enabled", default=False),
        fields=_fields(json_section.section("fields")),
        filename=log.text("filename"),
        file_bytes_max=log.size_bytes("filesize", defaults.file_bytes_max),
        files_kept=log.integer("maxBackups", defaults.files_kept, 0, LOG_FILES_MAX),
        file_age_max_s=log.duration_s("maxAge", defaults.file_age_max_s),
        compress=log.boolean("compress", default=defaults.compress),
        time_format=log.text("timeFormat"),
        utc=log.boolean("utc", default=defaults.utc),
        code_info=log.boolean("includeCodeInfo", default=defaults.code_info),
    )
    log.without_effect(LOG_WITHOUT_EFFECT, "has no effect")
    json_section.check_unknown()
    log.check_unknown()
    return settings


def _fields(section: Node) -> LogFields:
    usual = LogFields()
    found = LogFields(
        timestamp=section.text("timestamp", usual.timestamp),
        level=section.text("level", usual.level),
        message=section.text("message", usual.message),
        func=section.text("func", usual.func),
        file=section.text("file", usual.file),
    )
    if len(set(found)) < len(found):
        same = Rejected("FF19305", "log.json.fields", "two fields have the same name")
        section.report.add(section, same)
    section.check_unknown()
    return found


def read_monitoring(monitoring: Node, metrics: Node) -> MonitoringSettings:
    """Where numbers and probes are served.

    FireFly's former section `metrics` counts where `monitoring` does not say otherwise.
    """
    usual = MonitoringSettings()
    former = metrics.boolean("enabled", default=usual.enabled)
    enabled = monitoring.boolean("enabled", default=former)
    found = MonitoringSettings(
        enabled=enabled,
        address=monitoring.text("address", metrics.text("address", usual.address)),
        port=monitoring.integer(
            "port", metrics.integer("port", usual.port, 0, PORT_MAX), 0, PORT_MAX
        ),
        metrics_path=monitoring.text("metricsPath", metrics.text("path", usual.metrics_path)),
        **_tls(monitoring.section("tls")),
    )
    for section in (monitoring, metrics):
        section.without_effect(LISTENER_WITHOUT_EFFECT, "has no effect")
        auth = section.section("auth")
        if auth.text("type"):
            auth.report.add(
                auth,
                Rejected(
                    "FF19305",
                    f"{section.path}.auth.type",
                    "is not possible: demand a client's certificate with tls.clientAuth instead",
                ),
            )
        auth.plain()
        if section is metrics:
            section.without_effect(("tls",), "has no effect: give monitoring.tls")
        section.section("tls").plain()
        section.check_unknown()
    if not found.metrics_path.startswith("/") or found.metrics_path in ("/livez", "/readyz"):
        wrong = "must begin with a slash, and be neither /livez nor /readyz"
        monitoring.report.add(monitoring, Rejected("FF19305", "monitoring.metricsPath", wrong))
    return found


def _tls(tls: Node) -> dict[str, str]:
    """The files of TLS; none when it is off."""
    files = {
        "certificate_file": tls.text("certFile"),
        "key_file": tls.text("keyFile"),
        "client_ca_file": tls.text("caFile") if tls.boolean("clientAuth", default=False) else "",
    }
    if not tls.boolean("enabled", default=False):
        return {}
    if not (files["certificate_file"] and files["key_file"]):
        missing = Rejected("FF19305", f"{tls.path}", "certFile and keyFile are needed")
        tls.report.add(tls, missing)
    return files


def read_tracing(tracing: Node) -> TracingSettings:
    """Where spans go."""
    text = tracing.text("sampleRatio")
    ratio = None
    if text:
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not 0.0 <= ratio <= 1.0:
            wrong = Rejected("FF19305", "tracing.sampleRatio", f"'{text}' is not between 0 and 1")
            tracing.report.add(tracing, wrong)
    enabled = tracing.get("enabled")
    found = TracingSettings(
        enabled=None if enabled is None else tracing.boolean("enabled", default=False),
        endpoint=tracing.text("endpoint"),
        sample_ratio=ratio,
        service_name=tracing.text("serviceName"),
    )
    if found.endpoint and not found.endpoint.startswith(("http://", "https://")):
        wrong = Rejected("FF19305", "tracing.endpoint", "must begin with http:// or https://")
        tracing.report.add(tracing, wrong)
    tracing.check_unknown()
    return found
