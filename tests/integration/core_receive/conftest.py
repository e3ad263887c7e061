"""What the tests of the receiving side share."""

import pytest

from tests.integration.core_receive.network import Chain, SharedDictionary
from tests.integration.core_receive.senders import Org


@pytest.fixture
def storage() -> SharedDictionary:
    return SharedDictionary()


@pytest.fixture
def chain(storage: SharedDictionary) -> Chain:
    return Chain(storage)


@pytest.fixture
def bob() -> Org:
    return Org("bob")
