"""What the view keeps and what it asks to be written: open statements and the effects of a pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from photinus_core.definitions.payloads import IdentityClaim, IdentityVerification
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Hash32, Uuid
from photinus_core.model.messages import Record
from photinus_core.model.network import Datatype, Identity, Position, Verifier

DEFINITION_EVENT_TOPIC: Final = "ff_definition"


class OpenClaim(Record, frozen=True):
    """A confirmed claim of a child that nobody has verified yet."""

    message: Uuid
    hash: Hash32
    claim: IdentityClaim
    key: str
    position: Position


class OpenVerification(Record, frozen=True):
    """A confirmed verification whose claim has not been confirmed yet."""

    message: Uuid
    verification: IdentityVerification
    parent: str
    """DID of its author."""


class Statements(msgspec.Struct):
    """What waits under one DID, as a note in the database keeps it."""

    claims: list[OpenClaim] = []
    verifications: list[OpenVerification] = []


@dataclass(slots=True)
class Effects:
    """Rows that the confirmed definitions of a pass ask for, in order of decision."""

    identities: dict[Uuid, Identity] = field(default_factory=dict)
    verifiers: list[Verifier] = field(default_factory=list)
    datatypes: list[Datatype] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    statements: dict[str, str | None] = field(default_factory=dict)
    """Notes by DID; None deletes."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Ids that definitions named and that are another's here, by DID or `<name>/<version>`."""
    peers: dict[Uuid, str] = field(default_factory=dict)
    """Profiles of nodes that data exchange must know, by node."""
