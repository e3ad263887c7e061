"""What becomes of each key of FireFly's configuration reference; docs/configuration.md is made of it.

A key has FireFly's meaning here, or is the gateway's, or has no effect and says so, or is refused
with a reason. Sections that are read elsewhere key by key (`read=True`) find unknown keys
themselves; for all others the table is what is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from photinus_core.app.config.tree import Node, Report
from photinus_core.model.errors import Rejected


class Effect(StrEnum):
    """What a key does."""

    AS_FIREFLY = "as FireFly's"
    GATEWAY = "the gateway's"
    CONNECTOR = "the connector's"
    NONE = "no effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Group:
    """Keys of one section that have the same fate.

    Attributes:
        section: Path of the section; `[]` for the entries of a list.
        keys: Key -> FireFly's default, in its spelling; a trailing `.*` is everything below.
        why: What an operator is told of keys that do nothing, or where a key differs.
        read: Whether another reader takes the section key by key.
    """

    section: str
    effect: Effect
    keys: Mapping[str, str]
    why: str = ""
    read: bool = False


_OPTION: Final = "has no effect on the core; the gateway takes its settings as options"
_WRITERS: Final = "has no effect: what waits while a commit is under way goes with the next one"
_NOTIFIED: Final = "has no effect: commits are heard of at once, and a slow poll backs that up"
_RETRIES: Final = "has no effect: failures are repeated at growing intervals of their own"
_CACHES: Final = "has no effect: what would be cached is read from the database"
_BUFFERS: Final = "has no effect: buffers grow with what is sent, to a limit of their own"
_RETRY: Final = {"initDelay": "250ms", "maxDelay": "30s", "factor": "2"}
_OTHER_RETRY: Final = {"initialDelay": "250ms", "maxDelay": "1m", "factor": "2"}
_WORKER: Final = {"count": "5", "batchTimeout": "50ms", "batchMaxInserts": "200"}
_LISTENER: Final = {
    "address": "127.0.0.1",
    "publicURL": "",
    "readTimeout": "15s",
    "writeTimeout": "15s",
    "shutdownTimeout": "10s",
    "tls.*": "",
}
_BATCH: Final = {"size": "200", "payloadLimit": "800Kb"}
_COUNTED_CACHES: Final = {
    "addressresolver": ("1000", "24h"),
    "batch": ("100", "5m"),
    "blockchain": ("100", "5m"),
    "blockchainevent": ("1000", "5m"),
    "eventlistenertopic": ("100", "5m"),
    "group": ("50", "1h"),
    "identity": ("100", "1h"),
    "methods": ("200", "5m"),
    "operations": ("1000", "5m"),
    "tokenpool": ("100", "1h"),
}
_SIZED_CACHES: Final = {
    "message": ("50Mb", "5m"),
    "transaction": ("1Mb", "5m"),
    "validator": ("1Mb", "1h"),
}


def _caches() -> dict[str, str]:
    found = {"enabled": "true"}
    for name, (limit, ttl) in _COUNTED_CACHES.items():
        found |= {f"{name}.limit": limit, f"{name}.ttl": ttl}
    for name, (size, ttl) in _SIZED_CACHES.items():
        found |= {f"{name}.size": size, f"{name}.ttl": ttl}
    return found


_AS: Final = Effect.AS_FIREFLY
_NONE: Final = Effect.NONE
_GATEWAY: Final = Effect.GATEWAY

GROUPS: Final = (
    # Server, API, runtime
    Group("http", _GATEWAY, _LISTENER | {"port": "5000"}, _OPTION),
    Group("http.auth", _AS, {"*": ""}, "grants may say who may do what", read=True),
    Group("spi", _GATEWAY, _LISTENER | {"port": "5001", "enabled": "false"}, _OPTION, read=True),
    Group("spi.auth", _AS, {"*": ""}, "grants may say who may do what", read=True),
    Group("spi.ws", _AS, {"eventQueueLength": "250", "blockedWarnInterval": "1m"}, read=True),
    Group("spi.ws", _NONE, {"readBufferSize": "16Kb", "writeBufferSize": "16Kb"}, read=True),
    Group("admin", _NONE, {"enabled": "false"}, "has no effect: it is called spi.enabled now"),
    Group(
        "monitoring",
        _AS,
        {
            "enabled": "false",
            "address": "127.0.0.1",
            "port": "6000",
            "metricsPath": "/metrics",
            "tls.*": "",
        },
        read=True,
    ),
    Group(
        "monitoring",
        _NONE,
        {"publicURL": "", "readTimeout": "15s", "writeTimeout": "15s", "shutdownTimeout": "10s"},
        "has no effect",
        read=True,
    ),
    Group(
        "monitoring",
        Effect.REFUSED,
        {"auth.*": ""},
        "a client's certificate (tls.clientAuth) is demanded instead",
        read=True,
    ),
    Group("metrics", _NONE, {"tls.*": ""}, "has no effect: give monitoring.tls", read=True),
    Group(
        "metrics",
        _AS,
        {"enabled": "true", "address": "127.0.0.1", "port": "6000", "path": "/metrics"},
        "the former name of `monitoring`, which goes first; off by default",
        read=True,
    ),
    Group("api", _AS, {"defaultFilterLimit": "25", "maxFilterLimit": "1000"}, read=True),
    Group(
        "api",
        _GATEWAY,
        {
            "requestTimeout": "120s",
            "requestMaxTimeout": "10m",
            "dynamicPublicURLHeader": "",
            "passthroughHeaders": "[]",
        },
        _OPTION,
        read=True,
    ),
    Group(
        "api",
        _NONE,
        {"oas.panicOnMissingDescription": "false"},
        "has no effect: a test finds what has no description",
        read=True,
    ),
    Group(
        "cors",
        _GATEWAY,
        {
            "enabled": "true",
            "origins": "[*]",
            "headers": "[*]",
            "methods": "[GET, POST, PUT, PATCH, DELETE]",
            "credentials": "true",
            "maxAge": "600",
            "debug": "false",
        },
        _OPTION,
    ),
    Group("ui", _GATEWAY, {"enabled": "true", "path": ""}, _OPTION),
    Group(
        "log",
        _AS,
        {
            "level": "info",
            "timeFormat": "",
            "utc": "false",
            "filename": "",
            "filesize": "100m",
            "maxBackups": "2",
            "maxAge": "24h",
            "compress": "",
            "includeCodeInfo": "false",
            "json.enabled": "false",
            "json.fields.*": "",
        },
        read=True,
    ),
    Group(
        "log",
        _NONE,
        {"noColor": "false", "forceColor": "false"},
        "has no effect: nothing is coloured",
        read=True,
    ),
    Group(
        "debug",
        _NONE,
        {"address": "localhost", "port": "-1"},
        "has no effect: there is no debugging port; profilers attach to the process",
    ),
    Group("config", _AS, {"autoReload": "false"}, read=True),
    Group(
        "orchestrator",
        _NONE,
        {"startupAttempts": "5"},
        "has no effect: a namespace that cannot start is tried again until it can",
    ),
    Group("histograms", _AS, {"maxChartRows": "100"}),
    Group(
        "asset.manager",
        _NONE,
        {"keyNormalization": "blockchain_plugin"},
        "has no effect: the blockchain connector brings every key into its form",
    ),
    Group("org", _AS, {"name": "", "description": "", "key": ""}, "where a namespace has no own"),
    Group("node", _AS, {"name": "", "description": ""}, "where a namespace has no own"),
    # Engine tuning
    Group(
        "batch.manager",
        _NONE,
        {"readPageSize": "100", "pollTimeout": "30s", "minimumPollDelay": "100ms"},
        _NOTIFIED,
    ),
    Group("batch.retry", _NONE, _RETRY, _RETRIES),
    Group("privatemessaging.retry", _NONE, _RETRY, _RETRIES),
    Group("event.aggregator.retry", _NONE, _RETRY, _RETRIES),
    Group("event.dispatcher.retry", _NONE, _RETRY, _RETRIES),
    Group("subscription.retry", _NONE, _RETRY, _RETRIES),
    Group("blobreceiver.retry", _NONE, _OTHER_RETRY, _RETRIES),
    Group("opupdate.retry", _NONE, _OTHER_RETRY, _RETRIES),
    Group(
        "download.retry",
        _NONE,
        _OTHER_RETRY | {"initialDelay": "100ms", "maxAttempts": "100"},
        _RETRIES,
    ),
    Group("broadcast.batch", _AS, _BATCH),
    Group(
        "broadcast.batch",
        _AS,
        {"timeout": "1s"},
        "the longest wait, 100ms by default; an idle pipe does not wait",
    ),
    Group(
        "broadcast.batch",
        _NONE,
        {"agentTimeout": "2m"},
        "has no effect: nothing is kept for a sender that is idle",
    ),
    Group("privatemessaging.batch", _AS, _BATCH),
    Group(
        "privatemessaging.batch",
        _AS,
        {"timeout": "1s"},
        "the longest wait, 100ms by default; an idle pipe does not wait",
    ),
    Group(
        "privatemessaging.batch",
        _NONE,
        {"agentTimeout": "2m"},
        "has no effect: nothing is kept for a sender that is idle",
    ),
    Group(
        "message.writer",
        _NONE,
        {"count": "5", "batchTimeout": "10ms", "batchMaxInserts": "200"},
        _WRITERS,
    ),
    Group(
        "transaction.writer",
        _NONE,
        {"count": "5", "batchTimeout": "10ms", "batchMaxTransactions": "100"},
        _WRITERS,
    ),
    Group("opupdate.worker", _NONE, _WORKER | {"queueLength": "50"}, _WRITERS),
    Group("blobreceiver.worker", _NONE, _WORKER, _WRITERS),
    Group(
        "download.worker",
        _NONE,
        {"count": "10", "queueLength": ""},
        "has no effect: downloads overlap up to a limit of their own",
    ),
    Group(
        "event.aggregator",
        _NONE,
        {
            "batchSize": "200",
            "batchTimeout": "0",
            "pollTimeout": "30s",
            "rewindTimeout": "50ms",
            "rewindQueueLength": "10",
            "rewindQueryLimit": "1000",
        },
        _NOTIFIED,
    ),
    Group(
        "event.aggregator",
        _NONE,
        {"firstEvent": "oldest"},
        "has no effect: every pin counts, or members would decide differently",
    ),
    Group(
        "event.dispatcher",
        _NONE,
        {"bufferLength": "5", "batchTimeout": "0", "pollTimeout": "30s"},
        _NOTIFIED,
    ),
    Group(
        "event.transports",
        _NONE,
        {"enabled": "[websockets, webhooks]", "default": "websockets"},
        "has no effect: both are always there, WebSockets by default",
    ),
    Group("event.dbevents", _NONE, {"bufferSize": "100"}, _NOTIFIED),
    Group(
        "events.websockets",
        _NONE,
        {"readBufferSize": "16Kb", "writeBufferSize": "16Kb"},
        _BUFFERS,
    ),
    Group(
        "events.webhooks",
        _AS,
        {
            "url": "",
            "headers.*": "",
            "auth.username": "",
            "auth.password": "",
            "proxy.url": "",
            "requestTimeout": "30s",
            "connectionTimeout": "30s",
            "idleTimeout": "475ms",
            "tlsHandshakeTimeout": "10s",
            "maxIdleConns": "100",
            "retry.enabled": "false",
            "retry.count": "5",
            "retry.initWaitTime": "250ms",
            "retry.maxWaitTime": "30s",
            "retry.errorStatusCodeRegex": "",
            "tls.*": "",
        },
        read=True,
    ),
    Group(
        "events.webhooks",
        _NONE,
        {
            "expectContinueTimeout": "1s",
            "maxConnsPerHost": "0",
            "maxIdleConnsPerHost": "100",
            "passthroughHeadersEnabled": "false",
            "throttle.*": "",
            "retry.factor": "2",
        },
        "has no effect on webhooks here",
        read=True,
    ),
    Group("subscription", _AS, {"max": "500"}),
    Group("subscription.defaults", _AS, {"batchSize": "50", "batchTimeout": "50ms"}),
    Group("subscription.events", _AS, {"maxScanLength": "1000"}),
    Group("cache", _NONE, _caches(), _CACHES),
    # Plugins
    Group(
        "plugins.<category>[]",
        _AS,
        {"name": "", "type": ""},
        "beside them `connector` says how the connector is reached",
        read=True,
    ),
    Group("plugins.database[].sqlite3", _AS, {"url": ""}, read=True),
    Group(
        "plugins.database[].postgres",
        _AS,
        {"url": "", "maxConns": "50", "maxConnIdleTime": "1m", "maxConnLifetime": ""},
        read=True,
    ),
    Group(
        "plugins.database[].<type>",
        _NONE,
        {"maxIdleConns": "", "migrations.auto": "false", "migrations.directory": ""},
        "has no effect: unused connections are kept a while, the tables are brought up to date",
        read=True,
    ),
    Group(
        "plugins.database[].sqlite3",
        _NONE,
        {"maxConns": "1", "maxConnIdleTime": "1m", "maxConnLifetime": ""},
        "has no effect: one connection writes, a few read",
        read=True,
    ),
    Group(
        "plugins.blockchain[], dataexchange[], sharedstorage[], tokens[]",
        Effect.CONNECTOR,
        {"<type>.*": ""},
        "its schema (`--print-schema`) says which; an unknown one is refused by the connector",
        read=True,
    ),
    Group(
        "plugins.tokens[]", _AS, {"broadcastName": ""}, "the name used on the network", read=True
    ),
    Group(
        "plugins.auth[]", _AS, {"basic.passwordfile": ""}, "beside it `jwt` and `grants`", read=True
    ),
    # Namespaces
    Group("namespaces", _AS, {"default": "default"}, read=True),
    Group(
        "namespaces.retry",
        _AS,
        {"initDelay": "5s"},
        "250ms by default: at its start a namespace often waits for a connector only",
        read=True,
    ),
    Group("namespaces.retry", _AS, {"maxDelay": "1m"}, read=True),
    Group("namespaces.retry", _NONE, {"factor": "2"}, "has no effect: pauses double", read=True),
    Group(
        "namespaces.predefined[]",
        _AS,
        {
            "name": "",
            "description": "",
            "defaultKey": "",
            "plugins": "",
            "multiparty.enabled": "",
            "multiparty.networkNamespace": "",
            "multiparty.org.name": "",
            "multiparty.org.description": "",
            "multiparty.org.key": "",
            "multiparty.node.name": "",
            "multiparty.node.description": "",
            "multiparty.contract[].location.*": "",
            "multiparty.contract[].firstEvent": "oldest",
            "multiparty.contract[].options.*": "",
            "tlsConfigs[].name": "",
            "tlsConfigs[].tls.*": "",
        },
        read=True,
    ),
    Group(
        "namespaces.predefined[]",
        _NONE,
        {"asset.manager.keyNormalization": "", "remoteName": ""},
        "has no effect: the connector normalizes keys, `multiparty.networkNamespace` names the network",
        read=True,
    ),
)

CHECKED: Final = tuple(
    dict.fromkeys(group.section.split(".")[0] for group in GROUPS if not group.read)
)
"""Sections whose keys are held against the table here."""

_DURATION: Final = re.compile(r"\d+(ms|s|m|h)")
_SIZE: Final = re.compile(r"\d+[KM]b")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the table."""

    path: str
    default: str
    group: Group


