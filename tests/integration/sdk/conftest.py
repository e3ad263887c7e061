"""A ledger served in the test's own process, and stubs that talk to it over a unix socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_sdk import ConnectorServer

from tests.support.ledger import Ledger
from tests.support.wire import Wire, dialled


@pytest.fixture
async def server(run_dir: Path) -> AsyncIterator[ConnectorServer]:
    async with ConnectorServer(Ledger, f"unix:{run_dir}/x.sock", run_dir / "data") as made:
        yield made


@pytest.fixture
async def wire(server: ConnectorServer) -> AsyncIterator[Wire]:
    async with dialled(server.address) as made:
        yield made


@pytest.fixture
async def ledger(wire: Wire) -> Ledger:
    """The author's object of the configured instance `i1`."""
    await wire.configure({"token": "hunter22"})
    return Ledger.live[-1]
