"""Adds to events the objects they refer to, a page of events at a time.

At most one statement per kind of object and page, whatever the number of events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from photinus_core.events.filters import FilterSubject
from photinus_core.model.events import Event, EventType
from photinus_core.model.ids import Uuid
from photinus_core.model.ledger import BlockchainEvent, Operation, Transaction
from photinus_core.model.messages import Message
from photinus_core.model.network import Datatype, Identity
from photinus_core.ports.store import Reader

_EVENT_BYTES: Final = 500
_OBJECT_BYTES: Final = 900
_REFERENCE_BYTES: Final = 150

_MESSAGES: Final = frozenset({EventType.MESSAGE_CONFIRMED, EventType.MESSAGE_REJECTED})
_IDENTITIES: Final = frozenset({EventType.IDENTITY_CONFIRMED, EventType.IDENTITY_UPDATED})
_OPERATIONS: Final = frozenset(
    {
        EventType.BLOCKCHAIN_INVOKE_OP_SUCCEEDED,
        EventType.BLOCKCHAIN_INVOKE_OP_FAILED,
        EventType.BLOCKCHAIN_CONTRACT_DEPLOY_OP_SUCCEEDED,
        EventType.BLOCKCHAIN_CONTRACT_DEPLOY_OP_FAILED,
        EventType.TOKEN_POOL_OP_FAILED,
        EventType.TOKEN_TRANSFER_OP_FAILED,
        EventType.TOKEN_APPROVAL_OP_FAILED,
    }
)


class EnrichedEvent(msgspec.Struct, frozen=True):
    """An event with the one object it refers to, where that is still here."""

    event: Event
    message: Message | None = None
    transaction: Transaction | None = None
    blockchain_event: BlockchainEvent | None = None
    identity: Identity | None = None
    datatype: Datatype | None = None
    operation: Operation | None = None

    @property
    def estimated_bytes(self) -> int:
        """About how large its JSON is."""
        size = _EVENT_BYTES
        if self.message is not None:
            items = len(self.message.data) + len(self.message.pins)
            size += _OBJECT_BYTES + _REFERENCE_BYTES * items
            size += sum(map(len, self.message.header.topics)) + len(self.message.reject_reason)
        if (chain := self.blockchain_event) is not None:
            size += _OBJECT_BYTES + len(chain.output) + len(chain.info) + len(chain.location)
        if (operation := self.operation) is not None:
            size += _OBJECT_BYTES + len(operation.input) + len(operation.output)
            size += len(operation.error)
        if self.identity is not None:
            size += _OBJECT_BYTES + len(self.identity.profile) + len(self.identity.description)
        if self.datatype is not None:
            size += _OBJECT_BYTES + len(self.datatype.value)
        if self.transaction is not None:
            size += _OBJECT_BYTES
        return size

    @property
    def subject(self) -> FilterSubject:
        """What filters look at."""
        message, chain = self.message, self.blockchain_event
        transaction_type = self.transaction.type if self.transaction else ""
        return FilterSubject(
            tag=message.header.tag if message else "",
            group=(message.header.group or "") if message else "",
            author=message.header.author if message else "",
            transaction_type=transaction_type,
            blockchain_name=chain.name if chain else "",
            blockchain_listener=(chain.listener or "") if chain else "",
        )


async def enrich(reader: Reader, events: Sequence[Event]) -> list[EnrichedEvent]:
    """Adds the objects that events refer to."""
    wanted: dict[str, dict[Uuid, None]] = {}
    for event in events:
        kind = _kind(event.type)
        if kind:
            wanted.setdefault(kind, {})[event.reference] = None
    messages = await reader.messages(list(wanted["message"])) if "message" in wanted else {}
    found: dict[str, Mapping[Uuid, object]] = {
        "transaction": (
            await reader.transactions(list(wanted["transaction"]))
            if "transaction" in wanted
            else {}
        ),
        "blockchain_event": (
            await reader.blockchain_events(list(wanted["blockchain_event"]))
            if "blockchain_event" in wanted
            else {}
        ),
        "operation": (
            await reader.operations(list(wanted["operation"])) if "operation" in wanted else {}
        ),
    }
    identities = await _identities(reader, list(wanted.get("identity", {})))
    datatypes = await _datatypes(reader, wanted.get("datatype", {}))
    return [_join(event, messages, found, identities, datatypes) for event in events]


def _kind(event_type: EventType) -> str:
    if event_type in _MESSAGES:
        return "message"
    if event_type in _IDENTITIES:
        return "identity"
    if event_type in _OPERATIONS:
        return "operation"
    return {
        EventType.TRANSACTION_SUBMITTED: "transaction",
        EventType.BLOCKCHAIN_EVENT_RECEIVED: "blockchain_event",
        EventType.DATATYPE_CONFIRMED: "datatype",
    }.get(event_type, "")


async def _identities(reader: Reader, ids: Sequence[Uuid]) -> dict[Uuid, Identity]:
    # Events about identities are rare: one look-up each.
    found = [await reader.identity(identity) for identity in ids]
    return {identity.base.id: identity for identity in found if identity is not None}


async def _datatypes(reader: Reader, ids: Mapping[Uuid, None]) -> dict[Uuid, Datatype]:
    if not ids:
        return {}
    return {d.id: d for d in await reader.datatypes() if d.id in ids}


def _join(
    event: Event,
    messages: Mapping[Uuid, Message],
    found: Mapping[str, Mapping[Uuid, object]],
    identities: Mapping[Uuid, Identity],
    datatypes: Mapping[Uuid, Datatype],
) -> EnrichedEvent:
    transaction = found["transaction"].get(event.reference)
    chain = found["blockchain_event"].get(event.reference)
    operation = found["operation"].get(event.reference)
    kind = _kind(event.type)
    return EnrichedEvent(
        event=event,
        message=messages.get(event.reference) if kind == "message" else None,
        transaction=transaction if isinstance(transaction, Transaction) else None,
        blockchain_event=chain if isinstance(chain, BlockchainEvent) else None,
        identity=identities.get(event.reference) if kind == "identity" else None,
        datatype=datatypes.get(event.reference) if kind == "datatype" else None,
        operation=operation if isinstance(operation, Operation) else None,
    )
