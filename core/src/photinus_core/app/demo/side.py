"""What both sides of the demonstration have in common: what they know of a message, what they heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

HEAR_S: Final = 60.0
TOPIC: Final = "deal"


class DemoError(Exception):
    """The demonstration went wrong; the text says what happened."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A confirmed message as one member knows it.

    Attributes:
        id: The message.
        tag: What it is in the story.
        author: Name of the organisation that sent it.
        hash: Hash of its header, which covers its data.
        pin: What stands for it on the chain; masked when the message is private.
        block: Number of the block that orders it.
        transaction: Hash of the chain's transaction.
    """

    id: str
    tag: str
    author: str
    hash: str
    pin: str
    block: int
    transaction: str


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was read from a member to its end."""

    size: int
    sha256: str


class Inbox:
    """Messages a member was told are confirmed, in the order it was told."""

    def __init__(self, org: str) -> None:
        self._org = org
        self._changed = asyncio.Condition()
        self.ids: list[str] = []

    async def put(self, message_id: str) -> None:
        """Adds a message; one that is told again is not added twice."""
        async with self._changed:
            if message_id not in self.ids:
                self.ids.append(message_id)
                self._changed.notify_all()

    async def wait(self, message_id: str) -> None:
        """Waits for a message.

        Raises:
            DemoError: it did not come in time.
        """
        try:
            async with asyncio.timeout(HEAR_S), self._changed:
                await self._changed.wait_for(lambda: message_id in self.ids)
        except TimeoutError:
            text = f"{self._org} did not hear of message {message_id} within {HEAR_S:.0f} s"
            raise DemoError(text) from None


def author_name(did: str) -> str:
    """`org_0` of `did:firefly:org/org_0`."""
    return did.rsplit("/", 1)[-1]


def block_of(protocol_id: str) -> int:
    """Number of the block in a position on the chain, `000000000006/000000/000000`."""
    return int(protocol_id.split("/", 1)[0])
