"""The plugins of category `database`: a file of SQLite, or a PostgreSQL server."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from photinus_core.app.config.settings import PluginSettings
from photinus_core.app.config.tree import Node
from photinus_core.model.errors import Rejected
from photinus_core.store import PostgresSettings, check_url

DATABASES: Final = {"sqlite3": "sqlite3", "sqlite": "sqlite3", "postgres": "postgres"}
CONNECTIONS_MIN: Final = 5
CONNECTIONS_MAX: Final = 1_000
TIMEOUT_MIN_S: Final = 0.1

_WITHOUT_EFFECT: Final = ("maxIdleConns",)
_SQLITE_WITHOUT_EFFECT: Final = ("maxConns", "maxConnIdleTime", "maxConnLifetime", "maxIdleConns")


def read_database(entry: Node, name: str, kind: str) -> PluginSettings:
    """Reads one database plugin; problems go to the entry's report."""
    if kind not in DATABASES:
        entry.report.add(entry, Rejected("FF10122", kind))
    config = entry.section(kind)
    postgres = None
    if kind != "postgres":
        config.without_effect(
            _SQLITE_WITHOUT_EFFECT, "has no effect: one connection writes, a few read"
        )
        _migrations(config)
        config.text("url")
        config.check_unknown()
    if not config.text("url"):
        entry.report.add(entry, Rejected("FF19305", f"{kind}.url", "is required"))
    elif kind == "postgres":
        postgres = _postgres(config)
    # The URL holds a password: it is kept only where connections are made.
    plain = None if kind == "postgres" else config.plain()
    entry.check_unknown()
    return PluginSettings(name, "database", DATABASES.get(kind, kind), None, plain, postgres)


def _postgres(config: Node) -> PostgresSettings:
    """Reads the section of PostgreSQL: FireFly's keys, and ours for timeouts."""
    default = PostgresSettings(config.text("url"))
    try:
        check_url(default.url)
    except Rejected as failure:
        config.report.add(config.get("url") or config, failure)
    settings = replace(
        default,
        connections_max=config.integer(
            "maxConns", default.connections_max, CONNECTIONS_MIN, CONNECTIONS_MAX
        ),
        connection_idle_s=config.duration_s("maxConnIdleTime", default.connection_idle_s),
        connection_lifetime_s=config.duration_s("maxConnLifetime", default.connection_lifetime_s),
        connect_timeout_s=_timeout_s(config, "connectTimeout", default.connect_timeout_s),
        start_timeout_s=config.duration_s("startTimeout", default.start_timeout_s),
        read_timeout_s=_timeout_s(config, "readTimeout", default.read_timeout_s),
        write_timeout_s=_timeout_s(config, "writeTimeout", default.write_timeout_s),
        idle_in_transaction_s=_timeout_s(
            config, "idleInTransactionTimeout", default.idle_in_transaction_s
        ),
        wait_s=_timeout_s(config, "connectionWait", default.wait_s),
        poll_s=_timeout_s(config, "pollInterval", default.poll_s),
    )
    config.without_effect(_WITHOUT_EFFECT, "has no effect: unused connections are kept a while")
    _migrations(config)
    config.check_unknown()
    return settings


def _migrations(config: Node) -> None:
    migrations = config.section("migrations")
    why = "has no effect: the tables are always brought up to date"
    if not migrations.boolean("auto", default=True):
        migrations.without_effect(("auto",), why)
    migrations.without_effect(("directory",), why)
    migrations.check_unknown()


def _timeout_s(config: Node, key: str, default: float) -> float:
    value = config.duration_s(key, default)
    if value >= TIMEOUT_MIN_S:
        return value
    found = config.get(key)
    if found is not None:
        found.report.add(found, Rejected("FF19305", key, f"must be at least {TIMEOUT_MIN_S:g} s"))
    return default
