"""Databases by path for tests that run on SQLite and on PostgreSQL alike: opened again, they hold what was stored."""

from __future__ import annotations

from pathlib import Path

from photinus_core.ports.store import Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore

from tests.support.postgres import PostgresServer, create_database, empty_database

_made: dict[PostgresServer, list[str]] = {}
"""Databases of earlier tests, used again: emptying one costs far less than making one."""


class SqliteDatabases:
    """A file for each path."""

    async def open(self, path: Path) -> Store:
        return await SqliteStore.open(path)

    async def address(self, path: Path) -> str:
        """Where another process opens it."""
        return str(path)


class PostgresDatabases:
    """One of the server's databases for each path of a test."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._urls: dict[Path, str] = {}

    async def open(self, path: Path) -> Store:
        url = await self.address(path)
        return await PostgresStore.open(PostgresSettings(url, connections_max=6))

    async def address(self, path: Path) -> str:
        """Where another process opens it."""
        if path not in self._urls:
            self._urls[path] = await self._next()
        return self._urls[path]

    async def _next(self) -> str:
        made = _made.setdefault(self._server, [])
        if len(self._urls) < len(made):
            url = made[len(self._urls)]
            await empty_database(url)
        else:
            url = await create_database(self._server, f"photinus_path_{len(made)}")
            made.append(url)
        return url


Databases = SqliteDatabases | PostgresDatabases
