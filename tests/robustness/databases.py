"""The harness's own eyes in a member's database: what is stored at the end, and who wrote it under which epoch.

It reads and adds one table of its own with triggers that fill it; it changes nothing of the product's.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg

from tests.robustness.fault_proxy import FaultProxy

ROLE: Final = "namespace/default"
AUDITED: Final = ("pins", "next_pins", "nonces", "batches", "checkpoints")
"""Tables that only the leader of a namespace writes."""
BUSY_S: Final = 20.0
_SQLITE_TABLE: Final = (
    "CREATE TABLE chaos_audit (number INTEGER PRIMARY KEY AUTOINCREMENT, "
    "epoch INTEGER NOT NULL, writer TEXT NOT NULL, source TEXT NOT NULL)"
)
_POSTGRES_TABLE: Final = (
    "CREATE TABLE chaos_audit (number BIGSERIAL PRIMARY KEY, "
    "epoch BIGINT NOT NULL, writer TEXT NOT NULL, source TEXT NOT NULL)"
)
# The session is known by its port, and the port by the proxy it came through.
_POSTGRES_FUNCTION: Final = (
    "CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "INSERT INTO chaos_audit (epoch, writer, source) "
    "SELECT epoch, inet_client_port() || ' ' || "
    "extract(epoch FROM clock_timestamp()), TG_TABLE_NAME "
    f"FROM leases WHERE role = '{ROLE}'; RETURN NULL; END $$"
)


class Database(Protocol):
    """A member's database."""

    def writer(self, told: str) -> str:
        """Who wrote a row, from what the database could tell."""

    async def install_audit(self) -> None:
        """From now on every write to a leader's table is recorded with the epoch that holds."""

    async def rows(self, statement: str) -> Sequence[Sequence[Any]]:
        """What a statement finds."""


class SqliteDatabase:
    """The file of a core with one replica."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def writer(self, told: str) -> str:
        return f"the process with epoch {told}"

    async def install_audit(self) -> None:
        await asyncio.to_thread(self._install)

    async def rows(self, statement: str) -> Sequence[Sequence[Any]]:
        return await asyncio.to_thread(self._rows, statement)

    def _install(self) -> None:
        statements = [_SQLITE_TABLE]
        # One process has the file at a time and has raised the epoch, so the epoch tells the writer.
        statements += [
            f"CREATE TRIGGER chaos_{table}_{event} AFTER {event} ON {table} BEGIN "
            f"INSERT INTO chaos_audit (epoch, writer, source) SELECT epoch, epoch, '{table}' "
            f"FROM leases WHERE role = '{ROLE}'; END"
            for table in AUDITED
            for event in ("insert", "update")
        ]
        with sqlite3.connect(self._path, timeout=BUSY_S) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    def _rows(self, statement: str) -> Sequence[Sequence[Any]]:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=BUSY_S)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


class PostgresDatabase:
    """A database on a server that several replicas use.

    Args:
        url: Past every proxy.
        proxies: Those that cores connect through, by the core's name.
    """

    def __init__(self, url: str, proxies: Mapping[str, FaultProxy]) -> None:
        self._url = url
        self._proxies = proxies

    def writer(self, told: str) -> str:
        """The core behind the connection that was made last from a port before a time."""
        port, when = told.split(" ")
        made = [
            (at, name)
            for name, proxy in self._proxies.items()
            for at, from_port in proxy.far_ports
            if from_port == int(port) and at <= float(when)
        ]
        return max(made)[1] if made else f"nobody known, from port {port}"

    async def install_audit(self) -> None:
        statements = [_POSTGRES_TABLE, _POSTGRES_FUNCTION]
        statements += [
            f"CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION chaos_note()"
            for table in AUDITED
        ]
        connection = await asyncpg.connect(self._url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def rows(self, statement: str) -> Sequence[Sequence[Any]]:
        connection = await asyncpg.connect(self._url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
