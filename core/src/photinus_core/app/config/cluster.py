"""The `cluster` section: how several replicas of this core elect their leaders.

    cluster:
      replica: alpha-1
      address: alpha-1.example.org:5002
      zookeeper:
        hosts: zk1:2181,zk2:2181,zk3:2181
        chroot: /photinus/alpha
        sessionTimeout: 4s
        handOverAfter: 20s
        auth: { user: photinus, password: secret }
        tls: { enabled: true, caFile: ca.pem, certFile: core.pem, keyFile: core.key }

Without `zookeeper` there is one replica, which leads without asking anybody.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from photinus_core.app.config.settings import ClusterSettings, PluginSettings
from photinus_core.app.config.tree import Node
from photinus_core.cluster import EnsembleSettings, TlsSettings
from photinus_core.cluster.zookeeper import QUIET_S, SESSION_MAX_S
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.names import check_name
from photinus_core.namespaces.settings import NamespaceSettings

SESSION_DEFAULT_S: Final = 4.0
SESSION_MIN_S: Final = 2.0
"""Anything shorter takes a pause of a busy machine for a failure."""
CHROOT_DEFAULT: Final = "/photinus"
HAND_OVER_MAX_S: Final = 86_400.0
FINGERPRINT_CHARS: Final = 16

_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")
_CHROOT: Final = re.compile(r"(/[A-Za-z0-9._-]*[A-Za-z0-9_-])+")


def read_cluster(section: Node, plugins: Sequence[PluginSettings]) -> ClusterSettings:
    """Reads the section; problems go to the report."""
    replica = section.text("replica")
    if replica:
        try:
            check_name(replica, "replica")
        except PhotinusError as failure:
            place = section.get("replica") or section
            place.report.add(place, Rejected("FF19305", "cluster.replica", str(failure)))
    zookeeper = section.section("zookeeper")
    wanted = section.get("zookeeper") is not None
    settings = ClusterSettings(
        replica,
        section.text("address"),
        _ensemble(zookeeper) if wanted else None,
        zookeeper.duration_s("handOverAfter", QUIET_S),
    )
    if not 0 < settings.hand_over_after_s <= HAND_OVER_MAX_S:
        _wrong(zookeeper, "handOverAfter", f"must be above 0 and at most {HAND_OVER_MAX_S:g}s")
    if settings.ensemble is not None:
        _check_plugins(zookeeper, plugins)
        _check_session(zookeeper, settings.ensemble.session_timeout_s, plugins)
    zookeeper.check_unknown()
    section.check_unknown()
    return settings


def session_min_s(plugins: Sequence[PluginSettings]) -> float:
    """Shortest session: the database must have ended what a frozen leader left before another may lead."""
    waits = (p.postgres.idle_in_transaction_s for p in plugins if p.postgres is not None)
    return max(SESSION_MIN_S, *waits, 0.0)


def fingerprint(
    namespaces: Sequence[NamespaceSettings], plugins: Sequence[PluginSettings], default: str
) -> str:
    """A digest of what must be alike in all replicas.

    Where connectors and the database are reached may differ from host to host; whether it is the same database is
    checked apart.
    """
    alike = {
        "default": default,
        "namespaces": [asdict(n) for n in sorted(namespaces, key=lambda n: n.name)],
        "plugins": [
            (p.name, p.category, p.type, None if p.category == "database" else p.config)
            for p in sorted(plugins, key=lambda p: p.name)
        ],
    }
    text = json.dumps(alike, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_CHARS]


def _ensemble(section: Node) -> EnsembleSettings:
    auth = section.section("auth")
    user, password = auth.text("user"), auth.text("password")
    if bool(user) != bool(password) or ":" in user:
        _wrong(section, "auth", "give a user (without ':') and a password, or neither")
    auth.check_unknown()
    settings = EnsembleSettings(
        hosts=_hosts(section),
        chroot=section.text("chroot", CHROOT_DEFAULT),
        session_timeout_s=section.duration_s("sessionTimeout", SESSION_DEFAULT_S),
        auth=f"{user}:{password}" if user else "",
        tls=_tls(section.section("tls")),
    )
    if _CHROOT.fullmatch(settings.chroot) is None:
        _wrong(section, "chroot", f"'{settings.chroot}' is not a path such as /photinus/alpha")
    return settings


def _hosts(section: Node) -> str:
    found = section.get("hosts")
    if found is not None and found.items is not None:
        named = [item.scalar or "" for item in found.items]
    else:
        named = [h.strip() for h in section.text("hosts").split(",")]
    for host in named:
        match = _HOST.fullmatch(host)
        if match is None or not 0 < int(match["port"] or "2181") < 2**16:
            _wrong(section, "hosts", f"'{host}' is not a host with a port such as zk1:2181")
    return ",".join(named)


def _tls(section: Node) -> TlsSettings | None:
    paths = {key: section.text(key) for key in ("caFile", "certFile", "keyFile")}
    enabled = section.boolean("enabled", default=any(paths.values()))
    insecure = section.boolean("insecureSkipHostVerify", default=False)
    if bool(paths["certFile"]) != bool(paths["keyFile"]):
        _wrong(section, "certFile", "give certFile and keyFile, or neither")
    section.check_unknown()
    if not enabled:
        return None
    ca, cert, key = (Path(p) if p else None for p in paths.values())
    return TlsSettings(ca, cert, key, verify_host=not insecure)


def _check_plugins(section: Node, plugins: Sequence[PluginSettings]) -> None:
    for plugin in plugins:
        if plugin.connector is not None and plugin.connector.launch:
            section.report.add(section, Rejected("FF19210", plugin.name))
        if plugin.category == "database" and plugin.type == "sqlite3":
            section.report.add(section, Rejected("FF19159", plugin.name))


def _check_session(section: Node, session_s: float, plugins: Sequence[PluginSettings]) -> None:
    low_s = session_min_s(plugins)
    if not low_s <= session_s <= SESSION_MAX_S:
        place = section.get("sessionTimeout") or section
        place.report.add(place, Rejected("FF19155", session_s, low_s, SESSION_MAX_S))


def _wrong(section: Node, key: str, text: str) -> None:
    place = section.get(key) or section
    place.report.add(place, Rejected("FF19305", f"{section.path}.{key}", text))
