"""Connectors in the watched directory that no configuration names: shown, and never used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import connector_pb2_grpc

from photinus_core.host.channels import Target
from photinus_core.host.connection import Connection
from photinus_core.host.instances import Category, checked_address
from photinus_core.host.registration import DESCRIBE_S, CoreFacts
from photinus_core.host.secrets import Redactor
from photinus_core.host.standing import DISCOVERED, capability_names
from photinus_core.model.errors import PhotinusError
from photinus_core.ports.connectors import ConnectorFailure, ConnectorInfo
from photinus_core.ports.tasks import Background

UNUSED = "no plugin of the configuration names it"


class Strangers:
    """Asks each, once, what it is.

    Args:
        core: Gives the time.
        work: Runs the asking.
    """

    def __init__(self, core: CoreFacts, work: Background) -> None:
        self._core = core
        self._work = work
        self._infos: dict[str, ConnectorInfo] = {}
        self._numbers = count(1)

    def show(self, sockets: Mapping[str, str]) -> None:
        """Takes the addresses, by name, that nobody uses now."""
        for name in [name for name in self._infos if name not in sockets]:
            del self._infos[name]
        for name, address in sockets.items():
            if name in self._infos and self._infos[name].address == address:
                continue
            info = ConnectorInfo(
                instance=f"{name}.sock",
                kind="",
                plugin_type="",
                address=address,
                state=DISCOVERED,
                since=self._core.clock.now(),
                version="",
                capabilities=(),
                limits={},
                last_error=UNUSED,
                store_id="",
                streams=(),
            )
            self._infos[name] = info
            self._work.start(f"describe {name} {next(self._numbers)}", self._describe(name, info))

    def infos(self) -> list[ConnectorInfo]:
        """What is known of them, by name."""
        return [self._infos[name] for name in sorted(self._infos)]

    async def _describe(self, name: str, info: ConnectorInfo) -> None:
        try:
            found = await _described(info)
        except (PhotinusError, ConnectorFailure) as failure:
            shown = replace(info, last_error=f"{UNUSED}; it cannot be described: {failure}")
        else:
            line = Redactor().line
            kinds = [
                c.value for c in Category if any(c.contract == k.kind for k in found.contracts)
            ]
            offered = (value for contract in found.contracts for value in contract.capabilities)
            shown = replace(
                info,
                kind=", ".join(kinds),
                plugin_type=line(found.name),
                version=line(found.version),
                capabilities=capability_names(offered),
            )
        if self._infos.get(name) is info:
            self._infos[name] = shown


async def _described(info: ConnectorInfo) -> connector.DescribeResponse:
    target = Target(checked_address(info.address, insecure=False))
    connection = Connection(info.instance, target, info.instance, Redactor(), lambda _: None)
    try:
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        answer: connector.DescribeResponse = await connection.unary(
            stub.Describe, connector.DescribeRequest(), DESCRIBE_S
        )
        return answer
    finally:
        await connection.aclose("it is not used")
