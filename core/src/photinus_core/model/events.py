"""Events of the local log, and subscriptions to them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from photinus_core.model.ids import Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import Transaction


class EventType(StrEnum):
    """What happened."""

    TRANSACTION_SUBMITTED = "transaction_submitted"
    MESSAGE_CONFIRMED = "message_confirmed"
    MESSAGE_REJECTED = "message_rejected"
    DATATYPE_CONFIRMED = "datatype_confirmed"
    IDENTITY_CONFIRMED = "identity_confirmed"
    IDENTITY_UPDATED = "identity_updated"
    TOKEN_POOL_CONFIRMED = "token_pool_confirmed"  # noqa: S105 - a kind of event, not a secret
    TOKEN_POOL_OP_FAILED = "token_pool_op_failed"  # noqa: S105 - likewise
    TOKEN_TRANSFER_CONFIRMED = "token_transfer_confirmed"  # noqa: S105 - likewise
    TOKEN_TRANSFER_OP_FAILED = "token_transfer_op_failed"  # noqa: S105 - likewise
    TOKEN_APPROVAL_CONFIRMED = "token_approval_confirmed"  # noqa: S105 - likewise
    TOKEN_APPROVAL_OP_FAILED = "token_approval_op_failed"  # noqa: S105 - likewise
    CONTRACT_INTERFACE_CONFIRMED = "contract_interface_confirmed"
    CONTRACT_API_CONFIRMED = "contract_api_confirmed"
    BLOCKCHAIN_EVENT_RECEIVED = "blockchain_event_received"
    BLOCKCHAIN_INVOKE_OP_SUCCEEDED = "blockchain_invoke_op_succeeded"
    BLOCKCHAIN_INVOKE_OP_FAILED = "blockchain_invoke_op_failed"
    BLOCKCHAIN_CONTRACT_DEPLOY_OP_SUCCEEDED = "blockchain_contract_deploy_op_succeeded"
    BLOCKCHAIN_CONTRACT_DEPLOY_OP_FAILED = "blockchain_contract_deploy_op_failed"


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to be appended; the store gives it its sequence at commit."""

    id: Uuid
    type: EventType
    namespace: Namespace
    reference: Uuid
    created: Nanoseconds
    correlator: Uuid | None = None
    tx: Uuid | None = None
    topic: str = ""


def submitted(transaction: Transaction) -> NewEvent:
    """The event that says that this node began a transaction; who receives one has none."""
    return NewEvent(
        id=new_uuid(),
        type=EventType.TRANSACTION_SUBMITTED,
        namespace=transaction.namespace,
        reference=transaction.id,
        created=transaction.created,
        tx=transaction.id,
        topic=transaction.type.value,
    )


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event of the log. Sequences are gap-free in commit order within a namespace and begin at 1."""

    id: Uuid
    sequence: int
    type: EventType
    namespace: Namespace
    reference: Uuid
    created: Nanoseconds
    correlator: Uuid | None = None
    tx: Uuid | None = None
    topic: str = ""


class SubscriptionFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Regular expressions (RE2, unanchored) that must all match; an empty one matches everything."""

    events: str = ""
    topic: str = ""
    tag: str = ""
    group: str = ""
    author: str = ""
    transaction_type: str = ""
    blockchain_name: str = ""
    blockchain_listener: str = ""


class Subscription(msgspec.Struct, frozen=True):
    """A durable subscription."""

    id: Uuid
    namespace: Namespace
    name: str
    transport: str
    filter: SubscriptionFilter
    filter_json: str
    """The filter as it is shown, FireFly's JSON."""
    options_json: str
    """The options as they are shown, unknown keys included."""
    first_event: str
    """Resolved to a sequence, in decimal, when the subscription was made."""
    read_ahead: int
    with_data: bool
    batch: bool
    batch_timeout_ms: int
    created: Nanoseconds
    updated: Nanoseconds | None = None


class DeadLetterState(StrEnum):
    """Where a dead letter stands."""

    PARKED = "parked"
    QUEUED = "queued"
    """To be tried again, by the replica that serves the subscription."""


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a webhook did not take, kept until it does or somebody drops it."""

    id: Uuid
    namespace: Namespace
    subscription: Uuid
    event: Uuid
    event_sequence: int
    event_type: EventType
    state: DeadLetterState
    attempts: int
    """Calls so far, the repeated ones of one delivery counted each."""
    status: int
    """HTTP status of the last answer; 0 when there was none."""
    error: str
    """Why the last call failed."""
    created: Nanoseconds
    updated: Nanoseconds
