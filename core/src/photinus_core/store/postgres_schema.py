"""Opening a PostgreSQL database: is it usable, migrations under a lock, the cluster's id."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from photinus_core.model.errors import PhotinusError, Unavailable
from photinus_core.model.ids import new_uuid
from photinus_core.store.postgres_connections import Connection
from photinus_core.store.postgres_dialect import CASE_COLLATIONS, DIALECT
from photinus_core.store.postgres_errors import LIBRARY_ERRORS, translate_error
from photinus_core.store.schema import VERSION_TABLE, load_migrations, pending_migrations

SERVER_VERSION_MIN: Final = 13
MIGRATION_LOCK: Final = 0x50484F54494E5553
"""Key of the advisory lock under which one replica migrates ("PHOTINUS")."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening found out.

    Attributes:
        cluster_id: UUID of the core cluster, made with the database.
        case_collation: Collation to fold letters with.
        durability: Settings that writing sessions need, so that what is acknowledged is on disk.
    """

    cluster_id: str
    case_collation: str
    durability: Mapping[str, str]


async def prepare_database(connection: Connection, place: str) -> Opened:
    """Checks a database and brings its schema up to date; several replicas may do so at once.

    Raises:
        Unavailable: FF19139 the server cannot serve; FF19104, FF19105, FF19109 the database is not
            one of this program; FF19107, FF19101 it cannot be written.
    """
    try:
        await _check_server(connection, place)
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
        try:
            cluster_id = await _migrate(connection, place)
        finally:
            if not connection.is_closed():
                await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
        return Opened(cluster_id, await _case_collation(connection), await _durability(connection))
    except PhotinusError:
        raise
    except LIBRARY_ERRORS as failure:
        raise translate_error(failure, place) from failure


async def _check_server(connection: Connection, place: str) -> None:
    version = connection.get_server_version()
    if version.major < SERVER_VERSION_MIN:
        reason = f"it is version {version.major}, the oldest that serves is {SERVER_VERSION_MIN}"
        raise Unavailable("FF19139", place, reason)
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise Unavailable("FF19139", place, f"its encoding is {encoding}, not UTF8")


async def _migrate(connection: Connection, place: str) -> str:
    async with connection.transaction():
        known = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
        if not known:
            await _refuse_strangers(connection, place)
        await connection.execute(VERSION_TABLE)
        applied = await connection.fetch(
            "SELECT version, checksum, min_code FROM schema_migrations ORDER BY version"
        )
        for migration in pending_migrations([tuple(row) for row in applied], load_migrations()):
            await connection.execute(";\n".join(migration.statements(DIALECT)))
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum, applied, min_code) "
                "VALUES ($1, $2, $3, $4, $5)",
                migration.version,
                migration.name,
                migration.checksum,
                # tidy: when this database was migrated is of interest to people only
                time.time_ns(),
                migration.min_code,
            )
            _log.info("migrated the database to version %d", migration.version)
        await connection.execute(
            "INSERT INTO meta (key, value) VALUES ('cluster_id', $1) ON CONFLICT DO NOTHING",
            new_uuid(),
        )
        return str(await connection.fetchval("SELECT value FROM meta WHERE key = 'cluster_id'"))


async def _refuse_strangers(connection: Connection, place: str) -> None:
    tables = await connection.fetchval(
        "SELECT count(*) FROM pg_class c WHERE c.relkind IN ('r', 'p') "
        "AND c.relnamespace = current_schema()::regnamespace"
    )
    if tables:
        raise Unavailable("FF19109", f"PostgreSQL at {place}")


async def _case_collation(connection: Connection) -> str:
    rows = await connection.fetch(
        "SELECT collname FROM pg_collation WHERE collname = ANY($1)", list(CASE_COLLATIONS)
    )
    there = {row[0] for row in rows}
    return next(name for name in CASE_COLLATIONS if name in there or name == "default")


async def _durability(connection: Connection) -> dict[str, str]:
    if await connection.fetchval("SHOW fsync") == "off":
        _log.warning(
            "the database runs with fsync=off: a power failure loses what was acknowledged"
        )
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        _log.warning("synchronous_commit=off is overruled: what is acknowledged must be on disk")
        return {"synchronous_commit": "on"}
    return {}
