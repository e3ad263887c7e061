"""Instances of the connector in memory without a wire: their methods are called as the kit calls them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from photinus_memory import MemoryConnector, World, connector_over
from photinus_memory.member import MemorySettings
from photinus_sdk import Instance

Made = Callable[[str], Awaitable[MemoryConnector]]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def member(world: World, tmp_path: Path) -> AsyncIterator[Made]:
    """Makes a member's instance in the world."""
    async with AsyncExitStack() as stack:

        async def make(name: str) -> MemoryConnector:
            instance = Instance(connector_over(world), name, tmp_path / name)
            stack.push_async_callback(instance.aclose)
            await instance.start(MemorySettings(name))
            assert isinstance(instance.author, MemoryConnector)
            return instance.author

        yield make
