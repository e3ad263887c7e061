"""Goal: pins are the bytes FireFly's contract takes, and its events are read as FireFly reads them.

Method: calls are compared with eth_abi's encoding; the event with one recorded from a real FireFly; hostile
logs are generated.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum import log_events, pins
from photinus_ethereum.checkpoints import Place
from photinus_ethereum.hexes import Address, BlockHash, TxHash
from photinus_ethereum.log_events import Found, Log, MultipartyLogs
from photinus_sdk.errors import Rejected

CONTRACT = Address("0x" + "5f" * 20)
PIN_TYPES = ["bytes32", "bytes32", "string", "bytes32[]"]
EVENT_TYPES = ["address", "uint256", "string", "bytes32", "bytes32", "string", "bytes32[]"]


def sample(reference: str = "QmX", contexts: int = 2) -> pins.Pin:
    words = [os.urandom(32) for _ in range(contexts + 2)]
    return pins.Pin(words[0], words[1], reference, tuple(words[2:]))


@pytest.mark.parametrize("reference", ["", "Q", "x" * 32, "ü" * 40])
@pytest.mark.parametrize("contexts", [0, 1, 7])
def test_pin_call_is_the_abi_encoding(reference: str, contexts: int) -> None:
    pin = sample(reference, contexts)
    arguments = [pin.uuids, pin.batch_hash, pin.payload_ref, list(pin.contexts)]
    selector = keccak(b"pinBatch(bytes32,bytes32,string,bytes32[])")[:4]
    assert pins.encode_pin(pin) == selector + encode(PIN_TYPES, arguments)
    first = keccak(b"pinBatch(string,bytes32,bytes32,string,bytes32[])")[:4]
    assert pins.encode_pin_v1("ns-ä", pin) == first + encode(
        ["string", *PIN_TYPES], ["ns-ä", *arguments]
    )


def test_network_action_call_is_the_abi_encoding() -> None:
    selector = keccak(b"networkAction(string,string)")[:4]
    expected = selector + encode(["string", "string"], ["firefly:terminate", "why"])
    assert pins.encode_network_action("terminate", "why") == expected


def test_event_topic_is_the_recorded_one() -> None:
    assert recorded()["info"]["topics"][0] == pins.EVENT_TOPIC


def recorded() -> dict[str, Any]:
    path = Path(__file__).parent / "data" / "batch_pin_event.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def recorded_log(**changes: Any) -> Log:
    event = recorded()
    output, info = event["output"], event["info"]
    data = encode(
        EVENT_TYPES,
        [
            output["author"],
            int(output["timestamp"]),
            changes.get("kind", output["namespace"]),
            bytes.fromhex(output["uuids"][2:]),
            bytes.fromhex(output["batchHash"][2:]),
            changes.get("payload", output["payloadRef"]),
            changes.get("contexts", [bytes.fromhex(context[2:]) for context in output["contexts"]]),
        ],
    )
    return Log(
        Address(info["address"]),
        tuple(info["topics"]),
        data,
        int(info["blockNumber"]),
        BlockHash(info["blockHash"]),
        TxHash(info["transactionHash"]),
        int(info["transactionIndex"]),
        int(info["logIndex"]),
    )


def found() -> Found:
    return Found(1795250019, 2021, "pins")


def test_batch_pin_event_is_the_recorded_one() -> None:
    expected = recorded()
    contract = MultipartyLogs(Address(expected["info"]["address"]), 2)
    event = contract.read(recorded_log(), found())
    assert event is not None
    chain = event.batch_pin.chain
    assert chain.protocol_id == expected["protocolId"]
    # Byte for byte: FireFly writes keys in this order.
    assert chain.output_json == json.dumps(expected["output"], separators=(",", ":"))
    info = json.loads(chain.info_json)
    for key in set(info) - {"listenerId"}:
        assert info[key] == expected["info"][key], key
    assert chain.transaction_id == expected["tx"]["blockchainId"]
    assert chain.signer == expected["output"]["author"]
    assert event.batch_pin.transaction_uuid == expected["tx"]["id"]
    assert not event.batch_pin.contract_invoke
    assert not event.batch_pin.network_namespace
    assert event.id == f"{expected['protocolId']}/pins"


@pytest.mark.parametrize(
    ("version", "kind", "contexts", "expected"),
    [
        (2, "firefly:batch_pin", [b"\1" * 32], ("batch_pin", "", False)),
        (2, "firefly:contract_invoke_pin", [b"\1" * 32], ("batch_pin", "", True)),
        (2, "anything", [], ("batch_pin", "", False)),
        (1, "ns1", [b"\1" * 32], ("batch_pin", "ns1", False)),
        (
            1,
            "firefly:contract_invoke_pin",
            [b"\1" * 32],
            ("batch_pin", "firefly:contract_invoke_pin", False),
        ),
    ],
)
def test_third_field_means_what_the_version_says(
    version: int, kind: str, contexts: list[bytes], expected: tuple[str, str, bool]
) -> None:
    log = recorded_log(kind=kind, contexts=contexts)
    event = MultipartyLogs(log.address, version).read(log, found())
    assert event is not None
    body = event.WhichOneof("body")
    pin = event.batch_pin
    assert (body, pin.network_namespace, pin.contract_invoke) == expected


@pytest.mark.parametrize("version", [1, 2])
def test_network_action_in_both_versions(version: int) -> None:
    log = recorded_log(kind="firefly:terminate", contexts=[], payload="why")
    event = MultipartyLogs(log.address, version).read(log, found())
    assert event is not None
    assert (event.network_action.action, event.network_action.payload) == ("terminate", "why")
    place = log_events.place_of(log, event)
    gone = MultipartyLogs(log.address, version).taken_back(log.block, place, "pins")
    assert gone.removed
    assert gone.id == event.id
    assert gone.WhichOneof("body") == "network_action"
    assert gone.network_action.chain.protocol_id == event.network_action.chain.protocol_id


def test_a_pin_taken_back_names_its_place() -> None:
    gone = MultipartyLogs(CONTRACT, 2).taken_back(9, Place(1, 2), "pins")
    assert gone.batch_pin.chain.position.block == 9
    assert gone.batch_pin.chain.protocol_id == "000000000009/000001/000002"


@given(st.binary(max_size=600), st.integers(0, 600))
def test_hostile_logs_are_left_out(noise: bytes, cut: int) -> None:
    data = recorded_log().data
    for hostile in (noise, data[:cut], noise + data[len(noise) :]):
        log = Log(
            CONTRACT,
            (pins.EVENT_TOPIC,),
            hostile,
            1,
            BlockHash("0x" + "00" * 32),
            TxHash("0x" + "00" * 32),
            0,
            0,
        )
        event = MultipartyLogs(CONTRACT, 2).read(log, found())
        assert event is None or event.id


def test_other_contracts_and_oversized_events_are_left_out() -> None:
    log = recorded_log()
    assert MultipartyLogs(CONTRACT, 2).read(log, found()) is None
    large = recorded_log(payload="x" * log_events.EVENT_BYTES_MAX)
    assert MultipartyLogs(large.address, 2).read(large, found()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"transaction_uuid": "x"},
        {"batch_id": ""},
        {"batch_hash": "12"},
        {"batch_hash": "zz" * 32},
        {"contexts": ["12"]},
        {"contexts": ["00" * 32] * (pins.CONTEXTS_MAX + 1)},
        {"payload_ref": "x" * (pins.PAYLOAD_REF_BYTES_MAX + 1)},
    ],
)
def test_bad_pins_are_refused(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "transaction_uuid": "7d457cbe-030f-458a-8ed1-9ef6ec6fc413",
        "batch_id": "24ba23b2-aef7-4337-9f77-acda67763b63",
        "batch_hash": "00" * 32,
        "payload_ref": "",
        "contexts": ["11" * 32],
    }
    assert pins.parse_pin(**good).uuids.hex().startswith("7d457cbe030f")
    with pytest.raises(Rejected):
        pins.parse_pin(**(good | changes))
