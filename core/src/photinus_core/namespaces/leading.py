"""What the leader of a multiparty namespace does, from its election until it ends.

Intake of the connectors' streams, downloads, agreement and batches, all under one fence. When one
of them fails for good the leadership ends; the runtime then campaigns again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from photinus_core.data.publishing import DataUploads
from photinus_core.events.aggregator import Aggregator, AgreementSettings
from photinus_core.events.chain import ChainIntake, contract_listener
from photinus_core.events.downloads import Downloads
from photinus_core.events.intake import IntakeContext
from photinus_core.events.node_registry import ExchangePeers
from photinus_core.events.peers import PeerIntake
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.messaging.assembly import BatchManager
from photinus_core.messaging.dispatch import BatchDispatcher, Connectors
from photinus_core.messaging.sealing import BatchSealer, Plugins
from photinus_core.model.ids import Uuid
from photinus_core.model.ledger import (
    NamespaceRow,
    NetworkContract,
    Operation,
    OperationType,
    TransactionType,
)
from photinus_core.model.network import VerifierType
from photinus_core.namespaces.contracts import ContractBook
from photinus_core.namespaces.governance import Governance
from photinus_core.namespaces.settings import MultipartySettings, NamespaceSettings
from photinus_core.operations.service import OperationService
from photinus_core.operations.submission import Runner, Submissions
from photinus_core.ports.connectors import (
    BlockchainConnector,
    DataExchangeConnector,
    DestinationListener,
    EventStream,
    Listener,
    MultipartyListener,
    SharedStorage,
)
from photinus_core.ports.elector import Lease
from photinus_core.ports.leases import LeaderStore, fence_of
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import OperationChange
from photinus_core.ports.tasks import Background

log: Final = logging.getLogger(__name__)

REPEATABLE: Final = frozenset(
    {
        OperationType.BLOCKCHAIN_PIN_BATCH,
        OperationType.BLOCKCHAIN_NETWORK_ACTION,
        OperationType.SHAREDSTORAGE_UPLOAD_BATCH,
        OperationType.SHAREDSTORAGE_UPLOAD_BLOB,
        OperationType.SHAREDSTORAGE_UPLOAD_VALUE,
        OperationType.DATAEXCHANGE_SEND_BATCH,
        OperationType.DATAEXCHANGE_SEND_BLOB,
        OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH,
        OperationType.SHAREDSTORAGE_DOWNLOAD_BLOB,
    }
)
"""Types of operations that a leader can carry out again."""


@dataclass(frozen=True, slots=True)
class LeaderParts:
    """What a leadership is built from; it lives longer than the leadership."""

    scope: Scope
    settings: NamespaceSettings
    multiparty: MultipartySettings
    blockchain: BlockchainConnector
    exchange: DataExchangeConnector
    storage: SharedStorage
    identities: IdentityResolver
    operations: OperationService
    contracts: ContractBook
    governance: Governance


class Leadership:
    """One leadership of a namespace. Its transactions rest while the lease is in doubt."""

    def __init__(self, parts: LeaderParts, lease: Lease, key_type: VerifierType) -> None:
        self._parts = parts
        self._lease = lease
        settings, multiparty = parts.settings, parts.multiparty
        scope = replace(parts.scope, store=LeaderStore(parts.scope.store, lease))
        fence = fence_of(lease)
        plugins = plugins_of(settings)
        self.context = IntakeContext(
            scope.store,
            scope.namespace,
            scope.network_name,
            fence,
            scope.clock,
            meter=scope.meter,
        )
        self.downloads = Downloads(self.context, parts.storage, parts.exchange)
        self.chain_intake = ChainIntake(self.context, plugins.shared_storage, self.downloads.queued)
        self.peer_intake = PeerIntake(self.context, multiparty.node_name)
        self.peers = ExchangePeers(
            self.context, parts.exchange, multiparty.node_name, self.peer_intake.retry_parked
        )
        self.sealer = BatchSealer(scope, parts.identities, plugins, multiparty.node_name)
        self.dispatcher = BatchDispatcher(
            scope,
            Connectors(parts.blockchain, parts.exchange, parts.storage),
            parts.identities,
            self._active_contract,
            fence,
        )
        self.uploads = DataUploads(scope, fence, parts.exchange, parts.storage)
        self.batches = BatchManager(scope, self.sealer, self.dispatcher, fence, settings.batch)
        self.aggregator = Aggregator(
            self.context,
            AgreementSettings(
                key_type=key_type,
                contracts=parts.contracts.configured,
                contract_ended=self._contract_ended,
                nodes=self.peers,
                batches_decided=self.batches.decided,
                contract_ending=self.batches.renew_pins,
                own_batches=self.batches.own,
            ),
        )
        self.submissions = Submissions(scope, fence, self._runners(), self.batches.is_under_way)
        self._chain_stream: EventStream | None = None

    async def run(self) -> None:
        """Leads until the lease is lost or something fails for good.

        Raises:
            ExceptionGroup: what ended the leadership, `Deposed` among it when it was taken.
        """
        scope, epoch = self._parts.scope, self._lease.epoch
        streams: list[EventStream] = []
        self._parts.operations.lead(self.submissions)
        try:
            async with Background(f"{scope.namespace}/leader") as work:
                work.start("peers", self.peers.run())
                work.start("agreement", self.aggregator.run())
                work.start("downloads", self.downloads.run())
                work.start("batches", self.batches.run())
                work.start("submissions", self.submissions.run())
                self._chain_stream = await self._parts.blockchain.open_stream(
                    scope.namespace,
                    scope.network_name,
                    epoch,
                    self._chain_listeners(),
                    self.chain_intake,
                )
                streams.append(self._chain_stream)
                destination = DestinationListener(
                    "peers", scope.network_name, self._parts.multiparty.node_name
                )
                streams.append(
                    await self._parts.exchange.open_stream(
                        scope.namespace,
                        scope.network_name,
                        epoch,
                        [destination],
                        self.peer_intake,
                    )
                )
                await self._lease.lost.wait()
        finally:
            self._parts.operations.lead(None)
            for stream in streams:
                await stream.aclose()

    def troubles(self) -> dict[str, str]:
        """Listeners that do not work and nodes that the data exchange refuses, with reasons."""
        return {
            **self.chain_intake.troubles(),
            **self.peer_intake.troubles(),
            **self.peers.refused(),
        }

    def sending_error(self, batch: Uuid) -> str:
        """Why an own batch could not be sent so far; empty when nothing failed."""
        return next(
            (p.last_error for p in self.batches.status() if p.blocked and p.flushing == batch), ""
        )

    def _chain_listeners(self) -> Sequence[Listener]:
        """One listener for each contract: what a former one still has to say comes too."""
        return [self._pins_listener(contract) for contract in self._parts.contracts.all]

    def _pins_listener(self, contract: NetworkContract) -> MultipartyListener:
        return MultipartyListener(
            contract_listener(contract.index),
            contract.location,
            contract.version,
            contract.first_event,
            self._parts.contracts.options(contract.index),
        )

    async def _active_contract(self) -> NetworkContract:
        """As stored, for what was decided may not have been told yet."""
        await self._parts.contracts.refresh()
        return self._parts.contracts.active

    async def _contract_ended(self, row: NamespaceRow) -> None:
        self._parts.contracts.changed(row)
        known = row.contracts[-1]
        if self._chain_stream is not None and not known.final_event:
            await self._chain_stream.add_listener(self._pins_listener(known))
        self.batches.contract_changed()

    def _runners(self) -> Mapping[OperationType, Runner]:
        return {
            OperationType.BLOCKCHAIN_PIN_BATCH: self._again_pin,
            OperationType.BLOCKCHAIN_NETWORK_ACTION: self._parts.governance.send,
            OperationType.SHAREDSTORAGE_UPLOAD_BATCH: self._again_upload,
            OperationType.SHAREDSTORAGE_UPLOAD_BLOB: self._upload_blob,
            OperationType.SHAREDSTORAGE_UPLOAD_VALUE: self.uploads.value,
            OperationType.DATAEXCHANGE_SEND_BATCH: self._again_send,
            OperationType.DATAEXCHANGE_SEND_BLOB: self._again_send_blob,
            OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH: self.downloads.rerun,
            OperationType.SHAREDSTORAGE_DOWNLOAD_BLOB: self.downloads.rerun,
        }

    async def _again_pin(self, operation: Operation) -> OperationChange:
        sealed = await self.sealer.of_transaction(operation.tx)
        submission = await self.dispatcher.submit_pin(
            operation, sealed, sealed.wire.batch.payload_ref
        )
        return self.dispatcher.submitted(operation, submission)

    async def _again_upload(self, operation: Operation) -> OperationChange:
        sealed = await self.sealer.of_transaction(operation.tx)
        ref = await self.dispatcher.upload_batch(operation, sealed)
        return self.dispatcher.published(operation, ref)

    async def _upload_blob(self, operation: Operation) -> OperationChange:
        async with self.context.store.read(self.context.namespace) as reader:
            transaction = (await reader.transactions([operation.tx])).get(operation.tx)
        if transaction is not None and transaction.type is TransactionType.DATA_PUBLISH:
            return await self.uploads.blob(operation)
        data_id = Uuid(json.loads(operation.input)["dataId"])
        ref = await self.dispatcher.upload_blob(operation, data_id)
        return self.dispatcher.published(operation, ref)

    async def _again_send(self, operation: Operation) -> OperationChange:
        sealed = await self.sealer.of_transaction(operation.tx)
        node = Uuid(json.loads(operation.input)["node"])
        submission = await self.dispatcher.send_batch(operation, sealed, node)
        return self.dispatcher.submitted(operation, submission)

    async def _again_send_blob(self, operation: Operation) -> OperationChange:
        sealed = await self.sealer.of_transaction(operation.tx)
        inputs = json.loads(operation.input)
        submission = await self.dispatcher.send_blob(
            operation, sealed, Uuid(inputs["node"]), Uuid(inputs["dataId"])
        )
        return self.dispatcher.submitted(operation, submission)


def plugins_of(settings: NamespaceSettings) -> Plugins:
    """Types of the plugins, as operations name them."""
    return Plugins(
        settings.blockchain.type if settings.blockchain else "",
        settings.data_exchange.type if settings.data_exchange else "",
        settings.shared_storage.type if settings.shared_storage else "",
    )
