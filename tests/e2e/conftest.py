"""The networks that end-to-end tests share, each started once with `photinus up`.

Tests run in them one after the other and must not disturb them: use tags and topics of your own, do
not stop their processes. Who needs that starts another with `tests.support.network.network_up`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.network import RunningNetwork, network_up


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """Two members that know each other."""
    with network_up(tmp_path_factory.mktemp("network") / "shared") as running:
        yield running


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """Three members that know each other."""
    with network_up(tmp_path_factory.mktemp("network") / "three", 3) as running:
        yield running
