"""DSC: what a connector says of itself."""

from __future__ import annotations

import re

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus.connector.v1 import shared_storage_pb2 as storage

from photinus_sanity.catalogue import must, should
from photinus_sanity.probe import UNIMPLEMENTED, Probe
from photinus_sanity.schemas import invalid
from photinus_sanity.violations import require
from photinus_sanity.wire import PACKAGE, Refusal

DESCRIBE_S = 5.0
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
RULE = "protocol.md §2 Describe, connector.proto Describe"
SERVICES = {
    connector.CONTRACT_KIND_BLOCKCHAIN: "BlockchainService",
    connector.CONTRACT_KIND_TOKENS: "TokensService",
    connector.CONTRACT_KIND_DATA_EXCHANGE: "DataExchangeService",
    connector.CONTRACT_KIND_SHARED_STORAGE: "SharedStorageService",
}
UNARY_CALLS = {
    connector.CAPABILITY_OPERATIONS: (
        ("OperationService.GetOperation", operations.GetOperationRequest()),
        ("OperationService.ListOperations", operations.ListOperationsRequest()),
        ("OperationService.Cancel", operations.CancelRequest()),
    ),
    connector.CAPABILITY_MULTIPARTY: (
        ("BlockchainService.SubmitBatchPin", blockchain.SubmitBatchPinRequest()),
        ("BlockchainService.SubmitNetworkAction", blockchain.SubmitNetworkActionRequest()),
    ),
    connector.CAPABILITY_CONTRACTS: (
        ("BlockchainService.InvokeContract", blockchain.InvokeContractRequest()),
        ("BlockchainService.QueryContract", blockchain.QueryContractRequest()),
    ),
    connector.CAPABILITY_DEPLOY: (
        ("BlockchainService.DeployContract", blockchain.DeployContractRequest()),
    ),
    connector.CAPABILITY_GENERATE_INTERFACE: (
        ("BlockchainService.GenerateInterface", blockchain.GenerateInterfaceRequest()),
    ),
    connector.CAPABILITY_PINNING: (
        ("SharedStorageService.Pin", storage.PinRequest()),
        ("SharedStorageService.Unpin", storage.UnpinRequest()),
    ),
}
BELONGS = {
    connector.CAPABILITY_MULTIPARTY: connector.CONTRACT_KIND_BLOCKCHAIN,
    connector.CAPABILITY_CONTRACTS: connector.CONTRACT_KIND_BLOCKCHAIN,
    connector.CAPABILITY_DEPLOY: connector.CONTRACT_KIND_BLOCKCHAIN,
    connector.CAPABILITY_GENERATE_INTERFACE: connector.CONTRACT_KIND_BLOCKCHAIN,
    connector.CAPABILITY_PINNING: connector.CONTRACT_KIND_SHARED_STORAGE,
}


async def _describe(probe: Probe) -> connector.DescribeResponse:
    answer: connector.DescribeResponse = await probe.wire.call(
        "ConnectorService.Describe", connector.DescribeRequest(), metadata=(), timeout_s=DESCRIBE_S
    )
    return answer


@must("DSC-001", rule=RULE, fix="Answer from constants: no network, no disk, no configuration.")
async def before_configure(probe: Probe) -> None:
    """Describe answers before any Configure, without an instance, within 5 s."""
    took = probe.session.describe_s
    require(took < DESCRIBE_S, f"it took {took:.1f} s")
    await _describe(probe)


@must("DSC-002", rule=RULE, fix="Build the answer once; keep clocks, ids and state out of it.")
async def stable(probe: Probe) -> None:
    """Two answers of Describe are equal, byte for byte, before and after Configure."""
    first = probe.described.SerializeToString(deterministic=True)
    second = (await _describe(probe)).SerializeToString(deterministic=True)
    require(first == second, "a later answer differs from the first one")


@must("DSC-003", rule=RULE, fix="Name it with 1 to 63 lower-case letters, digits, dots and dashes.")
async def name(probe: Probe) -> None:
    """The name is DNS-like."""
    found = probe.described.name
    require(NAME.fullmatch(found), f"the name is {found!r}")


@must("DSC-004", rule=RULE, fix="Use semantic versioning: 1.2.3, 1.2.3-rc.1.")
async def version(probe: Probe) -> None:
    """The version is a semantic version."""
    found = probe.described.version
    require(VERSION.fullmatch(found), f"the version is {found!r}")


