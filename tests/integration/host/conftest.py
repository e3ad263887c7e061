"""A short, private directory, and the host's waiting times shrunk where a test asks for it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from photinus_core.host import process, stream, supervisor
from photinus_core.sequencing import connector_life


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        yield Path(name)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings every 0.2 s, and short waits for processes that do not end."""
    second = connector_life.SECOND_NS
    monkeypatch.setattr(connector_life, "PING_EVERY_NS", second // 5)
    monkeypatch.setattr(connector_life, "PING_DEADLINE_NS", second // 5)
    monkeypatch.setattr(supervisor, "PING_DEADLINE_NS", second // 5)
    monkeypatch.setattr(supervisor, "LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr(process, "TERM_WAIT_S", 0.3)
    monkeypatch.setattr(process, "HANDSHAKE_WAIT_S", 5.0)
    monkeypatch.setattr(stream, "BROKEN_REOPEN_FIRST_S", 0.1)