def entries() -> Iterator[Entry]:
    """All keys, in the order of the table."""
    for group in GROUPS:
        for key, default in group.keys.items():
            yield Entry(f"{group.section}.{key}", default, group)


def _by_path() -> Mapping[str, Entry]:
    return MappingProxyType({entry.path.lower(): entry for entry in entries()})


_ENTRIES: Final = _by_path()
_READ: Final = frozenset(group.section.lower() for group in GROUPS if group.read)


@dataclass(slots=True)
class _Check:
    """Holds what was given of some sections against the table."""

    report: Report

    def section(self, node: Node, path: str) -> None:
        for key, (_, child) in (node.members or {}).items():
            self._key(node, key, child, f"{path}.{key}")

    def _key(self, parent: Node, key: str, child: Node, path: str) -> None:
        if path in _READ:
            return
        entry = _ENTRIES.get(path)
        if entry is None and f"{path}.*" in _ENTRIES:
            entry = _ENTRIES[f"{path}.*"]
            if entry.group.effect is not Effect.AS_FIREFLY:
                self._tell(child, entry)
            return
        if child.members is not None and entry is None and _is_section(path):
            self.section(child, path)
        elif child.is_null:
            return
        elif entry is None:
            self.report.add(child, Rejected("FF19304", child.path))
        elif entry.group.effect is not Effect.AS_FIREFLY and not entry.group.read:
            self._check_value(parent, key, entry.default)
            self._tell(child, entry)

    def _tell(self, node: Node, entry: Entry) -> None:
        self.report.warn(node, entry.group.why)

    @staticmethod
    def _check_value(parent: Node, key: str, default: str) -> None:
        """A value that does nothing is still one of its kind: a slip in it is somebody's slip."""
        if _DURATION.fullmatch(default):
            parent.duration_s(key, 0.0)
        elif _SIZE.fullmatch(default):
            parent.size_bytes(key, 0)
        elif default in ("true", "false"):
            parent.boolean(key, default=False)
        elif default.startswith("["):
            parent.list(key)
        else:
            parent.text(key)


def _is_section(path: str) -> bool:
    return any(known.startswith(f"{path}.") for known in _ENTRIES)


def check_known(root: Node) -> None:
    """Warns of every given key that has no effect on the core, and refuses those nobody knows.

    Only of the sections in `CHECKED`; other readers do so for theirs.
    """
    check = _Check(root.report)
    for name in CHECKED:
        found = root.get(name)
        if found is None:
            continue
        if found.members is None:
            root.section(name)  # which says so
            continue
        check.section(found, name)
