"""A place with the real store for each test of batches on their way."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.messaging.office import Place, open_place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with open_place(tmp_path) as made:
        yield made
