"""The databases, cores and gateways of the tests of the SPI."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from photinus_core.ports.store import Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore

from tests.support.golden import REPOSITORY
from tests.support.spi import Core, Gateway, core_up, gateway_up

BUILD_TIMEOUT_S = 300
OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway, built."""
    built = tmp_path_factory.mktemp("gateway") / "photinus-gateway"
    command = ["go", "build", "-o", str(built), "./cmd/photinus-gateway"]
    subprocess.run(command, cwd=REPOSITORY / "gateway", check=True, timeout=BUILD_TIMEOUT_S)
    return built


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the test's database."""
    if request.param == "sqlite":
        return lambda: SqliteStore.open(tmp_path / "core.db")
    url: str = request.getfixturevalue("postgres_url")

    async def open_postgres() -> Store:
        opened = await PostgresStore.open(PostgresSettings(url))
        await opened.wait_listening()
        return opened

    return open_postgres


@pytest.fixture
async def core(open_store: OpenStore) -> AsyncIterator[Core]:
    """A core on one of the databases."""
    store = await open_store()
    try:
        async with core_up(store) as made:
            yield made
    finally:
        await store.aclose()


@pytest.fixture
async def gateway(program: Path, core: Core) -> AsyncIterator[Gateway]:
    """A gateway for the core."""
    async with gateway_up(program, core.address) as made:
        yield made
