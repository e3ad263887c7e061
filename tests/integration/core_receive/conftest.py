"""What the tests of the receiving side share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_core.ports.store import Store

from tests.integration.core_receive import network
from tests.integration.core_receive.network import Chain, SharedDictionary
from tests.integration.core_receive.senders import Org
from tests.support.databases import PostgresDatabases
from tests.support.postgres import PostgresServer


@pytest.fixture(autouse=True, params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs on both databases."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        monkeypatch.setattr(network, "databases", PostgresDatabases(server))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = await network.open_store(tmp_path / "core.db")
    yield made
    await made.aclose()


@pytest.fixture
def storage() -> SharedDictionary:
    return SharedDictionary()


@pytest.fixture
def chain(storage: SharedDictionary) -> Chain:
    return Chain(storage)


@pytest.fixture
def bob() -> Org:
    return Org("bob")
