"""Databases for the contract tests of the store; PostgreSQL becomes a second parameter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from photinus_core.ports.store import Store
from photinus_core.store import SqliteStore

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the test's database; opening it again after closing finds what was stored."""
    assert request.param == "sqlite"

    async def open_sqlite() -> Store:
        return await SqliteStore.open(tmp_path / "core.db")

    return open_sqlite


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    opened = await open_store()
    yield opened
    await opened.aclose()
