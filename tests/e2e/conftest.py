"""The network all end-to-end tests share: two members, started once with `photinus up`.

Tests run in it one after the other and must not disturb it: use tags and topics of your own, do not
stop its processes. Who needs that starts another with `tests.support.network.network_up`.
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
