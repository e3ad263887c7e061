"""Databases for the tests of data: each runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.support.databases import Databases, PostgresDatabases, SqliteDatabases


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Databases of one kind."""
    if request.param == "postgres":
        return PostgresDatabases(request.getfixturevalue("postgres_server"))
    return SqliteDatabases()
