"""What core and connector say to each other before the core uses it, and when it does not.

    Describe → Validate → Configure → NotifyRegistration

What a connector says of itself is checked here, and nothing of it is believed elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from photinus.connector.v1 import common_pb2 as wire
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import connector_pb2_grpc

from photinus_core.host.connection import Connection
from photinus_core.host.failures import CONNECTOR_LOST, TIMEOUT
from photinus_core.host.instances import InstanceConfig
from photinus_core.host.process import PROTOCOL
from photinus_core.host.schema_typing import typed_config
from photinus_core.host.secrets import Redactor
from photinus_core.model.errors import Rejected
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import ConnectorFailure

log: Final = logging.getLogger(__name__)

DESCRIBE_S: Final = 5.0
CONFIGURE_S: Final = 30.0
NOTIFY_S: Final = 2.0
RESTART_REQUIRED: Final = "RESTART_REQUIRED"
DIAGNOSTICS_SHOWN: Final = 10


class StoreIds(Protocol):
    """Remembers, as long as the core's database lives, which store each connector has."""

    async def known_store(self, name: str) -> str:
        """The store's id as it was last seen; empty when it never was."""
        ...

    async def remember_store(self, name: str, store_id: str) -> None:
        """Keeps the id."""
        ...


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """What every connector is told of the core.

    Attributes:
        cluster_id: UUID of the core cluster.
        version: Version of the core.
        data_dir: Where launched connectors may keep what is theirs.
        store_ids: Which store each connector had.
        clock: For times that people read.
    """

    cluster_id: str
    version: str
    data_dir: Path
    store_ids: StoreIds
    clock: Clock


class PutOffError(Exception):
    """The connector cannot be configured now; what it connects to is away, say."""


class RestartNeededError(Exception):
    """Only a new process can take the configuration."""


