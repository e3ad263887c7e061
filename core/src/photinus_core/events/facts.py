"""Reads from the database what agreement must know of stored batches, in batched reads.

A fixed number of statements per call, whatever the number of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from photinus_core.definitions.content import (
    Content,
    is_identity,
    is_own_claim,
    read_content,
    references_of,
    topic_of,
)
from photinus_core.events.verification import defect_of
from photinus_core.model import canonical
from photinus_core.model.ids import Did, Hash32, Namespace, Uuid
from photinus_core.model.ledger import ReceivedBatchKey
from photinus_core.model.messages import (
    Batch,
    Blob,
    Data,
    Group,
    Message,
    MessageState,
    NextPin,
    Pin,
    SystemTag,
)
from photinus_core.ports.store import Reader
from photinus_core.sequencing.decisions import NextPinUpdate
from photinus_core.sequencing.facts import (
    BatchFacts,
    BatchKey,
    ChainState,
    ContextState,
    MessageFacts,
    Need,
    NeedKind,
    PinEvent,
    PrivateContext,
    blob_need,
)
from photinus_core.sequencing.position import OrderKey, Position

DataKey = tuple[Uuid, Hash32]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What the messages of some batches refer to, as far as it is here."""

    data: Mapping[DataKey, Data]
    blobs: Mapping[DataKey, Blob]
    groups: Mapping[Hash32, Group]


async def load_batches(
    reader: Reader, keys: Sequence[BatchKey], network_name: str
) -> list[BatchFacts]:
    """Reads batches that are stored; the others are missing from the answer.

    Which copy of a broadcast is stored was decided when it arrived (`downloads`), so it answers for
    every pin of that id and hash.
    """
    wanted = {key: ReceivedBatchKey(Uuid(key.id), Hash32(key.hash)) for key in keys}
    names = list(dict.fromkeys(wanted.values()))
    batches = await reader.received_batches(names)
    if not batches:
        return []
    messages = await reader.received_messages(list(batches))
    around = await _surroundings(reader, [m for listed in messages.values() for m in listed])
    return [
        _batch_facts(key, batches[name], messages.get(name, []), around, network_name)
        for key, name in wanted.items()
        if name in batches
    ]


async def _surroundings(reader: Reader, messages: Sequence[Message]) -> _Surroundings:
    refs = list(dict.fromkeys((ref.id, ref.hash) for m in messages for ref in m.data))
    data = await reader.received_data(refs) if refs else {}
    blob_refs = [(item.id, item.blob.hash) for item in data.values() if item.blob]
    groups = list(dict.fromkeys(m.header.group for m in messages if m.header.group))
    return _Surroundings(
        data=data,
        blobs=await reader.received_blobs(blob_refs) if blob_refs else {},
        groups=await reader.groups(groups) if groups else {},
    )


def _batch_facts(
    key: BatchKey,
    batch: Batch,
    messages: Sequence[Message],
    around: _Surroundings,
    network_name: str,
) -> BatchFacts:
    return BatchFacts(
        key=key,
        messages=tuple(_message_facts(message, around, network_name) for message in messages),
        defect=defect_of(batch, messages, network_name),
        groups={
            group: tuple(member.identity for member in known.members)
            for group in {m.header.group for m in messages}
            if group and (known := around.groups.get(group))
        },
    )


def _message_facts(message: Message, around: _Surroundings, network_name: str) -> MessageFacts:
    header = message.header
    items = [
        item for ref in message.data if (item := around.data.get((ref.id, ref.hash))) is not None
    ]
    content = read_content(message, items)
    return MessageFacts(
        id=header.id,
        hash=message.hash,
        author=header.author,
        key=header.key,
        topics=header.topics,
        group=header.group,
        is_identity=is_identity(content),
        is_claim=is_own_claim(content),
        definition_topic=topic_of(content),
        references=references_of(content, network_name),
        needs=_needs(content, around),
        cancels=header.cid if header.tag == SystemTag.GAP_FILL else None,
        decided=message.state in (MessageState.CONFIRMED, MessageState.REJECTED),
        payload=content,
    )


def _needs(content: Content, around: _Surroundings) -> frozenset[Need]:
    message = content.message
    needs = {
        Need(NeedKind.DATA, ref.id) for ref in message.data if (ref.id, ref.hash) not in around.data
    }
    for item in content.data:
        if item.blob is not None and (item.id, item.blob.hash) not in around.blobs:
            needs.add(blob_need(item.id, item.blob.hash))
    if message.header.txparent is not None:
        needs.add(Need(NeedKind.TRANSFER, message.hash))
    return frozenset(needs)


async def load_contexts(reader: Reader, contexts: Sequence[PrivateContext]) -> list[ContextState]:
    """Reads the next pins of private contexts; those without rows answer empty."""
    hashes = {canonical.private_context(c.topic, c.group): c for c in contexts}
    chains: dict[Hash32, dict[str, ChainState]] = {known: {} for known in hashes}
    for row in await reader.next_pins(list(hashes)):
        key = OrderKey.from_flat(row.decided_key) if row.decided_key else None
        chains[row.context][row.identity] = ChainState(row.nonce, key)
    return [ContextState(context, chains[known]) for known, context in hashes.items()]


def next_pin_row(namespace: Namespace, update: NextPinUpdate) -> NextPin:
    """The row that a decision leaves behind in a private context."""
    return NextPin(
        namespace=namespace,
        context=Hash32(update.context),
        identity=Did(update.author),
        hash=Hash32(update.hash),
        nonce=update.nonce,
        decided_key=update.last_key.flat(),
    )


def pin_events(pins: Iterable[Pin]) -> list[PinEvent]:
    """Puts the pins of each batch-pin event together, in chain order."""
    events: dict[Position, list[Pin]] = {}
    for pin in pins:
        events.setdefault(event_position(pin), []).append(pin)
    return [_pin_event(position, events[position]) for position in sorted(events)]


def event_position(pin: Pin) -> Position:
    """Position of the event that carried a pin."""
    return Position(pin.contract_index, pin.block, pin.transaction_index, pin.log_index)


def _pin_event(position: Position, pins: list[Pin]) -> PinEvent:
    pins.sort(key=lambda pin: pin.index)
    first = pins[0]
    return PinEvent(
        position=position,
        signer=first.signer,
        batch=BatchKey(first.batch, first.batch_hash, first.payload_ref),
        contexts=tuple(pin.hash for pin in pins),
        dispatched=frozenset(pin.index for pin in pins if pin.dispatched),
    )
