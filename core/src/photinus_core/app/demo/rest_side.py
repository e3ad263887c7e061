"""The side that speaks REST and WebSocket, as a FireFly application would."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import aiohttp

from photinus_core.app.demo.files import PIECE_BYTES
from photinus_core.app.demo.side import (
    TOPIC,
    DemoError,
    Entry,
    Inbox,
    Received,
    author_name,
    block_of,
)
from photinus_core.app.devnet.member import NAMESPACE


class RestSide:
    """A member through its gateway.

    Args:
        org: Name of the organisation.
        url: The gateway, `http://host:port`.
        http: Makes the connections.
    """

    def __init__(self, org: str, url: str, http: aiohttp.ClientSession) -> None:
        self.org = org
        self.inbox = Inbox(org)
        self._url = url
        self._http = http

    async def listen(self, listening: asyncio.Event) -> None:
        """Fills the inbox until it is cancelled.

        Raises:
            DemoError: the member ended the conversation.
        """
        # A start has no answer; saying which event is the last one known leaves no gap.
        newest = await self._ask("GET", "/events?limit=1&sort=-sequence")
        first = str(newest[0]["sequence"]) if newest else "oldest"
        start = {
            "type": "start",
            "namespace": NAMESPACE,
            "ephemeral": True,
            "filter": {"events": "^message_confirmed$", "topic": f"^{TOPIC}$"},
            "options": {"firstEvent": first},
        }
        async with self._http.ws_connect(f"{self._url}/ws") as socket:
            await socket.send_json(start)
            listening.set()
            async for frame in socket:
                event = frame.json()
                if event["type"] == "protocol_error":
                    raise DemoError(f"{self.org}: {event['error']}")
                await self.inbox.put(event["reference"])
                await socket.send_json({"type": "ack", "id": event["id"]})
        raise DemoError(f"{self.org} closed the WebSocket")

    async def answer(self, tag: str, cid: str, group: str, value: object) -> str:
        """Sends a value into a group, in answer to a message; gives the id of the new message."""
        message = {
            "header": {"tag": tag, "topics": [TOPIC], "cid": cid, "group": group},
            "data": [{"value": value}],
        }
        sent = await self._ask("POST", "/messages/private", message)
        return str(sent["header"]["id"])

    async def receive(self, message_id: str) -> Received:
        """Reads the file of a message to its end."""
        data = await self._ask("GET", f"/messages/{message_id}/data")
        path = f"{self._url}/api/v1/data/{data[0]['id']}/blob"
        digest, size = hashlib.sha256(), 0
        async with self._http.get(path) as response:
            if response.status != 200:
                raise DemoError(f"{self.org}: GET {path}: {response.status}")
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        return Received(size, digest.hexdigest())

    async def entry(self, message_id: str) -> Entry:
        """What this member knows of a confirmed message."""
        path = f"/messages/{message_id}"
        message = await self._ask("GET", path)
        explained = await self._ask("GET", f"{path}/explain")
        transaction = await self._ask("GET", f"{path}/transaction")
        return Entry(
            id=message["header"]["id"],
            tag=message["header"]["tag"],
            author=author_name(message["header"]["author"]),
            hash=message["hash"],
            pin=explained["pins"][0]["hash"],
            block=block_of(explained["pins"][0]["protocolId"]),
            transaction=transaction["blockchainIds"][0],
        )

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        async with self._http.request(method, f"{self._url}/api/v1{path}", json=body) as response:
            answer = await response.json()
            if response.status >= 300:
                raise DemoError(f"{self.org}: {method} {path}: {answer.get('error', answer)}")
            return answer
