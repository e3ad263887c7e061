"""Seals messages and batches: the pure part of sending. Nothing here reads or writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from photinus_core.model import canonical
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import (
    DataRef,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    TransactionRef,
)

DEFAULT_TOPIC: Final = "default"


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before it is sealed."""

    type: MessageType
    txtype: TransactionType
    author: str
    key: str
    topics: tuple[str, ...] = ()
    tag: str = ""
    cid: Uuid | None = None
    group: Hash32 | None = None
    txparent: TransactionRef | None = None
    idempotency_key: str = ""


def seal_message(
    draft: Draft, refs: Sequence[DataRef], namespace: Namespace, network_name: str, now: Nanoseconds
) -> Message:
    """Gives a draft its id, time and hashes, and makes it ready to be batched."""
    header = MessageHeader(
        id=new_uuid(),
        type=draft.type,
        txtype=draft.txtype,
        author=draft.author,
        key=draft.key,
        created=now,
        namespace=network_name,
        topics=draft.topics or (DEFAULT_TOPIC,),
        datahash=canonical.data_refs_hash([(r.id, r.hash) for r in refs]),
        cid=draft.cid,
        group=draft.group,
        tag=draft.tag,
        txparent=draft.txparent,
    )
    return Message(
        header=header,
        hash=canonical.message_hash(header),
        data=tuple(refs),
        namespace=namespace,
        state=MessageState.READY,
        idempotency_key=draft.idempotency_key,
    )
