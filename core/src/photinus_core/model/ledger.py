"""Transactions, operations and events of ledgers."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid


class TransactionType(StrEnum):
    """Kinds of FireFly transaction."""

    NONE = "none"
    UNPINNED = "unpinned"
    BATCH_PIN = "batch_pin"
    NETWORK_ACTION = "network_action"
    TOKEN_POOL = "token_pool"  # noqa: S105 - a kind of transaction, not a secret
    TOKEN_TRANSFER = "token_transfer"  # noqa: S105 - likewise
    TOKEN_APPROVAL = "token_approval"  # noqa: S105 - likewise
    CONTRACT_DEPLOY = "contract_deploy"
    CONTRACT_INVOKE = "contract_invoke"
    CONTRACT_INVOKE_PIN = "contract_invoke_pin"
    DATA_PUBLISH = "data_publish"


class OperationType(StrEnum):
    """Kinds of step against one connector."""

    BLOCKCHAIN_PIN_BATCH = "blockchain_pin_batch"
    BLOCKCHAIN_NETWORK_ACTION = "blockchain_network_action"
    BLOCKCHAIN_DEPLOY = "blockchain_deploy"
    BLOCKCHAIN_INVOKE = "blockchain_invoke"
    SHAREDSTORAGE_UPLOAD_BATCH = "sharedstorage_upload_batch"
    SHAREDSTORAGE_UPLOAD_BLOB = "sharedstorage_upload_blob"
    SHAREDSTORAGE_UPLOAD_VALUE = "sharedstorage_upload_value"
    SHAREDSTORAGE_DOWNLOAD_BATCH = "sharedstorage_download_batch"
    SHAREDSTORAGE_DOWNLOAD_BLOB = "sharedstorage_download_blob"
    DATAEXCHANGE_SEND_BATCH = "dataexchange_send_batch"
    DATAEXCHANGE_SEND_BLOB = "dataexchange_send_blob"
    TOKEN_CREATE_POOL = "token_create_pool"  # noqa: S105 - a kind of operation, not a secret
    TOKEN_ACTIVATE_POOL = "token_activate_pool"  # noqa: S105 - likewise
    TOKEN_TRANSFER = "token_transfer"  # noqa: S105 - likewise
    TOKEN_APPROVAL = "token_approval"  # noqa: S105 - likewise


class OperationStatus(StrEnum):
    """Where an operation stands, in FireFly's capitalised spelling."""

    INITIALIZED = "Initialized"
    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


FINAL_STATUSES: Final = frozenset({OperationStatus.SUCCEEDED, OperationStatus.FAILED})


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """Container of the operations that make one action."""

    id: Uuid
    namespace: Namespace
    type: TransactionType
    created: Nanoseconds
    idempotency_key: str = ""
    blockchain_ids: tuple[str, ...] = ()
    """The ledger's own transaction ids, in lower case, in the order they became known."""


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One step against one connector. Its key there is `<namespace>:<id>`."""

    id: Uuid
    namespace: Namespace
    tx: Uuid
    type: OperationType
    status: OperationStatus
    plugin: str
    input: str
    """JSON object text."""
    created: Nanoseconds
    updated: Nanoseconds
    output: str = ""
    """JSON object text; empty for none."""
    error: str = ""
    retry: Uuid | None = None
    """The operation that replaced this one."""

    @property
    def key(self) -> str:
        """Idempotency key of the step at its connector."""
        return f"{self.namespace}:{self.id}"


class BlockchainEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a ledger as it was received."""

    id: Uuid
    namespace: Namespace
    source: str
    name: str
    protocol_id: str
    output: str
    """JSON object text."""
    info: str
    """JSON object text."""
    timestamp: Nanoseconds
    listener: Uuid | None = None
    """Contract listener it matched; None for the multiparty contract."""
    tx_type: TransactionType | None = None
    tx_id: Uuid | None = None
    tx_blockchain_id: str = ""
    location: str = ""
    signature: str = ""


class NetworkContract(msgspec.Struct, frozen=True, gc=False):
    """One multiparty contract of a namespace."""

    index: int
    location: str
    """JSON text in the connector's canonical form."""
    first_event: str
    version: int = 2
    final_event: str = ""
    """Protocol id of the terminate action that ended it; empty while active."""
    final_position: tuple[int, int, int] | None = None


class NamespaceRow(msgspec.Struct, frozen=True, gc=False):
    """What the database keeps of a namespace."""

    name: Namespace
    network_name: str
    description: str
    created: Nanoseconds
    contracts: tuple[NetworkContract, ...] = ()
    """Contracts used so far, the active one last."""
    halted: str = ""
    """Why intake stopped for an operator to decide (a deep reorganisation); empty while it runs."""


class ReceivedBatchKey(msgspec.Struct, frozen=True, gc=False):
    """Names a batch by content, so that a forged one cannot take the place of the true one (hard case 16)."""

    id: Uuid
    hash: Hash32
