"""What suites of this folder share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short, private directory: a socket's path must stay below 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        yield Path(name)
