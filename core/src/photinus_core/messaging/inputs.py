"""What a caller gives to send a message.

Ids and hashes are parsed already, nothing else is checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from photinus_core.data.inputs import DataInput
from photinus_core.model.ids import Hash32, Uuid


@dataclass(frozen=True, slots=True)
class MemberInput:
    """One recipient.

    An organisation's name or DID, and optionally which of its nodes (DID, name or UUID).
    """

    identity: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class GroupInput:
    """Recipients given inline."""

    members: tuple[MemberInput, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class MessageInput:
    """A message as a caller wrote it."""

    data: tuple[DataInput, ...] = ()
    author: str = ""
    key: str = ""
    cid: Uuid | None = None
    tag: str = ""
    topics: tuple[str, ...] = ()
    txtype: str = ""
    group_hash: Hash32 | None = None
    group: GroupInput | None = None
    idempotency_key: str = ""
