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

LOG_LEVELS: Final = frozenset({"trace", "debug", "info", "warn", "warning", "error"})


def load(path: Path, environment: Mapping[str, str] | None = None) -> NodeSettings:
    """Reads a configuration file.

    Raises:
        ConfigError: with every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        broken = Rejected("FF19301", path, str(failure))
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
    plugins = read_plugins(root.section("plugins"))
    namespaces, default = read_namespaces(root, plugins)
    listen = _listen(root.section("grpc"), root.section("api"))
    log = _log(root.section("log"))
    for section in ELSEWHERE:
        found = root.get(section)
        if found is not None:
            found.plain()
            report.warn(
                found, "has no effect on the core; the gateway takes its settings as options"
            )
    root.check_unknown()
    return NodeSettings(namespaces, default, plugins, listen, log, tuple(report.warnings))


def _listen(grpc: Node, api: Node) -> ListenSettings:
    defaults = ListenSettings()
    settings = ListenSettings(
        address=grpc.text("address", defaults.address),
        request_timeout_max_s=api.duration_s("requestMaxTimeout", defaults.request_timeout_max_s),
    )
    for key in ("requestTimeout", "defaultFilterLimit", "maxFilterLimit", "dynamicPublicURLHeader"):
        api.text(key)
    api.list("passthroughHeaders")
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
    json_section = log.section("json")
    settings = LogSettings(
        level=level,
        json=json_section.boolean("enabled", default=False),
        filename=log.text("filename"),
    )
    json_section.plain()
    for key in (
        "timeFormat",
        "utc",
        "filesize",
        "maxBackups",
        "maxAge",
        "compress",
        "noColor",
        "forceColor",
    ):
        log.text(key)
    log.text("includeCodeInfo")
    log.check_unknown()
    return settings
