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

from photinus_core.app.config.cluster import read_cluster
from photinus_core.app.config.connectors import read_discovery
from photinus_core.app.config.namespaces import read_namespaces
from photinus_core.app.config.plugins import read_plugins
from photinus_core.app.config.settings import ListenSettings, LogSettings, NodeSettings
from photinus_core.app.config.tree import ConfigError, Node, Problem, Report, override, parse
from photinus_core.model.errors import Rejected

ENVIRONMENT_PREFIX: Final = "FIREFLY_"

ELSEWHERE: Final = frozenset(
    {
        "admin",
        "cache",
        "cors",
        "debug",
        "http",
        "metrics",
        "monitoring",
        "spi",
        "ui",
    }
)
"""Sections of FireFly's that are the gateway's business, or have no effect here; accepted with a
warning.
"""

API_ELSEWHERE: Final = (
    "requestTimeout",
    "requestMaxTimeout",
    "dynamicPublicURLHeader",
    "passthroughHeaders",
)
"""Keys of `api` that are the gateway's business; accepted with a warning."""

LOG_WITHOUT_EFFECT: Final = (
    "timeFormat",
    "utc",
    "maxAge",
    "compress",
    "noColor",
    "forceColor",
    "includeCodeInfo",
)
"""Keys of `log` that change nothing here; accepted with a warning."""

LOG_FILES_MAX: Final = 1_000

LOG_LEVELS: Final = frozenset({"trace", "debug", "info", "warn", "warning", "error"})


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
    log = _log(root.section("log"))
    cluster = read_cluster(root.section("cluster"), plugins)
    for section in ELSEWHERE:
        found = root.get(section)
        if found is not None:
            found.plain()
            report.warn(
                found, "has no effect on the core; the gateway takes its settings as options"
            )
    auto_reload = _auto_reload(root.section("config"))
    root.check_unknown()
    return NodeSettings(
        namespaces,
        default,
        plugins,
        listen,
        log,
        cluster,
        discovery,
        auto_reload=auto_reload,
        warnings=tuple(report.warnings),
    )


def _auto_reload(config: Node) -> bool:
    """FireFly's switch for changes while the node runs."""
    found = config.boolean("autoReload", default=False)
    config.check_unknown()
    return found


def _listen(grpc: Node, api: Node) -> ListenSettings:
    defaults = ListenSettings()
    settings = ListenSettings(address=grpc.text("address", defaults.address))
    api.without_effect(
        API_ELSEWHERE, "has no effect on the core; the gateway takes it as an option"
    )
    for key in ("requestTimeout", "requestMaxTimeout"):
        api.duration_s(key, 0.0)
    api.list("passthroughHeaders")
    # Read with the namespaces:
    for key in ("defaultFilterLimit", "maxFilterLimit", "maxFilterSkip"):
        api.text(key)
    grpc.check_unknown()
    api.check_unknown()
    return settings


def _log(log: Node) -> LogSettings:
    level = log.text("level", "info").lower()
    if level not in LOG_LEVELS:
        log.report.add(
            log,
            Rejected(
                "FF19305", "log.level", f"'{level}' is not one of {', '.join(sorted(LOG_LEVELS))}"
            ),
        )
    json_section, defaults = log.section("json"), LogSettings()
    settings = LogSettings(
        level=level,
        json=json_section.boolean("enabled", default=False),
        filename=log.text("filename"),
        file_bytes_max=log.size_bytes("filesize", defaults.file_bytes_max),
        files_kept=log.integer("maxBackups", defaults.files_kept, 0, LOG_FILES_MAX),
    )
    json_section.plain()
    log.without_effect(LOG_WITHOUT_EFFECT, "has no effect")
    log.check_unknown()
    return settings
