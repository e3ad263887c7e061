"""The side that speaks gRPC, with the typed client."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Final

from photinus.api.v1 import (
    data_pb2,
    event_pb2,
    explain_service_pb2,
    message_pb2,
    message_service_pb2,
    subscription_pb2,
)
from photinus_client import Client

from photinus_core.app.demo.files import DemoFile
from photinus_core.app.demo.side import (
    TOPIC,
    Entry,
    Inbox,
    Received,
    author_name,
    block_of,
)
from photinus_core.app.devnet.member import NAMESPACE

CALL_S: Final = 60.0


class GrpcSide:
    """A member through `photinus.api.v1`."""

    def __init__(self, org: str, client: Client) -> None:
        self.org = org
        self.inbox = Inbox(org)
        self._client = client

    async def listen(self, listening: asyncio.Event) -> None:
        """Fills the inbox until it is cancelled."""
        start = event_pb2.Start(
            namespace=NAMESPACE,
            ephemeral=True,
            filter=subscription_pb2.SubscriptionFilter(
                events="^message_confirmed$", topic=f"^{TOPIC}$"
            ),
            options=subscription_pb2.SubscriptionOptions(first_event="newest"),
        )
        async with self._client.subscribe(start) as deliveries:
            listening.set()
            async for delivery in deliveries:
                await self.inbox.put(delivery.event.reference)

    async def upload(self, file: DemoFile, title: str) -> tuple[str, str]:
        """Stores a file with its member; gives the id of the data item and the SHA-256 of what was sent."""
        digest = hashlib.sha256()
        header = data_pb2.UploadHeader(
            metadata=json.dumps({"title": title}),
            autometa=True,
            filename=file.name,
            content_type=file.content_type,
        )
        stored = await self._client.upload(file.pieces(digest), header)
        return stored.id, digest.hexdigest()

    async def broadcast(self, tag: str, data_id: str) -> str:
        """Sends a data item to everyone; gives the id of the message."""
        message = message_pb2.MessageInput(
            header=message_pb2.MessageHeaderInput(tag=tag, topics=[TOPIC]),
            data=[data_pb2.DataRefOrValue(id=data_id)],
        )
        sent = await self._client.messages.BroadcastMessage(
            message_service_pb2.BroadcastMessageRequest(message=message), timeout=CALL_S
        )
        return sent.message.header.id

    async def send_file(self, tag: str, data_id: str, to: str) -> tuple[str, str]:
        """Sends a data item to one other; gives the ids of the message and of its group."""
        message = message_pb2.MessageInput(
            header=message_pb2.MessageHeaderInput(tag=tag, topics=[TOPIC]),
            data=[data_pb2.DataRefOrValue(id=data_id)],
            group=message_pb2.GroupInput(members=[message_pb2.MemberInput(identity=to)]),
        )
        return await self._send(message)

    async def answer(self, tag: str, cid: str, group: str, value: object) -> str:
        """Sends a value into a group, in answer to a message; gives the id of the new message."""
        message = message_pb2.MessageInput(
            header=message_pb2.MessageHeaderInput(tag=tag, topics=[TOPIC], cid=cid, group=group),
            data=[data_pb2.DataRefOrValue(value=json.dumps(value))],
        )
        message_id, _ = await self._send(message)
        return message_id

    async def receive(self, message_id: str) -> Received:
        """Reads the file of a message to its end."""
        listed = await self._client.messages.ListMessageData(
            message_service_pb2.ListMessageDataRequest(id=message_id), timeout=CALL_S
        )
        download = await self._client.download(listed.items[0].id)
        digest, size = hashlib.sha256(), 0
        async for piece in download.content:
            digest.update(piece)
            size += len(piece)
        return Received(size, digest.hexdigest())

    async def entry(self, message_id: str) -> Entry:
        """What this member knows of a confirmed message."""
        got = await self._client.messages.GetMessage(
            message_service_pb2.GetMessageRequest(id=message_id), timeout=CALL_S
        )
        explained = await self._client.explain.ExplainMessage(
            explain_service_pb2.ExplainMessageRequest(id=message_id), timeout=CALL_S
        )
        made = await self._client.messages.GetMessageTransaction(
            message_service_pb2.GetMessageTransactionRequest(id=message_id), timeout=CALL_S
        )
        header = got.message.header
        return Entry(
            id=header.id,
            tag=header.tag,
            author=author_name(header.author),
            hash=got.message.hash,
            pin=explained.pins[0].hash,
            block=block_of(explained.pins[0].protocol_id),
            transaction=made.transaction.blockchain_ids[0],
        )

    async def _send(self, message: message_pb2.MessageInput) -> tuple[str, str]:
        sent = await self._client.messages.SendPrivateMessage(
            message_service_pb2.SendPrivateMessageRequest(message=message), timeout=CALL_S
        )
        return sent.message.header.id, sent.message.header.group
