"""Contracts without code: they do what the interface of the called method says.

An invocation keeps every input under its name and emits one event with the inputs. A query gives what is kept under
the names of its returns. The method's `details` may say more:

    {"name": "set", "params": [{"name": "x", "schema": {"type": "integer"}}], "details": {"emits": "Changed"}}

`emits` names the event (the method's name when missing); `reverts` gives a reason for which each call is refused.
"""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from photinus.connector.v1 import blockchain_pb2 as pb
from photinus_sdk import NotFound, Rejected, Reverted

from photinus_memory.member import read_object

METHODS_MAX: Final = 1000
"""Parsed methods that an instance remembers."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method as a FireFly interface describes it.

    Attributes:
        id: Follows from the description.
        names: Of its parameters.
        returns: Names of its returns; unnamed ones are `output`, `output1`, ….
        emits: Name of its event.
        signature: Of its event.
        reverts: Why calls are refused; empty when they are not.
    """

    id: str
    names: tuple[str, ...]
    returns: tuple[str, ...]
    emits: str
    signature: str
    reverts: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a description. Raises Rejected."""
        given = checked_event(text)
        details = given.get("details")
        details = details if isinstance(details, dict) else {}
        emits = str(details.get("emits") or given["name"])
        returns = _entries(given, "returns")
        return cls(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(given, sort_keys=True))),
            names=tuple(str(each.get("name", "")) for each in _entries(given, "params")),
            returns=tuple(
                str(each.get("name") or f"output{n or ''}") for n, each in enumerate(returns)
            ),
            emits=emits,
            signature=signature_of({**given, "name": emits}),
            reverts=str(details.get("reverts") or ""),
        )

    def inputs(self, text: str) -> dict[str, Any]:
        """The inputs of a call. Raises Rejected when they are not the parameters, Reverted when it reverts."""
        given = read_object(text or "{}", "input")
        wrong = set(self.names) ^ set(given)
        if wrong:
            names = ", ".join(sorted(wrong))[:200]
            raise Rejected(f"Inputs and parameters differ in {names}", reason="INVALID_INPUTS")
        if self.reverts:
            raise Reverted(f"The contract reverts: {self.reverts}", revert=self.reverts)
        return given

    def result(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """What a query gives; null for what was never kept."""
        return {name: kept.get(name) for name in self.returns}


class Interfaces:
    """The methods of one instance by their ids: a cache, the oldest go first."""

    def __init__(self) -> None:
        self._methods: OrderedDict[str, Method] = OrderedDict()

    def keep(self, method: Method) -> str:
        """Remembers a method; its id."""
        self._methods[method.id] = method
        self._methods.move_to_end(method.id)
        if len(self._methods) > METHODS_MAX:
            self._methods.popitem(last=False)
        return method.id

    def find(self, ref: pb.MethodRef) -> Method:
        """The method of a call. Raises NotFound / UNKNOWN_INTERFACE and Rejected."""
        if not ref.parsed_id:
            return Method.parse(ref.method_json)
        if ref.parsed_id not in self._methods:
            raise NotFound("Send the method's JSON again", reason="UNKNOWN_INTERFACE")
        return self._methods[ref.parsed_id]


def checked_event(text: str) -> dict[str, Any]:
    """An event or method, which has at least a name. Raises Rejected."""
    found = read_object(text, "event or method")
    if not isinstance(found.get("name"), str) or not found["name"]:
        raise Rejected("An event or method needs a name", reason="INVALID_INPUTS")
    return found


def signature_of(described: Mapping[str, Any]) -> str:
    """`Changed(address,uint256)`: the types as the ledger calls them, else as JSON does."""
    return f"{described['name']}({','.join(map(_type, _entries(described, 'params')))})"


def _type(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema")
    schema = schema if isinstance(schema, dict) else {}
    details = schema.get("details")
    details = details if isinstance(details, dict) else {}
    return str(details.get("type") or schema.get("type") or "any")


def _entries(described: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = described.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Rejected(f"{name} is no list of parameters", reason="INVALID_INPUTS")
    return found
