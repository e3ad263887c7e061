"""Checks a configuration tree against FireFly's rules and makes settings of it.

Restrictions of the namespaces page (the seed document), each with its code: names unique (FF19302)
and well formed (FF00140), `ff_system` reserved (FF10388), a database required (FF10392), multiparty
complete (FF10391), gateway without data exchange and shared storage (FF19303), one plugin of a type
but for tokens (FF10394), plugins known (FF10390), the default namespace among the predefined ones
(FF10166).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from photinus_core.app.config.access import read_access
from photinus_core.app.config.cluster import read_cluster
from photinus_core.app.config.connectors import read_discovery
from photinus_core.app.config.known import check_known
from photinus_core.app.config.namespaces import read_namespaces
from photinus_core.app.config.observing import read_log, read_monitoring, read_tracing
from photinus_core.app.config.plugins import read_plugins
from photinus_core.app.config.settings import ListenSettings, NodeSettings
from photinus_core.app.config.tree import ConfigError, Node, Problem, Report, override, parse
from photinus_core.events.changes import ChangeLimits
from photinus_core.model.errors import Rejected
from photinus_core.rpc.tls import TlsFiles, check_files

ENVIRONMENT_PREFIX: Final = "FIREFLY_"

SPI_ELSEWHERE: Final = (
    *("enabled", "address", "port", "publicURL", "tls"),
    *("readTimeout", "writeTimeout", "shutdownTimeout"),
)
"""Keys of `spi` that are the gateway's business; accepted with a warning."""

CHANGE_QUEUE_MAX: Final = 100_000
"""Longest queue of change events: some 20 MB for each listener."""

API_ELSEWHERE: Final = (
    "requestTimeout",
    "requestMaxTimeout",
    "dynamicPublicURLHeader",
    "passthroughHeaders",
)
"""Keys of `api` that are the gateway's business; accepted with a warning."""


LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")


def load(path: Path, environment: Mapping[str, str] | None = None) -> NodeSettings:
    """Reads a configuration file.

    Raises:
        ConfigError: with every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        why = failure.strerror if isinstance(failure, OSError) else str(failure)
        broken = Rejected("FF19301", path, why)
        raise ConfigError([Problem(str(path), 0, "", str(broken))]) from failure
    return load_text(text, str(path), os.environ if environment is None else environment)


def load_text(text: str, name: str, environment: Mapping[str, str]) -> NodeSettings:
    """Reads a configuration.

    Args:
        text: YAML.
        name: Name of the file, for messages.
        environment: Overrides: `FIREFLY_` and the upper-case path, `_` for each dot.

    Raises:
        ConfigError: with every problem found.
    """
    report = Report(name)
    root = parse(text, report)
    override(root, environment, ENVIRONMENT_PREFIX)
    settings = _read(root, report)
    if report.problems:
        raise ConfigError(sorted(report.problems, key=lambda p: p.line))
    return settings


def _read(root: Node, report: Report) -> NodeSettings:
    discovery = read_discovery(root.section("connectors"))
    plugins = read_plugins(root.section("plugins"), discovery)
    namespaces, default = read_namespaces(root, plugins)
    listen = _listen(root.section("grpc"), root.section("api"))
    log = read_log(root.section("log"))
    monitoring = read_monitoring(root.section("monitoring"), root.section("metrics"))
    tracing = read_tracing(root.section("tracing"))
    cluster = read_cluster(root.section("cluster"), plugins)
    access = read_access(root, str(default))
    if access.all and listen.tls is None and not _is_local(listen.address):
        report.warn(root.section("grpc"), "credentials come here in plain text: see grpc.tls")
    check_known(root)
    auto_reload = _auto_reload(root.section("config"))
    root.check_unknown()
    return NodeSettings(
        namespaces,
        default,
        plugins,
        listen,
        log,
        cluster=cluster,
        connectors=discovery,
        access=access,
        monitoring=monitoring,
        tracing=tracing,
        changes=_changes(root.section("spi")),
        auto_reload=auto_reload,
        warnings=tuple(report.warnings),
    )


def _changes(spi: Node) -> ChangeLimits:
    """What concerns the core of FireFly's `spi`: change events."""
    sockets, defaults = spi.section("ws"), ChangeLimits()
    limits = ChangeLimits(
        sockets.integer("eventQueueLength", defaults.queue_length, 1, CHANGE_QUEUE_MAX),
        sockets.duration_s("blockedWarnInterval", defaults.warn_every_s),
    )
    sockets.without_effect(("readBufferSize", "writeBufferSize"), "has no effect")
    sockets.check_unknown()
    spi.without_effect(
        SPI_ELSEWHERE, "has no effect on the core; the gateway takes its settings as options"
    )
    spi.check_unknown()
    return limits


def _auto_reload(config: Node) -> bool:
    """FireFly's switch for changes while the node runs."""
    found = config.boolean("autoReload", default=False)
    config.check_unknown()
    return found


def _is_local(address: str) -> bool:
    return address.startswith("unix:") or address.rpartition(":")[0] in LOCAL


def _tls(grpc: Node) -> TlsFiles | None:
    """Certificates of the gRPC endpoint, in FireFly's shape."""
    section = grpc.section("tls")
    folder = Path(grpc.report.file).absolute().parent
    named = {key: section.text(key) for key in ("certFile", "keyFile", "caFile")}
    required = section.boolean("clientAuth", default=False)
    enabled = section.boolean("enabled", default=any(named.values()))
    section.check_unknown()
    if not enabled:
        return None
    for key in ("certFile", "keyFile", *(("caFile",) if required else ())):
        if not named[key]:
            section.report.add(section, Rejected("FF19305", f"grpc.tls.{key}", "is required"))
            return None
    certificate, key_file, ca = (folder / each if each else None for each in named.values())
    assert certificate is not None
    assert key_file is not None
    made = TlsFiles(certificate, key_file, ca, required)
    try:
        check_files(made)
    except Rejected as failure:
        section.report.add(section, Rejected("FF19305", "grpc.tls", str(failure)))
    return made


def _listen(grpc: Node, api: Node) -> ListenSettings:
    defaults = ListenSettings()
    settings = ListenSettings(grpc.text("address", defaults.address), _tls(grpc))
    api.without_effect(
        API_ELSEWHERE, "has no effect on the core; the gateway takes it as an option"
    )
    api.without_effect(("oas",), "has no effect: a test finds what has no description")
    for key in ("requestTimeout", "requestMaxTimeout"):
        api.duration_s(key, 0.0)
    api.list("passthroughHeaders")
    # Read with the namespaces:
    for key in ("defaultFilterLimit", "maxFilterLimit", "maxFilterSkip"):
        api.text(key)
    grpc.check_unknown()
    api.check_unknown()
    return settings
