"""Databases for the contract tests of the store: each runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from photinus_core.ports.store import Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the test's database; opening it again after closing finds what was stored."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")

        async def open_postgres() -> Store:
            return await PostgresStore.open(PostgresSettings(url))

        return open_postgres

    async def open_sqlite() -> Store:
        return await SqliteStore.open(tmp_path / "core.db")

    return open_sqlite


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    opened = await open_store()
    yield opened
    await opened.aclose()
