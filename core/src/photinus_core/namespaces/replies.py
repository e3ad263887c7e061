"""Sends what webhooks answer as messages."""

from __future__ import annotations

from photinus_core.data.inputs import DataInput
from photinus_core.events.webhook_requests import Reply
from photinus_core.messaging.inputs import MessageInput
from photinus_core.messaging.sender import MessageSender
from photinus_core.model.errors import Conflict


async def send_reply(sender: MessageSender, reply: Reply) -> None:
    """Sends a reply, durable when this returns; one that was sent before is not sent again.

    Raises:
        PhotinusError: it cannot be sent.
    """
    message = MessageInput(
        data=(DataInput(value=reply.value),),
        cid=reply.cid,
        tag=reply.tag,
        topics=reply.topics,
        txtype=reply.txtype,
        group_hash=reply.group,
        idempotency_key=reply.key,
    )
    try:
        if reply.group is None:
            await sender.broadcast(message)
        else:
            await sender.private(message)
    except Conflict as failure:
        if failure.code != "FF10430":
            raise
