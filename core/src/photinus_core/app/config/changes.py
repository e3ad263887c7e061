"""What differs between the configuration a node runs with and a new one. Pure.

Namespaces and connectors change alone; what differs besides takes effect when the process starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

from photinus_core.app.config.settings import NodeSettings, PluginSettings
from photinus_core.model.errors import Rejected

_LIVE: Final = frozenset(
    {"namespaces", "default_namespace", "plugins", "access", "log", "auto_reload", "warnings"}
)
"""Fields of `NodeSettings` of which at least a part can change; any other one needs a restart."""
_KEYS: Final = {
    "listen.address": "grpc.address",
    "listen.tls": "grpc.tls",
    "log.json": "log.json.enabled",
    "log.file_bytes_max": "log.filesize",
    "log.fields": "log.json.fields",
    "log.files_kept": "log.maxBackups",
    "log.file_age_max_s": "log.maxAge",
    "log.time_format": "log.timeFormat",
    "log.code_info": "log.includeCodeInfo",
    "monitoring.metrics_path": "monitoring.metricsPath",
    "monitoring.certificate_file": "monitoring.tls.certFile",
    "monitoring.key_file": "monitoring.tls.keyFile",
    "monitoring.client_ca_file": "monitoring.tls.caFile",
    "tracing.sample_ratio": "tracing.sampleRatio",
    "tracing.service_name": "tracing.serviceName",
    "changes.queue_length": "spi.ws.eventQueueLength",
    "changes.warn_every_s": "spi.ws.blockedWarnInterval",
    "cluster.ensemble": "cluster.zookeeper",
    "cluster.hand_over_after_s": "cluster.zookeeper.handOverAfter",
}
"""Fields whose key in the file is called otherwise."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be done to get from one configuration to another.

    Attributes:
        settings: What the node runs with afterwards: the new ones, but for what needs a restart.
        needs_restart: Keys that differ and take effect when the process starts.
        connectors_gone, connectors_new, connectors_changed: Names of plugins that are reached.
        namespaces_gone, namespaces_new, namespaces_restarted: Names of namespaces.
        others: Keys besides, which take effect at once.
    """

    settings: NodeSettings
    needs_restart: tuple[str, ...] = ()
    connectors_gone: tuple[str, ...] = ()
    connectors_new: tuple[str, ...] = ()
    connectors_changed: tuple[str, ...] = ()
    namespaces_gone: tuple[str, ...] = ()
    namespaces_new: tuple[str, ...] = ()
    namespaces_restarted: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def namespaces_stopped(self) -> tuple[str, ...]:
        """Those whose present run ends."""
        return (*self.namespaces_gone, *self.namespaces_restarted)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not self.told()

    def told(self) -> str:
        """What is done, for the log."""
        parts = (
            ("namespaces started", self.namespaces_new),
            ("namespaces restarted", self.namespaces_restarted),
            ("namespaces stopped", self.namespaces_gone),
            ("connectors added", self.connectors_new),
            ("connectors changed", self.connectors_changed),
            ("connectors removed", self.connectors_gone),
            ("changed", self.others),
        )
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a running node cannot take a configuration that a new one could."""

    namespace: str
    key: str
    failure: Rejected


def refusals(running: NodeSettings, wanted: NodeSettings) -> list[Refusal]:
    """What would stop a running namespace for good."""
    former = {n.name: n for n in running.namespaces}
    return [
        Refusal(
            n.name,
            "multiparty.networkNamespace",
            Rejected(
                "FF19305",
                "multiparty.networkNamespace",
                f"is {n.network_name}, but this namespace was made as"
                f" {former[n.name].network_name}",
            ),
        )
        for n in wanted.namespaces
        if n.name in former and n.network_name != former[n.name].network_name
    ]


def compare(
    running: NodeSettings, wanted: NodeSettings, databases: Mapping[str, PluginSettings]
) -> Changes:
    """Finds what is to be done.

    Args:
        running: What the node runs with.
        wanted: What it is to run with.
        databases: Plugins of the databases that are open, as they were opened.
    """
    settings, needs_restart = _possible(running, wanted, databases)
    gone, new, changed = _connectors(running, settings)
    replaced = {*gone, *new}
    former = {n.name: n for n in running.namespaces}
    latter = {n.name: n for n in settings.namespaces}
    return Changes(
        settings=settings,
        needs_restart=needs_restart,
        connectors_gone=gone,
        connectors_new=new,
        connectors_changed=changed,
        namespaces_gone=tuple(name for name in former if name not in latter),
        namespaces_new=tuple(name for name in latter if name not in former),
        namespaces_restarted=tuple(
            name
            for name, namespace in latter.items()
            if name in former
            and (namespace != former[name] or not replaced.isdisjoint(namespace.plugin_names))
        ),
        others=_others(running, settings),
    )


def _possible(
    running: NodeSettings, wanted: NodeSettings, databases: Mapping[str, PluginSettings]
) -> tuple[NodeSettings, tuple[str, ...]]:
    """The wanted settings without what needs a restart, and the keys of that."""
    keys: list[str] = []
    kept: dict[str, Any] = {"log": replace(running.log, level=wanted.log.level)}
    for each in fields(NodeSettings):
        if each.name not in _LIVE:
            kept[each.name] = getattr(running, each.name)
        if each.name not in _LIVE or each.name == "log":
            keys += _differing(each.name, kept[each.name], getattr(wanted, each.name))
    plugins = []
    for plugin in wanted.plugins:
        opened = databases.get(plugin.name, plugin)
        if opened.category == plugin.category and opened != plugin:
            keys.append(f"plugins.database[{plugin.name}]")
            plugins.append(opened)
        else:
            plugins.append(plugin)
    return replace(wanted, **kept, plugins=tuple(plugins)), tuple(keys)


def _differing(name: str, former: object, latter: object) -> list[str]:
    """Keys of a section that differ."""
    if former == latter:
        return []
    if not is_dataclass(former) or type(former) is not type(latter):
        return [_KEYS.get(name, name)]
    paths = (
        (f"{name}.{f.name}", getattr(former, f.name), getattr(latter, f.name))
        for f in fields(former)
    )
    return [_KEYS.get(path, path) for path, one, other in paths if one != other]


def _connectors(
    running: NodeSettings, settings: NodeSettings
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Plugins that are reached no more, anew, and otherwise. Another category is another plugin."""
    former, latter = _reached(running.plugins), _reached(settings.plugins)
    same = {n for n, plugin in latter.items() if n in former and _is_same(former[n], plugin)}
    return (
        tuple(name for name in former if name not in same),
        tuple(name for name in latter if name not in same),
        tuple(name for name in latter if name in same and former[name] != latter[name]),
    )


def _reached(plugins: Iterable[PluginSettings]) -> dict[str, PluginSettings]:
    return {p.name: p for p in plugins if p.connector is not None}


def _is_same(former: PluginSettings, latter: PluginSettings) -> bool:
    return former.category == latter.category


def _others(running: NodeSettings, settings: NodeSettings) -> tuple[str, ...]:
    keys = (
        ("namespaces.default", running.default_namespace != settings.default_namespace),
        ("log.level", running.log.level != settings.log.level),
        ("auth", running.access.rules != settings.access.rules),
        ("config.autoReload", running.auto_reload != settings.auto_reload),
    )
    return tuple(key for key, differs in keys if differs)
