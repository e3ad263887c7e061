"""What tests of the host share: a liar, and the host's waiting times shrunk where a test asks for it."""

import pytest
from photinus_core.host import process, stream
from photinus_core.sequencing import connector_life
from photinus_core.sequencing.connector_life import LifeLimits

from tests.support.liar import Liar


@pytest.fixture
def liar() -> Liar:
    """A connector that lies as the test tells it to."""
    return Liar()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits for processes that do not end, short cool-downs."""
    limits = LifeLimits(cool_down_ns=connector_life.SECOND_NS // 5)
    monkeypatch.setattr(connector_life, "LIMITS", limits)
    monkeypatch.setattr(process, "TERM_WAIT_S", 0.3)
    monkeypatch.setattr(process, "HANDSHAKE_WAIT_S", 10.0)
    monkeypatch.setattr(stream, "BROKEN_REOPEN_FIRST_S", 0.1)
