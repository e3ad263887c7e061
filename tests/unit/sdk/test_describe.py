"""Goal: what a class overrides is what Describe claims; nonsense is refused when the class is made.

Method: declare classes, read their description.
"""

from typing import Any

import pytest
from photinus.connector.v1 import connector_pb2 as connector
from photinus_sdk import Blockchain, Connector, DataExchange, Settings, SharedStorage

C = connector


class OwnSettings(Settings):
    url: str


class Pinner(Blockchain[OwnSettings], name="example.pinner", version="1.0.0-rc.1"):
    async def submit_batch_pin(self, request: Any, call: Any) -> Any: ...
    async def submit_network_action(self, request: Any, call: Any) -> Any: ...


class Exchange(
    DataExchange[Settings], name="dx", version="1.0.0", capabilities={C.CAPABILITY_RECEIPTS}
):
    pass


class Store(SharedStorage[Settings], name="store", version="1.0.0"):
    async def pin(self, request: Any, call: Any) -> Any: ...


class PinningStore(Store, name="store", version="1.0.0"):
    async def unpin(self, request: Any, call: Any) -> Any: ...


class Both(Pinner, Store, name="both", version="1.0.0"):
    pass


def claimed(cls: type[Connector[Any]]) -> dict[int, set[int]]:
    return {c.kind: set(c.capabilities) for c in cls.description.contracts}


def test_capabilities_follow_from_overrides() -> None:
    assert claimed(Pinner) == {
        C.CONTRACT_KIND_BLOCKCHAIN: {
            C.CAPABILITY_OPERATIONS,
            C.CAPABILITY_EVENTS,
            C.CAPABILITY_MULTIPARTY,
        }
    }
    assert claimed(Exchange) == {
        C.CONTRACT_KIND_DATA_EXCHANGE: {
            C.CAPABILITY_OPERATIONS,
            C.CAPABILITY_EVENTS,
            C.CAPABILITY_RECEIPTS,
        }
    }
    assert claimed(Store) == {C.CONTRACT_KIND_SHARED_STORAGE: {C.CAPABILITY_OPERATIONS}}
    assert C.CAPABILITY_PINNING in claimed(PinningStore)[C.CONTRACT_KIND_SHARED_STORAGE]
    assert set(claimed(Both)) == {C.CONTRACT_KIND_BLOCKCHAIN, C.CONTRACT_KIND_SHARED_STORAGE}


def test_describes_itself() -> None:
    about = Pinner.description
    assert (about.name, about.version, list(about.protocols)) == (
        "example.pinner",
        "1.0.0-rc.1",
        ["v1"],
    )
    assert '"url"' in about.config_schema_json
    assert about.build.kit.startswith("photinus-sdk ")
    assert about.contracts[0].limits.idempotency_retention_s == 7 * 24 * 3600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "Upper", "version": "1.0.0"}, "no connector name"),
        ({"name": "x" * 64, "version": "1.0.0"}, "no connector name"),
        ({"name": "good", "version": "1.0"}, "no semantic version"),
        (
            {"name": "good", "version": "1.0.0", "capabilities": {C.CAPABILITY_RECEIPTS}},
            "CAPABILITY_RECEIPTS cannot be claimed",
        ),
    ],
)
def test_nonsense_is_refused_when_the_class_is_made(arguments: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        type("Wrong", (Store,), {}, **arguments)


def test_a_class_without_contract_is_refused() -> None:
    with pytest.raises(TypeError, match="derives from no contract"):
        type("Nothing", (Connector,), {}, name="nothing", version="1.0.0")
