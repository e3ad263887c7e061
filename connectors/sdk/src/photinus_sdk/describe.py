"""What a connector class offers, read from the class: the answer of Describe."""

import platform
import re
from importlib import metadata
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from photinus.connector.v1 import connector_pb2 as connector

from photinus_sdk.calls import snake_case
from photinus_sdk.connector import (
    Blockchain,
    Connector,
    DataExchange,
    SharedStorage,
    Tokens,
    overrides,
)
from photinus_sdk.settings import schema_of

NAME_FORM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
VERSION_FORM = re.compile(r"\d+\.\d+\.\d+([-+].+)?")
PACKAGE, PROTOCOLS = "photinus.connector.v1", ("v1",)

Base = type[Connector[Any]]
CONTRACTS: tuple[Base, ...] = (Blockchain, Tokens, DataExchange, SharedStorage)
SUBMITTING: tuple[Base, ...] = (Blockchain, Tokens, DataExchange)

# Capabilities, each with the methods that together show it, and those an author claims by name.
SHOWN_BY: dict[Base, dict[connector.Capability.ValueType, tuple[str, ...]]] = {
    Blockchain: {
        connector.CAPABILITY_MULTIPARTY: ("submit_batch_pin", "submit_network_action"),
        connector.CAPABILITY_CONTRACTS: ("invoke_contract", "query_contract"),
        connector.CAPABILITY_DEPLOY: ("deploy_contract",),
        connector.CAPABILITY_GENERATE_INTERFACE: ("generate_interface",),
    },
    SharedStorage: {connector.CAPABILITY_PINNING: ("pin", "unpin")},
}
CLAIMED: dict[Base, set[connector.Capability.ValueType]] = {
    DataExchange: {connector.CAPABILITY_RECEIPTS, connector.CAPABILITY_RESUME},
    SharedStorage: {connector.CAPABILITY_RESUME},
}


def contracts_of(cls: Base) -> tuple[Base, ...]:
    """The contracts a class fulfils, as their base classes, in the order of the protocol."""
    return tuple(base for base in CONTRACTS if issubclass(cls, base))


def service_of(name: str) -> ServiceDescriptor:
    """A service of the protocol; those of contracts are named as their classes."""
    return Default().FindServiceByName(f"{PACKAGE}.{name}Service")


def describe(cls: Base, head: connector.DescribeResponse) -> connector.DescribeResponse:
    """Completes `head` from the class. Raises TypeError for what no core would accept."""
    if not NAME_FORM.fullmatch(head.name):
        raise TypeError(f"{head.name!r} is no connector name: 1 to 63 of a-z, 0-9, dot and dash")
    if not VERSION_FORM.fullmatch(head.version):
        raise TypeError(f"{head.version!r} is no semantic version")
    fulfilled = contracts_of(cls)
    if not fulfilled:
        raise TypeError(f"{cls.__name__} derives from no contract (Blockchain, SharedStorage, …)")
    unknown = cls.extra_capabilities.difference(*(CLAIMED.get(base, ()) for base in fulfilled))
    if unknown:
        names = ", ".join(connector.Capability.Name(value) for value in sorted(unknown))
        raise TypeError(f"{names} cannot be claimed by name for the contracts of {cls.__name__}")
    head.protocols.extend(PROTOCOLS)
    head.config_schema_json = schema_of(cls.settings_type)
    head.build.language = f"Python {platform.python_version()}"
    head.build.kit = f"photinus-sdk {metadata.version('photinus-sdk')}"
    for base in fulfilled:
        has = cls.extra_capabilities & CLAIMED.get(base, set())
        for capability, methods in SHOWN_BY.get(base, {}).items():
            if all(overrides(cls, base, method) for method in methods):
                has |= {capability}
        if base in SUBMITTING or overrides(cls, Connector, "listen"):
            has |= {connector.CAPABILITY_EVENTS}
        has |= {connector.CAPABILITY_OPERATIONS}
        kind = connector.ContractKind.Value(f"CONTRACT_KIND_{snake_case(base.__name__).upper()}")
        head.contracts.add(kind=kind, capabilities=sorted(has), limits=cls.limits)
    return head
