"""Goal: values and types cross between JSON and ABI as FireFly's clients expect.

Method: encodings are compared with those of eth_abi and with vectors of the ABI specification; interfaces with
one recorded from a real FireFly; bad values with the messages FireFly gives.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from photinus_ethereum import abi_types, interfaces, reverts
from photinus_ethereum.abi_types import AbiType
from photinus_ethereum.abi_values import decode_event, decode_values, encode_arguments
from photinus_sdk.errors import Rejected

DATA = Path(__file__).parent / "data"
U256 = AbiType("value", "uint256")
ITEM = AbiType(
    "item",
    "tuple",
    components=(AbiType("id", "uint256"), AbiType("label", "string"), AbiType("data", "bytes")),
)


def recorded() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / "generated_interface.json").read_text())
    return loaded


def test_interface_is_the_one_firefly_generates() -> None:
    given = recorded()["request"]
    expected = recorded()["response"]
    found = interfaces.generate(
        given["input"]["abi"],
        namespace="default",
        name=given["name"],
        version=given["version"],
        description=given["description"],
    )
    for kind in ("methods", "events", "errors"):
        by_path = {each["pathname"]: each for each in found[kind]}
        for each in expected[kind]:
            # Byte for byte, so the order of keys counts too.
            assert json.dumps(by_path.pop(each["pathname"])) == json.dumps(each)
        # FireFly drops all but the last of several functions with one name.
        assert list(by_path) == (["tag_1"] if kind == "methods" else [])
    rest = set(expected) - {"methods", "events", "errors"}
    assert {key: found[key] for key in rest} == {key: expected[key] for key in rest}


def test_generated_methods_read_back_to_the_same_signatures() -> None:
    abi = recorded()["request"]["input"]["abi"]
    found = interfaces.generate(abi, namespace="n", name="", version="", description="")
    assert (found["name"], found["version"]) == ("generated", "0.0.1")
    for method in found["methods"]:
        plain = next(
            entry
            for entry in abi
            if entry.get("name") == method["name"] and len(entry["inputs"]) == len(method["params"])
        )
        expected = abi_types.signature_of(
            method["name"], abi_types.params_from_abi(plain["inputs"])
        )
        assert abi_types.method_from_ffi(method).signature == expected


def test_empty_abi_is_refused_in_fireflys_words() -> None:
    with pytest.raises(Rejected, match=r"FF10346: .*ABI is empty"):
        interfaces.generate([], namespace="n", name="", version="", description="")


@pytest.mark.parametrize(
    ("signature", "selector"),
    [
        ("transfer(address,uint256)", "a9059cbb"),
        ("baz(uint32,bool)", "cdcd77c0"),
        ("bar(bytes3[2])", "fce353f6"),
        ("f(uint256,uint32[],bytes10,bytes)", "8be65246"),
    ],
)
def test_selectors_of_the_abi_specification(signature: str, selector: str) -> None:
    name, _, rest = signature.partition("(")
    inputs = abi_types.params_from_abi([{"type": part} for part in rest[:-1].split(",")])
    assert abi_types.method(name, inputs, ()).selector.hex() == selector


@pytest.mark.parametrize(
    ("kind", "value", "encoded"),
    [
        (U256, 12, ("uint256", 12)),
        (U256, "12", ("uint256", 12)),
        (U256, "0x0c", ("uint256", 12)),
        (U256, 12.0, ("uint256", 12)),
        (AbiType("n", "int64"), "-1", ("int64", -1)),
        (AbiType("b", "bool"), "true", ("bool", True)),
        (AbiType("b", "bytes4"), "0xfeed", ("bytes4", b"\xfe\xed\0\0")),
        (AbiType("b", "bytes"), "feed", ("bytes", b"\xfe\xed")),
        (AbiType("s", "string"), "grüß", ("string", "grüß")),
        (AbiType("a", "address"), "AB" * 20, ("address", "0x" + "ab" * 20)),
        (AbiType("l", "uint8", (2, None)), [[1, "2"]], ("uint8[2][]", [(1, 2)])),
        (ITEM, {"id": 1, "label": "x", "data": "0x"}, ("(uint256,string,bytes)", (1, "x", b""))),
        (ITEM, [1, "x", ""], ("(uint256,string,bytes)", (1, "x", b""))),
    ],
)
def test_inputs_encode_as_the_library_does(
    kind: AbiType, value: Any, encoded: tuple[str, Any]
) -> None:
    assert encode_arguments([kind], [value]) == encode([encoded[0]], [encoded[1]])


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (
            U256,
            "x",
            (
                "FF22030: Unable to parse 'x' of type string as integer for component .0: "
                "FF22088: Invalid integer string 'x'"
            ),
        ),
        (U256, -1, "FF22062: Negative numeric value is invalid for component .0"),
        (AbiType("n", "uint8"), 256, "FF22055"),
        (U256, None, "FF22030: Unable to parse 'None' of type null"),
        (U256, "9" * 200, "FF22030"),
        (U256, True, "FF22030"),
        (AbiType("b", "bytes4"), "0x0102030405", "FF22051"),
        (AbiType("b", "bytes"), "0x0", "FF22030"),
        (AbiType("a", "address"), "0x12", "FF22030"),
        (AbiType("l", "uint8", (2,)), [1], "FF22030"),
        (ITEM, {"id": 1}, "FF22040: Missing value for 'label'"),
        (ITEM, "x", "FF22030"),
        (AbiType("b", "bool"), "yes", "FF22030"),
        (AbiType("s", "string"), 1, "FF22030"),
    ],
)
def test_bad_inputs_are_refused_with_their_place(kind: AbiType, value: Any, message: str) -> None:
    with pytest.raises(Rejected) as caught:
        encode_arguments([kind], [value])
    assert message in caught.value.message


def test_outputs_have_fireflys_form() -> None:
    types = [
        AbiType("", "uint256"),
        AbiType("", "bool"),
        ITEM,
        AbiType("who", "address", (None,)),
        AbiType("low", "int64"),
        AbiType("raw", "bytes4"),
    ]
    data = encode(
        ["uint256", "bool", "(uint256,string,bytes)", "address[]", "int64", "bytes4"],
        [2**255, True, (1, "one", b"\xfe"), ["0x" + "AB" * 20], -1, b"abcd"],
    )
    assert decode_values(types, data) == {
        "output": str(2**255),
        "output1": True,
        "item": {"id": "1", "label": "one", "data": "0xfe"},
        "who": ["0x" + "ab" * 20],
        "low": "-1",
        "raw": "0x61626364",
    }


def test_text_that_is_not_utf8_is_still_readable() -> None:
    data = encode(["bytes"], [b"\xff\xfeabc"])
    assert decode_values([AbiType("s", "string")], data) == {"s": "\ufffd\ufffdabc"}


def test_events_of_indexed_parameters() -> None:
    inputs = (
        AbiType("id", "uint256", indexed=True),
        AbiType("label", "string"),
        AbiType("tag", "string", indexed=True),
    )
    topics = [(7).to_bytes(32), b"\x11" * 32]
    data = encode(["string"], ["x"])
    assert decode_event(inputs, topics, data) == {"id": "7", "label": "x", "tag": "0x" + "11" * 32}
    with pytest.raises(ValueError, match="indexed"):
        decode_event(inputs, topics[:1], data)
    with pytest.raises(ValueError, match="not an encoding"):
        decode_event(inputs, topics, b"\x01")


@given(st.binary(max_size=300))
def test_hostile_data_is_an_error_and_nothing_else(data: bytes) -> None:
    types = [ITEM, AbiType("l", "string", (None,))]
    with contextlib.suppress(ValueError):
        decode_values(types, data)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "integer"}, "details"),
        ({"details": {"type": "uint7"}}, "FF22025"),
        (
            {"details": {"type": "tuple"}, "properties": {"a": {"details": {"type": "bool"}}}},
            "position",
        ),
        (
            {
                "details": {"type": "tuple"},
                "properties": {"a": {"details": {"type": "bool", "index": 1}}},
            },
            "gaps",
        ),
    ],
)
def test_bad_interfaces_are_refused(schema: dict[str, Any], message: str) -> None:
    method = {"name": "set", "params": [{"name": "x", "schema": schema}]}
    with pytest.raises(Rejected, match=message):
        abi_types.method_from_ffi(method)


def test_signature_with_location_is_fireflys() -> None:
    event = abi_types.event(
        "Changed", [AbiType("from", "address", indexed=True), AbiType("value", "uint256")]
    )
    location = interfaces.parse_location('{"address":"0x1613BEB3b2c4f22ee086b2b38c1476a3ce7f78e8"}')
    assert event.topic == "0xb52dda022b6c1a1f40905a85f257f689aa5d69d850e49cf939d688fbe5af5946"
    assert interfaces.signature_with_location(event, location) == (
        "0x1613beb3b2c4f22ee086b2b38c1476a3ce7f78e8:Changed(address,uint256) [i=0]"
    )
    assert interfaces.signature_with_location(event, None).startswith("*:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FF10310"),
        ("[]", "FF10310"),
        ("[" * 100_000, "FF10310"),
        ("{}", "FF10310"),
        ('{"address":"0x12"}', "FF10141"),
        ('{"address":"zz"}', "FF10141"),
    ],
)
def test_bad_locations_are_refused(text: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        interfaces.parse_location(text)
    assert caught.value.reason == "INVALID_LOCATION"


def test_revert_reasons() -> None:
    too_large = abi_types.error(
        "TooLarge", [AbiType("given", "uint256"), AbiType("max", "uint256")]
    )
    custom = too_large.selector + encode(["uint256", "uint256"], [5, 4])
    cases = {
        reverts.ERROR_STRING + encode(["string"], ["unlucky value"]): "unlucky value",
        reverts.PANIC + (0x11).to_bytes(32): "panic 0x11: arithmetic overflow or underflow",
        custom: 'TooLarge({"given":"5","max":"4"})',
        b"\x01\x02\x03\x04": "0x01020304",
        custom[:20]: "0x" + custom[:20].hex(),
        b"": "execution reverted",
    }
    for data, expected in cases.items():
        assert reverts.describe(data, [too_large]) == expected


def test_as_many_values_as_arguments() -> None:
    with pytest.raises(Rejected, match="FF22037: Incorrect array length: expected 1 values, got 2"):
        encode_arguments([U256], [1, 2])
