"""What a connector class offers, read from the class: the answer of Describe."""

import platform
import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from photinus.connector.v1 import (
    blockchain_pb2,
    data_exchange_pb2,
    shared_storage_pb2,
    tokens_pb2,
)
from photinus.connector.v1 import connector_pb2 as connector

from photinus_sdk.connector import Blockchain, Connector, DataExchange, SharedStorage, Tokens
from photinus_sdk.settings import schema_of

NAME_FORM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
VERSION_FORM = re.compile(r"\d+\.\d+\.\d+([-+].+)?")
PROTOCOLS = ("v1",)


@dataclass(frozen=True, slots=True)
class ContractRules:
    """How a base class maps to the protocol.

    Attributes:
        base: The class.
        service: Its service.
        kind: Its contract.
        shown_by: Capabilities, each with the methods that together show it.
        allowed: Capabilities an author may claim for it by name.
    """

    base: type[Connector[Any]]
    service: ServiceDescriptor
    kind: connector.ContractKind.ValueType
    shown_by: tuple[tuple[connector.Capability.ValueType, tuple[str, ...]], ...] = ()
    allowed: frozenset[connector.Capability.ValueType] = frozenset()


CONTRACTS = (
    ContractRules(
        Blockchain,
        blockchain_pb2.DESCRIPTOR.services_by_name["BlockchainService"],
        connector.CONTRACT_KIND_BLOCKCHAIN,
        (
            (connector.CAPABILITY_MULTIPARTY, ("submit_batch_pin", "submit_network_action")),
            (connector.CAPABILITY_CONTRACTS, ("invoke_contract", "query_contract")),
            (connector.CAPABILITY_DEPLOY, ("deploy_contract",)),
            (connector.CAPABILITY_GENERATE_INTERFACE, ("generate_interface",)),
        ),
    ),
    ContractRules(
        Tokens,
        tokens_pb2.DESCRIPTOR.services_by_name["TokensService"],
        connector.CONTRACT_KIND_TOKENS,
    ),
    ContractRules(
        DataExchange,
        data_exchange_pb2.DESCRIPTOR.services_by_name["DataExchangeService"],
        connector.CONTRACT_KIND_DATA_EXCHANGE,
        allowed=frozenset({connector.CAPABILITY_RECEIPTS, connector.CAPABILITY_RESUME}),
    ),
    ContractRules(
        SharedStorage,
        shared_storage_pb2.DESCRIPTOR.services_by_name["SharedStorageService"],
        connector.CONTRACT_KIND_SHARED_STORAGE,
        ((connector.CAPABILITY_PINNING, ("pin", "unpin")),),
        frozenset({connector.CAPABILITY_RESUME}),
    ),
)
SUBMITTING = (Blockchain, Tokens, DataExchange)


def overrides(cls: type[Connector[Any]], base: type[Connector[object]], method: str) -> bool:
    """Whether a class brings its own `method` of `base`."""
    return getattr(cls, method) is not getattr(base, method)


def contracts_of(cls: type[Connector[Any]]) -> tuple[ContractRules, ...]:
    """The contracts a class fulfils, in the order of the protocol."""
    return tuple(rules for rules in CONTRACTS if issubclass(cls, rules.base))


def describe(
    cls: type[Connector[Any]], head: connector.DescribeResponse
) -> connector.DescribeResponse:
    """Completes `head` from the class. Raises TypeError for what no core would accept."""
    if not NAME_FORM.fullmatch(head.name):
        raise TypeError(f"{head.name!r} is no connector name: 1 to 63 of a-z, 0-9, dot and dash")
    if not VERSION_FORM.fullmatch(head.version):
        raise TypeError(f"{head.version!r} is no semantic version")
    fulfilled = contracts_of(cls)
    if not fulfilled:
        raise TypeError(f"{cls.__name__} derives from no contract (Blockchain, SharedStorage, …)")
    unknown = cls.extra_capabilities - frozenset().union(*(rules.allowed for rules in fulfilled))
    if unknown:
        names = ", ".join(connector.Capability.Name(value) for value in sorted(unknown))
        raise TypeError(f"{names} cannot be claimed by name for the contracts of {cls.__name__}")
    head.protocols.extend(PROTOCOLS)
    head.config_schema_json = schema_of(cls.settings_type)
    head.build.language = f"Python {platform.python_version()}"
    head.build.kit = f"photinus-sdk {metadata.version('photinus-sdk')}"
    for rules in fulfilled:
        claimed = [
            capability
            for capability, methods in rules.shown_by
            if all(overrides(cls, rules.base, method) for method in methods)
        ]
        claimed.append(connector.CAPABILITY_OPERATIONS)
        if rules.base in SUBMITTING or overrides(cls, Connector, "listen"):
            claimed.append(connector.CAPABILITY_EVENTS)
        claimed.extend(cls.extra_capabilities & rules.allowed)
        head.contracts.append(
            connector.Contract(kind=rules.kind, capabilities=sorted(claimed), limits=cls.limits)
        )
    return head
