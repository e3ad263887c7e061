"""A connector in the test's own process, a chain beside it, and a core that talks to it over a unix socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_ethereum.service import EthereumConnector
from photinus_sdk import ConnectorServer

from tests.support.chains import Chain, anvil, geth
from tests.support.ethereum_core import Core
from tests.support.wire import dialled


@pytest.fixture
async def core(run_dir: Path) -> AsyncIterator[Core]:
    """Not yet configured."""
    address = f"unix:{run_dir}/x.sock"
    async with (
        ConnectorServer(EthereumConnector, address, run_dir / "data") as server,
        dialled(server.address) as wire,
    ):
        yield Core(wire)


@pytest.fixture
async def anvil_chain() -> AsyncIterator[Chain]:
    """Mines a block per transaction."""
    async with anvil() as chain:
        yield chain


@pytest.fixture(params=["anvil", "geth"])
async def any_chain(request: pytest.FixtureRequest) -> AsyncIterator[Chain]:
    """Each of the two nodes."""
    async with anvil() if request.param == "anvil" else geth() as chain:
        yield chain
