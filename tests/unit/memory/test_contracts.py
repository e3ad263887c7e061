"""Goal: a contract without code does what its interface says, and refuses what does not fit it.

Method: methods as FireFly interfaces describe them.
"""

import json
from typing import Any

import pytest
from photinus.connector.v1 import blockchain_pb2 as pb
from photinus_memory import contracts
from photinus_memory.contracts import Interfaces, Method, signature_of
from photinus_sdk import NotFound, Rejected, Reverted

X = {"name": "x", "schema": {"type": "integer", "details": {"type": "uint256"}}}
Y = {"name": "y", "schema": {"type": "string"}}


def method(**given: Any) -> Method:
    return Method.parse(json.dumps({"name": "set", **given}))


def test_inputs_are_the_parameters() -> None:
    found = method(params=[X, Y])
    assert found.inputs('{"x": 1, "y": "é"}') == {"x": 1, "y": "é"}
    for text in ('{"x":1}', '{"x":1,"y":"","z":0}', "", "[]", "{"):
        with pytest.raises(Rejected) as refused:
            found.inputs(text)
        assert refused.value.reason == "INVALID_INPUTS"
    assert method().inputs("") == {}


def test_a_query_gives_what_is_kept_by_name() -> None:
    found = method(returns=[X, {"schema": {}}, {"name": ""}])
    assert found.returns == ("x", "output1", "output2")
    assert found.result({"x": 7, "other": 1}) == {"x": 7, "output1": None, "output2": None}
    assert method(returns=[{"name": ""}]).returns == ("output",)


def test_details_name_the_event_and_the_revert() -> None:
    found = method(params=[X, Y], details={"emits": "Changed"})
    assert (found.emits, found.signature) == ("Changed", "Changed(uint256,string)")
    assert method(params=[{"name": "z"}]).signature == "set(any)"
    with pytest.raises(Reverted) as refused:
        method(details={"reverts": "never"}).inputs("{}")
    assert refused.value.metadata == {"revert": "never"}


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"name":""}', '{"name":1}', '{"name":"f","params":{}}', "no json"]
)
def test_what_is_no_method_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        Method.parse(text)


def test_signatures_take_the_ledgers_types() -> None:
    assert signature_of({"name": "E", "params": [X, Y, {"schema": 1}]}) == "E(uint256,string,any)"


def test_ids_stand_for_methods_until_too_many_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "METHODS_MAX", 2)
    known = Interfaces()
    first, second, third = (method(params=[{"name": name}]) for name in "abc")
    ids = [known.keep(each) for each in (first, second, first, third)]
    assert ids[0] == ids[2] == first.id
    assert known.find(pb.MethodRef(parsed_id=first.id)) == first
    with pytest.raises(NotFound) as refused:
        known.find(pb.MethodRef(parsed_id=second.id))
    assert refused.value.reason == "UNKNOWN_INTERFACE"
    assert known.find(pb.MethodRef(method_json='{"name":"f"}')).emits == "f"
