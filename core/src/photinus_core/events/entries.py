"""Entries of the event log that several parts write."""

from __future__ import annotations

from collections.abc import Sequence

from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.model.messages import Message, MessageState


def message_events(
    message: Message, state: MessageState, now: Nanoseconds, tx: Uuid | None
) -> Sequence[NewEvent]:
    """What the event log says of a decided message: one event for each of its topics."""
    kind = (
        EventType.MESSAGE_CONFIRMED
        if state is MessageState.CONFIRMED
        else EventType.MESSAGE_REJECTED
    )
    return [
        NewEvent(
            id=new_uuid(),
            type=kind,
            namespace=message.namespace,
            reference=message.header.id,
            created=now,
            correlator=message.header.cid,
            tx=tx,
            topic=topic,
        )
        for topic in message.header.topics
    ]
