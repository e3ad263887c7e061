"""The connectors of one namespace, as its services use them."""

from __future__ import annotations

from dataclasses import dataclass

from photinus_core.ports.connectors import (
    BlockchainConnector,
    DataExchangeConnector,
    SharedStorage,
)


@dataclass(frozen=True, slots=True)
class NamespaceConnectors:
    """What a namespace is connected to; None where its configuration names nothing."""

    blockchain: BlockchainConnector | None = None
    data_exchange: DataExchangeConnector | None = None
    shared_storage: SharedStorage | None = None
