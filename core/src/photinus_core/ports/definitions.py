"""How definitions leave this member: registration writes them, messaging sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from photinus_core.model.messages import Message, SystemTag


class DefinitionSender(Protocol):
    """Sends definition messages as ordinary broadcasts."""

    async def send_definition(
        self, topic: str, tag: SystemTag, payload_json: str, author: str, key: str
    ) -> Message:
        """Seals and stores a definition message; it is on its way once this returns.

        Args:
            topic: The one topic of the message.
            tag: What kind of definition it is.
            payload_json: Compact JSON, the value of its one data item.
            author: DID that the message names as its author; it need not be registered yet.
            key: Key that signs, in the ledger's canonical form.

        Returns:
            The stored message, with id and hash.

        Raises:
            Rejected: the payload is larger than a batch may be.
            Unavailable: the database cannot be used; nothing was stored.
        """
        ...


SchemaCompile = Callable[[str, str, str], object]
"""Checks (name, version, schema) of a new datatype; raises Rejected when it is none."""