@must("DSC-005", rule=RULE, fix="List `v1` in protocols.")
async def protocols(probe: Probe) -> None:
    """It serves protocol v1."""
    found = list(probe.described.protocols)
    require("v1" in found, f"the protocols are {found}")


@must("DSC-006", rule=RULE, fix="List each contract once, with the capabilities of this protocol.")
async def contracts(probe: Probe) -> None:
    """There is at least one contract, each known and named once, with known capabilities that belong to it."""
    found = probe.described.contracts
    kinds = [entry.kind for entry in found]
    require(kinds, "no contract is described")
    require(len(set(kinds)) == len(kinds), "a contract is described twice")
    for entry in found:
        require(entry.kind in SERVICES, f"contract {entry.kind} is not known")
        require(
            len(set(entry.capabilities)) == len(entry.capabilities), "a capability is named twice"
        )
        for value in entry.capabilities:
            known = value in connector.Capability.values() and value
            require(known, f"capability {value} is not known")
            belongs = BELONGS.get(value, entry.kind)
            named = connector.Capability.Name(value)
            require(belongs == entry.kind, f"{named} belongs to another contract")


@must("DSC-007", rule=RULE, fix="Give a JSON Schema 2020-12 of the settings object.")
async def schema(probe: Probe) -> None:
    """The settings have a schema: JSON Schema 2020-12 of an object."""
    why = invalid(probe.described.config_schema_json)
    require(not why, f"config_schema_json is no such schema: {why}")


@should("DSC-008", rule=RULE, fix="Say who answers for the connector, and what it was built with.")
async def signed(probe: Probe) -> None:
    """Vendor, stability and build language are given."""
    said = probe.described
    missing = [
        what
        for what, given in (
            ("vendor", said.vendor),
            ("stability", said.stability),
            ("build.language", said.build.language),
        )
        if not given
    ]
    require(not missing, f"not given: {', '.join(missing)}")


@must(
    "DSC-009",
    rule="protocol.md §2, connector.proto Capability",
    fix="Implement what you claim, or do not claim it.",
)
async def claimed_is_served(probe: Probe) -> None:
    """No call of a claimed contract or capability answers UNIMPLEMENTED."""
    for capability, calls in UNARY_CALLS.items():
        if not probe.session.claims(capability):
            continue
        for method, request in calls:
            try:
                await probe.wire.call(method, request)
            except Refusal as refusal:
                claim = connector.Capability.Name(capability)
                require(
                    refusal.code is not UNIMPLEMENTED, f"{claim} is claimed, {method} unimplemented"
                )
    if probe.session.claims(connector.CAPABILITY_EVENTS):
        async with probe.stream() as stream:
            await stream.send(open=events.Open())
            ending = await stream.refused()
            require(ending.code is not UNIMPLEMENTED, "EVENTS is claimed, Stream unimplemented")


@should(
    "DSC-010",
    rule="connector.proto Capability: an unclaimed one answers UNIMPLEMENTED",
    fix="Claim what you serve, or answer UNIMPLEMENTED.",
)
async def unclaimed_is_refused(probe: Probe) -> None:
    """A call of a capability that is not claimed answers UNIMPLEMENTED."""
    for capability, calls in UNARY_CALLS.items():
        if probe.session.claims(capability):
            continue
        for method, request in calls:
            claim = connector.Capability.Name(capability)
            try:
                await probe.wire.call(method, request)
            except Refusal as refusal:
                require(
                    refusal.code is UNIMPLEMENTED,
                    f"{claim} is not claimed, and {method} answers {refusal.code.name}",
                )
            else:
                require(False, f"{claim} is not claimed, and {method} answers")


@should(
    "DSC-011",
    rule="protocol.md §2: grpc.reflection.v1 beside the services",
    fix="Register grpc.reflection.v1 with the services you serve.",
)
async def reflection(probe: Probe) -> None:
    """Reflection lists the services of the claimed contracts."""
    stub = probe.wire.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_pb2.ServerReflectionRequest(list_services="*")
    listed: set[str] = set()
    try:
        async for answer in stub(iter([asked]), timeout=DESCRIBE_S):
            listed |= {entry.name for entry in answer.list_services_response.service}
            break
    except grpc.aio.AioRpcError as error:
        require(False, f"reflection answers {error.code().name}")
    wanted = {f"{PACKAGE}.{SERVICES[entry.kind]}" for entry in probe.described.contracts}
    wanted.add(f"{PACKAGE}.ConnectorService")
    require(wanted <= listed, f"not listed: {', '.join(sorted(wanted - listed))}")
