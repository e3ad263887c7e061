"""Between the protos of the connector protocol and the types of `ports.connectors`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as wire
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations

from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.connectors import (
    BatchPinInput,
    BatchPinned,
    CallKey,
    ChainEvent,
    ConnectorEvent,
    ContractEventSeen,
    ContractListener,
    DestinationListener,
    EventBody,
    KeyIntent,
    Listener,
    Method,
    MultipartyListener,
    NetworkActionSeen,
    PeerBlob,
    PeerChange,
    PeerMessage,
    Submission,
    WorkState,
    WorkUpdate,
)

NUMBER_MAX: Final = (1 << 63) - 1
"""What databases store."""
SECONDS_MAX: Final = 9_000_000_000
"""In the year 2255: nanoseconds are stored."""

INTENTS: Final = {
    KeyIntent.SIGN: blockchain.KEY_INTENT_SIGN,
    KeyIntent.QUERY: blockchain.KEY_INTENT_QUERY,
    KeyIntent.LOOKUP: blockchain.KEY_INTENT_LOOKUP,
}
_STATES: Final = {
    wire.OPERATION_STATE_SUCCEEDED: WorkState.SUCCEEDED,
    wire.OPERATION_STATE_FAILED: WorkState.FAILED,
    wire.OPERATION_STATE_CANCELLED: WorkState.CANCELLED,
}


def mutation(cluster_id: str, call: CallKey) -> wire.MutationContext:
    """The context of a changing call."""
    return wire.MutationContext(
        idempotency_key=call.key,
        stream=stream_ref(cluster_id, call.namespace, call.consumer),
        owner_epoch=call.epoch,
    )


def stream_ref(cluster_id: str, namespace: str, consumer: str) -> wire.StreamRef:
    """The name of an event stream."""
    return wire.StreamRef(cluster_id=cluster_id, namespace=namespace, consumer=consumer)


def batch_pin(pin: BatchPinInput) -> blockchain.BatchPin:
    """What is pinned."""
    return blockchain.BatchPin(
        transaction_uuid=pin.transaction,
        batch_id=pin.batch,
        batch_hash=pin.batch_hash,
        payload_ref=pin.payload_ref,
        contexts=pin.contexts,
    )


def method_ref(method: Method) -> blockchain.MethodRef:
    """A method, given in full."""
    return blockchain.MethodRef(method_json=method.method, errors_json=method.errors)


def submission(answer: wire.Submission) -> Submission:
    """How a piece of work stands."""
    return Submission(
        replayed=answer.replayed,
        state=work_state(answer.state),
        external_id=answer.external_id,
        output=answer.output_json,
    )


def submission_of(operation: operations.Operation) -> Submission:
    """How a piece of work stands that was asked for by its key."""
    return Submission(
        replayed=True,
        state=work_state(operation.state),
        external_id=operation.external_id,
        output=operation.output_json,
    )


def work_state(state: wire.OperationState.ValueType) -> WorkState:
    """A state; one we do not know is not an end."""
    return _STATES.get(state, WorkState.PENDING)


def listener(found: Listener, resume: bytes) -> events.Listener:
    """A listener with the checkpoint to resume behind."""
    made = events.Listener(id=found.id, resume=resume)
    match found:
        case MultipartyListener():
            made.multiparty.location_json = found.location
            made.multiparty.version = found.version
            made.multiparty.options_json = found.options
            made.first_event = found.first_event
        case DestinationListener():
            made.destination.network_namespace = found.network_namespace
            made.destination.node_name = found.node_name
        case ContractListener():
            made.contract_events.filters.extend(
                events.ContractEventFilter(event_json=event, location_json=location)
                for event, location in found.filters
            )
            made.first_event = found.first_event
    return made


def connector_events(found: Iterable[events.Event]) -> tuple[list[ConnectorEvent], list[str]]:
    """The events the core has a use for, and the ids of those it does not know.

    Raises:
        ValueError: a number that cannot be stored.
    """
    known, unknown = [], []
    for event in found:
        body = _body(event)
        if body is None:
            unknown.append(event.id)
        else:
            known.append(ConnectorEvent(event.id, event.listener_id, event.removed, body))
    return known, unknown


def _body(event: events.Event) -> EventBody | None:
    match event.WhichOneof("body"):
        case "batch_pin":
            pin = event.batch_pin
            return BatchPinned(
                chain=_chain(pin.chain),
                transaction=pin.transaction_uuid,
                batch=pin.batch_id,
                batch_hash=pin.batch_hash,
                payload_ref=pin.payload_ref,
                contexts=tuple(pin.contexts),
                network_namespace=pin.network_namespace,
                contract_invoke=pin.contract_invoke,
            )
        case "network_action":
            action = event.network_action
            return NetworkActionSeen(_chain(action.chain), action.action, action.payload)
        case "contract_event":
            return ContractEventSeen(_chain(event.contract_event.chain))
        case "operation_update":
            update = event.operation_update
            return WorkUpdate(
                key=update.idempotency_key,
                state=work_state(update.state),
                external_id=update.external_id,
                output=update.output_json,
                error=update.error,
                manifest=update.manifest,
                hash=update.hash,
            )
        case "message_received":
            message = event.message_received
            return PeerMessage(
                message.sender, message.recipient, message.message, _time(message.received)
            )
        case "blob_received":
            blob = event.blob_received
            if blob.size > NUMBER_MAX:
                raise ValueError(f"a blob of {blob.size} bytes")
            return PeerBlob(
                sender=blob.sender,
                recipient=blob.recipient,
                network_namespace=blob.network_namespace,
                data_id=blob.data_id,
                hash=blob.hash,
                size=blob.size,
                payload_ref=blob.payload_ref,
            )
        case "peer_changed":
            peer = event.peer_changed
            return PeerChange(peer.peer_id, peer.reachable, peer.reason)
        case _:
            return None


def _chain(chain: wire.ChainEvent) -> ChainEvent:
    position = chain.position
    if position.block > NUMBER_MAX:
        raise ValueError(f"a block {position.block}")
    # By place, not by name: this runs for each event of a ledger.
    return ChainEvent(
        position.block,
        position.transaction_index,
        position.log_index,
        chain.protocol_id,
        chain.transaction_id,
        chain.name,
        chain.location_json,
        chain.signature,
        chain.output_json,
        chain.info_json,
        _time(chain.timestamp),
        chain.signer,
        chain.source,
    )


def _time(time: Timestamp) -> Nanoseconds:
    if not 0 <= time.seconds <= SECONDS_MAX:
        raise ValueError(f"a time of {time.seconds} seconds")
    return Nanoseconds(time.seconds * 1_000_000_000 + time.nanos)