class Registration:
    """What is known of one connector from its own words.

    Attributes:
        description: Its last answer of Describe.
        contract: The contract it is used for, as configured.
        store_id: Its durable store's id.
    """

    def __init__(self, core: CoreFacts, redactor: Redactor) -> None:
        self._core = core
        self._redactor = redactor
        self.description = connector.DescribeResponse()
        self.contract = connector.Contract()
        self.store_id = ""

    @property
    def version(self) -> str:
        """Its version, as it may be shown."""
        return self._redactor.line(self.description.version)

    async def describe(self, config: InstanceConfig, connection: Connection) -> str:
        """Asks what it is.

        Returns:
            A digest of its version and schema: another one means that it was replaced.

        Raises:
            Rejected: FF19202, FF19208, FF19211: it is not what the configuration names.
            ConnectorFailure: it did not answer.
        """
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        try:
            described: connector.DescribeResponse = await connection.unary(
                stub.Describe, connector.DescribeRequest(), DESCRIBE_S
            )
        except ConnectorFailure as failure:
            if failure.reason in {CONNECTOR_LOST, TIMEOUT} or failure.retry_after_s is not None:
                raise
            raise _broken(config, f"Describe answered {failure.reason}: {failure}") from failure
        if PROTOCOL not in described.protocols:
            raise Rejected("FF19211", config.name, PROTOCOL)
        if _contract_in(config, described.contracts) is None:
            kinds = ", ".join(_kind(c.kind) for c in described.contracts[:DIAGNOSTICS_SHOWN])
            raise Rejected("FF19208", config.name, kinds or "nothing", config.category)
        former = self.description.version
        if former and former != described.version:
            line = self._redactor.line
            log.info(
                "connector %s: %s became %s", config.name, self.version, line(described.version)
            )
        self.description = described
        fingerprint = f"{described.version} {described.config_schema_json}"
        return hashlib.sha256(fingerprint.encode()).hexdigest()

    async def configure(self, config: InstanceConfig, connection: Connection) -> None:
        """Validates and configures; what stands against it is told with its place.

        Raises:
            Rejected: FF19202, FF19205, FF19207, FF19208: trying again changes nothing.
            PutOffError, RestartNeededError: it may.
            ConnectorFailure: the connector is lost or silent.
        """
        try:
            schema_json = self.description.config_schema_json
            config_json = typed_config(config.config, schema_json)
            self._redactor.learn(config_json, schema_json)
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            # A schema is of the connector's own making: any JSON may stand where one expects another.
            raise _broken(config, f"its configuration schema: {error!r}") from error
        answer = await self._configured(config, connection, config_json)
        self._check(config, answer.diagnostics)
        contract = _contract_in(config, answer.contracts)
        described = _contract_in(config, self.description.contracts)
        if contract is None or described is None:
            raise Rejected("FF19208", config.name, "nothing of the kind", config.category)
        if not set(contract.capabilities) <= set(described.capabilities):
            raise _broken(config, "Configure offers more than Describe")
        await self._check_store(config, answer.store_id)
        self.contract = contract

    async def findings(
        self, config: InstanceConfig, connection: Connection
    ) -> list[tuple[str, str]]:
        """What it has against a configuration, as (JSON Pointer, text); nothing is changed.

        Empty also when it cannot say so now.
        """
        try:
            config_json = typed_config(config.config, self.description.config_schema_json)
            self._redactor.learn(config_json, self.description.config_schema_json)
            stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
            validate = connector.ValidateRequest(config_json=config_json)
            found = await connection.unary(stub.Validate, validate, DESCRIBE_S)
        except Exception as failure:  # noqa: BLE001 - it is asked again when it is configured
            log.debug("connector %s: Validate: %s", config.name, failure)
            return []
        return [
            (self._redactor.line(each.pointer), self._redactor.line(each.summary))
            for each in found.diagnostics[:DIAGNOSTICS_SHOWN]
            if each.severity == wire.SEVERITY_ERROR
        ]

    async def notify(
        self, config: InstanceConfig, connection: Connection, *, accepted: bool, reason: str = ""
    ) -> None:
        """Tells the connector, so that its author reads it in the connector's own log."""
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        request = connector.NotifyRegistrationRequest(
            instance=config.instance_name, accepted=accepted, reason=reason
        )
        try:
            await connection.unary(stub.NotifyRegistration, request, NOTIFY_S)
        except ConnectorFailure as failure:
            log.info("connector %s: NotifyRegistration: %s", config.name, failure)

    async def _configured(
        self, config: InstanceConfig, connection: Connection, config_json: str
    ) -> connector.ConfigureResponse:
        stub = connection.stub(connector_pb2_grpc.ConnectorServiceStub)
        request = connector.ConfigureRequest(
            instance=config.instance_name,
            config_json=config_json,
            revision=config.revision,
            core_version=self._core.version,
            cluster_id=self._core.cluster_id,
        )
        validate = connector.ValidateRequest(config_json=config_json)
        try:
            found = await connection.unary(stub.Validate, validate, DESCRIBE_S)
            self._check(config, found.diagnostics)
            answer: connector.ConfigureResponse = await connection.unary(
                stub.Configure, request, CONFIGURE_S
            )
        except ConnectorFailure as failure:
            if failure.reason in {CONNECTOR_LOST, TIMEOUT}:
                raise
            if failure.reason == RESTART_REQUIRED and config.launch:
                raise RestartNeededError(str(failure)) from failure
            if failure.retry_after_s is not None:
                raise PutOffError(str(failure)) from failure
            raise Rejected("FF19205", config.name, failure) from failure
        return answer

    def _check(self, config: InstanceConfig, findings: Iterable[wire.Diagnostic]) -> None:
        wrong, line = [], self._redactor.line
        for found in findings:
            text = line(f"{found.pointer}: {found.summary}" if found.pointer else found.summary)
            if found.severity == wire.SEVERITY_ERROR:
                wrong.append(text)
            else:
                log.warning("connector %s: configuration: %s", config.name, text)
        if wrong:
            raise Rejected("FF19205", config.name, "; ".join(wrong[:DIAGNOSTICS_SHOWN]))

    async def _check_store(self, config: InstanceConfig, store_id: str) -> None:
        known = await self._core.store_ids.known_store(config.name)
        if known and store_id and known != store_id:
            raise Rejected("FF19207", config.name, store_id, known)
        if store_id and not known:
            await self._core.store_ids.remember_store(config.name, store_id)
        self.store_id = store_id


def _broken(config: InstanceConfig, how: str) -> Rejected:
    return Rejected("FF19202", config.name, how)


def _contract_in(
    config: InstanceConfig, contracts: Iterable[connector.Contract]
) -> connector.Contract | None:
    kind = config.category.contract
    return next((contract for contract in contracts if contract.kind == kind), None)


def _kind(value: connector.ContractKind.ValueType) -> str:
    """A contract in words; a newer connector may offer some we do not know."""
    known = value in connector.ContractKind.values()
    return connector.ContractKind.Name(value) if known else f"contract {value}"
